"""Abnormal blood markers as a descriptive text, and the tokens of that text.

The text comes from a deterministic template. The encoder is a BERT: BioBERT from a local folder
for those who have it, a small stand-in with its own WordPiece vocabulary in the shipped bundle.
"""

import string

from transformers import BertTokenizer

from bonetumor.domain.labs import Analyte, LabPanel, LabResult

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
_WORDS = "no abnormal blood marker is high low at of the upper lower limit times ."


def describe(panel: LabPanel) -> str:
    """The abnormal markers in words, in a fixed order."""
    return " ".join(_sentence(r) for r in panel.abnormal) or _NOTHING


def _sentence(result: LabResult) -> str:
    limit = result.high if result.is_high else result.low
    side = "high" if result.is_high else "low"
    times = f" {result.value / limit:.1f} times the limit" if limit else ""
    return f"{NAMES[result.analyte]} is {side} at {result.value:g} {result.unit}{times}."


def stand_in_vocabulary() -> str:
    """The WordPiece vocabulary of the stand-in: template words, characters, and their tails."""
    words = sorted(
        {w.lower() for w in " ".join([_WORDS, *NAMES.values()]).replace("-", " - ").split()}
    )
    characters = sorted(set(string.ascii_lowercase + string.digits + ".,/*-%[]"))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *words, *characters, *(f"##{c}" for c in characters)]
    return "\n".join(dict.fromkeys(tokens)) + "\n"


def tokenizer_from(vocabulary: str) -> BertTokenizer:
    """A WordPiece tokenizer over a vocabulary, one token a line."""
    tokens = {token: index for index, token in enumerate(vocabulary.splitlines())}
    return BertTokenizer(vocab=tokens, do_lower_case=True)
