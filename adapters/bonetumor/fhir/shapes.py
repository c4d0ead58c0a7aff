"""What stands in a foreign server's JSON where FHIR has a list, an object, or a string.

Anything else that stands there counts as absent: one resource in a wrong shape must not end the
reading of all others.
"""

from typing import Any

Resource = dict[str, Any]


def listed(value: object) -> list[object]:
    """The list, an empty one if there is none."""
    return value if isinstance(value, list) else []


def objects(value: object) -> list[Resource]:
    """The objects of a list."""
    return [v for v in listed(value) if isinstance(v, dict)]


def member(value: object) -> Resource:
    """The object, an empty one if there is none."""
    return value if isinstance(value, dict) else {}


def string(value: object) -> str:
    """The string, an empty one if there is none."""
    return value if isinstance(value, str) else ""
