"""What a result, or the notice that there is none, becomes for an archive."""

from collections.abc import Sequence
from enum import StrEnum

from pydicom import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)

from bonetumor.dicom.captures import notice_capture, result_captures
from bonetumor.dicom.document import encapsulated_pdf
from bonetumor.dicom.reader import SpooledStudies
from bonetumor.dicom.softcopy import presentation_states
from bonetumor.dicom.sr import structured_report
from bonetumor.picture.illustration import illustrate
from bonetumor.service.ports import Notice, Parcel, Result


class Kind(StrEnum):
    """Kinds of result objects, as settings name them."""

    SR = "sr"
    SC = "sc"
    GSPS = "gsps"
    PDF = "pdf"


SOP_CLASSES = {
    Kind.SR: (Comprehensive3DSRStorage, ComprehensiveSRStorage),
    Kind.SC: (SecondaryCaptureImageStorage,),
    Kind.GSPS: (GrayscaleSoftcopyPresentationStateStorage,),
    Kind.PDF: (EncapsulatedPDFStorage,),
}


class ObjectMaker:
    """Makes the objects of some kinds from studies in the spool. Same parcel, same bytes."""

    def __init__(
        self, studies: SpooledStudies, kinds: Sequence[Kind], *, every_slice: bool = False
    ) -> None:
        self._studies = studies
        self._every_slice = every_slice
        self._kinds = tuple(kinds)

    def kinds(self, parcel: Parcel) -> tuple[Kind, ...]:
        """What the parcel becomes: a notice is always a picture, which every viewer shows."""
        return (Kind.SC,) if isinstance(parcel, Notice) else self._kinds

    def pictures(self, parcel: Parcel) -> list[Dataset]:
        """Everything but the SR, whose class depends on what the archive takes."""
        if isinstance(parcel, Notice):
            return [notice_capture(parcel, self._studies.reference(parcel.study))]
        references = self._studies.image_datasets(parcel.study)
        made: list[Dataset] = []
        if Kind.SC in self._kinds:
            made += result_captures(parcel, self._studies.images(parcel.study), references)
        if Kind.GSPS in self._kinds:
            made += presentation_states(parcel, references)
        if Kind.PDF in self._kinds:
            page = illustrate(parcel, self._studies.images(parcel.study)).pdf
            made.append(encapsulated_pdf(parcel, references[0], page))
        return made

    def report(self, result: Result, *, three_d: bool) -> Dataset:
        """The SR."""
        return structured_report(
            result,
            self._studies.image_datasets(result.study),
            three_d=three_d,
            every_slice=self._every_slice,
        )
