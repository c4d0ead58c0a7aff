"""Laboratory Observations: understood, refused with a reason, never wrong."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from bonetumor.domain.labs import Analyte
from bonetumor.fhir.analytes import BY_LOINC, READINGS
from bonetumor.fhir.labs import LabWindow, read_panel

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = LabWindow(before=timedelta(days=90), after=timedelta(days=30))


def observation(value=100.0, unit="U/L", code="6768-6", **more):
    made = {
        "resourceType": "Observation",
        "id": more.pop("id", "1"),
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": "2025-12-31T08:00:00Z",
        "valueQuantity": {"value": value, "unit": unit, "code": unit},
    }
    return made | more


def read(*observations):
    return read_panel(observations, NOW, WINDOW)


def test_a_plain_result_is_read_with_its_own_range():
    limits = {"low": {"value": 40, "code": "U/L"}, "high": {"value": 120, "code": "U/L"}}
    [result] = read(observation(referenceRange=[limits])).results
    assert (result.analyte, result.value, result.low, result.high) == (
        Analyte.ALP,
        100.0,
        40.0,
        120.0,
    )
    assert result.source == "Observation/1"
    assert result.taken_at == datetime(2025, 12, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("code", "value", "unit", "expected"),
    [
        ("6768-6", 2.0, "ukat/L", 120.0),
        ("6768-6", 55.0, "IU/L", 55.0),
        ("17861-6", 2.5, "mmol/L", 10.0195),
        ("2777-1", 1.2, "mmol/L", 3.71688),
        ("1988-5", 1.5, "mg/dL", 15.0),
        ("718-7", 140.0, "g/L", 14.0),
        ("718-7", 9.0, "mmol/L", 14.5026),
        ("6690-2", 7.5, "10*9/L", 7.5),
        ("6690-2", 7500.0, "/uL", 7.5),
        ("777-3", 250.0, "10^3/µL", 250.0),
    ],
)
def test_units_are_converted(code, value, unit, expected):
    [result] = read(observation(value, unit, code)).results
    assert result.value == pytest.approx(expected, rel=1e-6)
    assert result.unit == READINGS[result.analyte].unit


def test_mole_factors_follow_from_molar_masses():
    # mg/dL = mmol/L × g/mol ÷ 10; meq/L of a divalent ion is half of mmol/L; g/dL likewise.
    assert READINGS[Analyte.CALCIUM].factors["mmol/L"] == pytest.approx(40.078 / 10)
    assert READINGS[Analyte.CALCIUM].factors["meq/L"] == pytest.approx(40.078 / 20)
    assert READINGS[Analyte.PHOSPHATE].factors["mmol/L"] == pytest.approx(30.974 / 10, rel=1e-4)
    assert READINGS[Analyte.HEMOGLOBIN].factors["mmol/L"] == pytest.approx(16114 / 10000, rel=1e-3)


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (observation(valueQuantity={"value": 5, "code": "U/L", "comparator": "<"}), "comparator <"),
        (observation(unit="furlong"), "got furlong"),
        (observation(valueQuantity={"value": "5,2", "code": "U/L"}), "numeric valueQuantity"),
        (observation(valueQuantity={"code": "U/L"}), "numeric valueQuantity"),
        (observation(modifierExtension=[{"url": "haemolysed"}]), "modifier"),
        (observation(effectiveDateTime="yesterday"), "effective date"),
        ({**observation(), "valueQuantity": None, "valueString": "high"}, "numeric valueQuantity"),
    ],
)
def test_what_is_not_understood_is_named_and_the_rest_is_read(odd, reason):
    panel = read({**odd, "id": "odd"}, observation(150, code="2532-0", id="good"))
    assert [r.analyte for r in panel.results] == [Analyte.LDH]
    [said] = panel.not_understood
    assert said.startswith("Observation/odd (alp): expected")
    assert reason in said


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled", "registered", "unknown"])
def test_void_results_are_not_read(status):
    assert read(observation(status=status)).results == ()


def test_the_newest_wins_and_a_correction_wins_over_its_original():
    newest = read(
        observation(1, effectiveDateTime="2025-12-01"),
        observation(2, effectiveDateTime="2025-12-20"),
        observation(3, effectiveDateTime="2025-12-10"),
    )
    assert newest.results[0].value == 2
    corrected = read(
        observation(4, status="corrected"), observation(5), observation(6, status="preliminary")
    )
    assert corrected.results[0].value == 4


def test_results_outside_the_window_are_not_used():
    assert read(observation(effectiveDateTime="2025-01-01")).results == ()
    assert read(observation(effectiveDateTime="2026-03-01")).results == ()


def test_components_of_a_panel_are_read():
    panel = observation(code="24323-8")
    del panel["valueQuantity"]
    panel["component"] = [
        {k: observation(7, "mg/dL", "17861-6")[k] for k in ("code", "valueQuantity")},
        {k: observation(3, "mg/dL", "2777-1")[k] for k in ("code", "valueQuantity")},
    ]
    assert {r.analyte: r.value for r in read(panel).results} == {
        Analyte.CALCIUM: 7,
        Analyte.PHOSPHATE: 3,
    }


def test_codes_decide_never_displays():
    other = observation(code="9999-9")
    other["code"]["coding"][0]["display"] = "Alkaline phosphatase"
    assert read(other).results == ()


def test_a_range_for_some_people_is_not_taken_for_all():
    children = {"high": {"value": 400, "code": "U/L"}, "age": {"high": {"value": 17}}}
    [result] = read(observation(referenceRange=[children])).results
    assert result.high is None


def test_no_loinc_code_means_two_analytes():
    assert len(BY_LOINC) == sum(len(r.loinc) for r in READINGS.values())


def test_sample_files_are_read_or_refused_by_name(shared_data):
    """An extra over public samples, where they lie beside the checkout."""
    if shared_data is None:
        return
    for path in sorted((shared_data / "fhir/samples").rglob("Observation-*.json")):
        panel = read_panel([json.loads(path.read_text())], None, WINDOW)
        assert all(r.value > 0 for r in panel.results), path
