"""The structured report: TID 1500 with one TID 1410 group per lesion, by highdicom."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    ComprehensiveSR,
    ContainerContentItem,
    CoordinatesForMeasurement,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageLibraryEntryDescriptors,
    ImageRegion,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from highdicom.sr.coding import CodedConcept as Concept
from pydicom import Dataset
from pydicom.sequence import Sequence

from bonetumor.dicom.anatomy import finding_site
from bonetumor.dicom.authorship import (
    MANUFACTURER,
    SERIES_DESCRIPTION,
    device_uid,
    equipment,
    fix_moment,
    with_type_2,
)
from bonetumor.domain.assessment import Assessment, Diagnosis, TumourClass
from bonetumor.domain.code import Code
from bonetumor.domain.image import ImageReference
from bonetumor.domain.labs import BloodText
from bonetumor.domain.lesion import Lesion, key_lesions
from bonetumor.domain.uid import UID, derived_uid
from bonetumor.service.ledger import Predecessor
from bonetumor.service.ports import Result

_SERIES_NUMBER = 9700

_TITLE = Concept("126000", "DCM", "Imaging Measurement Report")
_PROCEDURE = Concept("363679005", "SCT", "Imaging procedure")
_CATEGORY = Concept("49755003", "SCT", "Morphologically abnormal structure")
_NEOPLASM = Concept("108369006", "SCT", "Neoplasm")
_PRESENCE = Concept("705057003", "SCT", "Presence")
_ABSENT = Concept("2667000", "SCT", "Absent")
_AI = Concept("123110", "DCM", "Artificial Intelligence")
_PERCENT = Concept("%", "UCUM", "Percent")
_CERTAINTY = Concept("111012", "DCM", "Certainty of Finding")
_CANCER = Concept("111047", "DCM", "Probability of cancer")
_BOUNDED_BY = Concept("75958009", "SCT", "Bounded by")
_SOURCE_OF_MEASUREMENT = Concept("121112", "DCM", "Source of Measurement")
_SHORT_LABEL = Concept("125309", "DCM", "Short Label")
_COMMENT = Concept("121106", "DCM", "Comment")
_ALGORITHM_NAME = Concept("111001", "DCM", "Algorithm Name")
_ALGORITHM_VERSION = Concept("111003", "DCM", "Algorithm Version")
_LABORATORY = Concept("30954-2", "LN", "Relevant diagnostic tests/laboratory data")
_QUALITATIVE = Concept("C0034375", "UMLS", "Qualitative Evaluations")
_DEVICE_OBSERVER = Concept("121007", "DCM", "Device")
_TUMOUR_CLASS = Concept("116676008", "SCT", "Associated morphology")
# SNOMED CT has no single concept for "intermediate"; the WHO's intermediate tumours are those of
# uncertain behaviour, which is ICD-O behaviour code 1.
_CLASS_CODES = {
    TumourClass.BENIGN: Concept("30807003", "SCT", "Benign"),
    TumourClass.INTERMEDIATE: Concept(
        "86251006", "SCT", "Neoplasm, uncertain whether benign or malignant"
    ),
    TumourClass.MALIGNANT: Concept("21594007", "SCT", "Malignant"),
}


def structured_report(
    result: Result, images: list[Dataset], *, three_d: bool = True, every_slice: bool = False
) -> Dataset:
    """The SR of a result, the same bytes whenever it is made.

    `images` are the study's images without pixels. `three_d` chooses Comprehensive 3D SR, else
    Comprehensive SR for peers that refuse it. A lesion of a volume is drawn on its key slice, with
    `every_slice` on each that shows it.
    """
    assessment = result.assessment
    images = [with_type_2(image) for image in images]
    by_uid = {str(image.SOPInstanceUID): image for image in images}
    device = device_uid(assessment)
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=_DEVICE_OBSERVER,
                observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                    uid=device,
                    name=assessment.algorithm.name,
                    manufacturer_name=MANUFACTURER,
                    model_name=assessment.algorithm.name,
                    serial_number=assessment.algorithm.bundle_sha256[:16],
                ),
            )
        ),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[
            _lesion_group(lesion, assessment, by_uid[lesion.detection.image.sop_instance_uid])
            for lesion in _tracked_by_view(
                assessment.lesions if every_slice else key_lesions(assessment.lesions)
            )
        ]
        or [_negative_group(assessment)],
        title=_TITLE,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            Concept("en-US", "RFC5646", "English (United States)")
        ),
        referenced_images=[image for image in images if _can_be_described(image)] or None,
    )
    kind = Comprehensive3DSR if three_d else ComprehensiveSR
    _add_blood_text(content, assessment.diagnosis.blood_text)
    report = kind(
        evidence=images,
        content=content,
        series_instance_uid=assessment.sr_series_instance_uid,
        series_number=_SERIES_NUMBER,
        sop_instance_uid=assessment.sr_sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=assessment.algorithm.name,
        software_versions=assessment.algorithm.version,
        device_serial_number=assessment.algorithm.bundle_sha256[:16],
        series_description=SERIES_DESCRIPTION,
        is_complete=True,
        is_final=False,
        is_verified=False,
        contributing_equipment=[equipment(assessment)],
    )
    report.ContributingEquipmentSequence[0].DeviceUID = device
    fix_moment(report, assessment.assessed_at)
    if result.predecessor is not None:
        _name_predecessor(report, result.study.study_instance_uid, result.predecessor)
    return report


def _can_be_described(image: Dataset) -> bool:
    """Whether the image states what its Image Library entry must hold (TID 1602 to 1608)."""
    try:
        ImageLibraryEntryDescriptors(image)
    except (AttributeError, ValueError, KeyError, IndexError, TypeError):
        return False
    return True


def _tracked_by_view(lesions: Iterable[Lesion]) -> Iterator[Lesion]:
    """The lesions with a Tracking Unique Identifier for every box.

    OHIF merges groups of one UID and draws the first box only. The lesion's own UID stays with its
    most certain box; the others get one that follows from it, and all keep the Tracking Identifier.
    """
    seen: set[UID] = set()
    for lesion in lesions:
        uid, image = lesion.tracking_uid, lesion.detection.image
        if uid in seen:
            frame = str(image.frame_number or 0)
            uid = derived_uid(uid, "view", image.sop_instance_uid, frame)
        seen.add(lesion.tracking_uid)
        yield replace(lesion, tracking_uid=uid)


def _lesion_group(
    lesion: Lesion, assessment: Assessment, image: Dataset
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    detection = lesion.detection
    box = detection.box
    outline = np.array(
        [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1), (box.x0, box.y0)]
    )
    diagnosis = assessment.diagnosis
    certainty = Measurement(name=_CERTAINTY, value=_percent(detection.score), unit=_PERCENT)
    measurements = [certainty]
    evaluations = []
    if diagnosis.probabilities is not None:
        cancer = diagnosis.probabilities[TumourClass.MALIGNANT]
        measurements.append(Measurement(name=_CANCER, value=_percent(cancer), unit=_PERCENT))
    if diagnosis.most_likely is not None and not diagnosis.abstained:
        evaluations.append(
            QualitativeEvaluation(_TUMOUR_CLASS, _CLASS_CODES[diagnosis.most_likely])
        )
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=lesion.tracking_uid, identifier=lesion.tracking_identifier
        ),
        referenced_region=ImageRegion(
            graphic_type="POLYLINE", graphic_data=outline, source_image=_source(detection.image)
        ),
        finding_type=_NEOPLASM,
        finding_category=_CATEGORY,
        algorithm_id=_algorithm(assessment),
        finding_sites=_sites(image),
        measurements=measurements,
        qualitative_evaluations=evaluations or None,
        geometric_purpose=_BOUNDED_BY,
    )
    # "Continue tracking" in OHIF takes over a group only if its first number is inferred from
    # coordinates, and only then leads from image to image. highdicom refuses them in a group with a
    # region of its own; PixelMed's template (TID 1419) knows them.
    certainty[0].ContentSequence = [
        CoordinatesForMeasurement(
            graphic_type="POLYLINE",
            graphic_data=outline,
            source_image=_source(detection.image),
            purpose=_SOURCE_OF_MEASUREMENT,
        )
    ]
    # dwv labels its boxes with this one, and finds it only as a modifier of the group.
    _add_text(
        group, _SHORT_LABEL, lesion.tracking_identifier, RelationshipTypeValues.HAS_CONCEPT_MOD
    )
    _add_text(group, _COMMENT, summary(assessment))
    return group


def _source(image: ImageReference) -> SourceImageForRegion:
    return SourceImageForRegion(
        referenced_sop_class_uid=image.sop_class_uid,
        referenced_sop_instance_uid=image.sop_instance_uid,
        referenced_frame_numbers=None if image.frame_number is None else [image.frame_number],
    )


def _negative_group(assessment: Assessment) -> MeasurementsAndQualitativeEvaluations:
    """No lesion: the report says that the finding is absent, by whom, and on what evidence."""
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derived_uid(assessment.run_key, "negative"), identifier="No tumour localised"
        ),
        finding_type=_NEOPLASM,
        finding_category=_CATEGORY,
        algorithm_id=_algorithm(assessment),
        qualitative_evaluations=[QualitativeEvaluation(_PRESENCE, _ABSENT)],
    )
    _add_text(group, _COMMENT, summary(assessment))
    return group


def summary(assessment: Assessment) -> str:
    """What was said, on which evidence, by what: for people who read the SR as text."""
    diagnosis, algorithm = assessment.diagnosis, assessment.algorithm
    said = "not classified"
    if diagnosis.probabilities is not None:
        said = ", ".join(f"P({c}) {p:.0%}" for c, p in diagnosis.probabilities.items())
    if diagnosis.abstained:
        said = f"abstained ({said}): {diagnosis.reason}"
    parts = [
        "AI result, not for primary diagnosis",
        said,
        f"evidence used: {', '.join(diagnosis.used) or 'none'}",
        *_contributions(diagnosis),
        f"missing: {', '.join(assessment.missing) or 'none'}",
        f"study: {assessment.completeness}",
        f"model {algorithm.bundle_version}, SHA-256 {algorithm.bundle_sha256}",
        f"trained on {algorithm.training_data}",
        *(
            ["images unlike those the model was trained on"]
            if diagnosis.out_of_distribution
            else []
        ),
        *assessment.notes,
    ]
    return "; ".join(parts)


def _contributions(diagnosis: Diagnosis) -> list[str]:
    """How each modality moved the probability of the most likely class."""
    if not diagnosis.contributions:
        return []
    said = ", ".join(f"{m} {100 * v:+.0f} points" for m, v in diagnosis.contributions.items())
    return [f"moved P({diagnosis.most_likely}): {said}"]


def _algorithm(assessment: Assessment) -> AlgorithmIdentification:
    algorithm = assessment.algorithm
    return AlgorithmIdentification(
        name=algorithm.name,
        version=f"{algorithm.version} weights {algorithm.bundle_version}",
        family=_AI,
    )


def _sites(image: Dataset) -> list[FindingSite] | None:
    site, side = finding_site(image)
    if site is None:
        return None
    return [FindingSite(_concept(site), laterality=_concept(side) if side else None)]


def _concept(code: Code) -> CodedConcept:
    return Concept(code.value, code.scheme, code.meaning)


def _add_blood_text(content: Sequence, text: BloodText | None) -> None:
    """The blood markers as the networks read them, and who worded them, beside the measurements:
    TID 1500 has a container for texts there (rows 12 and 14)."""
    if text is None:
        return
    item = TextContentItem(
        name=_LABORATORY, value=text.text, relationship_type=RelationshipTypeValues.CONTAINS
    )
    kind = "language model" if text.writer.is_language_model else "template"
    version = text.writer.version
    said = {
        _ALGORITHM_NAME: f"{kind} {text.writer.name}" if kind != text.writer.name else kind,
        _ALGORITHM_VERSION: f"SHA-256 {version}" if text.writer.is_language_model else version,
    }
    item.ContentSequence = [
        TextContentItem(
            name=name, value=value, relationship_type=RelationshipTypeValues.HAS_CONCEPT_MOD
        )
        for name, value in said.items()
    ]
    container = ContainerContentItem(
        name=_QUALITATIVE, relationship_type=RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = [item]
    content[0].ContentSequence.append(container)


def _add_text(
    group: Sequence,
    name: CodedConcept,
    text: str,
    relationship: RelationshipTypeValues = RelationshipTypeValues.CONTAINS,
) -> None:
    group[0].ContentSequence.append(
        TextContentItem(name=name, value=text, relationship_type=relationship)
    )


def _name_predecessor(report: Dataset, study_uid: UID, predecessor: Predecessor) -> None:
    """The Predecessor Documents Sequence (PS3.3 C.17.2), one item."""
    instance = Dataset()
    instance.ReferencedSOPClassUID = report.SOPClassUID
    instance.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID = predecessor.series_instance_uid
    series.ReferencedSOPSequence = Sequence([instance])
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = Sequence([series])
    report.PredecessorDocumentsSequence = Sequence([study])


def _percent(value: float) -> float:
    return round(100.0 * value, 2)
