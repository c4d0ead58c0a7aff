"""A result as ORU^R01 (HL7 2.5.1, chapter 7), and what an acknowledgement says."""

import base64
from collections.abc import Mapping
from datetime import datetime

from bonetumor.service.ports import Result
from bonetumor.service.wording import conclusion

_ESCAPES = {
    "\\": "\\E\\",
    "|": "\\F\\",
    "^": "\\S\\",
    "&": "\\T\\",
    "~": "\\R\\",
    **{chr(code): " " for code in range(0x20)},  # MLLP frames with some of them
    "\x7f": " ",
}
_CODE = "18748-4^Diagnostic imaging study^LN"
_PRELIMINARY = "P"


def control_id(result: Result) -> str:
    """MSH-10, the same for the same run, so that a receiver can tell a repetition."""
    return result.assessment.run_key[:20]


def observation_result(result: Result, facility: str, pdf: bytes) -> bytes:
    """The message: identity, order, one OBX per probability, the conclusion, and the PDF."""
    assessment, header = result.assessment, result.header
    diagnosis = assessment.diagnosis
    at = _time(assessment.assessed_at)
    acquired = _time(header.acquired_at)
    patient = header.patient
    born = (patient.birth_date or "").replace("-", "")
    accession = escape(header.accession_number or "")
    run = control_id(result)
    segments = [
        _header(facility, at, run),
        _segment(
            "PID",
            {
                1: "1",
                3: f"{escape(patient.patient_id)}^^^{escape(patient.issuer or '')}",
                7: escape(born),
                8: escape(patient.sex or "U"),
            },
        ),
        _segment(
            "OBR",
            {
                1: "1",
                2: accession,
                3: f"{run}^BONETUMOR",
                4: _CODE,
                7: acquired,
                18: accession,
                22: at,
                24: "RAD",
                25: _PRELIMINARY,
            },
        ),
    ]
    values = [
        ("NM", f"probability-{name}^Probability of {name}^L", f"{probability:.4f}", "1")
        for name, probability in (diagnosis.probabilities or {}).items()
    ]
    values.append(("TX", "19005-8^Imaging study impression^LN", escape(conclusion(result)), ""))
    encoded = base64.b64encode(pdf).decode("ascii")
    values.append(("ED", "PDF^Report^L", f"^application^pdf^Base64^{encoded}", ""))
    for number, (kind, code, value, unit) in enumerate(values, start=1):
        fields = {1: str(number), 2: kind, 3: code, 5: value, 6: unit, 11: _PRELIMINARY}
        segments.append(_segment("OBX", {**fields, 14: acquired}))
    return ("\r".join(segments) + "\r").encode()


def _header(facility: str, at: str, run: str) -> str:
    """MSH counts its own separator as the first field."""
    fields = {2: "BONETUMOR", 3: escape(facility), 6: at, 8: "ORU^R01^ORU_R01", 9: run}
    return _segment("MSH", {1: "^~\\&", **fields, 10: "P", 11: "2.5.1", 17: "UNICODE UTF-8"})


def _segment(name: str, fields: Mapping[int, str]) -> str:
    return "|".join([name, *(fields.get(n, "") for n in range(1, max(fields) + 1))])


def escape(text: str) -> str:
    """The text with HL7's delimiters escaped (2.5.1, 2.7)."""
    return "".join(_ESCAPES.get(c, c) for c in text)


def acknowledgement(message: bytes) -> tuple[str, str]:
    """MSA-1 and MSA-2 of an answer; two empty strings where there are none."""
    for segment in message.decode("utf-8", "replace").replace("\n", "\r").split("\r"):
        fields = segment.split("|")
        if fields[0] == "MSA" and len(fields) > 2:
            return fields[1].strip(), fields[2].strip()
    return "", ""


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y%m%d%H%M%S%z}"
