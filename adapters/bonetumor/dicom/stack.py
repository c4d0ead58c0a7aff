"""Which stack a slice belongs to, and where in it (PS3.3 C.7.6.2, C.7.6.16.2.3, C.7.6.16.2.4)."""

from collections.abc import Iterable, Iterator

import numpy as np
from pydicom import Dataset

from bonetumor.dicom.attributes import finite

_PROJECTIONS = ("CR", "DX", "MG", "XA", "RF")


def place_in_stack(dataset: Dataset, index: int) -> tuple[str, float]:
    """The name of the stack, and the slice's position along its normal in mm.

    The name is empty where the object states no position: its frames then stand for themselves.
    Slices of one series that lie the same way are one stack, whatever else is in the series.
    """
    if str(dataset.get("Modality") or "") in _PROJECTIONS:
        return "", 0.0
    orientation = _numbers(dataset, index, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    position = _numbers(dataset, index, "PlanePositionSequence", "ImagePositionPatient", 3)
    if orientation is None or position is None:
        return "", 0.0
    normal = np.cross(orientation[:3], orientation[3:])
    lies = ",".join(f"{v:.2f}" for v in orientation)
    return f"{dataset.SeriesInstanceUID} {lies}", float(np.dot(normal, position))


def _numbers(
    dataset: Dataset, index: int, macro: str, keyword: str, count: int
) -> np.ndarray | None:
    """An attribute of a slice: of its frame, of all frames, or of the object."""
    for item in (*_groups(dataset, index, macro), dataset):
        value = finite(item.get(keyword), count)
        if value is not None:
            return np.array(value)
    return None


def _groups(dataset: Dataset, index: int, macro: str) -> Iterator[Dataset]:
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    own: Iterable[Dataset] = [per_frame[index]] if index < len(per_frame) else []
    for group in (*own, *(dataset.get("SharedFunctionalGroupsSequence") or [])):
        yield from group.get(macro) or []
