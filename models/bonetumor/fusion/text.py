"""Abnormal blood markers as a descriptive text, and the tokens of that text.

The text comes from a deterministic template, or from a language model that is checked
(`wording.py`). The encoder is a BERT: BioBERT from a local folder
for those who have it, a small stand-in with its own WordPiece vocabulary in the shipped bundle.
"""

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizer

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.labs import Analyte, BloodText, LabPanel, LabResult, Writer

NAMES = {
    Analyte.ALP: "alkaline phosphatase",
    Analyte.ALP_BONE: "bone alkaline phosphatase",
    Analyte.LDH: "lactate dehydrogenase",
    Analyte.CALCIUM: "calcium",
    Analyte.PHOSPHATE: "phosphate",
    Analyte.CRP: "C-reactive protein",
    Analyte.ESR: "erythrocyte sedimentation rate",
    Analyte.HEMOGLOBIN: "hemoglobin",
    Analyte.WBC: "leukocytes",
    Analyte.PLATELETS: "platelets",
    Analyte.NEUTROPHILS: "neutrophils",
    Analyte.LYMPHOCYTES: "lymphocytes",
}
_NOTHING = "No abnormal blood marker."
_WORDS = (
    "no abnormal blood marker is high low at of the upper lower limit times . "
    "elevated raised increased reduced decreased above below are and a with patient has shows "
    "measured following reference range to : ; ( )"
)
# Another version for other words: runs and stored texts know the template by it.
TEMPLATE = Writer(name="template", version="1", is_language_model=False)


class Template:
    """The template as a writer."""

    writer = TEMPLATE

    def write(self, panel: LabPanel) -> BloodText:
        """The template's text."""
        return template_text(panel)


def template_text(panel: LabPanel, note: str = "") -> BloodText:
    """The template's text; the note says why a language model did not write it."""
    return BloodText(text=describe(panel), writer=TEMPLATE, note=note)


def describe(panel: LabPanel) -> str:
    """The abnormal markers in words, in a fixed order."""
    return " ".join(_sentence(r) for r in panel.abnormal) or _NOTHING


def plain(value: float) -> str:
    """A value as texts hold it: six significant digits at most, never an exponent."""
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")


def _sentence(result: LabResult) -> str:
    limit = result.high if result.is_high else result.low
    side = "high" if result.is_high else "low"
    times = f" {result.value / limit:.1f} times the limit" if limit else ""
    return f"{NAMES[result.analyte]} is {side} at {plain(result.value)} {result.unit}{times}."


def stand_in_vocabulary() -> str:
    """The WordPiece vocabulary of the stand-in: template words, characters, and their tails."""
    words = sorted(
        {w.lower() for w in " ".join([_WORDS, *NAMES.values()]).replace("-", " - ").split()}
    )
    characters = sorted(set(string.ascii_lowercase + string.digits + ".,/*-%[]:;()"))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *words, *characters, *(f"##{c}" for c in characters)]
    return "\n".join(dict.fromkeys(tokens)) + "\n"


def tokenizer_from(vocabulary: str, *, cased: bool = False) -> BertTokenizer:
    """A WordPiece tokenizer over a vocabulary, one token a line; BioBERT's is cased."""
    tokens = {token: index for index, token in enumerate(vocabulary.splitlines())}
    return BertTokenizer(vocab=tokens, do_lower_case=not cased)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoder:
    """A BERT to begin with: its vocabulary, its sizes, and its weights if it has any."""

    vocabulary: str
    sizes: dict[str, Any]
    cased: bool
    weights: dict[str, Tensor] | None


_SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "hidden_dropout_prob", "type_vocab_size", "layer_norm_eps",
)  # fmt: skip


def read_text_encoder(folder: Path) -> TextEncoder:
    """BioBERT (`dmis-lab/biobert-base-cased-v1.2`), or another BERT, from a local folder.

    Raises:
        InvalidInput: the folder holds no BERT with its `vocab.txt`.
    """
    try:
        vocabulary = (folder / "vocab.txt").read_text("utf-8")
        config = BertConfig.from_pretrained(folder, local_files_only=True)
        model, told = BertModel.from_pretrained(
            folder, local_files_only=True, add_pooling_layer=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, StrictDataclassError) as error:
        raise InvalidInput(
            f"--biobert: expected a BERT with vocab.txt in {folder}, got {type(error).__name__}"
        ) from error
    if told["missing_keys"]:  # they would begin at random, and nobody would know
        raise InvalidInput(
            f"--biobert: expected all weights of a BERT in {folder}, "
            f"got none of {sorted(told['missing_keys'])[0]}"
        )
    return TextEncoder(
        vocabulary=vocabulary,
        sizes={name: getattr(config, name) for name in _SIZES},
        cased=any(token != token.lower() for token in vocabulary.splitlines() if token[:1] != "["),
        weights=dict(model.state_dict()),
    )
