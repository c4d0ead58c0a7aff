"""What something was trained on is noted beside it, and read again."""

import json

import pytest

from bonetumor.cohort.record import ImageRecord, PatientRecord, read_cohort, write_cohort
from bonetumor.cohort.sources import SOURCES
from bonetumor.domain.errors import InvalidInput
from bonetumor.worker.origins import note_origin, read_origin, sources_of_weights, trace_origin


@pytest.fixture
def cohort(tmp_path):
    folder = tmp_path / "hospital"
    folder.mkdir()
    (folder / "1.png").write_bytes(b"one")
    write_cohort(folder, [PatientRecord(patient="1", images=(ImageRecord(file="1.png"),))])
    return folder


def test_an_origin_is_read_as_it_was_noted_and_labels_are_part_of_it(cohort, tmp_path):
    origin = trace_origin(read_cohort(cohort), print)
    note_origin(origin, tmp_path / "work" / "note.json")
    assert read_origin(tmp_path / "work" / "note.json", of="x") == origin
    box = ImageRecord(file="1.png", boxes=((0, 0, 2, 2),))
    write_cohort(cohort, [PatientRecord(patient="1", images=(box,))])
    relabelled = trace_origin(read_cohort(cohort), print)
    assert relabelled.files_sha256 == origin.files_sha256
    assert relabelled.cohort_sha256 != origin.cohort_sha256
    assert origin.summary() == {
        "cohort": "hospital",
        "cohort_sha256": origin.cohort_sha256,
        "files_sha256": origin.files_sha256,
    }


def test_an_origin_that_nobody_noted_is_not_confirmed(tmp_path):
    [source] = read_origin(tmp_path / "absent.json", of="checkpoint best.pt").sources
    assert (source.name, source.licence_confirmed) == ("checkpoint best.pt", False)
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"expected the note of an origin in .*broken\.json"):
        read_origin(tmp_path / "broken.json", of="x")


def test_weights_of_others_have_the_sources_that_are_stated_beside_them(tmp_path):
    [nothing] = sources_of_weights(tmp_path)
    assert (nothing.name, nothing.licence_confirmed) == (tmp_path.name, False)
    stated = {
        "name": "BioBERT",
        "kind": "real",
        "credit": "Lee et al., Bioinformatics 36, 2020",
        "licence": "Apache-2.0",
        "licence_confirmed": True,
        "changes": "trained on",
    }
    (tmp_path / SOURCES).write_text(json.dumps([stated]))
    [source] = sources_of_weights(tmp_path)
    assert source.model_dump(exclude_none=True, exclude={"counts"}) == stated
