"""The work of each step, put together from services and adapters."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from bonetumor.domain.case import Evidence, why_superseded
from bonetumor.domain.errors import (
    InvalidInput,
    Misconfigured,
    PatientNotMatched,
    Rejected,
    Unavailable,
)
from bonetumor.domain.progress import Claim, Content, Step, StudyState
from bonetumor.domain.study import Study
from bonetumor.domain.uid import UID
from bonetumor.service.assess import assess
from bonetumor.service.gather import await_evidence, gather
from bonetumor.service.ledger import StepLedger
from bonetumor.service.ports import (
    Clock,
    Destination,
    HealthRecord,
    Model,
    Notice,
    Parcel,
    Result,
    SlideReader,
    StudyReader,
)
from bonetumor.service.texts import Texts
from bonetumor.service.walk import Outcome, Work

_CLOCKS_APART = timedelta(minutes=10)  # between us and the EHR, and the time a commit may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """How long a first result waits for evidence, and how long late evidence still counts."""

    wait: timedelta = timedelta(0)
    watch: timedelta = timedelta(0)
    poll: timedelta = timedelta(minutes=5)


class IoSteps:
    """Gathering and delivering: everything that waits for other machines."""

    def __init__(
        self,
        *,
        ledger: StepLedger,
        studies: StudyReader,
        record: HealthRecord | None,
        destinations: Mapping[str, Destination],
        clock: Clock,
        readiness: Readiness,
    ) -> None:
        self._clock = clock
        self._readiness = readiness
        self._looked_at: dict[UID, datetime] = {}
        self._ledger = ledger
        self._studies = studies
        self._record = record
        self._destinations = destinations

    def work(self) -> Mapping[Step, Work]:
        """The steps that this can do."""
        return {
            Step.GATHER: self.gather,
            Step.DISPATCH: self.dispatch,
            Step.SEND: self.send,
            Step.CONFIRM: self.confirm,
            Step.LOOK_AGAIN: self.look_again,
        }

    def gather(self, claim: Claim) -> Outcome:
        """Patient, blood and pathology from the EHR."""
        study = self._ledger.study(claim.study_instance_uid)
        evidence = self._gathered(study)
        if self._record is None:
            return Outcome(detail="no EHR is configured", saved=evidence)
        arrived = max(i.received_at for i in study.instances)
        left = arrived + self._readiness.wait - self._clock()
        await_evidence(evidence, left, self._readiness.poll)
        labs = len(evidence.labs.results) if evidence.labs else 0
        slides = len(evidence.pathology.slides) if evidence.pathology else 0
        return Outcome(
            detail=f"patient matched; {labs} blood markers, {slides} slide pictures", saved=evidence
        )

    def dispatch(self, claim: Claim) -> Outcome:
        """Opens a delivery to every destination; without any this ends the walk."""
        if not self._destinations:
            again_at = self._again_at(claim)
            return Outcome(
                detail="no destination is configured", state=StudyState.DONE, again_at=again_at
            )
        names = tuple(self._destinations)
        return Outcome(detail=f"to {', '.join(names)}", deliver_to=names)

    def send(self, claim: Claim) -> Outcome:
        """A result or a notice to one destination."""
        return Outcome(detail=self._destination(claim).send(self._parcel(claim)))

    def confirm(self, claim: Claim) -> Outcome:
        """Whether the destination holds what it was sent."""
        said = self._destination(claim).confirm(self._parcel(claim))
        if claim.errand.content is Content.NOTICE:
            return Outcome(detail=said)
        return Outcome(detail=said, again_at=self._again_at(claim))

    def _destination(self, claim: Claim) -> Destination:
        name = claim.errand.destination
        if name not in self._destinations:
            raise Misconfigured(f"destination: expected {name} in the settings, got none")
        return self._destinations[name]

    def look_again(self, claim: Claim) -> Outcome:
        """Whether evidence has come that makes the result out of date.

        An EHR that is down changes nothing of a result that stands. One that no longer agrees who
        the patient is holds the study: a person must look at the report.
        """
        earlier, begun = self._ledger.evidence(claim), self._clock()
        nothing_new = Outcome(detail="", again_at=self._again_at(claim))
        try:
            if not self._may_have_changed(claim.study_instance_uid, earlier):
                return nothing_new
            now = self._gathered(self._ledger.study(claim.study_instance_uid))
        except PatientNotMatched:
            raise
        except (Unavailable, InvalidInput, Rejected):
            return nothing_new
        self._remember_look(claim.study_instance_uid, begun)
        reason = why_superseded(earlier, now)
        return Outcome(detail=reason, superseding=now) if reason else nothing_new

    def _remember_look(self, study_instance_uid: UID, begun: datetime) -> None:
        """Remembers a look at everything, and forgets those at studies that are watched no more."""
        self._looked_at[study_instance_uid] = begun
        self._looked_at = {
            study: at
            for study, at in self._looked_at.items()
            if begun - at <= self._readiness.watch
        }

    def _may_have_changed(self, study_instance_uid: UID, earlier: Evidence) -> bool:
        """Asks the EHR for changes only; after a start of this process, everything is read once."""
        last = self._looked_at.get(study_instance_uid)
        if self._record is None or earlier.patient is None or last is None:
            return True
        return self._record.changed_since(earlier.patient, last - _CLOCKS_APART)

    def _gathered(self, study: Study) -> Evidence:
        chosen = self._ledger.chosen_patient(study.study_instance_uid)
        return gather(self._studies.header(study), self._record, chosen)

    def _again_at(self, claim: Claim) -> datetime | None:
        """When to ask the EHR again; None once late evidence no longer counts."""
        if self._record is None:
            return None
        again_at = self._clock() + self._readiness.poll
        ends = self._ledger.assessment(claim).assessed_at + self._readiness.watch
        return again_at if again_at <= ends else None

    def _parcel(self, claim: Claim) -> Parcel:
        study = self._ledger.study(claim.study_instance_uid)
        if claim.errand.content is Content.NOTICE:
            reason, at = self._ledger.reason(claim)
            return Notice(study=study, reason=reason, at=at)
        assessment = self._ledger.assessment(claim)
        earlier = self._ledger.predecessor(claim)
        return Result(
            study=study,
            header=self._studies.header(study),
            evidence=self._ledger.evidence(claim),
            assessment=assessment,
            # The same evidence again gives the same result: it does not supersede itself.
            predecessor=earlier if earlier and earlier.run_key != assessment.run_key else None,
        )


class GpuSteps:
    """Assessing: everything that needs the networks.

    `load` gives the model; it is asked again for each study until it succeeds, so that a study
    which meets wrong weights fails with that reason, and the next one may meet the right ones.
    """

    def __init__(
        self,
        *,
        ledger: StepLedger,
        studies: StudyReader,
        slides: SlideReader,
        texts: Texts,
        load: Callable[[], Model],
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._studies = studies
        self._slides = slides
        self._texts = texts
        self._load = load
        self._model: Model | None = None
        self._loading = threading.Lock()
        self._clock = clock

    def work(self) -> Mapping[Step, Work]:
        """The steps that this can do."""
        return {Step.ASSESS: self.assess}

    def model(self) -> Model:
        """The model, loaded once for all threads; raises ModelFault or Misconfigured while it
        cannot be."""
        with self._loading:
            if self._model is None:
                self._model = self._load()
            return self._model

    def assess(self, claim: Claim) -> Outcome:
        """From images and evidence to lesions and a diagnosis."""
        assessment = assess(
            self._ledger.study(claim.study_instance_uid),
            self._ledger.evidence(claim),
            reader=self._studies,
            slides=self._slides,
            model=self.model(),
            texts=self._texts,
            clock=self._clock,
        )
        used = ", ".join(assessment.diagnosis.used) or "none"
        return Outcome(
            detail=f"{len(assessment.lesions)} boxes on {assessment.images_assessed} images; "
            f"evidence used: {used}",
            saved=assessment,
        )
