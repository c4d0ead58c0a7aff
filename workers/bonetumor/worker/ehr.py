"""`ehr`: for the integration engineer. Keys to register, labs to try, reports to withdraw."""

import getpass
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bonetumor.domain.errors import InvalidInput, MalformedResource, Misconfigured
from bonetumor.domain.labs import LabPanel
from bonetumor.domain.progress import StudyState
from bonetumor.domain.uid import parse_uid
from bonetumor.worker.settings import read_settings

app = typer.Typer(help="The side of the EHR.", no_args_is_help=True)
_out = Console()

SettingsFile = Annotated[Path | None, typer.Option("--settings", help="TOML file")]


@app.command()
def keys(settings: SettingsFile = None) -> None:
    """Prints our public keys (JWKS) for the EHR's authorisation server."""
    from bonetumor.fhir.auth import jwks
    from bonetumor.worker import wiring_ehr

    found = wiring_ehr.build_signing_keys(read_settings(settings))
    if not found:
        raise Misconfigured("ehr.smart.keys: expected at least one key, got none")
    _out.print_json(json.dumps(jwks(found)))


@app.command("try-labs")
def try_labs(
    file: Annotated[Path, typer.Argument(help="JSON: an Observation, or a Bundle of them")],
    settings: SettingsFile = None,
) -> None:
    """Shows what would be understood of Observations, with this site's codes and units."""
    from bonetumor.fhir.labs import read_resources
    from bonetumor.worker import wiring_ehr

    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MalformedResource(f"{file}: expected JSON, got {type(error).__name__}") from error
    catalogue = wiring_ehr.build_lab_catalogue(read_settings(settings))
    _show(read_resources(content, catalogue))


@app.command()
def withdraw(
    study: Annotated[str, typer.Argument(help="Study Instance UID")],
    reason: Annotated[str, typer.Option(help="Why; it is kept with the study", prompt=True)],
    by: Annotated[str, typer.Option(help="Who decides; your login by default")] = "",
    settings: SettingsFile = None,
) -> None:
    """Marks our newest report of a study as entered in error in the EHR. Nothing is deleted.

    A newer result that is on its way by then is held: `cases release` lets it go on.
    """
    from bonetumor.worker import wiring, wiring_ehr

    read = read_settings(settings)
    ledger, uid = wiring.build_ledger(read), parse_uid(study, name="Study Instance UID")
    server = wiring_ehr.build_report_server(read, wiring_ehr.build_fhir_client(read))
    runs = ledger.runs(uid)
    if server is None or not runs:
        said = "no EHR that is written to" if server is None else "no result"
        raise InvalidInput(f"withdraw: expected a report of {study}, got {said}")
    changed = server.withdraw(runs)
    state = ledger.note_withdrawal(uid, by or getpass.getuser(), reason)
    _out.print(f"{changed} resources of {study} are marked as entered in error.")
    if state is StudyState.HELD:
        _out.print(
            f"A newer result is held: cases release {study} lets it go on, "
            f"cases reject {study} ends it.",
            soft_wrap=True,
        )


def _show(panel: LabPanel) -> None:
    table = Table("from", "analyte", "value", "range", "weighed")
    weighed = panel.weighed
    for r in panel.results:
        low = "" if r.low is None else f"{r.low:g}"
        high = "" if r.high is None else f"{r.high:g}"
        table.add_row(
            escape(r.source),
            r.analyte,
            f"{r.comparator or ''}{r.value:g} {escape(r.unit)}",
            f"{low} - {high}",
            "yes" if r in weighed else "no",
        )
    _out.print(table)
    for problem in panel.not_understood:
        _out.print(f"not understood: {problem}", markup=False, soft_wrap=True)
    _out.print(f"{len(panel.considered)} Observations understood.")
