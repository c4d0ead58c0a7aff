"""Training the fusion network on phantom patients, from seed to calibrated weights."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch

from bonetumor.domain.assessment import Modality, TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import BoundingBox, ClinicalImage
from bonetumor.domain.labs import LabPanel, LabResult
from bonetumor.domain.pathology import SlideTiles
from bonetumor.fusion.calibration import fit_conformal, fit_temperature
from bonetumor.fusion.evidence import CaseTensors, Preparation
from bonetumor.fusion.network import FusionConfig, FusionNetwork
from bonetumor.fusion.text import stand_in_vocabulary, tokenizer_from
from bonetumor.phantom.patient import PhantomPatient, draw_patient

Progress = Callable[[str], None]
Render = Callable[[PhantomPatient], ClinicalImage]
Cut = Callable[["np.ndarray[Any, np.dtype[np.uint8]]"], "np.ndarray[Any, np.dtype[np.uint8]]"]

_FIELDS = {
    Modality.IMAGE: ("crop",),
    Modality.PATHOLOGY: ("tiles",),
    Modality.LABS: ("tokens", "ratios"),
}
PATTERNS = tuple(subset for size in (1, 2, 3) for subset in combinations(tuple(Modality), size))


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionTraining:
    """How a fusion network is trained. `miss_rate` is that of the conformal sets."""

    patients: int = 700
    calibration: int = 300
    longest_px: int = 640
    crop_px: int = 96
    tile_px: int = 128
    tiles_per_step: int = 3
    epochs: int = 14
    batch: int = 24
    learning_rate: float = 4e-4
    modality_dropout: float = 0.3
    miss_rate: float = 0.1
    seed: int = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training gives to the bundle."""

    state: dict[str, torch.Tensor]
    vocabulary: str
    config: dict[str, Any]
    metrics: dict[str, Any]


def train_fusion(plan: FusionTraining, render: Render, cut: Cut, say: Progress) -> Trained:
    """Draws a cohort, trains, calibrates each availability pattern on patients kept apart."""
    torch.manual_seed(plan.seed)
    chance = random.Random(plan.seed)  # noqa: S311 - shuffling, not secrets
    vocabulary = stand_in_vocabulary()
    preparation = Preparation(plan.crop_px, plan.tile_px, tokenizer_from(vocabulary))
    train = _draw(plan, 0, plan.patients, preparation, render, cut, say)
    apart = _draw(plan, 1_000_000, plan.calibration, preparation, render, cut, say)
    if not train or not apart:
        raise InvalidInput("cohort: expected patients to train on and to calibrate with, got none")
    plan = replace(plan, batch=min(plan.batch, len(train)))
    config = FusionConfig(vocabulary_size=len(vocabulary.splitlines()))
    network = FusionNetwork(config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=0.02)
    steps = plan.epochs * (len(train) // plan.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.learning_rate * 3, total_steps=steps
    )
    for epoch in range(plan.epochs):
        loss = _epoch(network, optimizer, schedule, train, plan, chance)
        say(f"fusion: epoch {epoch + 1} of {plan.epochs}, loss {loss:.3f}")
    half = {
        k: v.half().float() if v.is_floating_point() else v for k, v in network.state_dict().items()
    }
    network.load_state_dict(half)  # calibrate the weights as the bundle will hold them
    calibrated, metrics = _calibrate(network.eval(), apart, plan)
    settings = {
        "network": asdict(config),
        "crop_px": plan.crop_px,
        "tile_px": plan.tile_px,
        **calibrated,
        "training": asdict(plan),
    }
    return Trained(state=half, vocabulary=vocabulary, config=settings, metrics=metrics)


def _draw(
    plan: FusionTraining,
    first: int,
    count: int,
    preparation: Preparation,
    render: Render,
    cut: Cut,
    say: Progress,
) -> list[tuple[CaseTensors, int]]:
    cases = []
    for number in range(first, first + count):
        patient = draw_patient(plan.seed, number, longest_px=plan.longest_px)
        if patient.radiograph.box is None:
            continue
        slides = tuple(SlideTiles(source="phantom", pixels=cut(s)) for s in patient.slides)
        box = _jittered(patient, np.random.default_rng([plan.seed, number, 2]))
        case = preparation.prepare(render(patient), box, slides, panel_of(patient))
        cases.append((case, list(TumourClass).index(patient.tumour_class)))
        if len(cases) % 100 == 0:
            say(f"fusion: {len(cases)} of {count} patients drawn")
    return cases


def panel_of(patient: PhantomPatient) -> LabPanel:
    """The patient's blood as the FHIR adapter would read it."""
    return LabPanel(
        results=tuple(
            LabResult(
                analyte=m.analyte,
                value=m.value,
                unit=m.unit,
                low=m.low,
                high=m.high,
                taken_at=None,
                source="phantom",
            )
            for m in patient.blood
        )
    )


def _jittered(patient: PhantomPatient, rng: np.random.Generator) -> BoundingBox:
    """The true box as a detector would give it: a little off."""
    x0, y0, x1, y1 = patient.radiograph.box or (0.0, 0.0, 1.0, 1.0)
    width, height = x1 - x0, y1 - y0
    shift = rng.normal(0, 0.06, 4) * np.array([width, height, width, height])
    return BoundingBox(
        x0=float(x0 + shift[0]),
        y0=float(y0 + shift[1]),
        x1=float(x1 + shift[2]),
        y1=float(y1 + shift[3]),
    )


def _epoch(
    network: FusionNetwork,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    train: Sequence[tuple[CaseTensors, int]],
    plan: FusionTraining,
    chance: random.Random,
) -> float:
    network.train()
    order = list(range(len(train)))
    chance.shuffle(order)
    losses = []
    for start in range(0, len(order) - plan.batch + 1, plan.batch):
        rows = [train[i] for i in order[start : start + plan.batch]]
        cases = [_augmented(case, plan, chance) for case, _ in rows]
        truth = torch.tensor([label for _, label in rows])
        loss = torch.nn.functional.cross_entropy(network(cases), truth, label_smoothing=0.03)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return sum(losses) / max(1, len(losses))


def _augmented(case: CaseTensors, plan: FusionTraining, chance: random.Random) -> CaseTensors:
    """Mirrored crops, a few tiles, and modalities that go missing: never all of them."""
    present = [m for m in Modality if getattr(case, _FIELDS[m][0]) is not None]
    kept = [m for m in present if chance.random() >= plan.modality_dropout] or [
        chance.choice(present)
    ]
    case = only(case, kept)
    if case.crop is not None and chance.random() < 0.5:
        case = replace(case, crop=case.crop.flip(-1))
    if case.tiles is not None and len(case.tiles) > plan.tiles_per_step:
        chosen = chance.sample(range(len(case.tiles)), plan.tiles_per_step)
        case = replace(case, tiles=case.tiles[chosen])
    return case


def only(case: CaseTensors, kept: Sequence[Modality]) -> CaseTensors:
    """The case with only some of its modalities."""
    dropped = {name: None for m in Modality if m not in kept for name in _FIELDS[m]}
    return replace(case, **dropped)


@torch.inference_mode()
def _calibrate(
    network: FusionNetwork, apart: Sequence[tuple[CaseTensors, int]], plan: FusionTraining
) -> tuple[dict[str, Any], dict[str, Any]]:
    temperatures, least, metrics = {}, {}, {}
    for pattern in PATTERNS:
        rows = [(only(c, pattern), y) for c, y in apart if _has(c, pattern)]
        logits = torch.cat([network([case]) for case, _ in rows])
        truth = torch.tensor([label for _, label in rows])
        name = "+".join(pattern)
        temperatures[name] = fit_temperature(logits, truth)
        probabilities = torch.softmax(logits.double() / temperatures[name], dim=1)
        least[name] = fit_conformal(probabilities, truth, plan.miss_rate)
        right = probabilities.argmax(dim=1) == truth
        metrics[name] = {
            "n": len(rows),
            "accuracy_on_calibration": round(float(right.double().mean()), 4),
        }
    return {"temperatures": temperatures, "least_probabilities": least}, metrics


def _has(case: CaseTensors, pattern: Sequence[Modality]) -> bool:
    return all(getattr(case, _FIELDS[m][0]) is not None for m in pattern)
