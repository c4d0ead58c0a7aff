"""What a cohort's files come from is stated, checked, and hashed the same everywhere."""

import hashlib
import json
import subprocess

import pytest

from bonetumor.cohort.fingerprint import fingerprint_files
from bonetumor.cohort.joining import join_cohorts
from bonetumor.cohort.record import ImageRecord, PatientRecord, read_cohort, write_cohort
from bonetumor.cohort.sources import (
    SOURCES,
    CohortSource,
    join_sources,
    measure_sources,
    read_sources,
    write_sources,
)
from bonetumor.domain.errors import InvalidInput
from bonetumor.weights.source import Source, credits_text, merge_sources

TEXTS = {"credit": "A. Author, 2024", "licence": "CC-BY-4.0", "changes": "none"}


def stated(name, **more):
    chosen = {"name": name, "kind": "real", "licence_confirmed": True, **TEXTS, **more}
    return CohortSource(**chosen)


@pytest.fixture
def cohort(tmp_path):
    """Two patients of hospital a, one of b; what the files hold is of no matter here."""
    folder = tmp_path / "cohort"
    (folder / "images").mkdir(parents=True)
    patients = []
    for name, boxes in (("a-1", ()), ("a-2", ((1, 1, 2, 2),)), ("b-1", ())):
        (folder / "images" / f"{name}.png").write_bytes(name.encode())
        image = ImageRecord(file=f"images/{name}.png", boxes=boxes)
        patients.append(PatientRecord(patient=name, images=(image,)))
    write_cohort(folder, patients)
    return folder


def test_a_fingerprint_is_what_the_shell_makes_of_the_same_files(cohort):
    files = sorted((cohort / "images").iterdir())
    shell = "sha256sum images/* | cut -c1-64 | LC_ALL=C sort | sha256sum | cut -c1-64"
    ran = subprocess.run(
        ["sh", "-c", shell], cwd=cohort, capture_output=True, text=True, check=True
    )
    assert fingerprint_files(files) == ran.stdout.strip()


def test_a_fingerprint_is_of_contents_and_not_of_names_or_order(cohort):
    files = sorted((cohort / "images").iterdir())
    before = fingerprint_files(files)
    files[0].rename(cohort / "moved.png")
    assert fingerprint_files([*files[:0:-1], cohort / "moved.png"]) == before
    assert fingerprint_files([*files[1:], cohort / "moved.png", files[1]]) == before
    (cohort / "moved.png").write_bytes(b"other")
    assert fingerprint_files([*files[1:], cohort / "moved.png"]) != before
    with pytest.raises(InvalidInput, match=r"expected a readable .*a-1\.png, got No such file"):
        fingerprint_files(files)


def test_each_source_has_the_hash_and_the_counts_of_its_own_files(cohort):
    write_sources(cohort, [stated("a", files=("images/a-*",)), stated("b", files=("images/b-*",))])
    measured = measure_sources(read_cohort(cohort))
    assert measured.differing == ()
    assert [s.name for s in measured.sources] == ["a", "b"]
    first = measured.sources[0]
    assert first.counts == {"patients": 2, "normals": 1, "images": 2, "slides": 0}
    assert first.files_sha256 == fingerprint_files(sorted((cohort / "images").glob("a-*")))


def test_a_source_whose_files_differ_or_are_absent_is_named(cohort):
    right = fingerprint_files((cohort / "images").glob("a-*"))
    sources = [
        stated("a", files=("images/a-*",), files_sha256=right),
        stated("b", files=("images/b-*",), files_sha256="0" * 64),
        stated("c", files=("images/c-*",)),
    ]
    write_sources(cohort, sources)
    measured = measure_sources(read_cohort(cohort))
    assert [s.name for s in measured.sources] == ["a", "b"]
    changed, absent = measured.differing
    assert changed.startswith("b: expected files_sha256 0000000000000000…, got ")
    assert absent == "c: expected files like images/c-*, got none"
    (cohort / "images" / "a-2.png").unlink()
    changed, *_ = measure_sources(read_cohort(cohort)).differing
    assert changed.startswith("a: expected files_sha256")
    assert changed.endswith("over 1 files, 1 absent")


def test_a_file_that_no_source_takes_is_refused(cohort):
    write_sources(cohort, [stated("a", files=("images/a-*",))])
    with pytest.raises(InvalidInput, match=r"got 1 in none, first images/b-1\.png"):
        measure_sources(read_cohort(cohort))


def test_of_a_cohort_that_states_nothing_nothing_is_confirmed(cohort):
    [source] = measure_sources(read_cohort(cohort)).sources
    assert (source.name, source.kind, source.licence_confirmed) == ("cohort", "real", False)
    assert source.files_sha256 == fingerprint_files((cohort / "images").iterdir())


def test_what_is_in_the_pictures_but_not_among_them_is_taken_as_stated(cohort):
    ingredient = stated("normals", files=(), files_sha256="a" * 64, counts={"pictures": 9})
    write_sources(cohort, [stated("all"), ingredient])
    _, source = measure_sources(read_cohort(cohort)).sources
    assert (source.files_sha256, source.counts) == ("a" * 64, {"pictures": 9})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"licence_confirmed": "yes"}, "0.licence_confirmed"),
        ({"kind": "real patients"}, "0.kind"),
        ({"credit": ""}, "0.credit"),
        ({"files_sha256": "abc"}, "0.files_sha256"),
        ({"license": "CC0-1.0"}, "0.license"),
    ],
)
def test_a_wrong_field_of_a_source_is_named(cohort, change, said):
    content = stated("a").model_dump(mode="json", exclude_none=True) | change
    (cohort / SOURCES).write_text(json.dumps([content]))
    with pytest.raises(InvalidInput, match=said):
        read_sources(cohort)


def test_a_joined_cohort_has_the_sources_of_its_parts(cohort, tmp_path):
    other = tmp_path / "other [2]"
    (other / "images").mkdir(parents=True)
    (other / "images" / "c.png").write_bytes(b"c")
    write_cohort(other, [PatientRecord(patient="c", images=(ImageRecord(file="images/c.png"),))])
    write_sources(cohort, [stated("a", files=("images/a-*",)), stated("b", files=("*/b-*",))])
    parts, joined = [read_cohort(cohort), read_cohort(other)], tmp_path / "joined"
    write_cohort(joined, join_cohorts(parts, joined))
    write_sources(joined, join_sources(parts, joined))
    measured = measure_sources(read_cohort(joined))
    assert measured.differing == ()
    apart = [s for each in parts for s in measure_sources(each).sources]
    assert [(s.name, s.files_sha256) for s in measured.sources] == [
        (s.name, s.files_sha256) for s in apart
    ]
    assert [s.licence_confirmed for s in measured.sources] == [True, True, False]


def test_credits_name_what_each_licence_asks_for():
    def source(name, **change):
        return Source(**stated(name, **change).model_dump(exclude={"files"}))

    text = credits_text(
        [
            source("a", doi="10.1000/182", counts={"images": 7}, changes="reduced to 512 px"),
            source("b", licence="by letter of the hospital", licence_confirmed=False),
        ]
    )
    first, second = text.split("## b (real)")
    for said in (
        "A. Author, 2024",
        "<https://doi.org/10.1000/182>",
        "[CC-BY-4.0](https://spdx.org/licenses/CC-BY-4.0.html) (confirmed)",
        "Changes: reduced to 512 px",
        "7 images",
    ):
        assert said in first
    assert "by letter of the hospital (not confirmed: not for release)" in second


def test_a_source_stands_once_however_many_steps_used_it():
    def of(name, content):
        digest = hashlib.sha256(content).hexdigest()
        return Source(**stated(name, files_sha256=digest).model_dump(exclude={"files"}))

    one, other, third = of("a", b"1"), of("a", b"2"), of("b", b"1")
    assert merge_sources([one, third], [one, other]) == (one, third, other)
