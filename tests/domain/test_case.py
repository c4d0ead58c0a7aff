"""Evidence: what makes a result out of date, and what a reader is told of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bonetumor.domain.case import Evidence, describe_evidence, why_superseded
from bonetumor.domain.errors import EvidencePending
from bonetumor.domain.labs import Analyte, LabPanel, LabResult
from bonetumor.domain.pathology import Pathology, PathologySlide
from bonetumor.service.gather import await_evidence

NOW = datetime(2026, 1, 10, tzinfo=UTC)
NOTHING = Evidence(patient="Patient/1", labs=None, pathology=None)


def lab(value=1.0, source="Observation/1", analyte=Analyte.ALP, days=0):
    return LabResult(
        analyte=analyte,
        value=value,
        unit="U/L",
        low=None,
        high=None,
        taken_at=NOW + timedelta(days=days),
        source=source,
    )


def labs(*results, considered=None, **more):
    names = considered or tuple(r.source for r in results)
    return replace(NOTHING, labs=LabPanel(results=results, considered=names, **more))


def slides(*names):
    made = tuple(PathologySlide(source=n, content_type="image/png", data=b"x") for n in names)
    return replace(NOTHING, pathology=Pathology(slides=made, reports=("DiagnosticReport/1",)))


@pytest.mark.parametrize(
    ("earlier", "now", "reason"),
    [
        (NOTHING, NOTHING, None),
        (NOTHING, replace(NOTHING, patient="Patient/2"), "another patient"),
        (NOTHING, labs(lab()), "blood markers arrived"),
        (NOTHING, labs(lab(analyte=Analyte.PSA)), None),
        (NOTHING, slides("Media/1"), "pathology arrived"),
        (slides(), slides("Media/1"), "pathology arrived"),
        (labs(lab()), labs(lab()), None),
        (labs(lab(1)), labs(lab(2)), "corrected or withdrawn"),
        (labs(lab()), NOTHING, "corrected or withdrawn"),
        (
            labs(lab()),
            labs(lab(3, "Observation/2"), considered=("Observation/1", "Observation/2")),
            None,
        ),
    ],
)
def test_what_was_missing_and_came_or_was_used_and_changed_makes_a_result_out_of_date(
    earlier, now, reason
):
    said = why_superseded(earlier, now)
    assert (said is None) if reason is None else (reason in said)


def test_the_digest_follows_what_is_used():
    assert NOTHING.digest == replace(NOTHING, order="ServiceRequest/1").digest
    made = [NOTHING, labs(lab(1)), labs(lab(2)), slides("a"), replace(NOTHING, patient="Patient/2")]
    assert len({e.digest for e in made}) == len(made)


def test_another_reference_range_is_other_evidence():
    """Ranges decide what is abnormal, and so what is said of it."""
    made = [
        labs(replace(lab(), **limits)) for limits in ({}, {"high": 2}, {"low": 2}, {"flag": "H"})
    ]
    assert len({e.digest for e in made}) == len(made)


def test_a_reader_is_told_how_old_the_blood_was_and_what_was_not_understood():
    evidence = labs(
        lab(days=-3),
        lab(days=0, source="Observation/2", analyte=Analyte.LDH),
        lab(source="Observation/3", analyte=Analyte.PTH),
        not_understood=("Observation/9 (crp): why",),
        outside_window=2,
    )
    said = "; ".join(describe_evidence(replace(evidence, chosen_by_a_person=True), NOW))
    for part in (
        "chosen by a person",
        "blood taken -3 to +0 days from the images",
        "read and not weighed: pth",
        "2 blood markers too old or too new",
        "not understood: Observation/9 (crp): why",
    ):
        assert part in said
    assert "blood taken on the day of the images" in describe_evidence(labs(lab()), NOW)
    assert "1 reports, 0 slides" in "; ".join(describe_evidence(slides(), NOW))


def test_the_wait_ends_with_the_evidence_or_with_its_time():
    minute = timedelta(minutes=1)
    with pytest.raises(EvidencePending, match="blood and pathology") as caught:
        await_evidence(NOTHING, 3 * minute, minute)
    assert caught.value.retry_after_s == 60
    with pytest.raises(EvidencePending, match="expected pathology, got none"):
        await_evidence(labs(lab()), minute, minute)
    await_evidence(replace(labs(lab()), pathology=slides("a").pathology), minute, minute)
    await_evidence(NOTHING, timedelta(0), minute)
    await_evidence(replace(NOTHING, patient=None), minute, minute)
