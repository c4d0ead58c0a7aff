"""Pixels as a radiologist would see them, from every syntax and photometric interpretation."""

import subprocess

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.pixels import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from bonetumor.dicom.presentation import present
from bonetumor.dicom.reader import read_file
from bonetumor.domain.errors import BoneTumorError, CorruptPixelData, NotDicom, UnsupportedImage
from kit import studies
from kit.servers import need


def _image(number=40):
    return studies.dataset(number, 320)


def _shown(dataset) -> np.ndarray:
    [image] = present(dataset)
    return image.pixels


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_every_lossless_syntax_shows_the_same_pixels(syntax):
    native, compressed = _image(), _image()
    compressed.compress(syntax, generate_instance_uid=False)
    assert np.array_equal(_shown(native), _shown(compressed))


@pytest.mark.parametrize(
    ("syntax", "ours", "other"),
    [
        (RLELossless, "pydicom", "dcmdrle"),
        (JPEGLSLossless, "pyjpegls", "dcmdjpls"),
        (JPEG2000Lossless, "pylibjpeg", "gdcm"),
        (JPEGLosslessSV1, "gdcm", "dcmdjpeg"),
    ],
)
def test_two_independent_decoders_agree_bit_for_bit(tmp_path, syntax, ours, other):
    dataset = _image()
    truth = dataset.pixel_array.copy()
    path, back = tmp_path / "compressed.dcm", tmp_path / "back.dcm"
    if syntax == JPEGLosslessSV1:
        dataset.save_as(tmp_path / "plain.dcm", enforce_file_format=True)
        subprocess.run([need("dcmcjpeg"), "+e1", tmp_path / "plain.dcm", path], check=True)
    else:
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path, enforce_file_format=True)
    compressed = pydicom.dcmread(path)
    assert compressed.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(pixel_array(compressed, decoding_plugin=ours), truth)
    if other.startswith("dcmd"):
        subprocess.run([need(other), path, back], check=True)
        assert np.array_equal(pydicom.dcmread(back).pixel_array, truth)
    else:
        assert np.array_equal(pixel_array(compressed, decoding_plugin=other), truth)


def test_monochrome1_is_shown_bright_on_dark():
    plain, inverted = _image(), _image()
    inverted.PhotometricInterpretation = "MONOCHROME1"
    assert np.array_equal(_shown(inverted), 255 - _shown(plain))


def test_the_window_decides_the_contrast():
    dataset = _image()
    raw = dataset.pixel_array.astype(float)
    dataset.WindowCenter, dataset.WindowWidth = "1500", "1000"
    shown = _shown(dataset)
    assert shown[raw < 990].max() == 0
    assert shown[raw > 2010].min() == 255
    assert (
        np.corrcoef(shown[(raw > 1000) & (raw < 2000)], raw[(raw > 1000) & (raw < 2000)])[0, 1]
        > 0.999
    )


def test_without_a_window_percentiles_decide():
    dataset = _image()
    del dataset.WindowCenter, dataset.WindowWidth
    shown = _shown(dataset)
    assert (shown.min(), shown.max()) == (0, 255)
    assert 5 < shown.mean() < 250


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("windowed", [False, True])
def test_values_in_the_upper_bits_are_shown_like_those_in_the_lower(signed, windowed):
    """Old computed radiographs: twelve bits in the upper part of sixteen, High Bit 15."""
    values = np.linspace(200, 3800, 3000).reshape(60, 50).astype(np.int32) - 2000 * signed
    shown = []
    for shift in (0, 4):
        image = _image()
        image.Rows, image.Columns = values.shape
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11 + shift
        image.PixelRepresentation = int(signed)
        image.PixelData = ((values << shift) & 0xFFFF).astype("<u2").tobytes()
        image.WindowCenter, image.WindowWidth = (1500 - 2000 * signed, 1000)
        if not windowed:
            del image.WindowCenter, image.WindowWidth
        shown.append(_shown(image))
    assert np.array_equal(*shown)
    assert len(np.unique(shown[0])) > 200


def test_a_high_bit_that_the_values_belie_is_not_believed():
    image = _image()
    values = np.linspace(200, 3801, 3000).reshape(60, 50).astype("<u2")
    image.Rows, image.Columns = values.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelData = values.tobytes()
    right = _shown(image)
    image.HighBit = 15
    assert np.array_equal(_shown(image), right)
    image.NumberOfFrames = 2
    image.PixelData = bytes(values.nbytes) + values.tobytes()  # a black frame tells nothing
    assert np.array_equal(list(present(image))[1].pixels, right)
    del image.NumberOfFrames
    image.PixelData = (values | 0x8000).tobytes()  # an overlay in a bit that is not stored
    image.HighBit = 11
    assert np.array_equal(_shown(image), right)


def test_the_modality_lut_comes_first():
    dataset = _image()
    dataset.RescaleSlope, dataset.RescaleIntercept = "2", "-1000"
    dataset.WindowCenter, dataset.WindowWidth = str(2048 * 2 - 1000), "8192"
    assert np.abs(_shown(dataset).astype(int) - _shown(_image())).max() <= 1


def test_a_voi_lut_is_applied():
    dataset = _image()
    table = np.linspace(65535, 0, 4096).astype("<u2")
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.LUTData = table.tobytes()
    item["LUTData"].VR = "OW"
    dataset.VOILUTSequence = Sequence([item])
    assert np.abs(_shown(dataset).astype(int) + _shown(_image()) - 255).max() <= 20


def test_eight_bit_images_are_taken():
    dataset = _image()
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.WindowCenter, dataset.WindowWidth = "128", "256"
    eight = (_image().pixel_array >> 4).astype(np.uint8)
    dataset.PixelData = eight.tobytes() + (b"\0" if eight.size % 2 else b"")
    dataset["PixelData"].VR = "OB"
    assert np.abs(_shown(dataset).astype(int) - eight).max() <= 3


def test_colour_is_shown_by_its_brightness():
    dataset = _image()
    rows, columns = 6, 8
    dataset.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.Rows, dataset.Columns = 7, rows, columns
    picture = np.zeros((rows, columns, 3), np.uint8)
    picture[:, :4] = (255, 255, 255)
    dataset.PixelData = picture.tobytes()
    assert _shown(dataset)[0].tolist() == [255] * 4 + [0] * 4


def test_each_frame_of_a_multi_frame_object_is_an_image_with_its_number():
    dataset = _image()
    one = dataset.pixel_array
    dataset.NumberOfFrames = "3"
    dataset.PixelData = np.stack([one, one // 2, one // 4]).astype("<u2").tobytes()
    images = list(present(dataset))
    assert [i.reference.frame_number for i in images] == [1, 2, 3]
    assert images[0].pixels.mean() >= images[2].pixels.mean()


def test_frames_may_have_windows_of_their_own():
    dataset = _image()
    one = dataset.pixel_array
    del dataset.WindowCenter, dataset.WindowWidth
    dataset.NumberOfFrames = "2"
    dataset.PixelData = np.stack([one, one]).astype("<u2").tobytes()
    groups = []
    for centre in ("500", "3500"):
        voi, group = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, "1000"
        group.FrameVOILUTSequence = Sequence([voi])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    first, second = present(dataset)
    assert first.pixels.mean() > second.pixels.mean()


def _without(keyword):
    def break_it(dataset):
        delattr(dataset, keyword)

    return break_it


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (_without("PixelData"), CorruptPixelData),
        (_without("Rows"), CorruptPixelData),
        (_without("PhotometricInterpretation"), CorruptPixelData),
        (lambda d: setattr(d, "PixelData", d.PixelData[:100]), CorruptPixelData),
        (lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.104.1"), UnsupportedImage),
        (lambda d: setattr(d, "NumberOfFrames", "1000000"), UnsupportedImage),
        (lambda d: setattr(d, "BitsAllocated", 7), CorruptPixelData),
    ],
)
def test_what_cannot_be_shown_has_its_own_error(break_it, error):
    dataset = _image()
    break_it(dataset)
    with pytest.raises(error, match="expected"):
        list(present(dataset))


def test_a_file_that_is_not_dicom(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("hello")
    with pytest.raises(NotDicom):
        read_file(path)


@pytest.mark.filterwarnings("ignore:End of file reached:UserWarning")
@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_a_file_without_its_end_is_called_that(syntax, share, tmp_path):
    image = _image()
    if syntax is not None:
        image.compress(syntax)
    path = tmp_path / "cut.dcm"
    image.save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    said = "expected 1 frame" if syntax is None else "without its end"
    with pytest.raises(CorruptPixelData, match=said):
        list(present(read_file(path)))


def test_real_objects_of_many_kinds(shared_data):
    """An extra over real fixtures, where they lie beside the checkout."""
    if shared_data is None:
        return
    for path in sorted((shared_data / "dicom").rglob("*.dcm")):
        try:
            images = list(present(read_file(path)))
        except BoneTumorError:
            continue  # refused by name, which is all that is asked of broken ones
        assert images, path
        assert all(i.pixels.std() > 0 for i in images), path
    shown = [_shown(read_file(p)) for p in sorted((shared_data / "dicom/radiograph").glob("*.dcm"))]
    assert all(np.array_equal(shown[0], s) for s in shown)
