"""The plugin as a site runs it: `bonetumor serve` in a process tree of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from bonetumor.domain.progress import StudyState
from bonetumor.phantom.dicom import ISSUER
from bonetumor.phantom.fhir import SYSTEM
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from bonetumor.weights.installed import synthetic_bundle
from bonetumor.worker import wiring
from kit.servers import ENDS_WITH_US, FhirServer, Orthanc, answers, free_port, need, wait_until

ENDED = {StudyState.DONE, StudyState.HELD, StudyState.FAILED}


class Plugin:
    """One installation over `folder`, with the weights that find phantoms' tumours."""

    def __init__(
        self,
        folder: Path,
        *,
        archive: Orthanc | None = None,
        ehr: FhirServer | None = None,
        **more: str,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith("BONETUMOR_")
        } | {
            "BONETUMOR_FOLDER": str(folder),
            "BONETUMOR_MODEL__BUNDLE": str(synthetic_bundle()),
            "BONETUMOR_LISTENER__PORT": str(self.port),
            "BONETUMOR_LISTENER__QUIET_S": "1",
            "BONETUMOR_QUEUE__SWEEP_S": "0.2",
            "BONETUMOR_QUEUE__RETRY_S": "0.5",
            "BONETUMOR_QUEUE__RETRY_MAX_S": "2",
        }
        if archive is not None:
            self.environment |= {
                "BONETUMOR_ARCHIVE__HOST": "127.0.0.1",
                "BONETUMOR_ARCHIVE__PORT": str(archive.port),
                "BONETUMOR_ARCHIVE__AE_TITLE": archive.ae_title,
            }
        if ehr is not None:
            self.environment |= {
                "BONETUMOR_EHR__BASE_URL": ehr.base_url,
                "BONETUMOR_EHR__ORGANIZATION": "Test hospital",
                "BONETUMOR_EHR__IDENTIFIER_SYSTEMS": json.dumps({ISSUER: SYSTEM}),
            }
        self.environment |= more
        self.process: subprocess.Popen | None = None
        self._ledger: SqlLedger | None = None

    def start(self) -> None:
        with (self.folder / "plugin.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*ENDS_WITH_US, sys.executable, "-m", "bonetumor.worker", "serve"],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        wait_until(lambda: answers(self.port), 60, f"listener, see {self.folder / 'plugin.log'}")

    def kill(self) -> None:
        """SIGKILL to every process of the tree at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    @contextmanager
    def up(self) -> Iterator["Plugin"]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    @property
    def ledger(self) -> SqlLedger:
        if self._ledger is None:
            url = self.environment.get(
                "BONETUMOR_LEDGER_URL", f"sqlite:///{self.folder / 'ledger.sqlite'}"
            )
            self._ledger = SqlLedger(
                open_engine(url), clock=wiring.now, lease=timedelta(minutes=15), max_attempts=3
            )
        return self._ledger

    def state(self, study_uid: str) -> StudyState | None:
        found = self.ledger.one(study_uid)
        return None if found is None else found.state

    def problem(self, study_uid: str) -> str | None:
        found = self.ledger.one(study_uid)
        return None if found is None else found.problem

    def wait(self, study_uid: str, *states: StudyState, seconds: float = 120) -> StudyState:
        wanted = set(states) or ENDED
        wait_until(
            lambda: self.state(study_uid) in wanted,
            seconds,
            f"study {study_uid} in {wanted}, see {self.folder / 'plugin.log'}",
        )
        state = self.state(study_uid)
        assert state is not None
        return state

    def span(self, study_uid: str) -> tuple[float, float]:
        """When the study came and when the last of it was done, in seconds since 1970."""
        story = self.ledger.story(study_uid)
        return story[0].at.timestamp(), story[-1].at.timestamp()

    def command(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "bonetumor.worker", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def logs(self) -> str:
        return (self.folder / "plugin.log").read_text(errors="replace")


def storescu(port: int, *files: Path, ae_title: str = "BONETUMOR", check: bool = True):
    """DCMTK's sender."""
    return subprocess.run(
        [need("storescu"), "-v", "-R", "-aec", ae_title, "127.0.0.1", str(port), *map(str, files)],
        check=check,
        capture_output=True,
        text=True,
        timeout=120,
    )
