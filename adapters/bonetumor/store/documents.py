"""Evidence, texts and assessments as the ledger keeps them: JSON, checked when read."""

import base64
import json
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from bonetumor.domain.assessment import Assessment
from bonetumor.domain.case import Evidence
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.labs import BloodText

CHOSEN_PATIENT = "patient"
EVIDENCE, ASSESSMENT = "evidence", "assessment"

_EVIDENCE = TypeAdapter(Evidence)
_ASSESSMENT = TypeAdapter(Assessment)
_TEXT = TypeAdapter(BloodText)


def kind_of(document: Evidence | Assessment) -> str:
    """The name under which the ledger keeps a document."""
    return EVIDENCE if isinstance(document, Evidence) else ASSESSMENT


def encode(document: Evidence | Assessment) -> bytes:
    """The document as JSON; slide pictures as base64."""
    adapter: TypeAdapter[Evidence] | TypeAdapter[Assessment] = (
        _EVIDENCE if isinstance(document, Evidence) else _ASSESSMENT
    )
    tree = adapter.dump_python(document)  # type: ignore[arg-type]
    return json.dumps(tree, default=_plain, allow_nan=False).encode()


def decode_evidence(body: bytes) -> Evidence:
    """Evidence from JSON; raises InvalidInput if it is none."""
    try:
        tree = json.loads(body)
        for slide in (tree["pathology"] or {}).get("slides", ()):
            slide["data"] = base64.b64decode(slide["data"])
        return _EVIDENCE.validate_python(tree)
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"ledger: expected evidence, got {type(error).__name__}") from error


def decode_assessment(body: bytes) -> Assessment:
    """An assessment from JSON; raises InvalidInput if it is none."""
    try:
        return _ASSESSMENT.validate_json(body)
    except ValidationError as error:
        raise InvalidInput(f"ledger: expected an assessment, got {type(error).__name__}") from error


def encode_text(text: BloodText) -> bytes:
    """A text of blood markers as JSON."""
    return _TEXT.dump_json(text)


def decode_text(body: bytes) -> BloodText:
    """A text of blood markers from JSON; raises InvalidInput if it is none."""
    try:
        return _TEXT.validate_json(body)
    except ValidationError as error:
        raise InvalidInput(
            f"ledger: expected a text of blood markers, got {type(error).__name__}"
        ) from error


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"ledger: expected JSON, bytes or a datetime, got {type(value).__name__}")
