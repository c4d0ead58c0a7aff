"""The work of each step, put together from services and adapters."""

from collections.abc import Callable, Mapping

from bonetumor.domain.progress import Claim, Step, StudyState
from bonetumor.service.assess import assess
from bonetumor.service.deliver import confirm_archived, confirm_reported
from bonetumor.service.gather import gather
from bonetumor.service.ports import (
    Archive,
    Clock,
    HealthRecord,
    Model,
    ReportServer,
    Result,
    SlideReader,
    StepLedger,
    StudyReader,
)
from bonetumor.service.walk import Outcome, Work


class IoSteps:
    """Gathering and delivering: everything that waits for other machines."""

    def __init__(
        self,
        *,
        ledger: StepLedger,
        studies: StudyReader,
        record: HealthRecord | None,
        archive: Archive | None,
        reports: ReportServer | None,
    ) -> None:
        self._ledger = ledger
        self._studies = studies
        self._record = record
        self._archive = archive
        self._reports = reports

    def work(self) -> Mapping[Step, Work]:
        """The steps that this can do."""
        return {
            Step.GATHER: self.gather,
            Step.SEND_SR: self.send_sr,
            Step.CONFIRM_SR: self.confirm_sr,
            Step.SEND_REPORT: self.send_report,
            Step.CONFIRM_REPORT: self.confirm_report,
        }

    def gather(self, claim: Claim) -> Outcome:
        """Patient, blood and pathology from the EHR."""
        header = self._studies.header(self._ledger.study(claim.study_instance_uid))
        evidence = gather(header, self._record)
        if self._record is None:
            return Outcome(detail="no EHR is configured", saved=evidence)
        labs = len(evidence.labs.results) if evidence.labs else 0
        slides = len(evidence.pathology.slides) if evidence.pathology else 0
        return Outcome(
            detail=f"patient matched; {labs} blood markers, {slides} slide pictures", saved=evidence
        )

    def send_sr(self, claim: Claim) -> Outcome:
        """The SR to the archive."""
        if self._archive is None:
            return Outcome(detail="no archive is configured")
        result = self._result(claim)
        self._archive.send(result)
        return Outcome(detail=f"the archive took SR {result.assessment.sr_sop_instance_uid}")

    def confirm_sr(self, claim: Claim) -> Outcome:
        """Whether the archive has the SR; without an EHR this ends the walk."""
        detail = "no archive is configured"
        if self._archive is not None:
            detail = confirm_archived(self._archive, self._result(claim))
        if self._reports is None:
            return Outcome(detail=f"{detail}; no EHR is configured", state=StudyState.DONE)
        return Outcome(detail=detail)

    def send_report(self, claim: Claim) -> Outcome:
        """The DiagnosticReport to the EHR."""
        if self._reports is None:
            return Outcome(detail="no EHR is configured", state=StudyState.DONE)
        result = self._result(claim)
        self._reports.send(result)
        return Outcome(detail=f"the FHIR server took run {result.assessment.run_key[:16]}")

    def confirm_report(self, claim: Claim) -> Outcome:
        """Whether the EHR has the report."""
        if self._reports is None:
            return Outcome(detail="no EHR is configured")
        return Outcome(detail=confirm_reported(self._reports, self._result(claim)))

    def _result(self, claim: Claim) -> Result:
        study = self._ledger.study(claim.study_instance_uid)
        return Result(
            study=study,
            header=self._studies.header(study),
            evidence=self._ledger.evidence(claim),
            assessment=self._ledger.assessment(claim),
            predecessor=self._ledger.predecessor(claim),
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
        load: Callable[[], Model],
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._studies = studies
        self._slides = slides
        self._load = load
        self._model: Model | None = None
        self._clock = clock

    def work(self) -> Mapping[Step, Work]:
        """The steps that this can do."""
        return {Step.ASSESS: self.assess}

    def model(self) -> Model:
        """The model, loaded once; raises ModelFault or Misconfigured while it cannot be."""
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
            clock=self._clock,
        )
        used = ", ".join(assessment.diagnosis.used) or "none"
        return Outcome(
            detail=f"{len(assessment.lesions)} boxes on {assessment.images_assessed} images; "
            f"evidence used: {used}",
            saved=assessment,
        )
