"""Doing what a worklist asks for: workitems are claimed, their studies assessed, and then ended.

Who claims a workitem performs it and ends it as COMPLETED or CANCELED (PS3.4 CC.1.1). IHE AI
Workflow for Imaging calls us the Task Performer.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from bonetumor.domain.errors import BoneTumorError, Rejected
from bonetumor.domain.progress import DeliveryState, StudyState
from bonetumor.domain.uid import UID
from bonetumor.domain.workitem import Performance, Workitem
from bonetumor.service.ledger import Desk, Outbox, Overview, OwnObject, WorkitemLedger
from bonetumor.service.ports import Clock, StudySource

Outputs = Mapping[str, Sequence[OwnObject]]
"""Our objects, by the destination that holds them."""

_CLAIMING = timedelta(minutes=2)  # longer than a manager may take to answer


class Worklist(Protocol):
    """The worklist manager. Every method raises Unavailable while it does not answer."""

    def offered(self, most: int) -> Sequence[Workitem]:
        """Up to so many workitems that are ready, wait for a performer, and are meant for us."""
        ...

    def claim(self, workitem: UID, transaction: UID) -> bool:
        """Makes it ours; False where somebody else has it."""
        ...

    def is_ours(self, workitem: UID, transaction: UID) -> bool:
        """Whether it is in progress under our transaction."""
        ...

    def complete(self, performance: Performance, outputs: Outputs) -> str:
        """Ends it as COMPLETED, with what we made; answers in words what is known of it now."""
        ...

    def cancel(self, performance: Performance, reason: str) -> str:
        """Ends it as CANCELED; answers in words what is known of it now."""
        ...


class PerformingLedger(WorkitemLedger, Overview, Desk, Outbox, Protocol):
    """The part of the ledger that performing needs."""


class Performing:
    """Claims what is offered, follows the studies, and ends what has come to its end.

    A study that is held stays in progress: a person may release it. One that failed or that a
    person rejected ends its workitem; so does one that the archive does not bring in `patience`.
    """

    def __init__(
        self,
        *,
        ledger: PerformingLedger,
        worklist: Worklist,
        source: StudySource,
        clock: Clock,
        new_uid: Callable[[], UID],
        most: int,
        patience: timedelta,
    ) -> None:
        self._ledger = ledger
        self._worklist = worklist
        self._source = source
        self._clock = clock
        self._new_uid = new_uid
        self._most = most
        self._patience = patience

    def once(self) -> None:
        """One round.

        Raises:
            BoneTumorError: why the last of those that could not go on did not; the others did.
        """
        problem, room = None, self._most
        for performance in self._ledger.performances():
            try:
                room -= self._go_on(performance)
            except BoneTumorError as error:
                problem, room = error, room - 1
        if room > 0:
            for workitem in self._worklist.offered(room):
                self._take(workitem)
        if problem is not None:
            raise problem

    def _take(self, workitem: Workitem) -> None:
        """The ledger knows the transaction before the manager does: a crash forgets nothing."""
        transaction = self._new_uid()
        if not self._ledger.begin_workitem(workitem, transaction):
            return
        if self._worklist.claim(workitem.uid, transaction):
            self._ledger.note_claimed(workitem.uid)
        else:
            self._ledger.forget_workitem(workitem.uid)

    def _go_on(self, performance: Performance) -> bool:
        """Whether it keeps us busy: one that has ended does not, nor one that a person holds up."""
        uid, studies = performance.workitem.uid, performance.workitem.studies
        if performance.claimed_at is None:
            self._find_out(performance)
            return True
        deadline = performance.claimed_at + self._patience
        try:
            states = {self._state(performance, study, deadline) for study in studies}
        except Rejected as error:  # whatever the reason, it will not become better by waiting
            reason = str(error)
            self._end(uid, lambda: f"{self._worklist.cancel(performance, reason)}: {reason}")
            return False
        if states != {StudyState.DONE}:
            return not states <= {StudyState.DONE, StudyState.HELD}
        outputs = self._outputs(performance)
        self._end(uid, lambda: self._worklist.complete(performance, outputs))
        return False

    def _find_out(self, performance: Performance) -> None:
        """What came of a claim that was not written down; another listener may be at it."""
        uid = performance.workitem.uid
        if self._clock() < performance.begun_at + _CLAIMING:
            return
        if self._worklist.is_ours(uid, performance.transaction_uid):
            self._ledger.note_claimed(uid)
        else:
            self._ledger.forget_workitem(uid)

    def _end(self, workitem: UID, end: Callable[[], str]) -> None:
        """A manager that does not let us end it is told of once, not asked for ever."""
        try:
            said = end()
        except Rejected as error:
            self._ledger.end_workitem(workitem, f"could not be ended: {error}")
            raise
        self._ledger.end_workitem(workitem, said)

    def _state(self, performance: Performance, study: UID, deadline: datetime) -> StudyState:
        """Where the study is; asks for one that is not here.

        Raises:
            Rejected: it will not have any.
        """
        progress = self._ledger.one(study)
        if progress is None:
            self._bring(study, deadline)
            return StudyState.RECEIVING
        if progress.state is StudyState.UNWANTED:  # by a rule, before anybody asked for it
            if not self._ledger.want(study, f"workitem {performance.workitem.uid}"):
                raise Rejected(f"study: expected images to assess, got {progress.problem}")
        elif progress.state in (StudyState.FAILED, StudyState.REJECTED):
            raise Rejected(f"study: expected a result, got {progress.problem}")
        return progress.state

    def _bring(self, study: UID, deadline: datetime) -> None:
        held = self._source.holdings(study)
        missing = {
            series: uids
            for series, holding in held.items()
            if holding.is_images and (uids := self._source.instances(study, series))
        }
        if missing:
            self._source.fetch(study, missing)
        if self._ledger.one(study) is None and self._clock() >= deadline:
            count = sum(map(len, missing.values()))
            raise Rejected(
                f"study: expected images from the archive, which holds {count}, got none"
            )

    def _outputs(self, performance: Performance) -> Outputs:
        """What each destination confirmed that it holds of the newest result of each study."""
        outputs: dict[str, list[OwnObject]] = {}
        for study in performance.workitem.studies:
            run = next(iter(self._ledger.runs(study)), None)
            for delivery in self._ledger.deliveries(study):
                if run is not None and delivery.state is DeliveryState.CONFIRMED:
                    own = self._ledger.sent_objects(delivery.destination, run)
                    known = outputs.setdefault(delivery.destination, [])
                    known += (one for one in own if one not in known)
        return {destination: own for destination, own in outputs.items() if own}
