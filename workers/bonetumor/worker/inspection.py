"""`status`: where every study is."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import (
    NEXT_STEP,
    Delivery,
    StudyEvent,
    StudyProgress,
    StudyState,
    WorkerSeen,
)
from bonetumor.domain.uid import parse_uid
from bonetumor.worker import wiring
from bonetumor.worker.settings import Settings

_COLOURS = {
    StudyState.DONE: "green",
    StudyState.FAILED: "red",
    StudyState.HELD: "yellow",
    StudyState.REJECTED: "red",
    StudyState.UNWANTED: "dim",
}


def show_overview(
    settings: Settings,
    out: Console,
    *,
    states: Sequence[StudyState],
    limit: int | None,
    as_json: bool,
) -> None:
    """The newest studies, and how many there are."""
    ledger = wiring.build_ledger(settings)
    rows = ledger.progress(states=states, limit=limit)
    if as_json:
        out.print_json(json.dumps([asdict(r) for r in rows], default=_plain))
        return
    counts = ledger.counts()
    if not counts:
        out.print("No study has been received yet.")
    else:
        out.print(_overview(rows))
        known = ", ".join(f"{counts[s]} {s}" for s in StudyState if s in counts)
        out.print(f"{sum(counts.values())} studies: {known}; shown are {len(rows)}.")
    out.print(_workers(ledger.workers()), highlight=False)
    under_way = ledger.performances()
    if under_way:
        out.print(f"{len(under_way)} workitem(s) of the worklist under way.")
    refused = ledger.refusals()
    if refused:
        out.print(f"{len(refused)} objects were refused: see `bonetumor status --refused`.")


def show_study(settings: Settings, study: str, out: Console, *, as_json: bool) -> None:
    """The story of one study."""
    ledger = wiring.build_ledger(settings)
    story = ledger.story(parse_uid(study, name="Study Instance UID"))
    if not story:
        raise InvalidInput(f"status: expected a study that was received, got {study}")
    if as_json:
        out.print_json(json.dumps([asdict(e) for e in story], default=_plain))
    else:
        out.print(_story(story))
        deliveries = ledger.deliveries(parse_uid(study))
        if deliveries:
            out.print(_deliveries(deliveries))


def show_refusals(settings: Settings, out: Console, *, as_json: bool) -> None:
    """The objects that were sent and not taken, the newest first."""
    refused = wiring.build_ledger(settings).refusals()
    if as_json:
        out.print_json(json.dumps([asdict(r) for r in refused], default=_plain))
        return
    table = Table("when (UTC)", "from", "SOP Instance UID as announced", "problem")
    for refusal in refused:
        table.add_row(
            f"{refusal.at:%Y-%m-%d %H:%M:%S}",
            escape(refusal.calling_ae_title),
            escape(refusal.sop_instance_uid),
            escape(refusal.problem),
        )
    table.columns[3].overflow = "fold"
    out.print(table)


def _workers(seen: Sequence[WorkerSeen]) -> str:
    if not seen:
        return "No worker has been heard of: is `bonetumor serve` running?"
    now = wiring.now()
    heard = ", ".join(
        f"{worker.queues} {max(0.0, (now - worker.heard_at).total_seconds()):.0f} s ago"
        for worker in seen
    )
    return f"Workers heard of: {heard}."


def _overview(rows: Sequence[StudyProgress]) -> Table:
    table = Table("Study Instance UID", "state", "next", "images", "since", "problem")
    for row in rows:
        following = NEXT_STEP.get(row.state)
        when = f" at {row.next_attempt_at:%H:%M:%S}" if row.next_attempt_at else ""
        table.add_row(
            row.study_instance_uid,
            str(row.state),
            f"{following}{when}" if following else "",
            str(row.instances),
            f"{row.updated_at:%Y-%m-%d %H:%M:%S}",
            row.problem or "",
            style=_COLOURS.get(row.state, ""),
        )
    table.columns[0].overflow = "fold"
    table.columns[5].overflow = "fold"
    return table


def _story(story: Sequence[StudyEvent]) -> Table:
    table = Table("when (UTC)", "revision", "what", "detail")
    for event in story:
        table.add_row(
            f"{event.at:%Y-%m-%d %H:%M:%S.%f}"[:-3], str(event.revision), event.kind, event.detail
        )
    table.columns[3].overflow = "fold"
    return table


def _deliveries(deliveries: Sequence[Delivery]) -> Table:
    table = Table("revision", "what", "to", "state", "since (UTC)", "next", "problem")
    for one in deliveries:
        table.add_row(
            str(one.revision),
            str(one.content),
            one.destination,
            str(one.state),
            f"{one.updated_at:%Y-%m-%d %H:%M:%S}",
            f"{one.next_attempt_at:%H:%M:%S}" if one.next_attempt_at else "",
            escape(one.problem or ""),
        )
    table.columns[6].overflow = "fold"
    return table


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
