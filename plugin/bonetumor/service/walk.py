"""One step of a study's walk: claim it, do it, record what came of it.

The broker only rings the doorbell. A step that nobody may do now is not done; a step done twice
changes nothing the second time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from bonetumor.domain.assessment import Assessment
from bonetumor.domain.case import Evidence
from bonetumor.domain.errors import (
    BoneTumorError,
    EvidencePending,
    InvalidInput,
    Misconfigured,
    ModelFault,
    PatientNotMatched,
    Rejected,
    Unavailable,
)
from bonetumor.domain.progress import (
    NEXT_DELIVERY_STEP,
    NEXT_STEP,
    STATE_AFTER,
    Claim,
    Errand,
    State,
    Step,
    StudyState,
)
from bonetumor.service.ledger import StepLedger
from bonetumor.service.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a step made, in words, and the document to keep, if it made one.

    `again_at` is when the EHR is to be asked for late evidence; `superseding` is late evidence that
    makes a new result; `deliver_to` are the destinations of a result. An empty `detail` says that
    there is nothing to tell.
    """

    detail: str
    saved: Evidence | Assessment | None = None
    state: State | None = None
    again_at: datetime | None = None
    superseding: Evidence | None = None
    deliver_to: tuple[str, ...] = ()


class Crash(Exception):
    """A step ended with an error that nobody foresaw; the trace is that of the error."""


Work = Callable[[Claim], Outcome]
_STEP_OUT_OF = {**NEXT_STEP, **NEXT_DELIVERY_STEP}


class Walk:
    """Does steps for studies; several at once, where several threads ask."""

    def __init__(
        self,
        *,
        ledger: StepLedger,
        clock: Clock,
        work: Mapping[Step, Work],
        owner: str,
        retry_after: Callable[[Claim], timedelta],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._work = work
        self._owner = owner
        self._retry_after = retry_after
        self._claims: set[Claim] = set()

    def give_up(self, problem: str) -> None:
        """Gives back the steps that are being done, as a crash: the process is about to end."""
        for claim in tuple(self._claims):
            self._ledger.drop(claim, problem, self._clock() + self._retry_after(claim))

    def take(self, errand: Errand) -> Sequence[Errand]:
        """Does the step if it is due; answers the errands that are due after it."""
        claim = self.claim(errand)
        return () if claim is None else self.do(claim)

    def claim(self, errand: Errand) -> Claim | None:
        """The right to do the step, if it is due. It must be done then."""
        claim = self._ledger.claim(errand, self._owner)
        if claim is not None:
            self._claims.add(claim)
        return claim

    def claim_others(self, claim: Claim, most: int) -> Iterator[Claim]:
        """The same step for up to so many other studies, none of which has died on anybody."""
        waiting = self._ledger.companions(claim, 2 * most)  # some are gone by then
        claims = (self.claim(errand) for errand in waiting)
        return islice((other for other in claims if other is not None), most)

    def do(self, claim: Claim) -> Sequence[Errand]:
        """Does the step that was claimed; answers the errands that are due after it.

        Raises:
            Crash: it ended with what is no BoneTumorError.
        """
        try:
            return self._do(claim)
        finally:
            self._claims.discard(claim)

    def _do(self, claim: Claim) -> Sequence[Errand]:
        try:
            outcome = self._work[claim.step](claim)
        except Unavailable as error:
            wait = timedelta(seconds=error.retry_after_s or 0.0)
            if not isinstance(error, EvidencePending):  # which knows exactly how long
                wait = max(wait, self._retry_after(claim))
            self._ledger.put_off(claim, _say(error), self._clock() + wait)
        except PatientNotMatched as error:
            self._ledger.stop(claim, StudyState.HELD, _say(error))
        except (InvalidInput, Rejected, ModelFault, Misconfigured) as error:
            self._ledger.stop(claim, StudyState.FAILED, _say(error))
        except Exception as error:  # noqa: BLE001 - told of without its words
            # A bug: a few more attempts, then the study fails visibly; the trace goes to the log,
            # without the words of the error: they may hold what an object says of a patient.
            crash = Crash(f"crashed with {type(error).__name__}")
            self._ledger.drop(claim, str(crash), self._clock() + self._retry_after(claim))
            raise crash.with_traceback(error.__traceback__) from None
        else:
            return self._record(claim, outcome)
        return ()

    def _record(self, claim: Claim, outcome: Outcome) -> Sequence[Errand]:
        if outcome.superseding is not None:
            self._ledger.supersede(claim, outcome.superseding, outcome.detail)
            return [replace(claim.errand, step=NEXT_STEP[StudyState.GATHERED])]
        if not outcome.detail:
            self._ledger.rest(claim, outcome.again_at)
            return ()
        state = outcome.state or STATE_AFTER[claim.step]
        self._ledger.finish(
            claim, state, outcome.saved, outcome.detail, outcome.again_at, outcome.deliver_to
        )
        return _following(claim.errand, state, outcome.deliver_to)


def _following(errand: Errand, state: State, deliver_to: Sequence[str]) -> Sequence[Errand]:
    if deliver_to:
        return [replace(errand, step=Step.SEND, destination=name) for name in deliver_to]
    step = _STEP_OUT_OF.get(state)
    return [] if step is None else [replace(errand, step=step)]


def _say(error: BoneTumorError) -> str:
    return f"{error.code}: {error}"
