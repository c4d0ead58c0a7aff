"""Decoding in a child: the same pixels, and no image that costs more than itself."""

import os
import resource
import signal
import struct
import time

import numpy as np
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from bonetumor.dicom.decoding import DecodingChild
from bonetumor.dicom.reader import decode_here
from bonetumor.domain.errors import CorruptPixelData, InvalidInput
from kit import studies, volumes


@pytest.fixture
def child():
    made = DecodingChild(frame_s=30)
    yield made
    made._drop()


def write(folder, name, dataset):
    path = folder / f"{name}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def same(ours, theirs):
    assert [i.reference for i in ours] == [i.reference for i in theirs]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(ours, theirs, strict=True))


def test_a_child_gives_what_decoding_here_gives(child, tmp_path):
    single = studies.dataset(320, 256)
    compressed = studies.dataset(321, 256)
    compressed.compress(JPEGLSLossless)
    paths = [write(tmp_path, "single", single), write(tmp_path, "compressed", compressed)]
    for path in (*paths, *volumes.multi_frame(tmp_path, 330)):
        same(list(child.images(path)), list(decode_here(path)))


def test_a_file_that_is_left_halfway_does_not_disturb_the_next(child, tmp_path):
    [frames] = volumes.multi_frame(tmp_path, 330)
    single = write(tmp_path, "single", studies.dataset(322, 256))
    first = next(child.images(frames))
    process = child._child.pid
    same(list(child.images(single)), list(decode_here(single)))
    same([next(child.images(frames))], [first])
    assert child._child.pid == process


def test_what_cannot_be_read_is_said_as_it_is_here(child, tmp_path):
    path = tmp_path / "no.dcm"
    path.write_bytes(b"no DICOM")
    with pytest.raises(InvalidInput) as here:
        list(decode_here(path))
    with pytest.raises(type(here.value), match="expected DICOM"):
        list(child.images(path))
    assert list(child.images(write(tmp_path, "next", studies.dataset(323, 256))))


def test_a_jpeg_2000_bomb_costs_its_image_alone(child, tmp_path):
    """The codestream claims 60,000 by 60,000 pixels, the data set 256 by 256."""
    dataset = studies.dataset(324, 256)
    dataset.compress(JPEG2000Lossless)
    stream = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    size = stream.index(b"\xff\x51") + 6  # SIZ (ISO/IEC 15444-1 A.5.1): Xsiz and Ysiz
    struct.pack_into(">LL", stream, size, 60_000, 60_000)
    struct.pack_into(">LL", stream, size + 16, 60_000, 60_000)  # one tile
    dataset.PixelData = encapsulate([bytes(stream)])
    path = write(tmp_path, "bomb", dataset)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(CorruptPixelData):
        list(child.images(path))
    assert time.monotonic() - began < 60  # 5 s, and the child's start; to decode it takes minutes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    assert list(child.images(write(tmp_path, "next", studies.dataset(325, 256))))


def test_a_child_that_dies_is_replaced(child, tmp_path):
    path = write(tmp_path, "image", studies.dataset(326, 256))
    assert list(child.images(path))
    os.kill(child._child.pid, signal.SIGKILL)
    child._child.join()
    with pytest.raises(CorruptPixelData, match="got a decoder that died"):
        list(child.images(path))
    assert list(child.images(path))


def test_a_frame_that_takes_too_long_is_given_up(tmp_path):
    path = write(tmp_path, "image", studies.dataset(327, 256))
    with pytest.raises(CorruptPixelData, match=r"expected a frame within 0\.001 s"):
        list(DecodingChild(frame_s=0.001).images(path))


def test_what_takes_too_much_memory_is_refused(tmp_path):
    image = studies.dataset(328, 256)
    image.Rows = image.Columns = 15_000
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelData = bytes(2 * 15_000**2)
    small = DecodingChild(memory_bytes=1024**3)
    with pytest.raises(CorruptPixelData, match="within 1024 MiB"):
        list(small.images(write(tmp_path, "large", image)))
    assert list(small.images(write(tmp_path, "next", studies.dataset(329, 256))))
    small._drop()
