"""Whatever writes the text of the blood markers, it may say what the panel says and no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonetumor.domain.labs import Analyte, LabPanel, LabResult, Writer
from bonetumor.fusion.paraphrases import paraphrases
from bonetumor.fusion.text import NAMES, TEMPLATE, describe, stand_in_vocabulary, tokenizer_from
from bonetumor.fusion.wording import CheckedWriter, NotWritten, find_faults


def _lab(analyte, value, low, high, unit="U/L"):
    return LabResult(
        analyte=analyte, value=value, unit=unit, low=low, high=high, taken_at=None, source="x"
    )


MODEL = Writer(name="model", version="0" * 64, is_language_model=True)
PANEL = LabPanel(
    results=(
        _lab(Analyte.ALP, 512.0, 40, 128),
        _lab(Analyte.LDH, 200.0, 125, 220),
        _lab(Analyte.HEMOGLOBIN, 9.5, 12, 16, "g/dL"),
        _lab(Analyte.PLATELETS, 480.0, 150, 400, "10*3/uL"),
    )
)
SOUND = (
    "The alkaline phosphatase is elevated at 512 U/L, which is 4 times the limit of 128. "
    "Platelets are raised at 480 10*3/uL. Hemoglobin is reduced to 9.5 g/dL."
)
FAULTS = {
    SOUND.replace("512", "521"): "expected 512 beside alkaline phosphatase",
    SOUND.replace("4 times", "7 times"): "expected the panel's numbers only, got 7",
    SOUND.replace("elevated", "reduced"): "expected alkaline phosphatase high",
    SOUND.replace("reduced to", "raised to"): "expected hemoglobin low",
    SOUND + " Lactate dehydrogenase is high at 200 U/L.": "got lactate dehydrogenase",
    SOUND + " This suggests osteosarcoma.": "expected no word of a diagnosis",
    SOUND + " A malignant process is likely.": "expected no word of a diagnosis",
    SOUND.split(". ", maxsplit=1)[0] + ".": "expected a sentence on hemoglobin",
    SOUND.replace("is elevated", "is not elevated"): "expected no denial, got not",
    SOUND + " Hemoglobin is high.": "expected hemoglobin low",
    "High are alkaline phosphatase 480 U/L and platelets 512 10*3/uL; hemoglobin is low at 9.5.": (
        "expected 512 beside alkaline phosphatase"
    ),
    "": "expected a sentence on alkaline phosphatase",
    SOUND + " " + "Nothing else. " * 200: "expected at most 1500 characters",
}


def test_a_sound_text_is_kept():
    assert find_faults(SOUND, PANEL) == []
    written = CheckedWriter(lambda _: SOUND, MODEL).write(PANEL)
    assert (written.text, written.writer, written.note) == (SOUND, MODEL, "")


@pytest.mark.parametrize("text", FAULTS)
def test_a_text_that_invents_or_leaves_out_gives_way_to_the_template(text):
    faults = find_faults(text, PANEL)
    assert any(FAULTS[text] in f for f in faults), faults
    written = CheckedWriter(lambda _: text, MODEL).write(PANEL)
    assert (written.text, written.writer) == (describe(PANEL), TEMPLATE)
    said = find_faults(" ".join(text.split()), PANEL)[0] if text else "expected a text, got none"
    assert written.note == f"the text of {MODEL} was not used: {said}"


def test_bone_alkaline_phosphatase_is_not_taken_for_the_other():
    panel = LabPanel(results=(_lab(Analyte.ALP_BONE, 90.0, 5, 20),))
    assert find_faults("Bone alkaline phosphatase is high at 90 U/L.", panel) == []
    assert find_faults("Alkaline phosphatase is high at 90 U/L.", panel)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotWritten("expected an end within 400 tokens, got none"), "expected an end within 400"),
        (IndexError("index out of range in self"), "it ended with IndexError"),
    ],
)
def test_a_model_that_fails_gives_way_to_the_template(error, said):
    def fail(_panel):
        raise error

    written = CheckedWriter(fail, MODEL).write(PANEL)
    assert (written.text, written.writer) == (describe(PANEL), TEMPLATE)
    assert said in written.note


VALUES = st.floats(0.001, 3_000_000).flatmap(
    lambda v: st.sampled_from([v, round(v, 1), round(v, 2), float(round(v))])
)
PANELS = st.lists(
    st.builds(
        lambda analyte, value, low, width, unit, limits: _lab(
            analyte,
            value,
            low if "low" in limits else None,
            low + width if "high" in limits else None,
            unit,
        ),
        st.sampled_from(list(Analyte)),
        VALUES,
        st.floats(0.1, 900).map(lambda v: round(v, 2)),
        st.floats(0.1, 900).map(lambda v: round(v, 2)),
        st.sampled_from(["U/L", "mg/dL", "g/dL", "10*3/uL", "mm/h", "[IU]/L", "{cells}/uL", "%"]),
        st.sampled_from(["low and high", "high", "low"]),
    ),
    unique_by=lambda result: result.analyte,
).map(lambda results: LabPanel(results=tuple(results)))


@given(PANELS)
def test_the_template_itself_is_always_sound(panel):
    if panel.abnormal:
        assert find_faults(describe(panel), panel) == []


@given(PANELS)
def test_every_paraphrase_is_sound(panel):
    found = paraphrases(panel, 8)
    assert len(found) == (8 if panel.abnormal else 0)
    for text in found:
        faults = [f for f in find_faults(text, panel) if "characters" not in f]
        assert faults == [], text


def test_paraphrases_differ_in_order_words_numbers_and_form():
    found = paraphrases(PANEL, 60)
    assert found == paraphrases(PANEL, 60)
    assert len(set(found)) > 50
    names = [NAMES[r.analyte] for r in PANEL.abnormal]
    orders = {tuple(sorted(names, key=text.lower().index)) for text in found}
    assert len(orders) == 6
    for word in ("high", "elevated", "raised", "increased", "low", "reduced", "decreased"):
        assert any(f" {word}" in f" {text.lower()}" for text in found), word
    for part in ("times the limit", "upper limit", "reference range", " and ", "; "):
        assert 0 < sum(part in text for text in found) < len(found), part


def test_the_vocabulary_knows_every_word_of_the_paraphrases():
    tokenizer = tokenizer_from(stand_in_vocabulary())
    for text in paraphrases(PANEL, 200):
        pieces = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
        assert "[UNK]" not in pieces
        spelled = [p for p in pieces if p.startswith("##") and p[2:].isalpha()]
        assert spelled == ["##l"] * spelled.count("##l"), text  # of units: dL, uL


def test_nothing_abnormal_needs_no_writer():
    def never(_panel):
        raise AssertionError("asked")

    calm = LabPanel(results=(_lab(Analyte.LDH, 200, 125, 220),))
    written = CheckedWriter(never, MODEL).write(calm)
    assert (written.text, written.writer) == ("No abnormal blood marker.", TEMPLATE)
