"""Which studies are for us: the language of rules."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonetumor.domain.errors import Misconfigured
from bonetumor.service.rules import NAMES, Judgement, judge, parse_rule

KNEE = {
    "modality": frozenset({"DX"}),
    "body_part": frozenset({"KNEE"}),
    "station": frozenset({"ROOM 1"}),
    "called_ae": frozenset({"BONETUMOR"}),
}


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ("modality = DX", True),
        ("modality = dx", True),
        ("modality = CT", False),
        ("modality != CT", True),
        ("modality in (CT, DX)", True),
        ("modality in (CT, MR)", False),
        ('body_part like "K*"', True),
        ("body_part like ?NEE", True),
        ("body_part like FEM*", False),
        ('station = "ROOM 1"', True),
        ('not station = "ROOM 1"', False),
        ("modality = CT or body_part = KNEE", True),
        ("modality = DX and body_part = FEMUR", False),
        ("modality = CT and body_part = FEMUR or called_ae = BONETUMOR", True),
        ("modality = CT and (body_part = FEMUR or called_ae = BONETUMOR)", False),
        ("not (modality = CT or modality = MR)", True),
        ("series = anything", False),
        ("series != anything", True),
    ],
)
def test_a_condition_fits_or_does_not(when, fits):
    assert parse_rule(when, "assess").fits(KNEE) is fits


def test_a_study_of_two_modalities_fits_by_either():
    facts = {"modality": frozenset({"DX", "SR"})}
    assert parse_rule("modality = SR", "assess").fits(facts)
    assert not parse_rule("modality != SR", "assess").fits(facts)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("colour = red", "expected one of modality"),
        ("modality", "expected =, !=, like or in, got the end"),
        ("modality = ", "expected a value, got the end"),
        ("modality = DX body_part = KNEE", "expected the end, got 'body_part'"),
        ("(modality = DX", r"expected \), got the end"),
        ("modality in DX", r"expected \(, got 'DX'"),
        ("modality in (DX CT)", r"expected \), got 'CT'"),
        ('station = "open', "expected a word"),
        ("and", "expected one of modality"),
        ("__import__('os')", "expected one of modality|expected"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(when, said):
    with pytest.raises(Misconfigured, match=said):
        parse_rule(when, "assess")


def test_the_first_rule_that_fits_decides():
    rules = [
        parse_rule("called_ae = OTHER", "ignore"),
        parse_rule("body_part = KNEE", "urgent"),
        parse_rule("modality = DX", "assess"),
    ]
    assert judge(rules, KNEE) == Judgement(urgent=True)
    assert judge(rules[2:], KNEE) == Judgement()
    assert judge([], KNEE) == Judgement()
    assert judge(rules[:1], KNEE).unwanted == "none of 1 rules wants it"
    ignored = judge([parse_rule("modality = DX", "ignore")], KNEE)
    assert ignored.unwanted == "rule 1 ignores it: modality = DX"


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_misconfigured(text):
    with suppress(Misconfigured):
        assert parse_rule(text, "assess").fits(KNEE) in (True, False)


@given(st.sampled_from(NAMES), st.text(alphabet=st.characters(exclude_characters='"'), min_size=1))
def test_a_quoted_value_fits_itself(name, value):
    rule = parse_rule(f'{name} = "{value}"', "assess")
    assert rule.fits({name: frozenset({value.upper()})})
