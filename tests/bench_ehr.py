"""Gathering beside the bare HTTP of the same calls, and tiles beside wsidicom alone.

    make bench-ehr

Side by side in one run over a real FHIR server; prints figures and judges nothing.
"""

import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from wsidicom import WsiDicom

sys.path.insert(0, str(Path(__file__).parent))

from bonetumor.domain.study import PatientIdentity, StudyHeader
from bonetumor.fhir.client import FhirClient
from bonetumor.service.gather import gather
from bonetumor.slides.whole import SlideSampler
from bonetumor.worker import wiring_ehr
from bonetumor.worker.settings import Settings
from kit.servers import FhirServer
from kit.slides import write_slide

OBSERVATIONS = 2000
ROUNDS = 7
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODES = [
    ("6768-6", "U/L"),
    ("2532-0", "U/L"),
    ("718-7", "g/dL"),
    ("1988-5", "mg/L"),
    ("9999-9", "1"),
]


def observation(number: int, patient: str) -> dict:
    code, unit = CODES[number % len(CODES)]
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    quantity = {"unit": unit, "code": unit, "system": "http://unitsofmeasure.org"}
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": category, "code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": patient},
        "effectiveDateTime": (NOW - timedelta(minutes=number)).isoformat(),
        "valueQuantity": {"value": 10 + number % 9, **quantity},
        "referenceRange": [{"low": {"value": 5, **quantity}, "high": {"value": 12, **quantity}}],
    }


def bench_gather(folder: Path) -> None:
    with FhirServer(folder).up() as server:
        identifier = [{"system": "urn:h", "value": "P1"}]
        made = httpx.post(
            f"{server.base_url}/Patient",
            json={"resourceType": "Patient", "identifier": identifier, "birthDate": "1980-01-01"},
        ).json()
        patient = f"Patient/{made['id']}"
        for start in range(0, OBSERVATIONS, 500):
            entries = [
                {
                    "request": {"method": "POST", "url": "Observation"},
                    "resource": observation(n, patient),
                }
                for n in range(start, start + 500)
            ]
            bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
            httpx.post(server.base_url, json=bundle, timeout=120).raise_for_status()
        settings = Settings(ehr={"base_url": server.base_url, "identifier_systems": {"": "urn:h"}})
        seen: list[httpx.Request] = []
        http = httpx.Client(event_hooks={"request": [seen.append]}, timeout=60)
        client = FhirClient(server.base_url, http=http)
        record = wiring_ehr.build_record(settings, client)
        header = StudyHeader(
            study_instance_uid="1.2",
            patient=PatientIdentity(
                patient_id="P1", issuer=None, birth_date="1980-01-01", sex=None
            ),
            accession_number="A1",
            acquired_at=NOW,
            modality="DX",
            body_part=None,
            laterality=None,
        )
        gather(header, record)
        ours, bare = [], []
        with httpx.Client(timeout=60) as plain:
            for _ in range(ROUNDS):
                seen.clear()
                begun = time.perf_counter()
                evidence = gather(header, record)
                ours.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                for request in seen:
                    plain.request(
                        request.method,
                        request.url,
                        content=request.content,
                        headers=request.headers,
                    ).read()
                bare.append(time.perf_counter() - begun)
        understood = len(evidence.labs.considered)
        print(
            f"gather, {OBSERVATIONS} Observations, {len(seen)} calls, {understood} understood: "
            f"{statistics.median(ours):.3f} s; the same calls bare "
            f"{statistics.median(bare):.3f} s; "
            f"{statistics.median(ours) / statistics.median(bare):.2f} ×"
        )


def bench_slides(folder: Path) -> None:
    file = folder / "slide.dcm"
    write_slide(file, 50_176, mpp=1.0)
    begun = time.perf_counter()
    SlideSampler(tile_px=256, tiles=400).sample_file(file)
    ours = time.perf_counter() - begun
    begun = time.perf_counter()
    with WsiDicom.open(file) as slide:
        # All on tissue: glass decodes faster.
        places = [(60 + n * 7919 % 80, 70 + n * 104_729 % 60) for n in range(400)]
        for x, y in places:
            slide.read_region((x * 256, y * 256), 0, (256, 256))
    alone = time.perf_counter() - begun
    print(
        f"50,176 × 50,176 slide, 400 tiles of 256: ours, with tissue search and PNG, "
        f"{400 / ours:.0f} tiles/s kept; wsidicom alone {400 / alone:.0f} tiles/s"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        bench_gather(Path(made) / "fhir")
        bench_slides(Path(made))
