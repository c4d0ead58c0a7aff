"""Probabilities that mean what they say: scaled logits and split conformal sets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bonetumor.domain.assessment import Modality, TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.fusion.evidence import PATTERNS, CaseTensors, Labelled, modalities
from bonetumor.fusion.network import FusionNetwork

_LEAST_TEMPERATURE, _GREATEST_TEMPERATURE = 0.5, 5.0
# The standard deviation expected of biases: by cross-validation on 2,000 patients anything from
# 0.15 up served alike, and a prior is what keeps those of a few patients small.
_BIAS_SD = 0.2
_LEAST_CASES = 5
_FAMILIAR = 0.995
_ANY_ENERGY = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """By availability pattern (`image+labs`): the temperature and the bias of each class
    (`scaled`), the probability that each class needs to be in the prediction set, and the
    greatest energy that is familiar."""

    temperatures: dict[str, float]
    biases: dict[str, dict[TumourClass, float]]
    least_probabilities: dict[str, dict[TumourClass, float]]
    greatest_energies: dict[str, float]


Answer = tuple[dict[tuple[Modality, ...], Tensor], int]
"""Logits (wordings, 3) of each pattern of a case's evidence, and the true class."""


def calibrate(
    network: FusionNetwork, apart: Sequence[Labelled], *, miss_rate: float
) -> tuple[Calibration, dict[str, Any]]:
    """Calibrates a network on patients that it has not learned on: `fit_calibration`."""
    return fit_calibration(answer_all(network, apart), miss_rate=miss_rate)


@torch.inference_mode()
def answer_all(network: FusionNetwork, cases: Sequence[Labelled]) -> list[Answer]:
    """What the network says of each case."""
    return [(_answers(network, case), label) for case, label in cases]


def fit_calibration(
    answers: Sequence[Answer], *, miss_rate: float
) -> tuple[Calibration, dict[str, Any]]:
    """Calibrates each availability pattern on what networks said of patients that they had not
    learned on, and says of each how many they were and how often it was right.

    A pattern of hardly any patients keeps every class possible. Check the classes first. Of a
    case with several wordings the mean of the logits is scaled, and sets and energies allow for
    the wording that is hardest on them: a patient counts once.
    """
    found = Calibration(temperatures={}, biases={}, least_probabilities={}, greatest_energies={})
    metrics: dict[str, dict[str, float]] = {}
    for pattern in PATTERNS:
        rows = [(logits[pattern], label) for logits, label in answers if pattern in logits]
        name = "+".join(pattern)
        if len(rows) < _LEAST_CASES:
            found.temperatures[name] = 1.0
            found.biases[name] = dict.fromkeys(TumourClass, 0.0)
            found.least_probabilities[name] = dict.fromkeys(TumourClass, 0.0)
            found.greatest_energies[name] = _ANY_ENERGY
            metrics[name] = {"n": len(rows)}
            continue
        logits = torch.stack([row.mean(dim=0) for row, _ in rows])
        truth = torch.tensor([label for _, label in rows])
        temperature, biases = fit_scaling(logits, truth)
        found.temperatures[name] = temperature
        found.biases[name] = dict(zip(TumourClass, biases, strict=True))
        energies = torch.stack([-torch.logsumexp(row.double(), 1).min() for row, _ in rows])
        found.greatest_energies[name] = float(torch.quantile(energies, _FAMILIAR))
        least = [scaled(row, temperature, biases).min(dim=0).values for row, _ in rows]
        needed = fit_conformal(torch.stack(least), truth, miss_rate)
        found.least_probabilities[name] = dict(zip(TumourClass, needed, strict=True))
        right = scaled(logits, temperature, biases).argmax(dim=1) == truth
        metrics[name] = {
            "n": len(rows),
            "accuracy_on_calibration": round(float(right.double().mean()), 4),
        }
    return found, metrics


def _answers(network: FusionNetwork, case: CaseTensors) -> dict[tuple[Modality, ...], Tensor]:
    """Logits (wordings, 3) of each subset of the case's modalities; (1, 3) of one without blood."""
    *others, blood = network.encode([case])
    if case.wordings:
        blood = network.encode_blood([case, *(replace(case, tokens=t) for t in case.wordings)])
    columns = [*(column.expand(len(blood), -1) for column in others), blood]
    return {
        pattern: network.mix(tokens if Modality.LABS in pattern else [t[:1] for t in tokens]).cpu()
        for pattern, tokens in network.subsets(columns, modalities(case))
    }


def check_classes(cases: Sequence[Labelled], aim: str) -> None:
    """Raises InvalidInput, which names the aim, if there are no patients, or none of a class."""
    need_classes([label for _, label in cases], aim)


def need_classes(labels: Sequence[int], aim: str) -> None:
    """The same for their classes, by the places in `TumourClass`."""
    if not labels:
        raise InvalidInput(f"cohort: expected patients to {aim}, got none")
    absent = [c for i, c in enumerate(TumourClass) if i not in labels]
    if absent:
        raise InvalidInput(
            f"cohort: expected patients of every class to {aim}, got none that is "
            f"{' or '.join(absent)}"
        )


def scaled(logits: Tensor, temperature: float, biases: Sequence[float]) -> Tensor:
    """Calibrated probabilities, float64, of logits (..., classes): softmax(logits / temperature +
    biases)."""
    return torch.softmax(logits.double() / temperature + torch.tensor(biases).double(), dim=-1)


def fit_scaling(logits: Tensor, truth: Tensor) -> tuple[float, list[float]]:
    """The temperature and the bias of each class that fit best: bias-corrected temperature
    scaling (Alexandari et al., ICML 2020; the temperature alone is Guo et al., ICML 2017).

    Evidence of one kind leans to a class more or less than all together does, which no
    temperature mends. The biases have a normal prior, so that a few patients make small ones.

    `logits`: (n, classes); `truth`: int64 (n,).
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        given, told = logits.double().clone(), truth.clone()
        heat = torch.zeros((), dtype=torch.float64, requires_grad=True)
        biases = torch.zeros(given.shape[1], dtype=torch.float64, requires_grad=True)
        search = torch.optim.LBFGS([heat, biases], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            search.zero_grad()
            scaled_logits = given / _temperature(heat) + biases
            lost = torch.nn.functional.cross_entropy(scaled_logits, told, reduction="sum")
            lost = (lost + (biases**2).sum() / (2 * _BIAS_SD**2)) / len(told)
            lost.backward()
            return lost

        search.step(loss)
        return float(_temperature(heat.detach())), biases.detach().tolist()


def _temperature(heat: Tensor) -> Tensor:
    """A temperature within its bounds, of any number."""
    return heat.exp().clamp(_LEAST_TEMPERATURE, _GREATEST_TEMPERATURE)


def fit_conformal(probabilities: Tensor, truth: Tensor, miss_rate: float) -> list[float]:
    """For each class, the probability it needs to be in the prediction set.

    Class-conditional split conformal prediction (Sadinle et al., JASA 2019): for exchangeable
    cases the set holds the truth with probability at least 1 - `miss_rate` within every class, so
    that rare malignant cases are not missed for the sake of many benign ones. A class with too
    few calibration cases for its rate is always in the set.

    `probabilities`: (n, classes); `truth`: int64 (n,).
    """
    least = []
    for label in range(probabilities.shape[1]):
        own = probabilities[truth == label, label].double().sort(descending=True).values
        rank = conformal_rank(len(own), miss_rate)
        least.append(0.0 if rank > len(own) else float(own[rank - 1]))
    return least


def conformal_rank(cases: int, miss_rate: float) -> int:
    """The place, from 1 and the greatest first, of the probability that a class needs; beyond the
    last one if there are too few cases."""
    return math.ceil((cases + 1) * (1.0 - miss_rate) - 1e-9)
