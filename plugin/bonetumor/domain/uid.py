"""Unique identifiers (PS3.5 section 9)."""

import re
import uuid
from typing import NewType

from bonetumor.domain.errors import InvalidInput

UID = NewType("UID", str)

_NAMESPACE = uuid.UUID("8f6c1f0e-5d5a-5f0b-9b43-6a3f0a9f6f11")
# Leading zeros in a component are against PS3.5 but common in the field; they are harmless here.
_VALID = re.compile(r"[0-9]+(\.[0-9]+)*")
_MAX_LENGTH = 64


def parse_uid(text: str, *, name: str = "UID") -> UID:
    """A checked UID: digits and single dots, at most 64 characters.

    Nothing else may become part of a path or a query.

    Raises:
        InvalidInput: if `text` is not such a UID.
    """
    stripped = text.rstrip("\0 ")
    if len(stripped) > _MAX_LENGTH or not _VALID.fullmatch(stripped):
        raise InvalidInput(
            f"{name}: expected digits and dots, at most {_MAX_LENGTH} characters, "
            f"got {len(text)} characters that are not a UID"
        )
    return UID(stripped)


def derived_uid(*parts: str) -> UID:
    """The same UID for the same parts, for ever: `2.25.` and a version 5 UUID (PS3.5 B.2)."""
    return UID(f"2.25.{derived_uuid(*parts).int}")


def derived_uuid(*parts: str) -> uuid.UUID:
    """The version 5 UUID behind `derived_uid`."""
    return uuid.uuid5(_NAMESPACE, "\x1f".join(parts))
