"""A result as this plugin itself serves it, for EHRs that cannot be written to."""

import json
from collections.abc import Mapping
from typing import Any

from bonetumor.domain.uid import derived_uuid
from bonetumor.fhir.codes import device_key, run_identifier
from bonetumor.fhir.graph import REPORT, Anchors
from bonetumor.fhir.report import device, graph, imaging_study, organization
from bonetumor.fhir.shapes import Resource
from bonetumor.picture.illustration import Illustration
from bonetumor.service.ports import Result
from bonetumor.service.shelf import ShelvedReport


def shelve(
    result: Result,
    illustration: Illustration,
    organization_name: str,
    ehr_base_url: str,
    identifier_systems: Mapping[str, str],
) -> ShelvedReport:
    """The whole graph under ids of our own; what lies in the EHR is referred to by its URL.

    `identifier_systems` maps an Issuer of Patient ID to the system of the identifier.
    """
    run, header = result.assessment.run_key, result.header
    keys = {
        "Organization": str(derived_uuid("organization", organization_name)),
        "Device": str(derived_uuid("device", device_key(result.assessment))),
        "ImagingStudy": str(derived_uuid("study", result.study.study_instance_uid)),
    }
    anchors = Anchors(
        organization=f"Organization/{keys['Organization']}",
        device=f"Device/{keys['Device']}",
        imaging_study=f"ImagingStudy/{keys['ImagingStudy']}",
    )
    earlier = None
    if result.predecessor is not None:
        earlier_id = str(derived_uuid(result.predecessor.run_key, REPORT))
        earlier = {"resourceType": "DiagnosticReport", "id": earlier_id}
    ours = {
        "Organization": organization(organization_name),
        "Device": device(result, anchors.organization),
        "ImagingStudy": imaging_study(result),
    }
    own_ids = {f"{kind}/{keys[kind]}": {**r, "id": keys[kind]} for kind, r in ours.items()}
    for role, resource in graph(result, anchors, illustration, earlier=earlier):
        key = str(derived_uuid(run, role))
        own_ids[f"{resource['resourceType']}/{key}"] = {**resource, "id": key}
    kept_earlier = {f"DiagnosticReport/{earlier['id']}"} if earlier else set()
    names = {f"urn:uuid:{name.partition('/')[2]}": name for name in own_ids}
    subject, system = None, identifier_systems.get(header.patient.issuer or "", "")
    if result.evidence.patient is None:
        named = {"system": system} if system else {}
        subject = {"identifier": {**named, "value": header.patient.patient_id}}
    resources = [
        _placed(r, names, set(own_ids) | kept_earlier, ehr_base_url.rstrip("/") + "/", subject)
        for r in own_ids.values()
    ]
    return ShelvedReport(
        report_id=str(derived_uuid(run, REPORT)),
        resource_ids=tuple(sorted({name.partition("/")[2] for name in own_ids})),
        study_instance_uid=result.study.study_instance_uid,
        run=run_identifier(run)["value"],
        patient=result.evidence.patient or "",
        patient_id=header.patient.patient_id,
        patient_system=system,
        accession_number=header.accession_number or "",
        acquired_at=header.acquired_at,
        written_at=result.assessment.assessed_at,
        body=json.dumps(resources),
    )


def _placed(
    value: Any, names: dict[str, str], ours: set[str], ehr: str, subject: Resource | None
) -> Any:
    """References made to fit: ours relative, the EHR's absolute."""
    if isinstance(value, list):
        return [_placed(v, names, ours, ehr, subject) for v in value]
    if not isinstance(value, dict):
        return value
    placed = {k: _placed(v, names, ours, ehr, subject) for k, v in value.items()}
    if isinstance(placed.get("reference"), str):
        name = names.get(placed["reference"], placed["reference"])
        known = name in ours or ":" in name
        placed["reference"] = name if known else ehr + name
    if subject is not None and "subject" in placed:
        placed["subject"] = subject
    return placed
