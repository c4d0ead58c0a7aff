"""Reading stored studies: the StudyReader port over the spool."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from bonetumor.dicom.anatomy import body_part, laterality
from bonetumor.dicom.attributes import drop_unreadable, refusing, said
from bonetumor.dicom.characters import settle_characters
from bonetumor.dicom.inbox import Spool
from bonetumor.dicom.presentation import is_assessed, present
from bonetumor.domain.errors import CorruptPixelData, NotDicom, UnsupportedImage
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.study import Instance, PatientIdentity, Study, StudyHeader
from bonetumor.domain.uid import UID, parse_uid

_FACTS = {
    "modality": ("Modality",),
    "procedure": ("StudyDescription", "ProtocolName"),
    "series": ("SeriesDescription",),
    "station": ("StationName",),
}


Decode = Callable[[Path], Iterator[ClinicalImage]]


class SpooledStudies:
    """Headers and images of studies in the spool. `decode` gives the frames of a file."""

    def __init__(self, spool: Spool, decode: Decode | None = None) -> None:
        self._spool = spool
        self._decode = decode or decode_here

    def header(self, study: Study) -> StudyHeader:
        """What the first image of the study states; the first object if there is no image."""
        return read_header(self.reference(study))

    def facts(self, study: Study) -> Mapping[str, frozenset[str]]:
        """What rules may ask of the study: read from one object of each series."""
        found: dict[str, set[str]] = defaultdict(set)
        series: set[UID] = set()
        for instance in study.instances:
            found["calling_ae"].add(instance.calling_ae_title)
            found["called_ae"].add(instance.called_ae_title)
            if instance.keys.series_instance_uid in series:
                continue
            series.add(instance.keys.series_instance_uid)
            head = read_file(self._spool.fetch(instance), pixels=False)
            for name, keywords in _FACTS.items():
                found[name].update(str(head.get(k) or "").strip() for k in keywords)
            found["body_part"].add(body_part(head))
        return {name: frozenset(v.upper() for v in values if v) for name, values in found.items()}

    def reference(self, study: Study) -> Dataset:
        """The object that stands for the study: its first image, without pixels."""
        return read_file(self._spool.fetch(_ranked(study)[0]), pixels=False)

    def images(self, study: Study) -> Iterator[ClinicalImage]:
        """Every frame of every image, by series and SOP Instance UID."""
        for instance in sorted(
            study.instances, key=lambda i: (i.keys.series_instance_uid, i.keys.sop_instance_uid)
        ):
            if is_assessed(instance.keys.sop_class_uid):
                yield from self._decode(self._spool.fetch(instance))

    def image_datasets(self, study: Study) -> list[Dataset]:
        """Every image of the study without its pixels."""
        return [
            read_file(self._spool.fetch(instance), pixels=False)
            for instance in study.instances
            if is_assessed(instance.keys.sop_class_uid)
        ]


def _ranked(study: Study) -> list[Instance]:
    """Images first, each kind by SOP Instance UID."""
    return sorted(
        study.instances,
        key=lambda i: (not is_assessed(i.keys.sop_class_uid), i.keys.sop_instance_uid),
    )


def decode_here(path: Path) -> Iterator[ClinicalImage]:
    """Every frame of a file, decoded in this process."""
    return present(read_file(path))


def read_file(path: Path, *, pixels: bool = True) -> Dataset:
    """A DICOM file; without pixels, also without what cannot be read of it.

    Raises:
        NotDicom: it cannot be parsed.
        CorruptPixelData: it ends before its time, or is no data set.
    """
    with refusing("file: expected a whole DICOM object"):
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
        except InvalidDicomError as error:
            raise NotDicom("file: expected DICOM (PS3.10), got something else") from error
    if not dataset:  # pydicom keeps nothing of an encapsulated one that lacks its end
        raise CorruptPixelData(
            "file: expected a whole DICOM object, got one without its end, or empty"
        )
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise UnsupportedImage("file: expected a transfer syntax in the meta information, got none")
    if not pixels:
        drop_unreadable(dataset)
        settle_characters(dataset)
    return dataset


def read_header(dataset: Dataset) -> StudyHeader:
    """Patient, accession and acquisition as the object states them (PS3.3 C.7.1.1, C.7.2.1).

    Raises:
        InvalidInput: it states no study.
    """
    birth = str(dataset.get("PatientBirthDate") or "")
    return StudyHeader(
        study_instance_uid=parse_uid(str(dataset.get("StudyInstanceUID") or "")),
        patient=PatientIdentity(
            patient_id=said(dataset, "PatientID"),
            issuer=said(dataset, "IssuerOfPatientID") or None,
            birth_date=f"{birth[:4]}-{birth[4:6]}-{birth[6:8]}" if len(birth) == 8 else None,
            sex=said(dataset, "PatientSex") or None,
        ),
        accession_number=said(dataset, "AccessionNumber") or None,
        acquired_at=_acquired_at(dataset),
        modality=said(dataset, "Modality") or "OT",
        body_part=body_part(dataset) or None,
        laterality=laterality(dataset) or None,
    )


def _acquired_at(dataset: Dataset) -> datetime | None:
    """Acquisition, else content, else study date and time; UTC where no offset is given."""
    for prefix in ("Acquisition", "Content", "Study"):
        date = str(dataset.get(f"{prefix}Date") or "")
        time = str(dataset.get(f"{prefix}Time") or "").split(".")[0].ljust(6, "0")
        if len(date) != 8:
            continue
        offset = str(dataset.get("TimezoneOffsetFromUTC") or "").strip()
        try:
            if offset:
                return datetime.strptime(f"{date}{time}{offset}", "%Y%m%d%H%M%S%z")
            return datetime.strptime(f"{date}{time}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            continue
    return None
