"""What is known of the blood sample, and which analytes it spoils.

A modifierExtension may not be ignored (R4 2.4.0.2.2): the ones that say "haemolysed" are
understood, any other refuses the result. Haemolysis frees LDH and phosphate from red cells and
invalidates both.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from bonetumor.domain.labs import Analyte
from bonetumor.fhir.shapes import Resource

_HAEMOLYSED = {"118128002", "281279002", "HEM"}
_CLOTTED = {"281268007", "CLOT"}
_BY_HAEMOLYSIS = {Analyte.LDH, Analyte.PHOSPHATE}
_BY_CLOTS = {
    Analyte.WBC,
    Analyte.PLATELETS,
    Analyte.NEUTROPHILS,
    Analyte.LYMPHOCYTES,
    Analyte.MONOCYTES,
    Analyte.HEMOGLOBIN,
    Analyte.ESR,
}
_REJECTED = {"unsatisfactory", "entered-in-error"}


def spoils(
    analyte: Analyte, observation: Resource, item: Resource, specimens: Mapping[str, Resource]
) -> str | None:
    """Why the sample cannot speak for the analyte; None if nothing is known against it."""
    codes: set[str] = set()
    for extension in _modifiers(observation, item):
        said = set(_codes(extension))
        if not said & (_HAEMOLYSED | _CLOTTED):
            return "expected no modifier, got one that may change the meaning"
        codes |= said
    specimen = _specimen(observation, specimens)
    if specimen is not None:
        if specimen.get("status") in _REJECTED:
            return f"expected a usable specimen, got one that is {specimen['status']}"
        for condition in specimen.get("condition") or []:
            codes |= set(_codes(condition))
    if codes & _HAEMOLYSED and analyte in _BY_HAEMOLYSIS:
        return "expected a sound specimen, got a haemolysed one"
    if codes & _CLOTTED and analyte in _BY_CLOTS:
        return "expected a sound specimen, got a clotted one"
    return None


def specimen_of(observation: Resource) -> str | None:
    """The relative reference of the Observation's Specimen, if it names one on this server."""
    reference = str((observation.get("specimen") or {}).get("reference") or "")
    return reference if reference.startswith("Specimen/") else None


def _specimen(observation: Resource, specimens: Mapping[str, Resource]) -> Resource | None:
    reference = str((observation.get("specimen") or {}).get("reference") or "")
    for contained in observation.get("contained") or []:
        if reference == f"#{contained.get('id')}":
            return dict(contained)
    return specimens.get(reference)


def _modifiers(observation: Resource, item: Resource) -> list[Any]:
    own = list(observation.get("modifierExtension") or [])
    return own if item is observation else own + list(item.get("modifierExtension") or [])


def _codes(value: Any) -> Iterator[str]:
    """Every `code` in a tree of codings."""
    if isinstance(value, dict):
        if isinstance(value.get("code"), str):
            yield value["code"]
        for inner in value.values():
            yield from _codes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _codes(inner)
