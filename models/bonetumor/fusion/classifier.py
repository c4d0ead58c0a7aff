"""The fusion network behind the Fusion port."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator

from bonetumor.domain.assessment import Diagnosis, Modality, TumourClass
from bonetumor.domain.errors import InvalidInput, NonFiniteOutput, WeightsMismatch
from bonetumor.domain.labs import BloodText
from bonetumor.fusion.calibration import Calibration, calibrate, check_classes, scaled
from bonetumor.fusion.evidence import PATTERNS, CaseTensors, Labelled, Preparation, modalities
from bonetumor.fusion.explanation import heat_map, shapley
from bonetumor.fusion.network import FusionConfig, FusionNetwork
from bonetumor.fusion.text import template_text, tokenizer_from
from bonetumor.service.ports import FusionInput
from bonetumor.weights.bundle import Bundle, Entry, read_entry

_NO_EVIDENCE = 1 / len(TumourClass)
_BLOOD = list(Modality).index(Modality.LABS)
_GREATEST_MOVE = 0.03  # of a probability, by the words of a language model
_MOVED = f"it would move a probability by more than {_GREATEST_MOVE} or change the prediction set"


class FusionEntry(Entry):
    """The manifest's `fusion`: for each availability pattern its temperature, the bias of each
    class (bundles made before there were any have none), the probability that each class needs,
    and the greatest energy that is familiar."""

    crop_px: int = Field(ge=1)
    tile_px: int = Field(ge=1)
    cased: bool = False
    content_px: int | None = Field(default=None, ge=32)
    network: dict[str, Any]
    temperatures: dict[str, Annotated[float, Field(gt=0)]]
    biases: dict[str, dict[TumourClass, float]] = Field(
        default_factory=lambda: {
            "+".join(pattern): dict.fromkeys(TumourClass, 0.0) for pattern in PATTERNS
        }
    )
    least_probabilities: dict[str, dict[TumourClass, Annotated[float, Field(ge=0, le=1)]]]
    greatest_energies: dict[str, float]

    @field_validator("temperatures", "biases", "least_probabilities", "greatest_energies")
    @classmethod
    def _of_every_pattern(cls, given: dict[str, Any]) -> dict[str, Any]:
        absent = [name for name in map("+".join, PATTERNS) if name not in given]
        if absent:
            raise ValueError(f"expected one for each pattern, got none for {absent[0]}")
        return given

    @field_validator("biases", "least_probabilities")
    @classmethod
    def _of_every_class(
        cls, given: dict[str, dict[TumourClass, float]]
    ) -> dict[str, dict[TumourClass, float]]:
        if any(len(by_class) < len(TumourClass) for by_class in given.values()):
            raise ValueError("expected one for each class, got fewer")
        return given


@dataclass(frozen=True, slots=True)
class _Read:
    """A case as the network reads it: its tensors, a token for each modality, the blood's words."""

    case: CaseTensors
    columns: list[torch.Tensor]
    text: BloodText | None


class FusionClassifier:
    """Diagnoses with calibrated probabilities, a prediction set, and the right to abstain.

    The words of a language model may move no probability by more than 0.03 from what the
    template's give, and change neither prediction set nor abstention; else the template's are read.
    """

    def __init__(self, bundle: Bundle, *, device: str) -> None:
        entry = read_entry(FusionEntry, "fusion", bundle.manifest.fusion)
        self.preparation = Preparation(
            entry.crop_px,
            entry.tile_px,
            tokenizer_from(bundle.text("vocabulary.txt"), cased=entry.cased),
            content_px=entry.content_px,
        )
        self._scaling = {
            name: (temperature, [entry.biases[name][c] for c in TumourClass])
            for name, temperature in entry.temperatures.items()
        }
        self._least = entry.least_probabilities
        self._greatest_energy = entry.greatest_energies
        self._network = _built(entry.network)
        try:
            self._network.load_state_dict(bundle.tensors("fusion.safetensors"), strict=True)
        except RuntimeError as error:
            raise WeightsMismatch(
                "weights: expected those of the fusion network, got others"
            ) from error
        self._network.eval().to(torch.device(device))
        self._turn = threading.Lock()  # the heat map hooks into the network

    def diagnose(self, evidence: FusionInput) -> Diagnosis:
        """Benign, intermediate or malignant; abstains where the evidence does not settle it.

        Threads take turns.

        Raises:
            NonFiniteOutput: the network answered NaN or infinity.
        """
        with self._turn:
            return self._diagnose(evidence)

    def by_subset(self, evidence: FusionInput) -> dict[tuple[Modality, ...], Diagnosis]:
        """What `diagnose` would say of each subset of what there is by itself, but for
        contributions and heat map; everything is encoded once.

        Raises:
            NonFiniteOutput: the network answered NaN or infinity.
        """
        with self._turn, torch.no_grad():
            read = self._read(evidence)
            answers = self._network.mix_subsets(read.columns, modalities(read.case))
        strange = evidence.out_of_distribution
        return {
            used: replace(
                self._judge(logits, used, strange),
                blood_text=read.text if Modality.LABS in used else None,
            )
            for used, logits in answers.items()
        }

    def calibrated(
        self, apart: Sequence[Labelled], *, miss_rate: float
    ) -> tuple[Calibration, dict[str, Any]]:
        """What its calibration would be on other patients; `calibration.calibrate` has the rest.

        Raises:
            InvalidInput: there are none, or none of a class.
        """
        check_classes(apart, "calibrate with")
        return calibrate(self._network, apart, miss_rate=miss_rate)

    def _diagnose(self, evidence: FusionInput) -> Diagnosis:
        with torch.no_grad():
            read = self._read(evidence)
            used = modalities(read.case)
            answers = self._network.mix_subsets(read.columns, used)
        judged = self._judge(answers[used], used, evidence.out_of_distribution)
        said = {subset: self._probabilities(row, subset) for subset, row in answers.items()}
        top = max(range(len(said[used])), key=said[used].__getitem__)
        return replace(
            judged,
            contributions=shapley(
                used, lambda subset: said[subset][top] if subset else _NO_EVIDENCE
            ),
            heat_map=heat_map(
                self._network,
                read.case,
                read.columns,
                self.preparation.region(evidence.image, evidence.box),
                top,
            )
            if evidence.image and evidence.box
            else None,
            blood_text=read.text,
        )

    def _judge(
        self, logits: torch.Tensor, used: tuple[Modality, ...], images_strange: bool
    ) -> Diagnosis:
        """Probabilities, prediction set and abstention."""
        if not bool(torch.isfinite(logits).all()):
            raise NonFiniteOutput("fusion: expected finite logits, got NaN or infinity")
        by_class = dict(zip(TumourClass, self._probabilities(logits, used), strict=True))
        least = self._least["+".join(used)]
        likely = tuple(c for c in TumourClass if by_class[c] >= least[c])
        strange = images_strange or self._is_strange(logits, used)
        reason = _reason(images_strange, strange, likely)
        return Diagnosis(
            probabilities=by_class,
            prediction_set=likely,
            abstained=reason is not None,
            out_of_distribution=strange,
            used=used,
            reason=reason,
        )

    def _read(self, evidence: FusionInput) -> _Read:
        """The evidence as the network reads it, with the template's words where those of a
        language model would move it."""
        text = evidence.text or (template_text(evidence.labs) if evidence.labs else None)
        case = self.preparation.prepare(
            evidence.image,
            evidence.box,
            evidence.slides,
            evidence.labs,
            text.text if text else None,
        )
        columns = self._network.encode([case])
        if text is None or evidence.labs is None or case.tokens is None:
            return _Read(case, columns, None)
        if not text.writer.is_language_model:
            return _Read(case, columns, text)
        plain = template_text(evidence.labs, f"the text of {text.writer} was not used: {_MOVED}")
        usual = replace(case, tokens=self.preparation.tokens(plain.text))
        others = [*columns]
        others[_BLOOD] = self._network.encode_blood([usual])
        if self._is_moved(columns, others, modalities(case)):
            return _Read(usual, others, plain)
        return _Read(case, columns, text)

    def _is_moved(
        self, columns: list[torch.Tensor], others: list[torch.Tensor], used: tuple[Modality, ...]
    ) -> bool:
        """Whether two wordings give different answers of all that is used."""
        a, b = (self._judge(self._network.mix(c)[0].cpu(), used, False) for c in (columns, others))
        pairs = zip((a.probabilities or {}).values(), (b.probabilities or {}).values(), strict=True)
        moved = max((abs(one - other) for one, other in pairs), default=0.0)
        settled = [(d.prediction_set, d.out_of_distribution) for d in (a, b)]
        return moved > _GREATEST_MOVE or settled[0] != settled[1]

    def _probabilities(self, logits: torch.Tensor, used: tuple[Modality, ...]) -> list[float]:
        temperature, biases = self._scaling["+".join(used)]
        return [float(p) for p in scaled(logits, temperature, biases)]

    def _is_strange(self, logits: torch.Tensor, used: tuple[Modality, ...]) -> bool:
        """Whether the energy is above that of nearly all calibration cases (Liu et al., 2020)."""
        energy = -float(torch.logsumexp(logits.double(), dim=0))
        return energy > self._greatest_energy["+".join(used)]


def _built(sizes: dict[str, Any]) -> FusionNetwork:
    try:
        return FusionNetwork(FusionConfig(**sizes))
    except (InvalidInput, KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise WeightsMismatch(
            f"manifest: fusion.network: expected sizes that a network can be built of, "
            f"got {type(error).__name__}: {error}"
        ) from error


def _reason(images_strange: bool, strange: bool, likely: tuple[TumourClass, ...]) -> str | None:
    """Why the model abstains; None if it does not."""
    if images_strange:
        return "the images are unlike those the model was trained on"
    if strange:
        return "the evidence is unlike what the model was trained on"
    if len(likely) != 1:
        return f"the prediction set holds {len(likely)} classes ({', '.join(likely) or 'none'})"
    return None
