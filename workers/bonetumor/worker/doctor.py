"""`doctor`: looks at everything a site depends on, and says in plain words what is wrong."""

import shutil
from collections import Counter
from collections.abc import Callable

from kombu.exceptions import OperationalError
from rich.console import Console

from bonetumor.domain.errors import BoneTumorError, StorageUnavailable, Unavailable
from bonetumor.domain.progress import STOPPED
from bonetumor.worker import thinking, wiring, wiring_ehr, wiring_results, wiring_worklist
from bonetumor.worker.app import build_app
from bonetumor.worker.health import late_before, listener_answers
from bonetumor.worker.settings import Settings

Check = Callable[[Settings], str]


def examine(settings: Settings, out: Console) -> bool:
    """Runs every check, also after one that fails; whether all are well."""
    well = True
    for name, check in CHECKS.items():
        try:
            said, mark = check(settings), "[green]ok  [/green]"
        except BoneTumorError as error:
            said, mark, well = f"{error.code}: {error}", "[red]FAIL[/red]", False
        out.print(f"{mark} {name:<9} ", end="")
        out.print(said, markup=False, highlight=False, soft_wrap=True)
    out.print("Everything is well." if well else "Something is wrong: see the lines marked FAIL.")
    return well


def _disk(settings: Settings) -> str:
    wiring.build_spool(settings)
    free = shutil.disk_usage(settings.folder).free
    if free < settings.min_free_bytes:
        raise StorageUnavailable(
            f"disk: expected at least {settings.min_free_bytes} free bytes in "
            f"{settings.folder}, got {free}"
        )
    days = settings.retention.keep_days
    kept = (
        "kept for ever (retention.keep_days is not set)" if days is None else f"kept {days:g} days"
    )
    return f"{free / 1024**3:.1f} GiB free in {settings.folder}; images are {kept}"


def _bucket(settings: Settings) -> str:
    chosen = settings.bucket
    if chosen is None:
        return "none configured: what is received lies in the folder alone"
    plain = "; not encrypted" if chosen.endpoint_url.startswith("http:") else ""
    return f"{wiring.build_bucket(chosen).answers()} can be written, listed and read{plain}"


def _ledger(settings: Settings) -> str:
    counts = wiring.build_ledger(settings).counts()
    stopped = sum(counts.get(state, 0) for state in STOPPED)
    return f"{sum(counts.values())} studies, {stopped} stopped (see `bonetumor cases list`)"


def _listener(settings: Settings) -> str:
    chosen = settings.listener
    taken = listener_answers(settings)
    state = "something answers there, hopefully we" if taken else "nothing answers there yet"
    return f"{chosen.ae_title} at {chosen.host}:{chosen.port}; {state}"


def _rules(settings: Settings) -> str:
    count = len(wiring.build_rules(settings))
    if not count:
        return "none: every study is for us"
    return f"{count}; a study that none fits is not for us"


def _broker(settings: Settings) -> str:
    if not settings.queue.url:
        return "embedded, in a folder: no server needed"
    try:
        with build_app(settings).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            return f"answers at {connection.as_uri()}"
    except (OperationalError, OSError) as error:
        raise Unavailable(f"broker: expected a connection, got {type(error).__name__}") from error


def _workers(settings: Settings) -> str:
    seen = wiring.build_ledger(settings).workers()
    late = late_before(settings)
    alive = Counter(worker.queues for worker in seen if worker.heard_at >= late)
    if not alive:
        return "none has been heard of lately: is `bonetumor serve` running?"
    return ", ".join(f"{count} of {queues}" for queues, count in alive.items())


def _weights(settings: Settings) -> str:
    manifest = thinking.build_bundle(settings).manifest
    thinking.build_model(settings)
    return (
        f"{manifest.name} {manifest.version}, for {manifest.intended_use} use, trained on "
        f"{manifest.training_data}; mode {settings.mode}"
    )


def _archive(settings: Settings) -> str:
    chosen = settings.archive
    if chosen is None:
        return "none configured: studies are complete when nothing came for a while"
    wiring.build_peer(settings, chosen).echo()
    return f"{chosen.ae_title} at {chosen.host}:{chosen.port} answers C-ECHO"


def _worklist(settings: Settings) -> str:
    if settings.worklist is None:
        return "none configured: what is sent is assessed"
    wiring_worklist.build_worklist(settings, settings.worklist).answers()
    under_way = wiring.build_ledger(settings).performances()
    return f"answers; {len(under_way)} workitems are ours now"


def _results(settings: Settings) -> str:
    said = []
    for chosen in settings.result_destinations:
        if chosen.dicomweb_url:
            wiring_results.build_dicomweb(chosen).answers()
        else:
            wiring.build_peer(settings, chosen).echo()
        said.append(f"{chosen.name} answers and gets {', '.join(chosen.results)}")
    return "; ".join(said) or "no destination: nothing goes to any PACS"


def _ehr(settings: Settings) -> str:
    client = wiring_ehr.build_fhir_client(settings)
    if client is None or settings.ehr is None:
        return "none configured: no blood, no pathology, no DiagnosticReport"
    offered = client.capabilities()
    if not offered.fhir_version.startswith("4.0"):
        raise Unavailable(f"FHIR server: expected version 4.0, got {offered.fhir_version}")
    missing = [
        kind for kind in ("Patient", "Observation") if not offered.offers(kind, "search-type")
    ]
    if missing:
        raise Unavailable(f"FHIR server: expected searches of {', '.join(missing)}, got none")
    takes = [k for k in ("DiagnosticReport", "DocumentReference") if offered.offers(k, "create")]
    written = takes[0] if takes else "nothing"
    if settings.ehr.write != "auto":
        written = {"hl7": "HL7 v2", "none": "nothing: it reads ours"}[settings.ehr.write]
    elif not takes and settings.ehr.hl7 is not None:
        written = "HL7 v2"
    plain = "" if settings.ehr.base_url.startswith("https:") else "; not encrypted"
    said = f"speaks FHIR {offered.fhir_version}, gets {written}{plain}"
    return f"{settings.ehr.base_url} {said}"


CHECKS: dict[str, Check] = {
    "disk": _disk,
    "bucket": _bucket,
    "ledger": _ledger,
    "listener": _listener,
    "rules": _rules,
    "broker": _broker,
    "workers": _workers,
    "weights": _weights,
    "archive": _archive,
    "worklist": _worklist,
    "results": _results,
    "ehr": _ehr,
}
