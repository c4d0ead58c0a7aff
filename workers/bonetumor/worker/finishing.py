"""From trained weights to a bundle: what is familiar, the operating point, the manifest."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bonetumor.cohort.record import Cohort
from bonetumor.detection.engine import Engine, build_engine
from bonetumor.detection.familiarity import (
    Familiarity,
    Summaries,
    fit_familiarity,
    take_familiarity,
    without_familiarity,
)
from bonetumor.detection.letterbox import letterbox
from bonetumor.detection.network import round_weights
from bonetumor.detection.scope import BEYOND_LIMBS, words_of
from bonetumor.detection.train import DetectorTraining, read_checkpoint
from bonetumor.detection.yolo import YoloDetector, build_network, join_networks
from bonetumor.domain.errors import InvalidInput
from bonetumor.evaluation.detection import ScoredImage, average_precision, operating_point
from bonetumor.fusion.classifier import FusionClassifier
from bonetumor.fusion.train import Trained
from bonetumor.phantom.trunk import draw_trunk
from bonetumor.weights.bundle import Bundle, open_bundle, write_bundle
from bonetumor.weights.intended_use import STATEMENTS, IntendedUse
from bonetumor.weights.source import Source, merge_sources
from bonetumor.worker.cohorts import load_images, need_normals
from bonetumor.worker.origins import Origin, read_origin
from bonetumor.worker.thinking import choose_device
from bonetumor.worker.training import (
    DETECTOR_ORIGIN,
    Cases,
    Say,
    labelled,
    miss_rate_of,
    report,
    wordings_of,
)

_FALSE_POSITIVES_PER_NORMAL = 0.1
_FAMILIAR = 0.995
_FAMILIARITY_PATIENTS = 400
_TRUNKS = 300
_LEAST_SCORE = 0.01
_STRAY = 0.01
_ANY_DISTANCE = 1e12
STRANGE = ("familiarity_threshold", "trunk_threshold")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleText:
    """What a bundle says of itself: `recipe` is how it was made, `sources` what it learnt from."""

    version: str
    training_data: str
    limits: str
    intended_use: IntendedUse = IntendedUse.RESEARCH
    sources: tuple[Source, ...] = ()
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls, base: Bundle, version: str, intended_use: IntendedUse = IntendedUse.RESEARCH
    ) -> "BundleText":
        """For another version of a bundle, with the same networks. The intended use is never that
        of the base: whoever changes a bundle claims it anew, or not."""
        return cls(
            version=version,
            training_data=base.manifest.training_data,
            limits=base.manifest.limits,
            intended_use=intended_use,
            sources=base.manifest.known_sources,
        )

    def after(self, command: str, base: Bundle, *origins: Origin) -> "BundleText":
        """The text of what a command makes of `base` and cohorts."""
        recipe = {
            "command": command,
            "base": {"version": base.manifest.version, "sha256": base.manifest.sha256},
            "cohorts": [origin.summary() for origin in origins],
        }
        sources = merge_sources(self.sources, *(origin.sources for origin in origins))
        return dataclasses.replace(self, sources=sources, recipe=recipe)

    def described(self) -> dict[str, Any]:
        """The manifest's fields but for the sources, which `write_bundle` takes apart."""
        return {
            "version": self.version,
            "training_data": self.training_data,
            "limits": self.limits,
            "intended_use": self.intended_use.value,
            "intended_use_statement": STATEMENTS[self.intended_use],
            "recipe": self.recipe,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A bundle in the making: first with an open operating point, to be measured as written."""

    out: Path
    weights: dict[str, torch.Tensor]
    detector: dict[str, Any]
    fusion: Trained
    text: BundleText

    def set_familiar(self, measures: Sequence[tuple[float, float]]) -> None:
        """What counts as strange, from the measures of pictures that are not."""
        strange = (1 + _FAMILIAR) / 2  # each measure may call half of the rest strange
        for name, values in zip(STRANGE, zip(*measures, strict=True), strict=True):
            self.detector[name] = float(np.quantile(values, strange))

    def save(self, metrics: dict[str, Any]) -> None:
        """Writes the bundle as it is now."""
        write_bundle(
            self.out,
            tensors={"detector.safetensors": self.weights, "fusion.safetensors": self.fusion.state},
            texts={"vocabulary.txt": self.fusion.vocabulary},
            description={
                "name": "bonetumor",
                **self.text.described(),
                "detector": self.detector,
                "fusion": self.fusion.config,
                "metrics": metrics,
            },
            sources=self.text.sources,
        )


def convert(
    out: Path, cohort: Cohort, checkpoint: Path, base: Bundle, text: BundleText, say: Say
) -> None:
    """A bundle with the detector of a checkpoint and everything else of `base`; operating point
    and figures come from the validation split, measured with what was written.

    Raises:
        InvalidInput: the checkpoint cannot be read, or the validation split holds no image, or no
            normal one.
        WeightsMismatch: its weights are not of the architecture that was noted beside it.
    """
    problems: list[str] = []
    need_normals(cohort)
    draft = draft_of(out, cohort, checkpoint, fusion_of(base), text, problems)
    _finish(draft, cohort, problems, say)


def tune(out: Path, cohort: Cohort, base: Bundle, text: BundleText, say: Say) -> None:
    """A bundle with the networks of `base`, its operating point set on another cohort.

    Raises:
        InvalidInput: the cohort's validation split holds no image, or no normal one.
    """
    need_normals(cohort)
    draft = Draft(
        out=out,
        weights=base.tensors("detector.safetensors"),
        detector={**base.manifest.detector, "score_threshold": _LEAST_SCORE},
        fusion=fusion_of(base),
        text=text,
    )
    _finish(draft, cohort, [], say, found=base.manifest.metrics.get("detection"))


def calibrate(out: Path, cohort: Cohort, base: Bundle, text: BundleText, say: Say) -> None:
    """A bundle with the networks of `base`, its probabilities and prediction sets calibrated anew
    on the validation split of another cohort, as its detector finds the lesions there.

    Raises:
        InvalidInput: the split holds no patients, or none of a class.
    """
    classifier = FusionClassifier(base, device=choose_device("auto"))
    preparation = dataclasses.replace(classifier.preparation, wordings=wordings_of(base))
    cases = Cases(cohort, preparation, base)
    say("fusion: the detector looks at the patients")
    calibration, metrics = classifier.calibrated(
        list(cases.to_calibrate()), miss_rate=miss_rate_of(base)
    )
    report(cases.problems, say)
    fusion = fusion_of(base)
    config = {
        **fusion.config,
        **dataclasses.asdict(calibration),
        "calibrated_on": cohort.folder.name,
    }
    join(out, dataclasses.replace(fusion, config=config, metrics=metrics), base, text)
    say(f"bundle {text.version} written to {out}: {metrics}")


def join(out: Path, fusion: Trained, base: Bundle, text: BundleText) -> None:
    """A bundle with a trained fusion network and the detector of `base`, as it is there."""
    draft = Draft(
        out=out,
        weights=base.tensors("detector.safetensors"),
        detector=base.manifest.detector,
        fusion=fusion,
        text=text,
    )
    draft.save({**base.manifest.metrics, "fusion": fusion.metrics})


def _finish(
    draft: Draft,
    cohort: Cohort,
    problems: list[str],
    say: Say,
    *,
    found: dict[str, Any] | None = None,
) -> None:
    """Sets the thresholds that are open on the validation split, with what was written, and writes
    again. `found` is how well the detector finds, where that is known from elsewhere."""
    draft.save({})
    say("detector: finding the operating point on the validation split")
    unfamiliarity_open = draft.detector["familiarity_threshold"] == _ANY_DISTANCE
    scored, measures = _measure(cohort, draft.out, problems, unfamiliarity=unfamiliarity_open)
    if not scored:
        raise InvalidInput(
            "cohort: expected images in the validation split to set the operating point, got none"
        )
    draft.detector["score_threshold"] = operating_point(scored, _FALSE_POSITIVES_PER_NORMAL)
    if unfamiliarity_open:
        draft.set_familiar(measures)
    if found is None:
        found = {"n": len(scored), "average_precision_at_0.5": average_precision(scored, 0.5)}
    draft.save(
        {
            "note": "measured on the cohort's validation split; `bonetumor evaluate` says the rest",
            "detection": found,
            "fusion": draft.fusion.metrics,
        }
    )
    report(problems, say)
    say(f"bundle {draft.text.version} written to {draft.out}: {found}")


def fusion_of(base: Bundle) -> Trained:
    """The fusion network of a bundle, as training would have left it."""
    return Trained(
        state=base.tensors("fusion.safetensors"),
        vocabulary=base.text("vocabulary.txt"),
        config=base.manifest.fusion,
        metrics=base.manifest.metrics.get("fusion", {}),
    )


def draft_of(
    out: Path,
    cohort: Cohort,
    checkpoint: Path,
    fusion: Trained,
    text: BundleText,
    problems: list[str],
) -> Draft:
    """A bundle of the network of a checkpoint, with all thresholds open. What is familiar is what
    the network makes of the cohort's train split."""
    noted = _training_of(checkpoint)
    known = {f.name for f in dataclasses.fields(DetectorTraining)}
    plan = DetectorTraining(**{k: v for k, v in noted.items() if k in known})
    weights = _rounded(plan.architecture, read_checkpoint(checkpoint))
    seen: Counter[str] = Counter()
    squares = _squares(cohort, plan, seen, problems)
    familiarity = _familiarity_of(weights, plan, squares)
    return Draft(
        out=out,
        weights={**weights, **familiarity.tensors()},
        detector={
            "architecture": plan.architecture,
            "image_size_px": plan.image_size_px,
            "content_px": plan.content_px,
            "score_threshold": _LEAST_SCORE,
            "iou_threshold": 0.45,
            "max_detections": 20,
            "mirrored": True,
            **dict.fromkeys(STRANGE, _ANY_DISTANCE),
            "beyond": sorted(w for w in BEYOND_LIMBS if seen[w] <= _STRAY * seen.total()),
            "training": noted,
        },
        fusion=fusion,
        text=text,
    )


def draft_together(out: Path, drafts: Sequence[Draft]) -> Draft:
    """A bundle of the networks of several, which were trained alike. What is familiar, and all
    else, is as the first has it."""
    first = drafts[0]
    networks = join_networks([without_familiarity(draft.weights) for draft in drafts])
    familiarity = take_familiarity(dict(first.weights))
    return dataclasses.replace(
        first,
        out=out,
        weights={**networks, **familiarity.tensors()},
        detector={**first.detector, "networks": len(drafts)},
    )


def _rounded(architecture: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights that lose nothing in bfloat16, so that all engines serve the same."""
    network = build_network(architecture, weights)
    round_weights(network)
    return network.state_dict()


def _familiarity_of(
    weights: dict[str, torch.Tensor], plan: DetectorTraining, squares: Iterable[NDArray[np.uint8]]
) -> Familiarity:
    """How training pictures, and drawn ones of trunk and head, look to the backbone."""
    engine = build_engine(
        build_network(plan.architecture, weights),
        side_px=plan.image_size_px,
        device="cpu",
        wanted="auto",
    )
    known, trunk = (
        np.concatenate(list(_summaries(engine, some))) for some in (squares, _trunks(plan))
    )
    return fit_familiarity(known, trunk)


def _summaries(engine: Engine, squares: Iterable[NDArray[np.uint8]]) -> Iterator[Summaries]:
    rest = iter(squares)
    while together := list(islice(rest, engine.batch)):
        yield engine(np.stack(together))[1]


def _trunks(plan: DetectorTraining) -> Iterator[NDArray[np.uint8]]:
    for pixels in _trunk_pictures(plan.image_size_px):
        yield letterbox(pixels, plan.image_size_px, plan.content_px)[0]


@lru_cache(maxsize=1)  # of folds each wants them, and to draw them takes longest
def _trunk_pictures(longest_px: int) -> tuple[NDArray[np.uint8], ...]:
    return tuple(
        np.asarray(draw_trunk(np.random.default_rng([0, n]), longest_px=longest_px) >> 4, np.uint8)
        for n in range(_TRUNKS)
    )


def _squares(
    cohort: Cohort, plan: DetectorTraining, seen: Counter[str], problems: list[str]
) -> Iterator[NDArray[np.uint8]]:
    """Images of patients with and without tumour, in the order of a hash; `seen` counts what they
    say of themselves."""
    records = sorted(
        cohort.of("train"), key=lambda record: hashlib.sha256(record.patient.encode()).digest()
    )
    for record in records[:_FAMILIARITY_PATIENTS]:
        for _, image in load_images(cohort, record, problems):
            seen.update(words_of(image.reference))
            yield letterbox(image.pixels, plan.image_size_px, plan.content_px)[0]


def _measure(
    cohort: Cohort, bundle: Path, problems: list[str], *, unfamiliarity: bool
) -> tuple[list[ScoredImage], list[tuple[float, float]]]:
    """What the detector finds on each validation image and, where that is asked for, how
    unfamiliar each is."""
    detector = YoloDetector(open_bundle(bundle), device="cpu")
    scored, measures = [], []
    for record, image in labelled(cohort, "validation", problems):
        found = detector.detect(image).detections
        scored.append(
            ScoredImage(
                patient=record.file,
                truth=record.boxes,
                found=tuple((d.box.as_tuple(), d.score) for d in found),
                longest_px=max(image.pixels.shape),
            )
        )
        if unfamiliarity:
            measures.append(detector.measure(image))
    return scored, measures


def origin_of(checkpoint: Path) -> Origin:
    """What a detector's checkpoint was trained on, as `fit_detector` noted it."""
    return read_origin(_work_of(checkpoint) / DETECTOR_ORIGIN, of=f"checkpoint {checkpoint.name}")


def _work_of(checkpoint: Path) -> Path:
    """The folder that `fit_detector` worked in: ultralytics puts checkpoints in run/weights."""
    return checkpoint.absolute().parent.parent.parent


def _training_of(checkpoint: Path) -> dict[str, Any]:
    """What `fit_detector` noted beside its checkpoints."""
    note = _work_of(checkpoint) / "training.json"
    return dict(json.loads(note.read_text())) if note.is_file() else {}
