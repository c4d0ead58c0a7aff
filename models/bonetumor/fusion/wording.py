"""The text of the abnormal blood markers, by a language model or by the template.

A language model may invent. What it wrote is parsed back: every abnormal marker with its value and
its direction must stand in it, no other marker and no other number may, and no word of a
diagnosis. Otherwise the template speaks.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bonetumor.domain.errors import Misconfigured
from bonetumor.domain.labs import Analyte, LabPanel, LabResult
from bonetumor.fusion.text import NAMES, describe

Write = Callable[[LabPanel], str]
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)?")
_SENTENCE = re.compile(r"(?<=[.;!?])\s+")
_DIAGNOSIS = re.compile(
    r"tumou?r|sarcoma|cancer|carcinoma|malign|benign|intermediate|metasta|neoplas|lesion|leuk[ae]mi"
    r"|lymphoma|myeloma|infect|osteomyel|disease|syndrome|diagnos|suggest|consistent|indicat|suspic",
    re.IGNORECASE,
)
_HIGH = re.compile(r"\b(high|higher|elevated|raised|increased|above)\b", re.IGNORECASE)
_LOW = re.compile(r"\b(low|lower|reduced|decreased|below)\b", re.IGNORECASE)
_MAX_CHARACTERS = 1500


class CheckedWriter:
    """Asks a writer and keeps its text only if the panel bears it out."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def __call__(self, panel: LabPanel) -> str:
        """The writer's text, or the template's where that says anything the panel does not."""
        if not panel.abnormal:
            return describe(panel)
        text = " ".join(self._write(panel).split())
        return text if not find_faults(text, panel) else describe(panel)


def find_faults(text: str, panel: LabPanel) -> list[str]:
    """What a text says that the panel does not, or leaves out; nothing if it is sound."""
    abnormal = {r.analyte: r for r in panel.abnormal}
    mentioned = _mentioned(text)
    faults = _unfit(text)
    faults += [
        f"expected abnormal markers only, got {NAMES[a]}" for a in mentioned if a not in abnormal
    ]
    for analyte, result in abnormal.items():
        faults += _missing(result, mentioned.get(analyte))
    allowed = {n for r in abnormal.values() for n in _numbers(r)}
    faults += [
        f"expected the panel's numbers only, got {number}"
        for number in _NUMBER.findall(_without_units(text, abnormal.values()))
        if _value(number) not in allowed
    ]
    return faults


def _unfit(text: str) -> list[str]:
    faults = []
    if len(text) > _MAX_CHARACTERS:
        faults.append(f"expected at most {_MAX_CHARACTERS} characters, got {len(text)}")
    word = _DIAGNOSIS.search(text)
    if word:
        faults.append(f"expected no word of a diagnosis, got {word.group()}")
    return faults


def _mentioned(text: str) -> dict[Analyte, str]:
    """The last sentence that names each analyte."""
    found = {}
    for sentence in _SENTENCE.split(text):
        rest = sentence.lower()
        for analyte in sorted(NAMES, key=lambda a: -len(NAMES[a])):
            name = NAMES[analyte].lower()
            if name in rest:
                rest = rest.replace(name, " ")  # bone alkaline phosphatase does not name the other
                found[analyte] = sentence
    return found


def _missing(result: LabResult, sentence: str | None) -> list[str]:
    name = NAMES[result.analyte]
    if sentence is None:
        return [f"expected a sentence on {name}, got none"]
    faults = []
    said = {_value(n) for n in _NUMBER.findall(sentence)}
    if result.value not in said:
        faults.append(f"expected {result.value:g} beside {name}, got {sorted(said)}")
    wanted, other = (_HIGH, _LOW) if result.is_high else (_LOW, _HIGH)
    if not wanted.search(sentence) or other.search(sentence):
        faults.append(f"expected {name} {'high' if result.is_high else 'low'}, got otherwise")
    return faults


def _numbers(result: LabResult) -> set[float]:
    """The numbers that may stand in a text about a result: value, limits, and their ratio."""
    limit = result.high if result.is_high else result.low
    found = {v for v in (result.value, result.low, result.high) if v is not None}
    if limit:
        found |= {round(result.value / limit, digits) for digits in (0, 1, 2)}
    return found


def _value(number: str) -> float:
    return float(number.replace(",", "."))


def _without_units(text: str, results: Iterable[LabResult]) -> str:
    """The text without units, which hold digits of their own (10*3/uL)."""
    for result in results:
        text = text.replace(result.unit, " ")
    return text


def language_model_writer(folder: Path) -> Write:
    """A writer over a causal language model of transformers' format in a local folder.

    Greedy decoding: the same panel gives the same text.

    Raises:
        Misconfigured: the folder holds no such model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise Misconfigured(
            f"model.language_model: expected a language model in {folder}, "
            f"got {type(error).__name__}"
        ) from error

    def write(panel: LabPanel) -> str:
        prompt = (
            "Rewrite these laboratory findings as plain sentences. Keep every number and name, add "
            f"nothing, name no disease.\nFindings: {describe(panel)}\nSentences:"
        )
        tokens = tokenizer(prompt, return_tensors="pt")
        given = tokens["input_ids"].shape[1]
        answer = model.generate(
            **tokens, max_new_tokens=200, do_sample=False, pad_token_id=tokenizer.eos_token_id or 0
        )
        return str(tokenizer.decode(answer[0][given:], skip_special_tokens=True))

    return write
