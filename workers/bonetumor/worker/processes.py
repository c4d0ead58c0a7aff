"""The processes: listener, worker, and `serve`, which keeps both alive."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

import structlog
from filelock import FileLock, Timeout

from bonetumor.domain.errors import BoneTumorError, Misconfigured, ModelFault
from bonetumor.domain.progress import Step
from bonetumor.service.complete import close_complete_studies
from bonetumor.service.ledger import Leases, Ledger
from bonetumor.service.walk import Walk, Work
from bonetumor.worker import wiring
from bonetumor.worker.app import GPU, IO, build_app, kind_of, queues_of
from bonetumor.worker.canary import Canary, Perch
from bonetumor.worker.settings import Settings
from bonetumor.worker.steps import GpuSteps, IoSteps
from bonetumor.worker.sweep import Sweep
from bonetumor.worker.tasks import Doorbell, Take, add_tasks
from bonetumor.worker.together import Together
from bonetumor.worker.watchdog import Watchdog

_log = structlog.get_logger(__name__)
_STOP_S = 10.0
# A step ends before its lease does: nobody else has begun it by then.
_OF_LEASE = 0.95
_REMOVE_EVERY_S = 600.0


def listen(settings: Settings) -> None:
    """Receives studies, closes those that are complete, and rings for every step that waits."""
    ledger = wiring.build_ledger(settings)
    listener = wiring.build_listener(settings, ledger)
    listener.start()
    _log.info("listening", host=settings.listener.host, port=listener.port)
    completeness = wiring.build_completeness(settings, ledger)
    close = wiring.build_closing(settings, ledger)
    sweep = Sweep(ledger, Doorbell(build_app(settings)))
    stopping = _stop_on_signal()

    def close_studies() -> None:
        close_complete_studies(completeness, close)

    retention = wiring.build_retention(settings, ledger)
    spool = wiring.build_spool(settings)

    def remove_old() -> None:
        spool.forget_unused()
        removed = retention.once()
        if removed:
            _log.info("removed", studies=removed)

    rounds: list[tuple[Callable[[], None], float]] = [
        (close_studies, settings.queue.sweep_s),
        (sweep.once, settings.queue.sweep_s),
        (remove_old, _REMOVE_EVERY_S),
    ]
    if settings.worklist is not None:
        from bonetumor.worker import wiring_worklist  # few sites have one

        performing = wiring_worklist.build_performing(settings, settings.worklist, ledger)
        rounds.append((performing.once, settings.worklist.every_s))
    # Asking the archive may take its time; ringing must not wait for it.
    threads = [
        threading.Thread(target=_again_and_again, args=(each, every_s, stopping))
        for each, every_s in rounds
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listener.stop()


def _again_and_again(once: Callable[[], None], every_s: float, stopping: threading.Event) -> None:
    """Rounds until told to stop. One that fails is told of, and the next may do better; a bug ends
    the process, and its supervisor starts it again."""
    try:
        while not stopping.wait(every_s):
            try:
                once()
            except BoneTumorError as error:
                _log.error("round failed", error=error.code, reason=str(error))
    finally:
        stopping.set()


def work(settings: Settings, queues: Sequence[str]) -> None:
    """Works on the queues until told to stop."""
    ledger = wiring.build_ledger(settings)
    steps: dict[Step, Work] = {}
    if IO in queues:
        steps |= _io_steps(settings, ledger)
    if GPU in queues:
        steps |= _gpu_steps(settings, ledger)
    app = build_app(settings)
    walk = Walk(
        ledger=ledger,
        clock=wiring.now,
        work=steps,
        owner=wiring.owner(os.getpid()),
        retry_after=lambda claim: wiring.backoff(settings, claim),
    )
    watchdog = Watchdog(
        limit_s=settings.queue.lease_s * _OF_LEASE,
        limit_bytes=settings.queue.max_memory_bytes,
        give_up=walk.give_up,
    )
    takes: dict[Step, Take] = {step: walk.take for step in Step if kind_of(step) in queues}
    if GPU in queues and settings.model.studies > 1:
        takes[Step.ASSESS] = Together(walk, settings.model.studies).take
    add_tasks(app, takes, Doorbell(app), watchdog)
    kinds = "-".join(queues)
    perch = Perch(settings, wiring.host_name(), kinds)
    canary = Canary(
        app,
        perch.queue,
        every_s=settings.queue.canary_s,
        heard=lambda: ledger.note_alive(wiring.owner(os.getpid()), kinds),
        is_busy=lambda: watchdog.is_watching,
    )
    worker = app.Worker(
        queues=[*(name for kind in queues for name in queues_of(kind)), perch.queue],
        pool="solo",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="WARNING",
        hostname=f"{kinds}-{os.getpid()}@{wiring.host_name()}",
    )
    _log.info("working", queues=",".join(queues))
    canary.start()
    try:
        worker.start()
    finally:
        ledger.free(wiring.owner(os.getpid()))  # ended as told: nobody need wait for it
        perch.leave()


def _io_steps(settings: Settings, ledger: Ledger) -> dict[Step, Work]:
    from bonetumor.worker import wiring_ehr, wiring_results  # the others go without

    client = wiring_ehr.build_fhir_client(settings)
    steps = IoSteps(
        ledger=ledger,
        studies=wiring.build_studies(settings),
        record=wiring_ehr.build_record(settings, client),
        destinations=wiring_results.build_destinations(settings, ledger, client),
        clock=wiring.now,
        readiness=wiring_ehr.build_readiness(settings),
    )
    return dict(steps.work())


def _gpu_steps(settings: Settings, ledger: Ledger) -> dict[Step, Work]:
    from bonetumor.worker import thinking  # torch takes seconds to import; io workers go without

    steps = GpuSteps(
        ledger=ledger,
        studies=wiring.build_studies(settings),
        slides=thinking.BundleSlides(settings.model.bundle),
        texts=ledger,
        load=lambda: thinking.build_model(settings),
        clock=wiring.now,
    )
    try:
        steps.model()
    except (ModelFault, Misconfigured) as error:
        # The worker stays: each study then fails visibly with this reason instead of waiting.
        _log.error("no model", error=error.code, reason=str(error))
    return dict(steps.work())


def web(settings: Settings) -> None:
    """Serves our reports over FHIR until told to stop."""
    import uvicorn  # only this process needs these

    from bonetumor.worker import wiring_ehr

    chosen = wiring_ehr.need_web(settings)
    uvicorn.run(
        wiring_ehr.build_web(settings, wiring.build_ledger(settings)),
        host=chosen.host,
        port=chosen.port,
        ssl_certfile=chosen.tls_certificate,
        ssl_keyfile=chosen.tls_key,
        access_log=False,  # request lines may hold identifiers
        log_config=None,
        server_header=False,
    )


def serve(settings: Settings) -> None:
    """One process tree with everything. Children that die are started again, and missed."""
    wiring.build_rules(settings)  # a rule that cannot be read ends it here, not the listener later
    ledger = wiring.build_ledger(settings)
    lock = FileLock(settings.folder / "serve.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Misconfigured(
            f"folder: expected to be the only `serve` over {settings.folder}, "
            "got another one running"
        ) from error
    ledger.free(f"{wiring.host_name()}:")
    children = [
        Child(("listen",)),
        Child(("worker", "--queues", IO)),
        Child(("worker", "--queues", GPU)),
    ]
    if settings.web is not None:
        children.append(Child(("web",)))
    stopping = _stop_on_signal()
    try:
        while not stopping.is_set():
            for child in children:
                child.keep_alive(ledger)
            stopping.wait(0.2)
    finally:
        for child in children:
            child.stop()
        lock.release()


@dataclass(slots=True)
class Child:
    """A process that is started again when it dies, more slowly each time it dies young."""

    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    wait_s: float = 0.0

    def keep_alive(self, leases: Leases) -> None:
        """Starts the process if it does not run, and takes back what a dead one had claimed."""
        if self.process is not None and self.process.poll() is None:
            return
        if self.process is not None:
            leases.free(wiring.owner(self.process.pid))
            young = time.monotonic() - self.started_at < 60
            self.wait_s = min(30.0, max(0.5, self.wait_s * 2)) if young else 0.0
            _log.error("process died", command=self.arguments[0], code=self.process.returncode)
            self.process, self.started_at = None, time.monotonic() + self.wait_s
        if time.monotonic() >= self.started_at:
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bonetumor.worker", *self.arguments, "--supervised"]
            )

    def stop(self) -> None:
        """Asks the process to end; ends it if it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def die_with_parent() -> None:
    """Ends this process when the one that started it is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _stop_on_signal() -> threading.Event:
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping
