"""The `bonetumor` command line."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from bonetumor.domain.errors import BoneTumorError
from bonetumor.domain.progress import STOPPED, StudyState
from bonetumor.domain.uid import parse_uid
from bonetumor.worker import cases, cohort_commands, ehr, models, research
from bonetumor.worker.log import start_logging
from bonetumor.worker.settings import Settings, read_settings

app = typer.Typer(
    help="Finds and assesses bone tumours on studies that a PACS sends, and returns a DICOM "
    "structured report to the PACS and a FHIR DiagnosticReport to the EHR. "
    "Not for primary diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_out = Console()

SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings", help="TOML file with the settings; else BONETUMOR_SETTINGS, else defaults"
    ),
]
Supervised = Annotated[bool, typer.Option("--supervised", hidden=True)]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results")] = Path("out"),
    study: Annotated[Path | None, typer.Option(help="Folder with your own DICOM files")] = None,
    fhir: Annotated[Path | None, typer.Option(help="FHIR Bundle with your own patient")] = None,
    patient: Annotated[int, typer.Option(help="Which synthetic patient to send")] = 3,
) -> None:
    """Shows the whole journey on this machine: no PACS, no EHR and no settings needed."""
    from bonetumor.worker.demo import DemoPlan, run_demo

    run_demo(DemoPlan(out=out, study=study, fhir=fhir, patient=patient), _out)


@app.command()
def serve(settings: SettingsFile = None) -> None:
    """Runs everything in one process tree: listener, workers, and whatever restarts them."""
    from bonetumor.worker import processes

    processes.serve(_start(settings, "serve"))


@app.command()
def listen(settings: SettingsFile = None, supervised: Supervised = False) -> None:
    """Runs the DICOM listener alone. The PACS sends studies here."""
    from bonetumor.worker import processes

    if supervised:
        processes.die_with_parent()
    processes.listen(_start(settings, "listen"))


@app.command()
def worker(
    queues: Annotated[str, typer.Option(help="io, gpu, or both as io,gpu")] = "io,gpu",
    settings: SettingsFile = None,
    supervised: Supervised = False,
) -> None:
    """Runs one worker. `io` talks to PACS and EHR, `gpu` runs the networks."""
    from bonetumor.worker import processes

    wanted = [q.strip() for q in queues.split(",")]
    if not set(wanted) <= {"io", "gpu"}:
        raise typer.BadParameter(f"expected io, gpu or io,gpu, got {queues}")
    if supervised:
        processes.die_with_parent()
    processes.work(_start(settings, f"worker {queues}"), wanted)


@app.command()
def web(settings: SettingsFile = None, supervised: Supervised = False) -> None:
    """Serves our reports over FHIR, for EHRs that cannot be written to."""
    from bonetumor.worker import processes

    if supervised:
        processes.die_with_parent()
    processes.web(_start(settings, "web"))


@app.command()
def status(
    study: Annotated[
        str | None, typer.Argument(help="A Study Instance UID, for its whole story")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
    refused: Annotated[bool, typer.Option("--refused", help="Objects that were not taken")] = False,
    state: Annotated[
        list[StudyState] | None, typer.Option(help="Only studies in this state; may be repeated")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many of the newest; 0 for all")] = 30,
    settings: SettingsFile = None,
) -> None:
    """Shows where every study is, what is wrong with it, and what happens next."""
    from bonetumor.worker import inspection  # start fast

    if refused:
        inspection.show_refusals(_start(settings, "status"), _out, as_json=json)
    elif study is not None:
        inspection.show_study(_start(settings, "status"), study, _out, as_json=json)
    else:
        inspection.show_overview(
            _start(settings, "status"), _out, states=state or (), limit=limit or None, as_json=json
        )


@app.command()
def explain(
    study: Annotated[str, typer.Argument(help="Study Instance UID")], settings: SettingsFile = None
) -> None:
    """Tells the whole story of a study in plain words, and what it waits for now."""
    from bonetumor.worker import explaining, wiring  # start fast

    ledger = wiring.build_ledger(_start(settings, "explain"))
    told = explaining.explain(ledger, parse_uid(study, name="Study Instance UID"))
    _out.print(told, markup=False, highlight=False, soft_wrap=True)


@app.command()
@app.command("retry", hidden=True)  # its earlier name
def replay(
    study: Annotated[str | None, typer.Argument(help="Study Instance UID")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every held or failed study")] = False,
    problem: Annotated[
        str, typer.Option(help="Those whose problem has these words, whatever their case")
    ] = "",
    state: Annotated[StudyState | None, typer.Option(help="Those that are held, or failed")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Those that stopped at this time (UTC) or later")
    ] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only show which they are")] = False,
    settings: SettingsFile = None,
) -> None:
    """Lets studies that are held or failed run again from where they stopped: one, some or all."""
    from bonetumor.worker import replaying, wiring  # start fast

    some = bool(problem) or state is not None or since is not None
    if (study is not None) + everything + some != 1:
        raise typer.BadParameter("expected a Study Instance UID, --all, or a filter")
    if state not in (None, *STOPPED):
        raise typer.BadParameter(f"expected --state held or failed, got {state}")
    chosen = replaying.Filter(
        states=STOPPED if state is None else {state}, problem=problem, since=since
    )
    ledger = wiring.build_ledger(_start(settings, "replay"))
    if study is not None:
        replaying.replay_one(ledger, study, _out, dry=dry)
    else:
        replaying.replay(ledger, chosen, _out, dry=dry)


@app.command()
def doctor(settings: SettingsFile = None) -> None:
    """Checks settings, disk, ledger, broker, weights, archive and EHR, and says what is wrong."""
    from bonetumor.worker import doctor as checks

    if not checks.examine(_start(settings, "doctor"), _out):
        raise typer.Exit(1)


@app.command()
def healthy(
    listener: Annotated[bool, typer.Option("--listener", help="The port must answer")] = False,
    workers: Annotated[
        bool, typer.Option("--workers", help="A worker of this host must have been heard of")
    ] = False,
    settings: SettingsFile = None,
) -> None:
    """Exits with 0 if the parts that run here are alive; for containers and clusters."""
    from bonetumor.worker import health

    health.healthy(_start(settings, "healthy"), listener=listener, workers=workers)


@app.command()
def scale(
    studies_per_day: Annotated[float, typer.Option(min=1, help="Studies that come in a day")],
    gpu_s: Annotated[float, typer.Option(min=0.001, help="What the networks take for a study")],
    instances: Annotated[float, typer.Option(min=1, help="Instances of a study")] = 4,
    io_s: Annotated[float, typer.Option(min=0.001, help="What PACS and EHR take for it")] = 1.0,
    instance_s: Annotated[
        float, typer.Option(min=0, help="What receiving an instance takes")
    ] = 0.01,
    peak: Annotated[
        float, typer.Option(min=0.042, max=1, help="Part of them in the busiest hour")
    ] = 0.15,
    within_s: Annotated[
        float, typer.Option(min=0.1, help="95 of 100 reported within, from the last image")
    ] = 120,
) -> None:
    """Simulates how many listeners and workers a site needs."""
    from bonetumor.worker import scaling

    crew, outcome = scaling.recommend(
        scaling.Load(studies_per_day=studies_per_day, instances=instances, peak=peak),
        scaling.Times(instance=instance_s, gpu=gpu_s, io=io_s),
        within_s=within_s,
    )
    busy = ", ".join(f"{kind} {part:.0%}" for kind, part in outcome.busy.items())
    _out.print(
        f"{crew.listener} listener(s), {crew.gpu} gpu worker(s), {crew.io} io worker(s)\n"
        f"In the busiest hour half of the studies take {outcome.median_s:.1f} s, 95 of 100 at most "
        f"{outcome.p95_s:.1f} s.\nBusy: {busy}.",
        highlight=False,
    )


@app.command()
def conformance(settings: SettingsFile = None) -> None:
    """Prints the DICOM conformance statement of this installation, as Markdown."""
    from bonetumor.worker.conformance import statement

    print(statement(_start(settings, "conformance")), end="")  # noqa: T201 - a document, no console


@app.command()
def certify(
    destination: Annotated[str, typer.Argument(help="Name of a destination in the settings")],
    out: Annotated[Path, typer.Option(help="Folder for certificate.html")] = Path("out"),
    viewer: Annotated[
        str, typer.Option(help="Viewer URL with {study} and {series}, to be shown in the evidence")
    ] = "",
    settings: SettingsFile = None,
) -> None:
    """Sends probe objects to a destination, confirms and checks them, and writes the evidence."""
    from bonetumor.worker import certifying

    def say(text: str) -> None:
        _out.print(text, markup=False, highlight=False, soft_wrap=True)

    if not certifying.certify(_start(settings, "certify"), destination, out, viewer, say):
        raise typer.Exit(1)
    say(f"wrote {out / 'certificate.html'}")


@app.command()
def assess(
    files: Annotated[list[Path], typer.Argument(help="DICOM, JPEG, PNG or TIFF files")],
    json: Annotated[bool, typer.Option("--json", help="A JSON list, one entry per file")] = False,
    settings: SettingsFile = None,
) -> None:
    """Assesses loose files without PACS or EHR, for research."""
    from bonetumor.worker import loose

    if not loose.assess_files(_start(settings, "assess"), files, _out, as_json=json):
        raise typer.Exit(1)


app.add_typer(cases.app, name="cases")
app.add_typer(ehr.app, name="ehr")
app.add_typer(cohort_commands.cohort, name="cohort")
app.add_typer(research.train, name="train")
app.add_typer(models.app, name="models")
app.command("evaluate")(research.evaluate)


def main() -> None:
    """Entry point: our own errors, and files that cannot be had, become one plain line and exit
    code 2."""
    try:
        app()
    except BoneTumorError as error:
        _end(f"{error.code}: {error}")
    except OSError as error:
        if error.filename is None:  # none of a file: a bug, whose trace is wanted
            raise
        _end(f"StorageUnavailable: expected to use {error.filename}, got {error.strerror}")


def _end(said: str) -> NoReturn:
    Console(stderr=True).print(said, style="red", markup=False, soft_wrap=True)
    sys.exit(2)


def _start(file: Path | None, process: str) -> Settings:
    settings = read_settings(file)
    start_logging(settings.log_format, process)
    return settings
