"""Report graphs against HL7's R4 definitions, by a validator that is not ours."""

import json
import random
import subprocess
from datetime import UTC, datetime

import pytest

from bonetumor.domain.assessment import Algorithm, Assessment, Diagnosis, Modality, TumourClass
from bonetumor.domain.case import Evidence
from bonetumor.domain.image import BoundingBox, ImageReference
from bonetumor.domain.labs import Analyte, LabPanel, LabResult
from bonetumor.domain.lesion import Detection, name_lesions
from bonetumor.domain.pathology import Pathology
from bonetumor.domain.study import Instance, InstanceKeys, PatientIdentity, Study, StudyHeader
from bonetumor.fhir.client import FhirClient
from bonetumor.fhir.report import Anchors, device, imaging_study, organization, report_bundle
from bonetumor.fhir.server import FhirReportServer
from bonetumor.service.ports import Result
from bonetumor.simulator.ehr import SimulatedEhr
from kit.servers import PARTS, need

GRAPHS = 200
ANCHORS = Anchors(organization="Organization/1", device="Device/1", imaging_study="ImagingStudy/1")


def result(seed: int) -> Result:
    """A result of any shape: lesions or none, evidence or none, abstained or not."""
    chance = random.Random(seed)
    keys = InstanceKeys(
        study_instance_uid=f"1.2.{seed}",
        series_instance_uid=f"1.2.{seed}.1",
        sop_instance_uid=f"1.2.{seed}.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    )
    instance = Instance(
        keys=keys,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        size=1,
        sha256="a" * 64,
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        calling_ae_title="X",
    )
    run = f"{seed:064x}"
    image = ImageReference(
        sop_instance_uid=keys.sop_instance_uid,
        sop_class_uid=keys.sop_class_uid,
        series_instance_uid=keys.series_instance_uid,
        frame_number=chance.choice([None, 3]),
        rows=100,
        columns=100,
    )
    found = tuple(
        Detection(
            image=image, box=BoundingBox(x0=i, y0=1.25, x1=i + 5.5, y1=9), score=chance.random()
        )
        for i in range(chance.randrange(4))
    )
    weights = [chance.random() for _ in TumourClass]
    probabilities = {c: w / sum(weights) for c, w in zip(TumourClass, weights, strict=True)}
    nothing = chance.random() < 0.2
    labs = LabPanel(
        results=(
            LabResult(
                analyte=Analyte.ALP,
                value=1,
                unit="U/L",
                low=None,
                high=None,
                taken_at=None,
                source="Observation/7",
            ),
        )
    )
    return Result(
        study=Study(
            study_instance_uid=keys.study_instance_uid, instances=(instance,), completeness="quiet"
        ),
        header=StudyHeader(
            study_instance_uid=keys.study_instance_uid,
            patient=PatientIdentity(patient_id="P", issuer=None, birth_date=None, sex=None),
            accession_number=chance.choice([None, "A1"]),
            acquired_at=chance.choice([None, datetime(2026, 1, 1, tzinfo=UTC)]),
            modality="DX",
            body_part=chance.choice([None, "FEMUR"]),
            laterality=None,
        ),
        evidence=Evidence(
            patient="Patient/1",
            labs=chance.choice([None, labs]),
            pathology=chance.choice([None, Pathology(slides=(), reports=("DiagnosticReport/9",))]),
            order=chance.choice([None, "ServiceRequest/1"]),
        ),
        assessment=Assessment(
            run_key=run,
            lesions=name_lesions(run, found),
            diagnosis=Diagnosis(
                probabilities=None if nothing else probabilities,
                prediction_set=() if nothing else (TumourClass.BENIGN,),
                abstained=nothing or chance.random() < 0.3,
                out_of_distribution=chance.random() < 0.3,
                used=(),
                reason="for a reason",
            ),
            algorithm=Algorithm(
                name="bonetumor",
                version="0",
                bundle_version="1",
                bundle_sha256="0" * 64,
                training_data="synthetic",
            ),
            completeness="quiet",
            missing=tuple(Modality),
            images_assessed=1,
            assessed_at=datetime(2026, 1, 2, tzinfo=UTC),
            notes=("slide not used",),
        ),
        predecessor=None,
    )


def _validate(path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [need("node"), "--experimental-websocket", str(PARTS / "validate.mjs"), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_graph_is_valid_r4(tmp_path):
    made = []
    for seed in range(GRAPHS):
        one = result(seed)
        made += [report_bundle(one, ANCHORS), imaging_study(one), device(one, "Organization/1")]
    made.append(organization("Test hospital"))
    path = tmp_path / "graphs.json"
    path.write_text(json.dumps(made))
    checked = _validate(path)
    assert checked.returncode == 0, checked.stdout[-3000:]
    assert ", 0 problems" in checked.stdout


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.update(status="perhaps"),
        lambda r: r.pop("code"),
        lambda r: r.update(conclusion=7),
        lambda r: r.update(colour="red"),
    ],
)
def test_the_validator_can_say_no(tmp_path, spoil):
    bundle = report_bundle(result(3), ANCHORS)
    [report] = [
        e["resource"]
        for e in bundle["entry"]
        if e["resource"]["resourceType"] == "DiagnosticReport"
    ]
    spoil(report)
    path = tmp_path / "spoilt.json"
    path.write_text(json.dumps(report))
    assert _validate(path).returncode == 1


def test_the_same_result_is_the_same_graph():
    assert report_bundle(result(5), ANCHORS) == report_bundle(result(5), ANCHORS)


def test_a_device_is_never_a_performer():
    for entry in report_bundle(result(6), ANCHORS)["entry"]:
        for performer in entry["resource"].get("performer", []):
            assert performer["reference"].startswith("Organization/")


def test_an_abstaining_model_claims_no_class():
    for seed in range(40):
        one = result(seed)
        report = next(
            e["resource"]
            for e in report_bundle(one, ANCHORS)["entry"]
            if e["resource"]["resourceType"] == "DiagnosticReport"
        )
        assert ("conclusionCode" in report) == (not one.assessment.diagnosis.abstained)
        assert report["conclusion"].startswith("PRELIMINARY AI OUTPUT")


def test_sending_a_report_again_makes_nothing_twice():
    ehr = SimulatedEhr()
    client = FhirClient(ehr.start())
    try:
        server = FhirReportServer(client, "Test hospital")
        one = result(8)
        assert not server.holds(one)
        server.send(one)
        count = len(ehr.store.created)
        server.send(one)
        assert server.holds(one)
        assert len(ehr.store.created) == count
        assert len(ehr.store.search("DiagnosticReport", {})) == 1
    finally:
        client.close()
        ehr.stop()
