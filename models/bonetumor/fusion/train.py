"""Training the fusion network on prepared cases, from seed to calibrated weights."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bonetumor.domain.errors import InvalidInput
from bonetumor.fusion.calibration import Answer, answer_all, check_classes, fit_calibration
from bonetumor.fusion.evidence import CaseTensors, Labelled, modalities, only
from bonetumor.fusion.network import SMALL_BERT, SMALL_RESNET, FusionConfig, FusionNetwork
from bonetumor.fusion.resnet import ResNetEncoder
from bonetumor.fusion.text import TextEncoder
from bonetumor.weights.precision import half_precision

Progress = Callable[[str], None]

# Deviations of what training does to crops: radians, logarithm, half sides, logarithm.
_TURN, _SCALE, _SHIFT, _LIGHT = 0.2, 0.1, 0.06, 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionTraining:
    """How a fusion network is trained. `miss_rate` is that of the conformal sets. `wordings`: of
    the blood markers, for each patient, beside the template's; `consistency`: how much it counts
    that two of them give one answer. `content_px`: crops are of pictures standardised to that.

    Each learning rate rises to three times itself, and falls. Parts that begin with trained
    weights have their own: BERT's is at most 3e-5 (Devlin et al., NAACL 2019), the ResNets' a
    tenth of the rest's. `frozen`: they do not learn at all.
    """

    crop_px: int = 96
    content_px: int | None = None
    tile_px: int = 128
    tiles_per_step: int = 3
    epochs: int = 14
    batch: int = 24
    learning_rate: float = 4e-4
    resnet_learning_rate: float = 4e-5
    bert_learning_rate: float = 1e-5
    frozen: bool = True
    modality_dropout: float = 0.3
    wordings: int = 12
    consistency: float = 10.0
    miss_rate: float = 0.1
    design: str = "tokens"
    resnet: dict[str, object] = field(default_factory=lambda: dict(SMALL_RESNET))
    bert: dict[str, object] = field(default_factory=lambda: dict(SMALL_BERT))
    cased: bool = False
    seed: int = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training gives to the bundle."""

    state: dict[str, torch.Tensor]
    vocabulary: str
    config: dict[str, Any]
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pretrained:
    """Trained parts that a fusion network begins with; None begins with having learnt nothing.
    `whole`: the state of a whole network of the plan's sizes, all of which goes on learning."""

    text: TextEncoder | None = None
    resnet: ResNetEncoder | None = None
    whole: Mapping[str, torch.Tensor] | None = None

    def sized(self, plan: FusionTraining) -> FusionTraining:
        """The plan with the sizes of these parts."""
        if self.text:
            plan = replace(plan, bert=self.text.sizes, cased=self.text.cased)
        return replace(plan, resnet=self.resnet.sizes) if self.resnet else plan

    def build(self, plan: FusionTraining, vocabulary: str) -> tuple[FusionConfig, FusionNetwork]:
        """The network of the plan, these parts of it with their weights."""
        config = FusionConfig(
            vocabulary_size=len(vocabulary.splitlines()),
            resnet=plan.resnet,
            bert=plan.bert,
            design=plan.design,
        )
        if self.resnet:
            config = replace(
                config,
                pixel_mean=self.resnet.pixel_mean,
                pixel_deviation=self.resnet.pixel_deviation,
            )
        network = FusionNetwork(config)
        if self.whole:
            _load_whole(network, self.whole)
        if self.resnet:  # counters of training, which files may lack, are all that may be missing
            network.image_encoder.load_state_dict(self.resnet.weights_for(1), strict=False)
            network.slide_encoder.load_state_dict(self.resnet.weights_for(3), strict=False)
        if self.text and self.text.weights:
            network.text_encoder.load_state_dict(self.text.weights)
        return config, network

    def parts(
        self, network: FusionNetwork, plan: FusionTraining
    ) -> list[tuple[torch.nn.Module, float]]:
        """The parts of the network that these are, and the learning rate of each."""
        found: list[tuple[torch.nn.Module, float]] = []
        if self.resnet:
            encoders = (network.image_encoder, network.slide_encoder)
            found += [(encoder, plan.resnet_learning_rate) for encoder in encoders]
        if self.text and self.text.weights:
            found.append((network.text_encoder, plan.bert_learning_rate))
        return found


NOTHING = Pretrained()
_IMAGES = "image_projection.weight"  # what a network of other sizes has otherwise


def _load_whole(network: FusionNetwork, state: Mapping[str, torch.Tensor]) -> None:
    """What fits by name and shape; a text encoder of other words, say, begins anew."""
    own = network.state_dict()
    fits = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    if _IMAGES not in fits:
        raise InvalidInput(
            "fusion: expected a network of the same sizes and design to go on from, got another"
        )
    network.load_state_dict(fits, strict=False)


def train_fusion(
    plan: FusionTraining,
    train: Sequence[Labelled],
    apart: Sequence[Labelled],
    vocabulary: str,
    say: Progress,
    *,
    checkpoint: Path | None = None,
    pretrained: Pretrained = NOTHING,
) -> Trained:
    """Trains, then calibrates each availability pattern on patients kept apart.

    `pretrained`: what the network begins with; its sizes overrule the plan's. A run that was cut
    off goes on from `checkpoint`, which is written after every epoch.

    Raises:
        InvalidInput: no patients, or a class without any.
    """
    check_classes(train, "train on")
    check_classes(apart, "calibrate with")
    learnt = learn_fusion(
        plan, train, vocabulary, say, checkpoint=checkpoint, pretrained=pretrained
    )
    return learnt.calibrated(answer_all(learnt.network, apart))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learnt:
    """A network that has learned and is not calibrated yet, with the weights of 16 bits that a
    bundle holds."""

    network: FusionNetwork
    config: FusionConfig
    plan: FusionTraining
    vocabulary: str

    def calibrated(self, answers: Sequence[Answer]) -> Trained:
        """What the bundle gets: calibrated on answers of this network, or of others that learned
        alike, to patients that they had not learned on."""
        calibrated, metrics = fit_calibration(answers, miss_rate=self.plan.miss_rate)
        settings = {
            "network": asdict(self.config),
            "crop_px": self.plan.crop_px,
            "tile_px": self.plan.tile_px,
            "content_px": self.plan.content_px,
            "cased": self.plan.cased,
            **asdict(calibrated),
            "training": asdict(self.plan),
        }
        return Trained(
            state={name: t.cpu() for name, t in self.network.state_dict().items()},
            vocabulary=self.vocabulary,
            config=settings,
            metrics=metrics,
        )


def learn_fusion(
    plan: FusionTraining,
    train: Sequence[Labelled],
    vocabulary: str,
    say: Progress,
    *,
    checkpoint: Path | None = None,
    pretrained: Pretrained = NOTHING,
) -> Learnt:
    """Trains, as `train_fusion` says, and leaves the calibration open.

    Raises:
        InvalidInput: no patients, or a class without any.
    """
    check_classes(train, "train on")
    torch.manual_seed(plan.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plan = replace(pretrained.sized(plan), batch=min(plan.batch, len(train)))
    config, network = pretrained.build(plan, vocabulary)
    run = _Run(network.to(device), plan, len(train), pretrained)
    first = run.resume(checkpoint) if checkpoint else 0
    for epoch in range(first, plan.epochs):
        loss = _epoch(run, train, plan, random.Random(f"{plan.seed} {epoch}"))  # noqa: S311
        say(f"fusion: epoch {epoch + 1} of {plan.epochs}, loss {loss:.3f}")
        if checkpoint:
            run.save(checkpoint, epoch + 1)
    half = {
        k: (v.half().float() if v.is_floating_point() else v).cpu()
        for k, v in network.state_dict().items()
    }
    network.load_state_dict(half)
    return Learnt(network=network.eval(), config=config, plan=plan, vocabulary=vocabulary)


class _Run:
    """The network with its optimizer and schedule, and their checkpoint."""

    def __init__(
        self, network: FusionNetwork, plan: FusionTraining, cases: int, pretrained: Pretrained
    ) -> None:
        self.network = network
        parts = pretrained.parts(network, plan)
        self._frozen = [part for part, _ in parts] if plan.frozen else []
        for part in self._frozen:
            part.requires_grad_(False)
        groups = _groups(network, plan, parts)
        self.optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, weight_decay=0.02)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            [3 * group["lr"] for group in groups],
            total_steps=plan.epochs * (cases // plan.batch),
        )

    def prepare(self) -> None:
        """What learns is set to training; frozen parts stay as they serve, so that their batch
        normalisations keep their statistics."""
        self.network.train()
        for part in self._frozen:
            part.eval()

    def resume(self, path: Path) -> int:
        """The number of epochs that are done already.

        Raises:
            InvalidInput: the checkpoint is of a training of another kind.
        """
        if not path.is_file():
            return 0
        saved = torch.load(path, map_location="cpu", weights_only=True)
        try:
            self.network.load_state_dict(saved["network"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise InvalidInput(
                f"training: expected {path} of a training with the same parts and sizes to go on "
                "from, got another's: remove it, or work in another folder"
            ) from error
        self.schedule.load_state_dict(saved["schedule"])
        torch.set_rng_state(saved["chance"])
        return int(saved["epochs"])

    def save(self, path: Path, epochs: int) -> None:
        """Writes the checkpoint beside itself first, so that a cut leaves the old one whole."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "chance": torch.get_rng_state(),
            "epochs": epochs,
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)


def _groups(
    network: FusionNetwork, plan: FusionTraining, parts: list[tuple[torch.nn.Module, float]]
) -> list[dict[str, Any]]:
    """What learns, each part at its rate, and all the rest first."""
    own = {id(p) for part, _ in parts for p in part.parameters()}
    rest = [p for p in network.parameters() if id(p) not in own]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": plan.learning_rate}]
    if not plan.frozen:
        groups += [{"params": list(part.parameters()), "lr": rate} for part, rate in parts]
    return groups


def _epoch(
    run: _Run, train: Sequence[Labelled], plan: FusionTraining, chance: random.Random
) -> float:
    device = next(run.network.parameters()).device
    run.prepare()
    order = list(range(len(train)))
    chance.shuffle(order)
    losses = []
    for start in range(0, len(order) - plan.batch + 1, plan.batch):
        rows = [train[i] for i in order[start : start + plan.batch]]
        cases = [_augmented(case, plan, chance) for case, _ in rows]
        truth = torch.tensor([label for _, label in rows], device=device)
        with half_precision(device):
            columns = run.network.encode([_reworded(case, chance) for case in cases])
            logits = run.network.mix(columns)
            disagreement = _disagreement(run, columns, cases, chance)
        loss = torch.nn.functional.cross_entropy(logits.float(), truth, label_smoothing=0.03)
        loss = loss + plan.consistency * disagreement
        run.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
        run.optimizer.step()
        run.schedule.step()
        losses.append(float(loss.detach()))
    return sum(losses) / max(1, len(losses))


def _reworded(case: CaseTensors, chance: random.Random) -> CaseTensors:
    """The case with one of the wordings of its blood markers."""
    if case.tokens is None or not case.wordings:
        return case
    return replace(case, tokens=chance.choice((case.tokens, *case.wordings)))


def _disagreement(
    run: _Run, columns: list[torch.Tensor], cases: Sequence[CaseTensors], chance: random.Random
) -> torch.Tensor:
    """The symmetric Kullback-Leibler divergence between the answers to two wordings of each case,
    a mean over those that have any. `columns`: the tokens of the cases.

    Without dropout, whose noise is greater than what the words do and would count instead.
    """
    rows = [i for i, case in enumerate(cases) if case.wordings]
    if not rows:
        return columns[0].new_zeros(())
    others = [column[rows] for column in columns[:-1]]
    network = run.network.eval()
    a, b = (
        torch.log_softmax(
            network.mix(
                [*others, network.encode_blood([_reworded(cases[i], chance) for i in rows])]
            ).float(),
            dim=1,
        )
        for _ in range(2)
    )
    run.prepare()
    return ((a.exp() - b.exp()) * (a - b)).sum(dim=1).mean()


def _augmented(case: CaseTensors, plan: FusionTraining, chance: random.Random) -> CaseTensors:
    """Moved crops, a few tiles, and modalities that go missing: never all of them."""
    present = modalities(case)
    kept = [m for m in present if chance.random() >= plan.modality_dropout] or [
        chance.choice(present)
    ]
    case = only(case, kept)
    if case.crop is not None:
        case = replace(case, crop=moved_crop(case.crop, chance))
    if case.tiles is not None and len(case.tiles) > plan.tiles_per_step:
        chosen = chance.sample(range(len(case.tiles)), plan.tiles_per_step)
        case = replace(case, tiles=case.tiles[chosen])
    return case


def moved_crop(crop: torch.Tensor, chance: random.Random) -> torch.Tensor:
    """The crop as another exposure of a limb that lies otherwise, about another box, may show it:
    turned, scaled, shifted, mirrored, lit otherwise; black from beyond."""
    angle, scale = chance.gauss(0, _TURN), math.exp(chance.gauss(0, _SCALE))
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    mirror = chance.choice((-1, 1))
    rows = [
        [cosine * mirror, -sine, chance.gauss(0, _SHIFT)],
        [sine * mirror, cosine, chance.gauss(0, _SHIFT)],
    ]
    grid = torch.nn.functional.affine_grid(
        torch.tensor([rows]), [1, *crop.shape], align_corners=False
    )
    moved = torch.nn.functional.grid_sample(crop[None], grid, align_corners=False)[0]
    gain, offset = math.exp(chance.gauss(0, _LIGHT)), chance.gauss(0, _LIGHT / 2)
    return (moved * gain + offset).clamp(0, 1)
