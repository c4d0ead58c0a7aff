"""Whole slides: tissue found, tiles sampled, memory bounded; from files and from a real Orthanc."""

import http.server
import subprocess
import sys
import threading
from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless

from bonetumor.domain.errors import CorruptPixelData, FhirUnavailable, UnsupportedImage
from bonetumor.domain.pathology import PathologySlide
from bonetumor.service.ports import SlideAddress
from bonetumor.slides.pictures import SlidePictures
from bonetumor.slides.whole import SlideSampler
from kit.servers import Orthanc, free_port
from kit.slides import write_slide, write_tiff


def picture(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)))


def tissue_share(png: bytes) -> float:
    values = picture(png).astype(int)
    return float((values.max(axis=2) - values.min(axis=2) > 18).mean())


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless])
def test_tissue_is_sampled_from_every_compression(tmp_path, syntax):
    write_slide(tmp_path / "a.dcm", 8192, syntax=syntax)
    png = SlideSampler(tiles=16).sample_file(tmp_path / "a.dcm")
    assert picture(png).shape == (512, 512, 3)
    assert tissue_share(png) > 0.6


def test_lossless_syntaxes_give_the_same_tiles(tmp_path):
    made = []
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        write_slide(tmp_path / "a.dcm", 2048, syntax=syntax)
        made.append(SlideSampler().sample_file(tmp_path / "a.dcm"))
    assert made[0] == made[1]


def test_the_same_slide_gives_the_same_tiles(tmp_path):
    write_slide(tmp_path / "a.dcm", 8192)
    assert SlideSampler().sample_file(tmp_path / "a.dcm") == SlideSampler().sample_file(
        tmp_path / "a.dcm"
    )


def test_tiles_are_at_one_micrometre_whatever_the_scanner_wrote(tmp_path):
    """A tile of 128 pixels at 0.25 µm comes from 512 pixels: nuclei are four times smaller."""
    dark = {}
    for mpp in (0.25, 1.0):
        write_slide(tmp_path / "a.dcm", 8192, mpp=mpp)
        png = SlideSampler(tiles=16).sample_file(tmp_path / "a.dcm")
        edges = np.abs(np.diff(picture(png)[..., 0].astype(int), axis=1)) > 30
        dark[mpp] = edges.mean()
    assert dark[0.25] > 2 * dark[1.0]


def test_a_tiff_pyramid_is_read_by_openslide(tmp_path):
    write_tiff(tmp_path / "a.tif", 4096)
    assert tissue_share(SlideSampler(tiles=16).sample_file(tmp_path / "a.tif")) > 0.6


def test_a_plain_tiff_is_a_picture_at_its_own_scale(tmp_path):
    write_tiff(tmp_path / "a.tif", 1024)
    pixels = np.asarray(Image.open(tmp_path / "a.tif"))
    Image.fromarray(pixels).save(tmp_path / "plain.tif")
    assert tissue_share(SlideSampler(tiles=4).sample_file(tmp_path / "plain.tif")) > 0.6


def test_the_sheet_is_cut_into_the_very_tiles_again(tmp_path):
    write_slide(tmp_path / "a.dcm", 8192)
    png = SlideSampler(tiles=16).sample_file(tmp_path / "a.dcm")
    slide = PathologySlide(source="s", content_type="image/png", data=png)
    assert SlidePictures(tile_px=128, max_tiles=64).tiles(slide).pixels.shape == (16, 128, 128, 3)


def test_glass_alone_is_refused(tmp_path):
    write_slide(tmp_path / "a.dcm", 4096, empty=True)
    with pytest.raises(UnsupportedImage, match="expected tissue"):
        SlideSampler().sample_file(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "content", [b"II*\0" + b"\xff" * 200, b"\0" * 128 + b"DICM" + b"\xff" * 99]
)
def test_a_corrupt_slide_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises((UnsupportedImage, CorruptPixelData)):
        SlideSampler().sample_file(tmp_path / "a")


def test_a_truncated_slide_is_refused(tmp_path):
    write_slide(tmp_path / "a.dcm", 4096)
    whole = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((UnsupportedImage, CorruptPixelData)):
        SlideSampler().sample_file(tmp_path / "a.dcm")


def test_a_radiograph_is_no_slide(tmp_path):
    from kit.studies import write

    [file] = write(tmp_path, 1)
    with pytest.raises((UnsupportedImage, CorruptPixelData)):
        SlideSampler().sample_file(file)


def test_fifty_thousand_pixels_square_fit_into_a_gigabyte(tmp_path):
    write_slide(tmp_path / "a.dcm", 50_176)
    code = (
        "import re, sys; from pathlib import Path\n"
        "from bonetumor.slides.whole import SlideSampler\n"
        "SlideSampler().sample_file(Path(sys.argv[1]))\n"
        # Not ru_maxrss, which begins with what the process that forked this one held.
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status).group(1)) // 1024)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.dcm")],
        capture_output=True,
        text=True,
        check=True,
    )
    print(f"{ran.stdout.strip()} MiB")
    assert int(ran.stdout) < 1024


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("orthanc"), dicomweb=True).up() as server:
        yield server


def test_a_slide_behind_dicomweb_is_sampled_as_the_file_is(orthanc, tmp_path):
    made = write_slide(tmp_path / "a.dcm", 4096)
    stored = httpx.post(
        f"http://127.0.0.1:{orthanc.http}/instances",
        content=(tmp_path / "a.dcm").read_bytes(),
        timeout=60,
    )
    assert stored.status_code == 200, stored.text
    base = f"http://127.0.0.1:{orthanc.http}/dicom-web"
    expected = SlideSampler(tiles=16).sample_file(tmp_path / "a.dcm")
    for series in (str(made.SeriesInstanceUID), ""):
        address = SlideAddress(base, str(made.StudyInstanceUID), series)
        assert SlideSampler(tiles=16).sample_dicomweb(address) == expected


def test_a_service_that_sends_us_elsewhere_is_not_followed():
    asked = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
        with pytest.raises(FhirUnavailable, match="TooManyRedirects"):
            SlideSampler().sample_dicomweb(SlideAddress(base, "1.2.3", ""))
        server.shutdown()
    assert "/elsewhere" not in asked


def test_a_slide_that_the_service_does_not_have_is_refused_and_a_dead_service_is_unavailable(
    orthanc,
):
    base = f"http://127.0.0.1:{orthanc.http}/dicom-web"
    with pytest.raises((UnsupportedImage, CorruptPixelData)):
        SlideSampler().sample_dicomweb(SlideAddress(base, "1.2.3", "1.2.3.4"))
    nobody = f"http://127.0.0.1:{free_port()}/dicom-web"
    with pytest.raises(FhirUnavailable):
        SlideSampler().sample_dicomweb(SlideAddress(nobody, "1.2.3", ""))
