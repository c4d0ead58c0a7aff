"""The quick reading of keys against pydicom's parser: the same keys, or none."""

import resource
import zlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from bonetumor.dicom.identify import HEAD_BYTES, identify, identify_head
from bonetumor.domain.errors import ObjectTooLarge
from kit import studies


def _encoded(image: Dataset, *, implicit: bool = False) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, image)
    return buffer.getvalue()


def _image(**more: object) -> Dataset:
    image = studies.dataset(60, 320)
    del image.PixelData
    for keyword, value in more.items():
        setattr(image, keyword, value)
    return image


_PLAIN = _encoded(_image())


def test_a_plain_head_has_the_keys_that_pydicom_finds():
    for syntax in (ExplicitVRLittleEndian, JPEG2000Lossless):
        keys = identify_head(_PLAIN[:HEAD_BYTES], syntax)
        assert keys == identify(BytesIO(_PLAIN), syntax)
        assert keys is not None


def test_other_encodings_are_left_to_the_parser():
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        assert identify_head(_PLAIN[:HEAD_BYTES], syntax) is None


def test_keys_inside_of_sequences_are_not_the_object_s():
    other = Dataset()
    other.ReferencedSOPClassUID, other.SOPInstanceUID = "1.2.3", "1.2.3.4"
    image = _image(ReferencedImageSequence=[other], SourceImageSequence=[other])
    data = _encoded(image)
    assert identify_head(data, ExplicitVRLittleEndian).sop_instance_uid == image.SOPInstanceUID


def test_a_deflated_bomb_is_refused_before_anyone_inflates_it():
    """Six hundred megabytes of zeros in half a megabyte; and an image of the same kind is not."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    parts = [deflater.compress(_PLAIN)]
    parts += [deflater.compress(bytes(1024**2)) for _ in range(20)]
    image = b"".join([*parts, deflater.copy().flush()])
    assert identify(BytesIO(image), DeflatedExplicitVRLittleEndian).sop_instance_uid
    parts += [deflater.compress(bytes(1024**2)) for _ in range(580)]
    bomb = b"".join([*parts, deflater.flush()])
    assert len(bomb) < 1024**2
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ObjectTooLarge, match="once inflated"):
        identify(BytesIO(bomb), DeflatedExplicitVRLittleEndian)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_a_long_comment_in_front_is_left_to_the_parser():
    image = _image(AdditionalPatientHistory="x" * HEAD_BYTES)
    data = _encoded(image)
    assert identify_head(data[:HEAD_BYTES], ExplicitVRLittleEndian) is None
    assert identify(BytesIO(data), ExplicitVRLittleEndian).sop_instance_uid == image.SOPInstanceUID


@given(
    st.lists(
        st.tuples(st.integers(0, len(_PLAIN) - 1), st.integers(0, 255)), min_size=1, max_size=6
    ),
    st.integers(0, len(_PLAIN)),
)
def test_of_damaged_bytes_it_says_what_the_parser_says_or_nothing(changes, length):
    damaged = bytearray(_PLAIN)
    for place, value in changes:
        damaged[place] = value
    data = bytes(damaged[:length])
    keys = identify_head(data, ExplicitVRLittleEndian)
    if keys is not None:
        assert keys == identify(BytesIO(data), ExplicitVRLittleEndian)
