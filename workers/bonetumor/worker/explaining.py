"""`explain`: the whole story of one study in sentences, and what it waits for now."""

from collections import Counter
from collections.abc import Iterator, Sequence

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import (
    NEXT_STEP,
    UNDER_WAY,
    Delivery,
    Step,
    StudyProgress,
    StudyState,
)
from bonetumor.domain.study import Instance
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Ledger

_WAITS_FOR = {
    Step.GATHER: "evidence to be gathered from the EHR (a worker of the queue io)",
    Step.ASSESS: "the networks (a worker of the queue gpu)",
    Step.DISPATCH: "its deliveries to be opened (a worker of the queue io)",
}
_NOW = {
    StudyState.RECEIVING: "more images may come. It is complete once the archive holds as many as "
    "have come, or when none has come for the quiet time of the settings.",
    StudyState.DELIVERING: "it waits for its destinations.",
    StudyState.DONE: "it is done: every destination has confirmed.",
    StudyState.HELD: "it is held, and a person must decide ({problem}). Then "
    "`bonetumor cases release {study}` or `bonetumor cases reject {study}`.",
    StudyState.FAILED: "it failed ({problem}). Once the cause is mended, "
    "`bonetumor replay {study}` goes on where it stopped.",
    StudyState.REJECTED: "a person has rejected it ({problem}). Nothing more happens.",
    StudyState.UNWANTED: "no rule wants it ({problem}). `bonetumor cases run {study}` runs it by "
    "hand.",
}


def explain(ledger: Ledger, study: UID) -> str:
    """Paragraphs of plain text, the last of which says what happens next or what a person must do.

    Raises:
        InvalidInput: nothing is known of the study.
    """
    told = [
        f"{event.at:%Y-%m-%d %H:%M:%S}  {event.kind}: {event.detail}"
        for event in ledger.story(study)
    ]
    if not told:
        raise InvalidInput(f"explain: expected a study that was received, got {study}")
    happened = "What happened (UTC):\n" + "\n".join(told)
    progress = ledger.one(study)
    if progress is None:
        paragraphs = (f"Study {study}\nNo image of it has come.", happened, _asked(ledger, study))
        return "\n\n".join(paragraphs)
    deliveries = ledger.deliveries(study)
    return "\n\n".join(
        (
            f"Study {study}\n{_origin(ledger.study(study).instances)}",
            happened,
            *_delivered(deliveries),
            "Now: " + " ".join(_now(progress, deliveries)),
        )
    )


def _asked(ledger: Ledger, study: UID) -> str:
    if any(study in performance.workitem.studies for performance in ledger.performances()):
        return "Now: a workitem asks for it, and the archive is asked to send it."
    return "Now: nobody asks for it any more."


def _origin(instances: Sequence[Instance]) -> str:
    if not instances:
        return "Its images were removed: see below."
    senders = Counter(
        (i.calling_ae_title, i.called_ae_title or "us")
        for i in sorted(instances, key=lambda i: i.received_at)
    )
    came = "; ".join(
        f"{count} from {calling} to {called}" for (calling, called), count in senders.items()
    )
    series = len({i.keys.series_instance_uid for i in instances})
    size = sum(i.size for i in instances) / 1e6
    first, last = (f(i.received_at for i in instances) for f in (min, max))
    return (
        f"{len(instances)} instances in {series} series, {size:.1f} MB, came between "
        f"{first:%Y-%m-%d %H:%M:%S} and {last:%Y-%m-%d %H:%M:%S} UTC: {came}."
    )


def _delivered(deliveries: Sequence[Delivery]) -> Iterator[str]:
    if deliveries:
        yield "Deliveries:\n" + "\n".join(
            f"{d.content} of revision {d.revision} to {d.destination}: {d.state} since "
            f"{d.updated_at:%Y-%m-%d %H:%M:%S}" + (f", {d.problem}" if d.problem else "")
            for d in deliveries
        )


def _now(progress: StudyProgress, deliveries: Sequence[Delivery]) -> Iterator[str]:
    if progress.state in NEXT_STEP:
        yield f"it waits for {_WAITS_FOR[NEXT_STEP[progress.state]]}."
        yield from _next_try(progress)
    else:
        problem = progress.problem or "no reason was recorded"
        yield _NOW[progress.state].format(study=progress.study_instance_uid, problem=problem)
    if progress.state is StudyState.DONE and progress.next_attempt_at:
        yield f"The EHR is asked for news at {progress.next_attempt_at:%H:%M:%S} UTC."
    for delivery in deliveries:
        if delivery.state in UNDER_WAY:
            yield f"{delivery.destination}: {delivery.state}."
            yield from _next_try(delivery)


def _next_try(waiting: StudyProgress | Delivery) -> Iterator[str]:
    if waiting.problem:
        yield f"The last try failed: {waiting.problem}."
    if waiting.next_attempt_at:
        yield f"The next is at {waiting.next_attempt_at:%H:%M:%S} UTC."
