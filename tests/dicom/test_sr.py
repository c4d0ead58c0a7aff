"""Structured reports of any shape, from images as sites have them, before the validators."""

import subprocess
from dataclasses import replace

import pydicom
import pytest
from pydicom.uid import MultiFrameGrayscaleByteSecondaryCaptureImageStorage

from bonetumor.dicom.anatomy import finding_site
from bonetumor.dicom.sr import structured_report
from bonetumor.service.ledger import Predecessor
from kit import studies
from kit.results import TEXTS, result
from kit.servers import need
from kit.validators import dciodvfy

OPTIONAL = [
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "BodyPartExamined",
    "ImageLaterality",
    "AnatomicRegionSequence",
    "ImagerPixelSpacing",
    "ViewPosition",
    "PatientOrientation",
    "AcquisitionDate",
    "ContentDate",
]


def image_of(one, frames=None):
    """A DX image, without its pixels, that the result is about."""
    image = studies.dataset(50, 320)
    keys = one.study.instances[0].keys
    image.StudyInstanceUID, image.SeriesInstanceUID = (
        keys.study_instance_uid,
        keys.series_instance_uid,
    )
    image.SOPInstanceUID, image.SOPClassUID = keys.sop_instance_uid, keys.sop_class_uid
    if frames:
        image.NumberOfFrames = frames
    del image.PixelData
    return image


def with_frame(one, frame, sop_class_uid=None):
    """The result with every detection on one frame, of an image of the class if one is given."""

    def moved(lesion):
        image = lesion.detection.image
        image = replace(
            image, frame_number=frame, sop_class_uid=sop_class_uid or image.sop_class_uid
        )
        return replace(lesion, detection=replace(lesion.detection, image=image))

    lesions = tuple(moved(x) for x in one.assessment.lesions)
    return replace(one, assessment=replace(one.assessment, lesions=lesions))


def validate(report, tmp_path):
    path = tmp_path / "sr.dcm"
    report.save_as(path, enforce_file_format=True)
    said = dciodvfy(path)
    assert "Error" not in said, said
    subprocess.run([need("dsrdump"), "+Pl", str(path)], check=True, capture_output=True)
    return pydicom.dcmread(path)


@pytest.mark.parametrize("seed", range(24))
def test_results_of_any_shape_are_valid(seed, tmp_path):
    one = with_frame(result(seed), None)
    validate(structured_report(one, [image_of(one)], three_d=bool(seed % 2)), tmp_path)


@pytest.mark.parametrize("missing", OPTIONAL)
def test_an_image_that_lacks_an_attribute_still_gets_a_report(missing, tmp_path):
    one = with_frame(result(3), None)
    image = image_of(one)
    del image[missing]
    validate(structured_report(one, [image]), tmp_path)


def test_a_box_on_a_frame_names_the_frame(tmp_path):
    one = with_frame(result(3), 2, MultiFrameGrayscaleByteSecondaryCaptureImageStorage)
    assert one.assessment.lesions
    image = image_of(one, frames=3)
    image.SOPClassUID = MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    report = validate(structured_report(one, [image]), tmp_path)
    assert "00081160" in report.to_json()


def test_a_superseding_report_names_its_predecessor(tmp_path):
    one = replace(
        with_frame(result(3), None),
        predecessor=Predecessor(
            sop_instance_uid="1.2.9.1", series_instance_uid="1.2.9", run_key="r"
        ),
    )
    report = validate(structured_report(one, [image_of(one)]), tmp_path)
    series = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.9.1"


def test_the_weights_hash_and_the_evidence_stand_in_the_report():
    one = with_frame(result(3), None)
    text = structured_report(one, [image_of(one)]).to_json()
    assert one.assessment.algorithm.bundle_sha256 in text
    assert "not for primary diagnosis" in text
    assert "missing: image, pathology, labs" in text


@pytest.mark.parametrize("text", TEXTS[1:])
def test_the_words_for_the_blood_and_their_writer_stand_in_the_report(text, tmp_path):
    one = with_frame(result(3), None)
    diagnosis = replace(one.assessment.diagnosis, blood_text=text)
    one = replace(one, assessment=replace(one.assessment, diagnosis=diagnosis))
    report = validate(structured_report(one, [image_of(one)]), tmp_path)
    [texts] = [c for c in report.ContentSequence if meaning(c) == "Qualitative Evaluations"]
    [item] = texts.ContentSequence
    assert (item.ValueType, item.TextValue) == ("TEXT", text.text)
    assert meaning(item) == "Relevant diagnostic tests/laboratory data"
    said = {meaning(c): c.TextValue for c in item.ContentSequence}
    if text.writer.is_language_model:
        assert said["Algorithm Name"] == "language model small-model"
        assert said["Algorithm Version"] == f"SHA-256 {text.writer.version}"
    else:
        assert said == {"Algorithm Name": "template", "Algorithm Version": "1"}


def test_without_words_for_the_blood_the_report_has_no_place_for_them():
    one = with_frame(result(3), None)
    diagnosis = replace(one.assessment.diagnosis, blood_text=None)
    one = replace(one, assessment=replace(one.assessment, diagnosis=diagnosis))
    report = structured_report(one, [image_of(one)])
    assert "Qualitative Evaluations" not in map(meaning, report.ContentSequence)


def meaning(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning


def test_the_site_is_the_images_own_or_none():
    image = studies.dataset(50, 320)
    del image.AnatomicRegionSequence
    image.BodyPartExamined, image.ImageLaterality = "KNEE", "R"
    site, side = finding_site(image)
    assert (site.meaning, side.meaning) == ("Knee", "Right")
    image.BodyPartExamined, image.ImageLaterality = "UNHEARD OF", ""
    assert finding_site(image) == (None, None)
