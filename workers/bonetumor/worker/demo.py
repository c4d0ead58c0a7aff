"""`demo`: the whole journey on one machine, over the real protocols.

The plugin runs as `serve` runs it. A small archive and a small EHR stand in for the hospital's.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import Engine

from bonetumor.dicom.reader import read_file, read_header
from bonetumor.domain.errors import InvalidInput, NotDicom, Unavailable
from bonetumor.domain.progress import Claim, Step, StudyState
from bonetumor.domain.study import StudyHeader
from bonetumor.domain.uid import UID
from bonetumor.phantom.dicom import to_dicom
from bonetumor.phantom.fhir import to_fhir
from bonetumor.phantom.patient import draw_patient
from bonetumor.simulator.archive import SimulatedArchive
from bonetumor.simulator.ehr import SimulatedEhr
from bonetumor.simulator.sender import echo, send_files
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from bonetumor.worker import wiring
from bonetumor.worker.showing import Shown, write_pages

_SEED = 2026
_PATIENT_SYSTEM = "https://bonetumor.example/demo/patient-id"
_READY_S = 60.0
_DONE_S = 600.0
_ENDED = {StudyState.DONE, StudyState.HELD, StudyState.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """What the demo sends, and where the results go."""

    out: Path
    study: Path | None
    fhir: Path | None
    patient: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """The files to send, what they say of their studies, and what the EHR holds."""

    files: list[Path]
    headers: dict[UID, StudyHeader]
    bundle: dict[str, Any] | None
    systems: dict[str, str]


def run_demo(plan: DemoPlan, say: Console) -> None:
    """Runs the demo; raises if a study does not end in success."""
    out = plan.out.absolute()
    work = out / "plugin"
    for folder in (work, out / "archive"):
        shutil.rmtree(folder, ignore_errors=True)
    for old in (*out.glob("*.dcm"), *out.glob("overlay*.png")):
        old.unlink()
    work.mkdir(parents=True)
    sent = _own_study(plan) if plan.study else _synthetic_study(plan.patient, work)
    archive, ehr = SimulatedArchive(out / "archive"), SimulatedEhr()
    archive_port, base_url = archive.start(), ehr.start()
    if sent.bundle is not None:
        ehr.store.load(e["resource"] for e in sent.bundle.get("entry") or [])
    port = _free_port()
    settings = _environment(
        work, port, archive_port, base_url if sent.bundle else None, sent.systems
    )
    say.print(
        f"[bold]Archive[/bold] (simulated) on port {archive_port}, "
        f"[bold]EHR[/bold] (simulated) at {base_url}",
        soft_wrap=True,
    )
    try:
        with _plugin(settings, work, port, say):
            _send(sent.files, port, say)
            ledger = _ledger(work)
            states = _follow(ledger, list(sent.headers), say)
            shown = [
                Shown(
                    study=ledger.study(uid),
                    header=header,
                    state=states[uid],
                    story=tuple(ledger.story(uid)),
                    evidence=_document(ledger, uid, Step.ASSESS),
                    assessment=_document(ledger, uid, Step.SEND_SR),
                )
                for uid, header in sent.headers.items()
            ]
    finally:
        archive.stop()
        ehr.stop()
    posted = [ehr.store.read(*name.split("/")) for name in ehr.store.created]
    write_pages(out, work / "spool", shown, archive.objects(), [p for p in posted if p])
    _conclude(out, states, say)


def _synthetic_study(number: int, work: Path) -> _Sent:
    patient = draw_patient(_SEED, number)
    dataset = to_dicom(patient)
    path = work / "sent.dcm"
    dataset.save_as(path, enforce_file_format=True)
    header = read_header(dataset)
    bundle = to_fhir(patient)
    return _Sent(
        files=[path],
        headers={header.study_instance_uid: header},
        bundle=bundle,
        systems=_systems([header], bundle),
    )


def _own_study(plan: DemoPlan) -> _Sent:
    assert plan.study is not None  # noqa: S101 - the caller looked
    if not plan.study.is_dir():
        raise InvalidInput(f"--study: expected a folder, got {plan.study}")
    files: list[Path] = []
    headers: dict[UID, StudyHeader] = {}
    for path in sorted(p for p in plan.study.rglob("*") if p.is_file()):
        try:
            header = read_header(read_file(path, pixels=False))
        except (NotDicom, AttributeError):
            continue  # a folder may hold notes beside its images
        files.append(path)
        headers.setdefault(header.study_instance_uid, header)
    if not files:
        raise InvalidInput(f"--study: expected DICOM files in {plan.study}, got none")
    bundle: dict[str, Any] | None
    if plan.fhir is not None:
        bundle = _read_bundle(plan.fhir)
    else:
        named = [h for h in headers.values() if h.patient.patient_id]
        bundle = _bare_record(named) if len(named) == len(headers) else None
    return _Sent(
        files=files,
        headers=headers,
        bundle=bundle,
        systems=_systems(list(headers.values()), bundle),
    )


def _read_bundle(path: Path) -> dict[str, Any]:
    try:
        bundle = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"--fhir: expected a FHIR Bundle in {path}, got {type(error).__name__}"
        ) from error
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise InvalidInput(f"--fhir: expected a FHIR Bundle in {path}, got another resource")
    return bundle


def _bare_record(headers: Sequence[StudyHeader]) -> dict[str, Any]:
    """An EHR that knows the patients of the images and nothing else."""
    sexes = {"M": "male", "F": "female", "O": "other"}
    entries: dict[str, dict[str, Any]] = {}
    for number, header in enumerate(headers, start=1):
        identity = header.patient
        resource: dict[str, Any] = {
            "resourceType": "Patient",
            "id": f"demo-{number}",
            "identifier": [{"system": _PATIENT_SYSTEM, "value": identity.patient_id}],
        }
        if identity.birth_date:
            resource["birthDate"] = identity.birth_date
        if identity.sex in sexes:
            resource["gender"] = sexes[identity.sex]
        entries.setdefault(identity.patient_id, {"resource": resource})
    return {"resourceType": "Bundle", "type": "collection", "entry": list(entries.values())}


def _systems(headers: Sequence[StudyHeader], bundle: dict[str, Any] | None) -> dict[str, str]:
    """Which identifier system of the EHR stands behind each issuer of the images."""
    systems = {}
    patients = [
        e["resource"]
        for e in (bundle or {}).get("entry") or []
        if e.get("resource", {}).get("resourceType") == "Patient"
    ]
    for header in headers:
        for patient in patients:
            for identifier in patient.get("identifier") or []:
                if identifier.get("value") == header.patient.patient_id:
                    systems[header.patient.issuer or ""] = str(identifier.get("system", ""))
    return systems


def _environment(
    work: Path, port: int, archive_port: int, base_url: str | None, systems: dict[str, str]
) -> dict[str, str]:
    """The plugin's settings, as a site would give them."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("BONETUMOR_") or "MODEL" in k
    }
    environment |= {
        "BONETUMOR_FOLDER": str(work),
        "BONETUMOR_LISTENER__PORT": str(port),
        "BONETUMOR_LISTENER__QUIET_S": "1.5",
        "BONETUMOR_ARCHIVE__HOST": "127.0.0.1",
        "BONETUMOR_ARCHIVE__PORT": str(archive_port),
        "BONETUMOR_ARCHIVE__AE_TITLE": "ARCHIVE",
    }
    if base_url is not None:
        environment["BONETUMOR_EHR__BASE_URL"] = base_url
        environment["BONETUMOR_EHR__IDENTIFIER_SYSTEMS"] = json.dumps(systems)
        environment["BONETUMOR_EHR__ORGANIZATION"] = "Demo hospital"
        environment["BONETUMOR_EHR__LABS_DAYS_BEFORE"] = "3650"
    return environment


@contextmanager
def _plugin(environment: dict[str, str], work: Path, port: int, say: Console) -> Iterator[None]:
    """`bonetumor serve` as a process of its own, ready to receive."""
    with (work / "plugin.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bonetumor.worker", "serve"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + _READY_S
            while not echo("127.0.0.1", port, "BONETUMOR"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Unavailable(
                        f"plugin: expected it to start, got none; see {work / 'plugin.log'}"
                    )
                time.sleep(0.2)
            say.print(f"[bold]Plugin[/bold] answers C-ECHO as BONETUMOR on port {port}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _send(files: Sequence[Path], port: int, say: Console) -> None:
    def sent(path: Path) -> None:
        say.print(
            f"  C-STORE {path.name}: Success, which means it is safe on disk", highlight=False
        )

    send_files(files, "127.0.0.1", port, "BONETUMOR", sent)


def _ledger(work: Path) -> SqlLedger:
    engine: Engine = open_engine(f"sqlite:///{work / 'ledger.sqlite'}")
    return SqlLedger(engine, clock=wiring.now, lease=timedelta(minutes=15), max_attempts=3)


def _follow(ledger: SqlLedger, studies: Sequence[UID], say: Console) -> dict[UID, StudyState]:
    """Prints each event as it happens, until every study has ended."""
    told = dict.fromkeys(studies, 0)
    deadline = time.monotonic() + _DONE_S
    while True:
        states = {p.study_instance_uid: p.state for p in ledger.progress()}
        for study in studies:
            for event in list(ledger.story(study))[told[study] :]:
                say.print(f"  {event.at:%H:%M:%S} [cyan]{event.kind:<13}[/cyan] ", end="")
                say.print(event.detail, markup=False, highlight=False)
                told[study] += 1
        if all(states.get(s) in _ENDED for s in studies):
            return {s: states[s] for s in studies}
        if time.monotonic() > deadline:
            raise Unavailable(f"demo: expected every study to end in {_DONE_S:g} s, got {states}")
        time.sleep(0.2)


def _document(ledger: SqlLedger, study: UID, step: Step) -> Any:
    """What a step had before it, or None if the walk did not get there."""
    revision = max(e.revision for e in ledger.story(study))
    claim = Claim(
        study_instance_uid=study,
        revision=revision,
        step=step,
        owner="demo",
        attempt=0,
        put_offs=0,
        expires_at=wiring.now(),
    )
    try:
        return ledger.evidence(claim) if step is Step.ASSESS else ledger.assessment(claim)
    except InvalidInput:
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _conclude(out: Path, states: dict[UID, StudyState], say: Console) -> None:
    for name in ("sr.dcm", "report.json", "overlay.png", "detections.json", "index.html"):
        path = out / name
        say.print(
            f"  {'wrote' if path.exists() else 'no   '} {path}", highlight=False, soft_wrap=True
        )
    stopped = {s: state for s, state in states.items() if state is not StudyState.DONE}
    if stopped:
        raise InvalidInput(
            f"demo: expected every study to be done, got {', '.join(map(str, stopped.values()))}; "
            f"the reason stands above and in {out / 'index.html'}"
        )
    say.print("[green]Done.[/green] Open index.html in a browser.")
