"""Laboratory Observations: understood, refused with a reason, never wrong."""

from datetime import UTC, datetime, timedelta

import pytest

from bonetumor.domain.errors import Misconfigured
from bonetumor.domain.labs import WEIGHED, Analyte, Comparator
from bonetumor.domain.study import PatientIdentity
from bonetumor.fhir.analytes import READINGS, build_catalogue
from bonetumor.fhir.labs import LabContext, LabWindow, read_panel
from bonetumor.fhir.units import factor

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


def read(*observations, specimens=None, **context):
    return read_panel(observations, LabContext(window=WINDOW, around=NOW, **context), specimens)


def born(date, sex="M"):
    return PatientIdentity(patient_id="1", issuer=None, birth_date=date, sex=sex)


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
        ("777-3", 250.0, "x10E3/uL", 250.0),
        ("777-3", 250.0, "K/uL", 250.0),
        ("777-3", 250.0, "G/l", 250.0),
        ("777-3", 250.0, "x10³/µL", 250.0),
        ("777-3", 250.0, "×10⁹/L", 250.0),
        ("777-3", 250.0, "10(9)/L", 250.0),
        ("777-3", 250.0, "x10(3)/mcL", 250.0),
        ("777-3", 250.0, "Tsd./µl", 250.0),
        ("777-3", 250.0, "THOU/MM3", 250.0),
        ("777-3", 250_000.0, "/mm³", 250.0),
        ("718-7", 14.0, "gm/dL", 14.0),
        ("718-7", 14.0, "g/100 mL", 14.0),
        ("1988-5", 15.0, "mcg/mL", 15.0),
        ("30341-2", 20.0, "mm/1. Std.", 20.0),
        ("6768-6", 55.0, "UI/L", 55.0),
        ("777-3", 250.0, "10*3/mm3", 250.0),
        ("6768-6", 55.0, "U/l", 55.0),
        ("6768-6", 55.0, "mU/mL", 55.0),
        ("17861-6", 5.0, "meq/L", 10.0195),
        ("17861-6", 10.0, "mg/dl", 10.0),
        ("718-7", 140.0, "g/l", 14.0),
        ("14682-9", 72.0, "µmol/l", 0.814464),
        ("2731-8", 5.0, "pmol/L", 47.125),
        ("14635-7", 75.0, "nmol/L", 30.048),
        ("14933-6", 300.0, "umol/L", 5.0433),
        ("1751-7", 40.0, "g/L", 4.0),
        ("76485-2", 9.5238, "nmol/L", 1.0),
        ("2857-1", 4.0, "ug/L", 4.0),
    ],
)
def test_units_are_converted(code, value, unit, expected):
    [result] = read(observation(value, unit, code)).results
    assert result.value == pytest.approx(expected, rel=1e-4)
    assert result.unit == READINGS[result.analyte].unit


@pytest.mark.parametrize(
    ("analyte", "unit", "expected"),
    [
        # mg/dL = mmol/L × g/mol ÷ 10; meq/L of a divalent ion is half of mmol/L; others likewise.
        (Analyte.CALCIUM, "mmol/L", 40.078 / 10),
        (Analyte.CALCIUM, "meq/L", 40.078 / 20),
        (Analyte.PHOSPHATE, "mmol/L", 30.974 / 10),
        (Analyte.HEMOGLOBIN, "mmol/L", 16114 / 10000),
        (Analyte.CREATININE, "umol/L", 113.12 / 10000),
        (Analyte.URATE, "umol/L", 168.11 / 10000),
        (Analyte.PTH, "pmol/L", 9.425),
        (Analyte.VITAMIN_D, "nmol/L", 0.40064),
    ],
)
def test_mole_factors_follow_from_molar_masses_in_both_directions(analyte, unit, expected):
    reading = READINGS[analyte]
    there = factor(reading, unit)
    assert there == pytest.approx(expected, rel=1e-3)
    assert 7.5 * there / there == pytest.approx(7.5)
    assert factor(reading, reading.unit) == pytest.approx(1.0)


def _without_value(**more):
    return {k: v for k, v in observation(**more).items() if k != "valueQuantity"}


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (observation(unit="furlong"), "got furlong"),
        (observation(unit="mg/dL"), "converts to U/L, got mg/dL"),
        (observation(2.0, "meq/L", "2777-1"), "converts to mg/dL, got meq/L"),
        (observation(valueQuantity={"value": "1,234", "code": "U/L"}), "thousands"),
        (observation(valueQuantity={"value": "many", "code": "U/L"}), "numeric value"),
        (observation(valueQuantity={"value": True, "code": "U/L"}), "numeric value"),
        (observation(valueQuantity={"value": float("nan"), "code": "U/L"}), "numeric value"),
        (observation(valueQuantity={"value": 5}), "no unit"),
        (observation(valueQuantity={"code": "U/L"}), "numeric value"),
        (observation(valueQuantity={"value": 5, "code": "U/L", "unit": "ukat/L"}), "U/L and ukat"),
        (observation(valueQuantity={"value": 5, "code": "U/L", "comparator": "ad"}), "comparator"),
        (observation(value=-3), "expected 1 to 20000 U/L, got -3"),
        (observation(modifierExtension=[{"url": "x", "valueString": "?"}]), "modifier"),
        (observation(effectiveDateTime="yesterday"), "effective date"),
        (observation(effectiveDateTime=None), "time it was taken"),
        (observation(status="unknown"), "expected status"),
        (_without_value(valueString="high"), "other text"),
        (_without_value(valueString="5"), "no unit"),
        (_without_value(valueBoolean=True), "got valueBoolean"),
        (_without_value(valueRange={"low": {"value": 1}, "high": {"value": 2}}), "valueRange"),
        (
            _without_value(valueRatio={"numerator": {"value": 1}, "denominator": {"value": 40}}),
            "amount over a volume",
        ),
        (_without_value(dataAbsentReason={"text": "lost"}), "reason for its absence"),
        (_without_value(), "expected a value, got none"),
        ({**observation(), "valueString": "x"}, "expected one value"),
        (observation(code="718-7", value=140, unit="g/dL"), "a wrong unit?"),
        (
            {
                **observation(),
                "code": {
                    "coding": [
                        {"system": "http://loinc.org", "code": "6768-6"},
                        {"system": "http://loinc.org", "code": "2857-1"},
                    ]
                },
            },
            "codes of several",
        ),
        ({**observation(), "referenceRange": 7}, "FHIR R4 Observation, got TypeError"),
        ({**observation(), "component": "none"}, "FHIR R4 Observation, got AttributeError"),
    ],
)
def test_what_is_not_understood_is_named_and_the_rest_is_read(odd, reason):
    panel = read({**odd, "id": "odd"}, observation(150, code="2532-0", id="good"))
    assert [r.analyte for r in panel.results] == [Analyte.LDH]
    [said] = panel.not_understood
    assert said.startswith("Observation/odd")
    assert reason in said


@pytest.mark.parametrize(
    ("text", "value", "comparator"),
    [
        ("5,2 U/L", 5.2, None),
        ("105 U/L", 105, None),
        ("< 12 U/l", 12, Comparator.LESS),
        ("≥ 900 IU/L", 900, Comparator.AT_LEAST),
    ],
)
def test_values_written_as_text_are_read(text, value, comparator):
    [result] = read(_without_value(valueString=text)).results
    assert (result.value, result.comparator) == (pytest.approx(value), comparator)


def test_an_amount_over_a_volume_is_a_concentration():
    ratio = {"numerator": {"value": 50, "code": "mg"}, "denominator": {"value": 5, "code": "dL"}}
    [result] = read(_without_value(code="17861-6", valueRatio=ratio)).results
    assert result.value == pytest.approx(10)


@pytest.mark.parametrize(
    ("value", "comparator", "high", "is_high", "ratio"),
    [
        (5, "<", 10, False, 0.5),
        (50, "<", 10, False, None),
        (50, ">", 10, True, 5.0),
        (5, ">", 10, False, None),
        (10, "<=", 10, False, 1.0),
    ],
)
def test_a_bound_counts_only_where_it_settles_the_side(value, comparator, high, is_high, ratio):
    quantity = {"value": value, "code": "U/L", "comparator": comparator}
    limits = [{"high": {"value": high, "code": "U/L"}}]
    [result] = read(observation(valueQuantity=quantity, referenceRange=limits)).results
    assert (result.is_high, result.ratio_to_upper_limit) == (is_high, ratio)


def test_haemolysis_invalidates_what_it_changes_and_nothing_else():
    haemolysed = {"resourceType": "Specimen", "condition": [{"coding": [{"code": "HEM"}]}]}
    by_reference = {"specimen": {"reference": "Specimen/1"}}
    contained = {"specimen": {"reference": "#s"}, "contained": [{**haemolysed, "id": "s"}]}
    coding = {"code": "118128002", "system": "http://snomed.info/sct"}
    modifier = {"modifierExtension": [{"url": "x", "valueCoding": coding}]}
    for more in (by_reference, contained, modifier):
        panel = read(
            observation(150, code="2532-0", **more),
            observation(9, "mg/dL", "17861-6", **more),
            specimens={"Specimen/1": haemolysed},
        )
        assert [r.analyte for r in panel.results] == [Analyte.CALCIUM]
        assert "haemolysed" in panel.not_understood[0]


def test_a_specimen_that_cannot_be_used_speaks_for_nothing():
    bad = {"resourceType": "Specimen", "status": "unsatisfactory"}
    panel = read(observation(specimen={"reference": "Specimen/1"}), specimens={"Specimen/1": bad})
    assert panel.results == ()
    assert "unsatisfactory" in panel.not_understood[0]


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled", "registered"])
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


def test_results_outside_the_window_are_counted_and_not_used():
    assert read(observation(effectiveDateTime="2025-01-01")).outside_window == 1
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


ADULT = {"high": {"value": 120, "code": "U/L"}, "age": {"low": {"value": 18, "code": "a"}}}
CHILD = {
    "high": {"value": 400, "code": "U/L"},
    "age": {"low": {"value": 1, "code": "a"}, "high": {"value": 17, "code": "a"}},
}
GIRL = {
    **CHILD,
    "high": {"value": 350, "code": "U/L"},
    "appliesTo": [{"coding": [{"system": "http://snomed.info/sct", "code": "248152002"}]}],
}
CRITICAL = {"high": {"value": 900, "code": "U/L"}, "type": {"coding": [{"code": "critical"}]}}


@pytest.mark.parametrize(
    ("identity", "high"),
    [
        (born("1980-01-01"), 120),
        (born("2015-06-01"), 400),
        (born("2015-06-01", "F"), 350),
        (born("2008-01-01"), 400),  # 17 until the eighteenth birthday, which is the day after
        (born(None), None),
        (None, None),
    ],
)
def test_the_range_fits_the_age_and_the_sex_of_the_patient(identity, high):
    limits = [ADULT, CHILD, GIRL, CRITICAL]
    [result] = read(observation(referenceRange=limits), identity=identity).results
    assert result.high == high


def test_a_range_for_other_people_is_not_taken():
    pregnant = [{"coding": [{"code": "77386006"}]}]
    limits = {"high": {"value": 400, "code": "U/L"}, "appliesTo": pregnant}
    [result] = read(observation(referenceRange=[limits]), identity=born("1980-01-01", "F")).results
    assert result.high is None


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("40 - 120", 40, 120),
        ("40–120 U/L", 40, 120),
        ("< 120", None, 120),
        (">= 3,5", 3.5, None),
        ("12-14 y Male: 4.4 - 5.2 ; Female: 4.2 - 4.8", None, None),
        ("NEGATIVE", None, None),
        ("120 - 40", None, None),
    ],
)
def test_ranges_written_as_text_are_read_or_left(text, low, high):
    [result] = read(observation(referenceRange=[{"text": text}])).results
    assert (result.low, result.high) == (low, high)


def test_limits_without_a_unit_have_that_of_the_value():
    limits = [{"low": {"value": 2.1}, "high": {"value": 2.6}}]
    [result] = read(observation(2.5, "mmol/L", "17861-6", referenceRange=limits)).results
    assert result.high == pytest.approx(2.6 * 4.0078)


def test_two_ranges_that_differ_settle_nothing():
    limits = [{"high": {"value": 120, "code": "U/L"}}, {"high": {"value": 150, "code": "U/L"}}]
    [result] = read(observation(referenceRange=limits)).results
    assert result.high is None


def test_the_laboratorys_own_flag_counts_where_no_range_came():
    flag = [{"coding": [{"code": "HH"}]}]
    [result] = read(observation(interpretation=flag)).results
    assert result.is_high
    limits = [{"low": {"value": 40, "code": "U/L"}, "high": {"value": 120, "code": "U/L"}}]
    [result] = read(observation(interpretation=flag, referenceRange=limits)).results
    assert not result.is_high


def test_a_sites_own_codes_and_units_are_read():
    catalogue = build_catalogue({"urn:lab|AP": "alp"}, {"Einheiten": "U/L"})
    local = observation(unit="Einheiten")
    local["code"] = {"coding": [{"system": "urn:lab", "code": "AP"}]}
    [result] = read(local, catalogue=catalogue).results
    assert (result.analyte, result.value) == (Analyte.ALP, 100)
    assert read(local).results == ()


@pytest.mark.parametrize("codes", [{"AP": "alp"}, {"urn:lab|AP": "alk phos"}])
def test_wrong_local_codes_are_refused_at_start(codes):
    with pytest.raises(Misconfigured, match=r"ehr\.local_codes"):
        build_catalogue(codes)


def test_every_understood_observation_is_remembered_for_provenance():
    panel = read(observation(1, id="old", effectiveDateTime="2025-12-01"), observation(2, id="new"))
    assert [r.source for r in panel.results] == ["Observation/new"]
    assert panel.considered == ("Observation/old", "Observation/new")


def test_partial_dates_are_read():
    [result] = read(observation(effectiveDateTime="2025-12")).results
    assert result.taken_at == datetime(2025, 12, 1, tzinfo=UTC)


def test_no_loinc_code_means_two_analytes():
    codes = [code for reading in READINGS.values() for code in reading.loinc]
    assert len(codes) == len(set(codes))
    assert set(READINGS) == set(Analyte)
    assert len(Analyte) == 19
    assert len(WEIGHED) == 12
