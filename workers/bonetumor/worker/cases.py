"""`cases`: what people decide about a case. Every decision is kept, with who and why."""

import getpass
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import STOPPED
from bonetumor.domain.uid import UID, parse_uid
from bonetumor.service.ledger import Ledger
from bonetumor.worker.settings import read_settings

_PATIENT = re.compile(r"^Patient/[A-Za-z0-9\-.]{1,64}$")
_out = Console()

app = typer.Typer(help="Cases that a person must decide about.", no_args_is_help=True)

Study = Annotated[str, typer.Argument(help="Study Instance UID")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the study", prompt=True)]
By = Annotated[str, typer.Option(help="Who decides; your login by default")]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="TOML file")]


@app.command("list")
def show(settings: SettingsFile = None) -> None:
    """Cases that wait for a person, with the reason."""
    rows = _ledger(settings).progress(states=STOPPED)
    for row in rows:
        _out.print(
            f"{row.study_instance_uid} {row.state}: {row.problem}", markup=False, soft_wrap=True
        )
    if not rows:
        _out.print("No case waits for a person.")


@app.command()
def hold(study: Study, reason: Reason, by: By = "", settings: SettingsFile = None) -> None:
    """Stops a study on its way until it is released."""
    ledger, uid = _ledger(settings), _uid(study)
    if not ledger.hold(uid, by or getpass.getuser(), reason):
        raise InvalidInput(f"hold: expected a study on its way, got {study}")
    _out.print(f"{study} is held.")


@app.command()
def release(
    study: Study,
    reason: Reason,
    patient: Annotated[
        str | None, typer.Option(help="Patient/ID in the EHR, where identifiers could not tell")
    ] = None,
    by: By = "",
    settings: SettingsFile = None,
) -> None:
    """Lets a held study go on; with --patient for the Patient that you name."""
    if patient is not None and not _PATIENT.match(patient):
        raise InvalidInput("release: expected --patient Patient/ID, got something else")
    ledger, uid = _ledger(settings), _uid(study)
    if not ledger.release(uid, by or getpass.getuser(), reason, patient):
        raise InvalidInput(f"release: expected a held study, got {study}")
    _out.print(f"{study} goes on.")


@app.command()
def run(study: Study, by: By = "", settings: SettingsFile = None) -> None:
    """Lets a study run that no rule wants."""
    ledger, uid = _ledger(settings), _uid(study)
    if not ledger.want(uid, by or getpass.getuser()):
        raise InvalidInput(
            f"run: expected a study that is not for us and was not removed, got {study}"
        )
    _out.print(f"{study} runs.")


@app.command()
def reject(study: Study, reason: Reason, by: By = "", settings: SettingsFile = None) -> None:
    """Ends a held or failed study for good, without a result."""
    ledger, uid = _ledger(settings), _uid(study)
    if not ledger.reject(uid, by or getpass.getuser(), reason):
        raise InvalidInput(f"reject: expected a held or failed study, got {study}")
    _out.print(f"{study} is rejected.")


@app.command()
def remove(study: Study, reason: Reason, by: By = "", settings: SettingsFile = None) -> None:
    """Removes images and evidence of a study that has ended, and keeps a record of that."""
    from bonetumor.worker import wiring

    chosen = read_settings(settings)
    ledger, uid = wiring.build_ledger(chosen), _uid(study)
    if not ledger.remove(uid, by or getpass.getuser(), reason):
        raise InvalidInput(
            "remove: expected a study that is done, rejected or not for us, and not removed yet, "
            f"got {study}"
        )
    wiring.build_retention(chosen, ledger).once()
    waits = any(r.study_instance_uid == uid for r in ledger.removals(unfinished=True))
    files = "; files that came within the last hour follow" if waits else ""
    _out.print(f"{study} is removed{files}.")


@app.command()
def removed(settings: SettingsFile = None) -> None:
    """Shows the deletion records: what was removed, when, by whom and why."""
    for record in _ledger(settings).removals():
        gone = record.files_gone_at
        _out.print(
            f"{record.at:%Y-%m-%d %H:%M:%S} {record.study_instance_uid}: {record.instances} "
            f"instances, {record.bytes / 1e6:.1f} MB, by {record.by}: {record.reason}; "
            + (f"files gone at {gone:%Y-%m-%d %H:%M:%S}" if gone else "files not gone yet"),
            markup=False,
            soft_wrap=True,
        )


def _ledger(settings: Path | None) -> Ledger:
    from bonetumor.worker import wiring

    return wiring.build_ledger(read_settings(settings))


def _uid(study: str) -> UID:
    return parse_uid(study, name="Study Instance UID")
