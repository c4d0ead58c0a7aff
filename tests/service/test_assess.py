"""Assessing: the words for the blood are written once, and are part of the run."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from bonetumor.domain.assessment import Algorithm, Diagnosis, Modality, TumourClass
from bonetumor.domain.errors import UnsupportedImage
from bonetumor.domain.image import BoundingBox, ClinicalImage, ImageReference
from bonetumor.domain.labs import BloodText, Writer
from bonetumor.domain.lesion import Detection
from bonetumor.service.assess import assess
from bonetumor.service.ports import Findings
from bonetumor.service.wording import conclusion
from kit.ledger import EVIDENCE
from kit.results import TEXTS, result

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STUDY, HEADER = result(3).study, result(3).header
IMAGE = ClinicalImage(
    reference=ImageReference(
        sop_instance_uid="1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
        series_instance_uid="1.9",
        frame_number=None,
        rows=4,
        columns=4,
    ),
    pixels=np.zeros((4, 4), np.uint8),
)
BOX = Detection(image=IMAGE.reference, box=BoundingBox(x0=1, y0=1, x1=3, y1=3), score=0.5)
MODEL = Writer(name="model", version="a" * 64, is_language_model=True)
OTHER = replace(MODEL, version="b" * 64)
TEMPLATE = Writer(name="template", version="1", is_language_model=False)


class Writing:
    """A language model that words the same blood otherwise each time."""

    def __init__(self, writer=MODEL):
        self.writer = writer
        self.asked = 0

    def write(self, _panel):
        self.asked += 1
        return BloodText(text=f"wording {self.asked}", writer=self.writer)


class Reading:
    """A model that reads what it is given, or puts another text in its place."""

    algorithm = Algorithm(
        name="a", version="1", bundle_version="1", bundle_sha256="0" * 64, training_data="x"
    )

    def __init__(self, writer, boxes=(BOX,), instead=None):
        self.writer, self.boxes, self.instead = writer, boxes, instead
        self.detector = self.fusion = self

    def detect_all(self, images):
        for image in images:
            yield image, Findings(detections=self.boxes, out_of_distribution=False)

    def diagnose(self, evidence):
        return Diagnosis(
            probabilities=dict.fromkeys(TumourClass, 1 / 3),
            prediction_set=(),
            abstained=True,
            out_of_distribution=False,
            used=(Modality.LABS,),
            blood_text=self.instead or evidence.text,
        )


class Studies:
    """The study of one image, whose slides cannot be read."""

    def images(self, _study):
        return [IMAGE]

    def header(self, _study):
        return HEADER

    def tiles(self, _slide):
        raise UnsupportedImage("slide: expected a picture, got none")


def run(ledger, writer, evidence=EVIDENCE, **model):
    return assess(
        STUDY,
        evidence,
        reader=Studies(),
        slides=Studies(),
        model=Reading(writer, **model),
        texts=ledger,
        clock=lambda: NOW,
    )


def text_in(assessment):
    return assessment.diagnosis.blood_text.text


def test_the_blood_is_worded_once_however_often_it_is_assessed(ledger):
    writer = Writing()
    first = run(ledger, writer)
    assert text_in(first) == "wording 1"
    again = Writing()
    again.asked = 7
    assert run(ledger, writer) == run(ledger, again) == first
    assert (writer.asked, again.asked) == (1, 7)


def test_another_writer_or_other_blood_is_worded_anew(ledger):
    writer = Writing()
    first = run(ledger, writer)
    [marker] = EVIDENCE.labs.results
    corrected = replace(EVIDENCE, labs=replace(EVIDENCE.labs, results=(replace(marker, high=1.2),)))
    assert text_in(run(ledger, writer, corrected)) == "wording 2"
    other = run(ledger, Writing(OTHER))
    assert text_in(other) == text_in(first)
    assert other.run_key != first.run_key


@pytest.mark.parametrize(
    "change", [{"text": "wording 2"}, {"writer": OTHER}, {"writer": TEMPLATE}, {"note": "why"}]
)
def test_text_writer_and_note_are_part_of_the_run(ledger, change):
    writer = Writing()
    first = run(ledger, writer)
    changed = replace(first.diagnosis.blood_text, **change)
    assert run(ledger, writer, instead=changed).run_key != first.run_key


def test_why_a_language_model_was_not_read_stands_in_the_notes(ledger):
    instead = BloodText(text="usual", writer=TEMPLATE, note="the text of x was not used: why")
    assert run(ledger, Writing(), instead=instead).notes[-1] == instead.note


@pytest.mark.parametrize(
    ("evidence", "boxes"), [(EVIDENCE, ()), (replace(EVIDENCE, labs=None), (BOX,))]
)
def test_nobody_is_asked_for_words_that_are_not_read(ledger, evidence, boxes):
    writer = Writing()
    assert run(ledger, writer, evidence, boxes=boxes).diagnosis.blood_text is None
    assert writer.asked == 0


@pytest.mark.parametrize("text", TEXTS[1:])
def test_every_report_says_how_the_blood_was_worded_and_by_whom(text):
    one = result(3)
    diagnosis = replace(one.assessment.diagnosis, blood_text=text)
    one = replace(one, assessment=replace(one.assessment, diagnosis=diagnosis))
    said = conclusion(one)
    who = (
        f"the language model small-model (SHA-256 {'b' * 64})"
        if text.writer.is_language_model
        else "template 1"
    )
    assert f"Blood as worded by {who}: {text.text} " in said
