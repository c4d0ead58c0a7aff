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

from bonetumor.domain.errors import InvalidInput, Unavailable
from bonetumor.domain.progress import Claim, Errand, Step, StudyState
from bonetumor.domain.uid import UID
from bonetumor.simulator.archive import SimulatedArchive
from bonetumor.simulator.ehr import SimulatedEhr
from bonetumor.simulator.sender import echo, send_files
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from bonetumor.weights.installed import synthetic_bundle
from bonetumor.worker import wiring
from bonetumor.worker.demo_input import DemoInput, own_study, synthetic_study
from bonetumor.worker.showing import Shown, write_pages

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


def run_demo(plan: DemoPlan, say: Console) -> None:
    """Runs the demo; raises if a study does not end in success."""
    out = plan.out.absolute()
    work = out / "plugin"
    for folder in (work, out / "archive"):
        shutil.rmtree(folder, ignore_errors=True)
    for old in (*out.glob("*.dcm"), *out.glob("overlay*.png"), *out.glob("report*.pdf")):
        old.unlink()
    work.mkdir(parents=True)
    if plan.study is not None:
        sent = own_study(plan.study, plan.fhir, say)
    else:
        sent = synthetic_study(plan.patient, work)
    archive, ehr = SimulatedArchive(out / "archive"), SimulatedEhr()
    archive_port, base_url = archive.start(), ehr.start()
    if sent.bundle is not None:
        ehr.store.load(sent.bundle)
    port = _free_port()
    settings = _environment(
        work, port, archive_port, base_url if sent.bundle else None, sent.systems
    )
    if plan.study is None:  # a drawn tumour is for weights that know such
        settings.setdefault("BONETUMOR_MODEL__BUNDLE", str(synthetic_bundle()))
    say.print(
        f"[bold]Archive[/bold] (simulated) on port {archive_port}, "
        f"[bold]EHR[/bold] (simulated) at {base_url}",
        soft_wrap=True,
    )
    try:
        with _plugin(settings, work, port, say):
            taken = _send(sent, port, say)
            ledger = _ledger(work)
            states = _follow(ledger, sorted(taken), say)
            shown = [
                Shown(
                    study=ledger.study(uid),
                    header=header,
                    state=states[uid],
                    story=tuple(ledger.story(uid)),
                    evidence=_document(ledger, uid, Step.ASSESS),
                    assessment=_document(ledger, uid, Step.SEND),
                )
                for uid, header in sent.headers.items()
                if uid in taken
            ]
    finally:
        archive.stop()
        ehr.stop()
    posted = [ehr.store.read(*name.split("/")) for name in ehr.store.created]
    write_pages(out, work / "spool", shown, archive.objects(), [p for p in posted if p])
    _conclude(out, states, len(sent.headers) - len(taken), say)


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
        # Anonymised files of one's own may have no birth date.
        environment["BONETUMOR_EHR__BIRTH_DATE_REQUIRED"] = "false"
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


def _send(sent: DemoInput, port: int, say: Console) -> set[UID]:
    """Sends every file; answers the studies of which at least one instance was taken."""
    taken = set()
    for path, status in send_files(list(sent.files), "127.0.0.1", port, "BONETUMOR"):
        if status == 0x0000:
            taken.add(sent.files[path])
            said = "Success, which means it is safe on disk"
        else:
            said = "no answer" if status is None else f"refused with status {status:04X}"
        say.print(f"  C-STORE {path.name}: {said}", highlight=False, markup=False)
    if not taken:
        raise InvalidInput("demo: expected at least one file to be taken, got none")
    return taken


def _ledger(work: Path) -> SqlLedger:
    engine: Engine = open_engine(f"sqlite:///{work / 'ledger.sqlite'}")
    return SqlLedger(engine, clock=wiring.now, lease=timedelta(minutes=15), max_attempts=3)


def _follow(ledger: SqlLedger, studies: Sequence[UID], say: Console) -> dict[UID, StudyState]:
    """Prints each event as it happens, until every study has ended."""
    told = dict.fromkeys(studies, 0)
    deadline = time.monotonic() + _DONE_S
    while True:
        known = [p for p in map(ledger.one, studies) if p is not None]
        states = {p.study_instance_uid: p.state for p in known}
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
        errand=Errand(study_instance_uid=study, step=step),
        revision=revision,
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


def _conclude(out: Path, states: dict[UID, StudyState], refused: int, say: Console) -> None:
    for name in ("sr.dcm", "report.json", "overlay.png", "detections.json", "index.html"):
        path = out / name
        say.print(
            f"  {'wrote' if path.exists() else 'no   '} {path}", highlight=False, soft_wrap=True
        )
    stopped = {s: state for s, state in states.items() if state is not StudyState.DONE}
    if refused:
        say.print(f"{refused} studies were refused in full: see the statuses above.")
    if stopped:
        raise InvalidInput(
            f"demo: expected every study to be done, got {', '.join(map(str, stopped.values()))}; "
            f"the reason stands above and in {out / 'index.html'}"
        )
    say.print("[green]Done.[/green] Open index.html in a browser.")
