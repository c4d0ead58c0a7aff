"""Foreign pictures: shown whole, or refused by name, whatever a decoder makes of them."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from bonetumor.dicom.presentation import present
from bonetumor.domain.errors import CorruptPixelData, InvalidInput, UnsupportedImage
from bonetumor.domain.pathology import PathologySlide
from bonetumor.slides.pictures import SlidePictures
from bonetumor.worker.loose import read_images
from kit import studies

TISSUE = np.random.default_rng(3).integers(60, 200, (40, 48, 3), np.uint8)


def _encoded(pixels, kind, **options):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _tiles(data):
    slide = PathologySlide(source="a", content_type="image/png", data=data)
    return SlidePictures(tile_px=32, max_tiles=4).tiles(slide)


def _deep():
    """A radiograph of twelve bits, as most are."""
    ramp = np.linspace(200, 3800, 60 * 50).reshape(60, 50)
    return np.asarray(ramp, np.uint16)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("PNG", "u2"), ("TIFF", "u2"), ("TIFF", "i4"), ("TIFF", "f4")]
)
def test_a_picture_of_more_than_eight_bits_looks_like_its_dicom(tmp_path, kind, dtype):
    deep = _deep()
    image = studies.dataset(1)
    image.Rows, image.Columns = deep.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 0
    for keyword in ("WindowCenter", "WindowWidth"):
        if keyword in image:
            del image[keyword]
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.PixelData = deep.tobytes()
    (expected,) = present(image)
    (tmp_path / "deep").write_bytes(_encoded(deep.astype(dtype), kind))
    (shown,) = read_images(tmp_path / "deep")
    assert np.array_equal(shown.pixels, expected.pixels)
    assert len(np.unique(shown.pixels)) > 250


def test_values_that_are_no_number_are_refused(tmp_path):
    pixels = np.ones((20, 20), np.float32)
    pixels[3, 3] = np.nan
    (tmp_path / "nan.tif").write_bytes(_encoded(pixels, "TIFF"))
    with pytest.raises(CorruptPixelData, match="expected finite values"):
        list(read_images(tmp_path / "nan.tif"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_spoilt_picture_is_refused_or_read_and_nothing_else(kind):
    whole = _encoded(TISSUE, kind)
    assert _tiles(whole).pixels.shape == (1, 32, 32, 3)
    chance = np.random.default_rng(5)
    said = []
    for place in range(min(len(whole), 400)):
        spoilt = bytearray(whole)
        spoilt[place] = int(chance.integers(256))
        spoilt[int(chance.integers(len(whole)))] ^= 1 << int(chance.integers(8))
        try:
            _tiles(bytes(spoilt))
        except InvalidInput as error:
            said.append(str(error))
    assert len(said) > 5
    assert all(text.startswith("slide: expected ") for text in said)
    for length in range(0, len(whole) - 40, 40):
        try:
            _tiles(whole[:length])
        except InvalidInput:
            continue


def test_a_picture_that_would_be_enormous_is_refused_before_it_is_decoded():
    """A TIFF of some hundred bytes that says that it is 60,000 x 60,000."""
    whole = bytearray(_encoded(TISSUE, "TIFF"))
    for size in TISSUE.shape[:2]:
        at = whole.find(size.to_bytes(4, "little"))
        whole[at : at + 4] = (60_000).to_bytes(4, "little")
    with pytest.raises(UnsupportedImage, match=r"of at most 67108864 pixels, got a larger one"):
        _tiles(bytes(whole))


def test_formats_that_nobody_needs_are_not_parsed(tmp_path):
    for kind in ("BMP", "GIF", "PPM", "WEBP"):
        with pytest.raises(UnsupportedImage, match="expected JPEG, PNG or TIFF, got something"):
            _tiles(_encoded(TISSUE, kind))
        (tmp_path / kind).write_bytes(_encoded(TISSUE, kind))
        with pytest.raises(InvalidInput, match="expected DICOM, JPEG, PNG or TIFF, got something"):
            list(read_images(tmp_path / kind))
