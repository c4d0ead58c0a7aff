"""One step of a study's walk: claim it, do it, record what came of it.

The broker only rings the doorbell. A step that nobody may do now is not done; a step done twice
changes nothing the second time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

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
from bonetumor.domain.progress import NEXT_STEP, STATE_AFTER, Claim, Step, StudyState
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import StepLedger
from bonetumor.service.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a step made, in words, and the document to keep, if it made one.

    `again_at` is when the EHR is to be asked for late evidence; `superseding` is late evidence that
    makes a new result. An empty `detail` says that there is nothing to tell.
    """

    detail: str
    saved: Evidence | Assessment | None = None
    state: StudyState | None = None
    again_at: datetime | None = None
    superseding: Evidence | None = None


Work = Callable[[Claim], Outcome]


class Walk:
    """Does steps for studies."""

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

    def take(self, study_instance_uid: UID, step: Step) -> Step | None:
        """Does the step if it is due; answers the step that is due after it, if any."""
        claim = self._ledger.claim(study_instance_uid, step, self._owner)
        if claim is None:
            return None
        try:
            outcome = self._work[step](claim)
        except Unavailable as error:
            wait = timedelta(seconds=error.retry_after_s or 0.0)
            if not isinstance(error, EvidencePending):  # which knows exactly how long
                wait = max(wait, self._retry_after(claim))
            self._ledger.put_off(claim, _say(error), self._clock() + wait)
        except PatientNotMatched as error:
            self._ledger.stop(claim, StudyState.HELD, _say(error))
        except (InvalidInput, Rejected, ModelFault, Misconfigured) as error:
            self._ledger.stop(claim, StudyState.FAILED, _say(error))
        except Exception as error:
            # A bug: a few more attempts, then the study fails visibly; the trace goes to the log.
            until = self._clock() + self._retry_after(claim)
            self._ledger.drop(claim, f"crashed with {type(error).__name__}", until)
            raise
        else:
            return self._record(claim, outcome)
        return None

    def _record(self, claim: Claim, outcome: Outcome) -> Step | None:
        if outcome.superseding is not None:
            self._ledger.supersede(claim, outcome.superseding, outcome.detail)
            return NEXT_STEP[StudyState.GATHERED]
        if not outcome.detail:
            self._ledger.rest(claim, outcome.again_at)
            return None
        state = outcome.state or STATE_AFTER[claim.step]
        self._ledger.finish(claim, state, outcome.saved, outcome.detail, outcome.again_at)
        return NEXT_STEP.get(state)


def _say(error: BoneTumorError) -> str:
    return f"{error.code}: {error}"
