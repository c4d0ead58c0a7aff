"""Whatever writes the text of the blood markers, it may say what the panel says and no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonetumor.domain.errors import Misconfigured
from bonetumor.domain.labs import Analyte, LabPanel, LabResult
from bonetumor.fusion.text import describe
from bonetumor.fusion.wording import CheckedWriter, find_faults, language_model_writer


def _lab(analyte, value, low, high, unit="U/L"):
    return LabResult(
        analyte=analyte, value=value, unit=unit, low=low, high=high, taken_at=None, source="x"
    )


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
    "": "expected a sentence on alkaline phosphatase",
    SOUND + " " + "Nothing else. " * 200: "expected at most 1500 characters",
}


def test_a_sound_text_is_kept():
    assert find_faults(SOUND, PANEL) == []
    assert CheckedWriter(lambda _: SOUND)(PANEL) == SOUND


@pytest.mark.parametrize("text", FAULTS)
def test_a_text_that_invents_or_leaves_out_gives_way_to_the_template(text):
    faults = find_faults(text, PANEL)
    assert any(FAULTS[text] in f for f in faults), faults
    assert CheckedWriter(lambda _: text)(PANEL) == describe(PANEL)


def test_bone_alkaline_phosphatase_is_not_taken_for_the_other():
    panel = LabPanel(results=(_lab(Analyte.ALP_BONE, 90.0, 5, 20),))
    assert find_faults("Bone alkaline phosphatase is high at 90 U/L.", panel) == []
    assert find_faults("Alkaline phosphatase is high at 90 U/L.", panel)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Analyte)),
            st.floats(0.1, 2000).map(lambda v: round(v, 2)),
            st.floats(1, 50).map(lambda v: round(v, 1)),
            st.floats(51, 900).map(lambda v: round(v, 1)),
            st.sampled_from(["U/L", "mg/dL", "g/dL", "10*3/uL", "mm/h"]),
        ),
        unique_by=lambda row: row[0],
    )
)
def test_the_template_itself_is_always_sound(rows):
    panel = LabPanel(results=tuple(_lab(a, v, low, high, unit) for a, v, low, high, unit in rows))
    if panel.abnormal and all(len(f"{r.value:g}") < 7 for r in panel.results):
        assert find_faults(describe(panel), panel) == []


def test_nothing_abnormal_needs_no_writer():
    def never(_panel):
        raise AssertionError("asked")

    calm = LabPanel(results=(_lab(Analyte.LDH, 200, 125, 220),))
    assert CheckedWriter(never)(calm) == "No abnormal blood marker."


def _language_model(folder):
    """A real causal model in transformers' format; untrained, so that it writes nonsense."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = ["[UNK]", "</s>", "high", "low", "at", "512", "cancer", "is"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="</s>"
    ).save_pretrained(folder)
    config = GPT2Config(vocab_size=len(words), n_positions=512, n_embd=16, n_layer=1, n_head=2,
                        bos_token_id=1, eos_token_id=1)  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)


def test_a_language_model_from_a_folder_writes_and_is_checked(tmp_path):
    _language_model(tmp_path)
    write = language_model_writer(tmp_path)
    assert write(PANEL) == write(PANEL)
    assert CheckedWriter(write)(PANEL) == describe(PANEL)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="expected a language model"):
        language_model_writer(tmp_path)
