"""Deciding that a study has arrived in full: by proof where the archive answers, else by a timer.

An archive that holds a study is asked how many instances each series has. Once ours are as many,
the study is complete; what is missing is asked for. What a modality (MPPS) or an archive (IAN)
announces counts as well. The timer is the fallback, and the result then says so.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from bonetumor.domain.errors import BoneTumorError
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import ArrivalLedger, Receiving
from bonetumor.service.ports import Clock, Holding, StudySource

_LONGEST_PAUSE = timedelta(seconds=30)
_LEFT_ALONE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long to wait for what.

    `settle`: after the last instance, before the archive is asked. `quiet`: before the timer calls
    a study complete that cannot be proven. `partial`: before a study is begun without what the
    archive holds and does not send. `in_progress`: before a modality that never ends its step is
    given up.
    """

    settle: timedelta
    quiet: timedelta
    partial: timedelta
    in_progress: timedelta = timedelta(minutes=30)


class Arrived(NamedTuple):
    """How it is known that a study has arrived, and whether that is proof or mere patience."""

    how: str
    is_proven: bool


@dataclass(slots=True)
class _Asking:
    """What was asked about one study since its last instance came."""

    since: datetime
    again_at: datetime
    pause: timedelta
    lacks: bool = False
    said: str = field(default="")


class Completeness:
    """Looks at every study on its way in: which are complete, and how that is known."""

    def __init__(
        self,
        *,
        ledger: ArrivalLedger,
        clock: Clock,
        waits: Waits,
        source: StudySource | None = None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._waits = waits
        self._source = source
        self._asked: dict[UID, _Asking] = {}
        # An archive that hangs is asked by one study at a time, not by each in turn.
        self._left_alone_until: datetime | None = None
        self._problem = ""

    def complete(self) -> Iterator[tuple[Receiving, Arrived]]:
        """Studies that can be closed now, each as soon as it is known."""
        receiving = self._ledger.receiving()
        there = {study.study_instance_uid for study in receiving}
        self._asked = {uid: asking for uid, asking in self._asked.items() if uid in there}
        for study in receiving:
            arrived = self._arrived(study)
            if arrived is not None:
                self._asked.pop(study.study_instance_uid, None)
                yield study, arrived

    def _arrived(self, study: Receiving) -> Arrived | None:
        """How it is known that the study is complete; None while it is not."""
        idle = self._clock() - study.last_instance_at
        if idle < (self._waits.in_progress if study.in_progress else self._waits.settle):
            return None
        if study.in_progress:
            said = "a modality began a procedure step and never ended it; not proven"
            return Arrived(said, is_proven=False)
        count = sum(study.instances.values())
        if study.announced and not study.awaited:
            said = f"complete, {study.announced} of {study.announced} announced instances came"
            return Arrived(said, is_proven=True)
        if self._source is None:
            if idle < self._waits.quiet:
                return None
            return Arrived(f"{self._quiet()}; not proven against an archive", is_proven=False)
        return self._asked_of(self._source, study, idle, count)

    def _asked_of(
        self, source: StudySource, study: Receiving, idle: timedelta, count: int
    ) -> Arrived | None:
        asking = self._asking(study)
        if self._clock() >= asking.again_at:
            asking.again_at = self._clock() + asking.pause
            asking.pause = min(asking.pause * 2, _LONGEST_PAUSE)
            proof = self._look(source, study, asking, count)
            if proof is not None:
                return Arrived(proof, is_proven=True)
        limit = self._waits.partial if asking.lacks else self._waits.quiet
        if idle < limit or not asking.said:
            return None
        return Arrived(f"{self._quiet()}; not proven: {asking.said}", is_proven=False)

    def _look(
        self, source: StudySource, study: Receiving, asking: _Asking, count: int
    ) -> str | None:
        """Asks the archive once; the proof if it gives one. Asks for what is missing."""
        uid = study.study_instance_uid
        if self._left_alone_until is not None and self._clock() < self._left_alone_until:
            asking.said = self._problem
            return None
        try:
            own = self._ledger.own_series(uid)
            held = {s: h for s, h in source.holdings(uid).items() if s not in own}
            if not held:
                asking.said = "the archive does not hold the study"
                return None
            missing, is_behind = self._compare(source, study, held)
            if is_behind:
                asking.said = f"the archive holds fewer than the {count} instances that came"
            if not missing:
                equal = f"complete, {count} of {count} instances, as the archive counts"
                return None if is_behind else equal
            expected = count + sum(len(uids) for uids in missing.values())
            asking.said = f"{count} of {expected} instances came, the archive holds the others"
            asking.lacks = True
            due = study.last_instance_at + self._waits.quiet
            if self._clock() >= due:
                source.fetch(uid, missing)
            else:
                asking.again_at = min(asking.again_at, due)
        except BoneTumorError as error:
            asking.said = self._problem = f"{error.code}: {error}"
            self._left_alone_until = self._clock() + _LEFT_ALONE
        return None

    def _compare(
        self, source: StudySource, study: Receiving, held: Mapping[UID, Holding]
    ) -> tuple[dict[UID, frozenset[UID]], bool]:
        """What the archive holds of each series and we do not, and whether it holds less than we.

        Equal counts need no closer look. Reports and the like need not come.
        """
        ours: frozenset[UID] | None = None
        missing: dict[UID, frozenset[UID]] = {}
        is_behind = not study.instances.keys() <= held.keys()
        for series, holding in held.items():
            count = study.instances.get(series, 0)
            if holding.instances == count or not holding.is_images:
                continue
            if ours is None:
                ours = self._ledger.instance_uids(study.study_instance_uid)
            theirs = source.instances(study.study_instance_uid, series)
            if theirs - ours:
                missing[series] = theirs - ours
            is_behind |= len(theirs) < count
        return missing, is_behind

    def _asking(self, study: Receiving) -> _Asking:
        asking = self._asked.get(study.study_instance_uid)
        if asking is None or asking.since != study.last_instance_at:
            pause = max(self._waits.settle, timedelta(milliseconds=200))
            asking = _Asking(study.last_instance_at, self._clock(), pause)
            self._asked[study.study_instance_uid] = asking
        return asking

    def _quiet(self) -> str:
        return f"no image for {self._waits.quiet.total_seconds():g} s"


def close_complete_studies(
    completeness: Completeness, close: Callable[[Receiving, Arrived], bool]
) -> int:
    """Closes every study that is complete; answers how many.

    Raises:
        BoneTumorError: why the last of those that cannot be closed now was left; the others are.
    """
    closed, problem = 0, None
    for study, arrived in completeness.complete():
        try:
            closed += close(study, arrived)
        except BoneTumorError as error:
            problem = error
    if problem is not None:
        raise problem
    return closed


def doubt(receiving: Receiving, arrived: Arrived) -> str | None:
    """Why a person must look at a study that has arrived; None if it can be assessed.

    A late image of a study whose other images were removed must not be assessed as if it were
    all: its result would take the place of the whole study's.
    """
    count = sum(receiving.instances.values())
    if arrived.is_proven or count >= receiving.removed:
        return None
    return (
        f"expected the {receiving.removed} instances that came before and were removed since, "
        f"got {count}: send the whole study again, or release it to assess what is here"
    )
