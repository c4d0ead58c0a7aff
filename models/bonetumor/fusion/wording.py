"""What a text of the abnormal blood markers may say.

A language model may invent. What it wrote is parsed back: every abnormal marker with its value and
its direction must stand in it, no other marker and no other number may, no denial, and no word of
a diagnosis. Otherwise the template speaks, and a note says so.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bonetumor.domain.labs import Analyte, BloodText, LabPanel, LabResult, Writer
from bonetumor.fusion.text import NAMES, template_text

Write = Callable[[LabPanel], str]
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)?")
_SENTENCE = re.compile(r"(?<=[.;!?])\s+")
_DIAGNOSIS = re.compile(
    r"tumou?r|sarcoma|cancer|carcinoma|malign|benign|intermediate|metasta|neoplas|lesion|leuk[ae]mi"
    r"|lymphoma|myeloma|infect|osteomyel|disease|syndrome|diagnos|suggest|consistent|indicat|suspic",
    re.IGNORECASE,
)
_DENIAL = re.compile(r"\b(no|not|never|nor|neither|without)\b|n't\b", re.IGNORECASE)
_HIGH = re.compile(r"\b(high|higher|elevated|raised|increased|above)\b", re.IGNORECASE)
_LOW = re.compile(r"\b(low|lower|reduced|decreased|below)\b", re.IGNORECASE)
_MAX_CHARACTERS = 1500


class NotWritten(Exception):
    """The language model gave no whole text."""


class CheckedWriter:
    """Asks a language model and keeps its text only if the panel bears it out."""

    def __init__(self, write: Write, writer: Writer) -> None:
        self._write = write
        self.writer = writer

    def write(self, panel: LabPanel) -> BloodText:
        """The model's text; the template's where that fails or says what the panel does not, with
        a note, and where nothing is abnormal."""
        if not panel.abnormal:
            return template_text(panel)
        try:
            text = " ".join(self._write(panel).split())
        except NotWritten as error:
            return self._instead(panel, str(error))
        except Exception as error:  # noqa: BLE001 - whatever fails in there, the template can speak
            return self._instead(panel, f"it ended with {type(error).__name__}")
        faults = find_faults(text, panel) if text else ["expected a text, got none"]
        if faults:
            return self._instead(panel, faults[0])
        return BloodText(text=text, writer=self.writer)

    def _instead(self, panel: LabPanel, why: str) -> BloodText:
        return template_text(panel, f"the text of {self.writer} was not used: {why}")


@dataclass(frozen=True, slots=True)
class _Mention:
    """The sentence that names a marker, and its part from that name to the next."""

    sentence: str
    part: str


def find_faults(text: str, panel: LabPanel) -> list[str]:
    """What a text says that the panel does not, or leaves out; nothing if it is sound."""
    abnormal = {r.analyte: r for r in panel.abnormal}
    mentioned = _mentioned(text)
    faults = _unfit(text)
    faults += [
        f"expected abnormal markers only, got {NAMES[a]}" for a in mentioned if a not in abnormal
    ]
    for analyte, result in abnormal.items():
        faults += _missing(result, mentioned.get(analyte, ()))
    allowed = {_rounded(n) for r in abnormal.values() for n in _numbers(r)}
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
    for kind, pattern in (("word of a diagnosis", _DIAGNOSIS), ("denial", _DENIAL)):
        word = pattern.search(text)
        if word:
            faults.append(f"expected no {kind}, got {word.group()}")
    return faults


def _mentioned(text: str) -> dict[Analyte, list[_Mention]]:
    """Where each analyte is named. In a sentence of several, each has the part after its name."""
    found = defaultdict(list)
    for sentence in _SENTENCE.split(text):
        rest, places = sentence.lower(), []
        for analyte in sorted(NAMES, key=lambda a: -len(NAMES[a])):
            name = NAMES[analyte].lower()
            while (start := rest.find(name)) >= 0:
                # bone alkaline phosphatase does not name the other
                rest = rest[:start] + " " * len(name) + rest[start + len(name) :]
                places.append((start, analyte))
        places.sort()
        ends = [*(start for start, _ in places[1:]), len(sentence)]
        for (start, analyte), end in zip(places, ends, strict=True) if places else ():
            part = sentence if len(places) == 1 else sentence[start:end]
            found[analyte].append(_Mention(sentence, part))
    return found


def _missing(result: LabResult, mentions: Sequence[_Mention]) -> list[str]:
    name = NAMES[result.analyte]
    if not mentions:
        return [f"expected a sentence on {name}, got none"]
    faults = []
    said = {_value(n) for mention in mentions for n in _NUMBER.findall(mention.part)}
    if _rounded(result.value) not in said:
        faults.append(f"expected {result.value:g} beside {name}, got {sorted(said)}")
    wanted, other = (_HIGH, _LOW) if result.is_high else (_LOW, _HIGH)
    sentences = [mention.sentence for mention in mentions]
    if not any(map(wanted.search, sentences)) or any(map(other.search, sentences)):
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
    return _rounded(float(number.replace(",", ".")))


def _rounded(value: float) -> float:
    """As texts hold values: converted ones have more digits than anybody writes."""
    return float(f"{value:.6g}")


def _without_units(text: str, results: Iterable[LabResult]) -> str:
    """The text without units, which hold digits of their own (10*3/uL)."""
    for result in results:
        text = text.replace(result.unit, " ")
    return text
