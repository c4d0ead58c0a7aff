"""Real patients with radiographs alone get drawn slides and blood, which no figure counts."""

import cv2
import numpy as np
import pytest

from bonetumor.cohort.record import ImageRecord, LabRecord, PatientRecord, read_cohort, write_cohort
from bonetumor.cohort.sources import measure_sources
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.labs import Analyte
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from bonetumor.worker.companions import accompany
from bonetumor.worker.evaluating import Predictions, predict
from bonetumor.worker.thinking import load_model

OWN_BLOOD = LabRecord(analyte=Analyte.ALP, value=90, unit="U/L", low=40, high=120)


def patients():
    box = ((20.0, 20.0, 60.0, 60.0),)
    for number, (kind, name) in enumerate(
        [
            (TumourClass.BENIGN, "osteochondroma"),
            (TumourClass.INTERMEDIATE, "giant cell tumor"),
            (TumourClass.MALIGNANT, "other mt"),
            (TumourClass.MALIGNANT, "a type that the phantom does not know"),
            (TumourClass.BENIGN, None),
        ]
        * 2
    ):
        image = ImageRecord(file="x.png", boxes=box)
        yield PatientRecord(
            patient=f"p{number}", tumour_class=kind, tumour_type=name, images=(image,), sex="M"
        )
    yield PatientRecord(patient="normal", images=(ImageRecord(file="x.png"),))
    yield PatientRecord(patient="own", tumour_class=TumourClass.BENIGN, labs=(OWN_BLOOD,))


@pytest.fixture
def cohort(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.random.default_rng(0).integers(0, 255, (90, 80)))
    write_cohort(tmp_path, patients())
    return read_cohort(tmp_path)


def test_only_patients_who_have_neither_are_drawn_for_and_the_record_says_what(cohort):
    assert accompany(cohort, 1) == 10
    found = {r.patient: r for r in read_cohort(cohort.folder).patients}
    assert found["normal"].drawn == found["own"].drawn == ()
    assert found["own"].labs == (OWN_BLOOD,)
    for record in found.values():
        assert ("pathology" in record.drawn) == bool(record.slides)
        assert ("labs" in record.drawn) == (bool(record.labs) and record.patient != "own")
        assert all((cohort.folder / slide).is_file() for slide in record.slides)
    assert sum(bool(r.drawn) for r in found.values()) >= 8


def test_a_patient_gets_the_same_whoever_else_is_there(cohort, tmp_path):
    accompany(cohort, 1)
    first = next(r for r in read_cohort(cohort.folder).patients if r.drawn)
    alone = tmp_path / "alone"
    alone.mkdir()
    bare = first.model_copy(update={"slides": (), "labs": (), "drawn": (), "images": ()})
    write_cohort(alone, [bare])
    accompany(read_cohort(alone), 1)
    [again] = read_cohort(alone).patients
    assert (again.slides, again.labs) == (first.slides, first.labs)


def test_what_was_drawn_is_a_source_of_its_own(cohort):
    accompany(cohort, 1)
    measured = measure_sources(read_cohort(cohort.folder)).sources
    assert [s.kind for s in measured] == ["real", "synthetic"]
    assert measured[1].counts["images"] == 0
    assert measured[1].counts["slides"] > 0


def test_a_cohort_in_which_nobody_lacks_evidence_is_refused(cohort):
    accompany(cohort, 1)
    drawn = [r for r in read_cohort(cohort.folder).patients if r.drawn]
    write_cohort(cohort.folder, drawn)
    with pytest.raises(InvalidInput, match="neither slides nor blood, got none"):
        accompany(read_cohort(cohort.folder), 1)


def test_evaluate_leaves_drawn_evidence_out(cohort):
    accompany(cohort, 1)
    record = next(r for r in read_cohort(cohort.folder).patients if len(r.drawn) == 2)
    model = load_model(open_bundle(synthetic_bundle()), device="cpu", least_score=0.01)
    found = Predictions()
    predict(cohort, record, model, 0.0, found)
    own = Predictions()
    predict(cohort, record.model_copy(update={"drawn": ()}), model, 0.0, own)
    assert {s for c in found.cases for s in c.probabilities} <= {"image"}
    assert "pathology+labs" in own.cases[0].probabilities
