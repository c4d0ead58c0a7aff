"""Attributes that cannot be read: an object states nothing by them, and is not lost for it.

Archives hold birth dates such as 19500000, numbers that are words, and value representations that
do not exist. pydicom reads a value when it is asked for, and raises then, wherever that is.
"""

import math
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from string import whitespace

from pydicom import DataElement, Dataset
from pydicom.tag import Tag
from pydicom.valuerep import DA, DT, TM

from bonetumor.domain.errors import BoneTumorError, CorruptPixelData
from bonetumor.domain.uid import parse_uid

_MOMENTS = {"DA": DA, "DT": DT, "TM": TM}
_NUMBERS = {"DS", "IS", "FL", "FD"}
_NO_TEXT = {"Cc", "Cs"}  # control characters, and halves of characters
_WHOLE_NUMBERS = {"US", "SS", "UL", "SL"}
# As many items as frames: they are read where they are used.
_FRAMES = Tag("PerFrameFunctionalGroupsSequence")


def drop_unreadable(dataset: Dataset) -> None:
    """Removes what cannot be read as what it claims to be, here and in the items of sequences."""
    for tag in list(dataset.keys()):
        if tag.is_private:
            continue  # nobody here asks for it, and nothing of ours inherits it
        try:
            element = dataset[tag]
            sound = _is_sound(element)
        except Exception:  # noqa: BLE001 - pydicom raises what it likes, for values of any kind
            sound = False
        if not sound:
            del dataset[tag]
        elif element.VR == "SQ" and tag != _FRAMES:
            for item in element.value:
                drop_unreadable(item)


def said(dataset: Dataset, keyword: str) -> str:
    """A short text without what pads it; nothing where the attribute is absent.

    A control character within, which FHIR servers and PostgreSQL do not take, becomes U+FFFD: as
    part of an identifier it then meets no other patient's.
    """
    text = str(dataset.get(keyword) or "").strip(whitespace + "\0")
    return "".join("\ufffd" if unicodedata.category(c) in _NO_TEXT else c for c in text)


@contextmanager
def refusing(what: str, refusal: type[BoneTumorError] = CorruptPixelData) -> Iterator[None]:
    """What is raised within for values that no rule foresees becomes a `refusal`.

    It begins with `what`. The words of what was raised are left out: they might hold a value.
    """
    try:
        yield
    except (BoneTumorError, MemoryError):
        raise
    except Exception as error:
        raise refusal(f"{what}, got what cannot be read ({type(error).__name__})") from error


def finite(values: object, count: int) -> tuple[float, ...] | None:
    """Exactly so many finite numbers; None where there are no such."""
    if not isinstance(values, Iterable) or isinstance(values, str):
        return None
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _is_sound(element: DataElement) -> bool:
    if element.is_empty:
        return bool(element.VR != "UI")  # what should name something, and names nothing
    values = element.value if element.VM > 1 else [element.value]
    if element.VR in _MOMENTS:
        return element.VM == 1 and _MOMENTS[element.VR](element.value) is not None
    if element.VR == "UI":
        return all(parse_uid(value) for value in values)
    if element.VR in _NUMBERS:
        return all(math.isfinite(value) for value in values)
    return element.VR not in _WHOLE_NUMBERS or all(isinstance(value, int) for value in values)
