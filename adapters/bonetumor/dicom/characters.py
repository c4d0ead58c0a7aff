"""Which characters the text of results is written in (PS3.3 C.12.1.1.2).

Results inherit the patient's name, and the set that it is written in, from an image.
"""

from highdicom.enum import SpecificCharacterSetValues
from pydicom import Dataset

_UTF_8 = "ISO_IR 192"
_PLAIN, _EXTENSION = "ISO 2022 IR 6", "ISO 2022 "
_MULTI_BYTE = {"ISO 2022 IR 87", "ISO 2022 IR 159"}
# highdicom takes neither Simplified Chinese among several nor Korean.
_KNOWN = {value.value for value in SpecificCharacterSetValues} - {"ISO 2022 IR 58"}


def settle_characters(image: Dataset) -> None:
    """Makes an image state its own set as highdicom takes it, or UTF-8 where highdicom has no such.

    Its text must have been read before (`drop_unreadable`): it is read by what the image states.
    """
    stated = image.get("SpecificCharacterSet")
    values = [stated] if isinstance(stated, str) else list(stated or [])
    if not any(values):
        return
    if len(values) > 1:
        values[0] = values[0] or _PLAIN  # as the standard says that an empty first value is read
    image.SpecificCharacterSet = values if _is_one(values) else _UTF_8


def _is_one(values: list[str]) -> bool:
    """Whether these values are a character set; several must be extensions to one of a byte."""
    if not _KNOWN.issuperset(values):
        return False
    if len(values) == 1:
        return not values[0].startswith(_EXTENSION)
    return values[0] not in _MULTI_BYTE and all(v.startswith(_EXTENSION) for v in values)
