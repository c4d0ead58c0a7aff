"""Training the detector: labelled pictures in, a checkpoint on disk out."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bonetumor.detection.letterbox import letterbox
from bonetumor.detection.vision import kept_threads, load_ultralytics
from bonetumor.detection.windows import INDEX
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import Corners
from bonetumor.radiograph.standard import standardise

Progress = Callable[[str], None]

_MOVED = {  # where the checkpoints that ultralytics published for YOLOv5 look for its parts
    "ultralytics.yolo.utils": "ultralytics.utils",
    "ultralytics.yolo.v8": "ultralytics.models.yolo",
    "ultralytics.yolo.data": "ultralytics.data",
}
# What torch and pickle say of files that are none of ours; ImportError of the first YOLOv5's,
# whose code is not ultralytics'.
_NO_CHECKPOINT = (
    OSError, EOFError, KeyError, AttributeError, RuntimeError, UnpicklingError, ImportError,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTraining:
    """How a detector is trained. Sizes are our choice; the paper's abstract names none.

    `content_px`: the longer side of standardised pictures, of which the network learns windows of
    `window_px` (`windows.Windows`), with `normals` normal windows for each with a lesion. None
    takes whole pictures as they are, and then `augmentation` says how much they are turned, scaled,
    lit otherwise and put together, 0 to 1; they are mirrored from left to right in any case.
    """

    architecture: str = "yolov5n.yaml"
    image_size_px: int = 640
    content_px: int | None = None
    window_px: int = 256
    normals: float = 0.7
    epochs: int = 10
    batch: int = 16
    learning_rate: float = 0.0015
    augmentation: float = 1.0
    seed: int = 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledPicture:
    """`pixels`: uint8, shape (rows, columns), as serving would see it; `boxes` (x0, y0, x1, y1)
    in its pixels, none on a normal picture; `source` where it comes from. A pass over windows shows
    one with a lesion `repeats` times."""

    name: str
    pixels: NDArray[np.uint8]
    boxes: tuple[Corners, ...]
    source: str = ""
    repeats: int = 1


def train_detector(
    plan: DetectorTraining,
    train: Iterable[LabelledPicture],
    validation: Iterable[LabelledPicture],
    folder: Path,
    say: Progress,
    *,
    start_from: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Trains and answers the path of the best checkpoint under `folder`.

    `start_from`: weights to begin with, of one channel or of three, widened (`widening.fitting`)
    if they are of a narrower architecture of equal depth; what of them does not fit is left out.
    A run that was cut off goes on from its last checkpoint if `folder` still holds it.

    Raises:
        InvalidInput: there is nothing to train on or to validate with, or to start from.
    """
    folder = folder.absolute()
    last = folder / "run" / "weights" / "last.pt"
    if last.is_file() and (folder / "data" / "data.yaml").is_file():
        if _is_finished(last):
            say(f"detector: {last.parent} is trained already")
            return last.with_name("best.pt")
        say(f"detector: going on from {last}")
        with kept_threads():
            _trainer(plan, folder, {"resume": str(last)}, None, say).train()
        return last.with_name("best.pt")
    # What does not fit is refused before the long preparation.
    network = _begun(plan, start_from, say)
    data = write_data({"train": train, "val": validation}, plan, folder, say)
    with kept_threads():
        _trainer(plan, folder, {"data": str(data)}, network, say).train()
    return last.with_name("best.pt")


def _begun(
    plan: DetectorTraining, start_from: dict[str, torch.Tensor] | None, say: Progress
) -> torch.nn.Module | None:
    """The network to train, where it does not begin with having learned nothing."""
    if start_from is None:
        return None
    load_ultralytics()
    from bonetumor.detection.trainer import begun

    return begun(plan.architecture, start_from, say, seed=plan.seed)


def _trainer(
    plan: DetectorTraining,
    folder: Path,
    source: dict[str, Any],
    network: torch.nn.Module | None,
    say: Progress,
) -> Any:
    load_ultralytics()
    from bonetumor.detection.trainer import BoneTrainer, WindowTrainer

    kind = BoneTrainer if plan.content_px is None else partial(WindowTrainer, plan)
    trainer: Any = kind(
        overrides={
            **source,
            "model": source.get("resume", plan.architecture),
            "imgsz": plan.image_size_px,
            "epochs": plan.epochs,
            "batch": plan.batch,
            "seed": plan.seed,
            "lr0": plan.learning_rate,
            "nbs": plan.batch,  # a step for every batch, not for every 64 images
            "warmup_bias_lr": 0.0,
            "optimizer": "AdamW",
            "deterministic": True,
            "amp": False,
            "plots": False,
            "device": _devices(),
            "project": str(folder),
            "name": "run",
            "exist_ok": True,
            "verbose": False,
            "single_cls": True,
            "fliplr": 0.5,
            "flipud": 0.2 * plan.augmentation,
            "degrees": 12.0 * plan.augmentation,
            "hsv_h": 0.0,
            "hsv_s": 0.0,
            "hsv_v": 0.3 * plan.augmentation,
            "scale": 0.4 * plan.augmentation,
            "mosaic": 0.3 * plan.augmentation,
            "close_mosaic": 2,
            "warmup_epochs": min(1.0, plan.epochs / 10),
            "cache": "ram",
            # Windows are learned for a fixed number of passes: no pass is chosen by the pictures
            # that figures and thresholds are taken from.
            "val": plan.content_px is None,
        }
    )
    if network is not None:
        trainer.model = network  # with several GPUs it travels to the process of each

    def report(trainer: Any) -> None:
        last = trainer.epoch >= trainer.epochs  # once more after it: the final figures
        if trainer.metrics and not last:  # of several GPUs' processes, the first has them
            say(_epoch_said(trainer))

    trainer.add_callback("on_fit_epoch_end", report)
    return trainer


def _is_finished(checkpoint: Path) -> bool:
    load_ultralytics()
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    return bool(saved.get("epoch", 0) < 0)  # ultralytics marks a finished run so


def _epoch_said(trainer: Any) -> str:
    return (
        f"detector: epoch {trainer.epoch + 1} of {trainer.epochs}, "
        f"mAP@0.5 {trainer.metrics.get('metrics/mAP50(B)', float('nan')):.3f} on validation"
    )


def _devices() -> Any:
    """Every GPU there is, or the processor."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return list(range(count)) if count else "cpu"


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint of ultralytics. Offline only: serving never unpickles.

    Unpickling runs whatever the file says: read those alone whose origin is known.

    Raises:
        InvalidInput: there is no network in it.
    """
    load_ultralytics()
    from ultralytics.nn.tasks import temporary_modules

    try:
        with temporary_modules(modules=_MOVED):
            checkpoint = torch.load(path, map_location="cpu", weights_only=False)
        state = (checkpoint.get("ema") or checkpoint["model"]).state_dict()
    except _NO_CHECKPOINT as error:
        raise InvalidInput(
            f"checkpoint: expected one of ultralytics in {path}, got {type(error).__name__}"
        ) from error
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def write_data(
    parts: dict[str, Iterable[LabelledPicture]], plan: DetectorTraining, folder: Path, say: Progress
) -> Path:
    """The pictures as a YOLO data set of letterboxed squares, and those to learn windows of as they
    are once standardised; answers its description's path."""
    root = folder / "data"
    shutil.rmtree(root, ignore_errors=True)
    for part, pictures in parts.items():
        (root / part / "images").mkdir(parents=True)
        (root / part / "labels").mkdir(parents=True)
        in_windows = part == "train" and plan.content_px is not None
        write = _write_standardised if in_windows else _write_square
        count = 0
        for count, picture in enumerate(pictures, start=1):
            write(root / part, f"{count:06d}", picture, plan)
            if count % 200 == 0:
                say(f"detector: {count} {part} pictures prepared")
        need_pictures(part, count)
    data = root / "data.yaml"
    data.write_text(
        f"path: {root}\ntrain: train/images\nval: val/images\nchannels: 1\nnames:\n  0: tumour\n"
    )
    return data


def need_pictures(part: str, count: int) -> None:
    """Raises InvalidInput if there are none for a part of the training, `train` or `val`."""
    if not count:
        raise InvalidInput(f"cohort: expected pictures for {part}, got none")


def _write_standardised(
    part: Path, name: str, picture: LabelledPicture, plan: DetectorTraining
) -> None:
    """A line more of the index of `windows.read_windows`."""
    content, kept = standardise(picture.pixels, plan.content_px or plan.image_size_px)
    file = f"images/{name}.png"
    Image.fromarray(content).save(part / file, compress_level=1)
    rows, columns = content.shape
    boxes = [
        np.clip(kept.moved(box, content.shape), 0, [columns, rows] * 2).tolist()
        for box in picture.boxes
    ]
    line = {"file": file, "boxes": boxes, "source": picture.source, "repeats": picture.repeats}
    with (part / INDEX).open("a") as index:
        index.write(json.dumps(line) + "\n")


def _write_square(part: Path, name: str, picture: LabelledPicture, plan: DetectorTraining) -> None:
    side_px = plan.image_size_px
    square, placed = letterbox(picture.pixels, side_px, plan.content_px)
    Image.fromarray(square).save(part / "images" / f"{name}.png", compress_level=1)
    lines = []
    for box in picture.boxes:
        x0, x1 = (v * placed.scale_x + placed.left for v in box[0::2])
        y0, y1 = (v * placed.scale_y + placed.top for v in box[1::2])
        lines.append(
            f"0 {(x0 + x1) / 2 / side_px:.6f} {(y0 + y1) / 2 / side_px:.6f} "
            f"{(x1 - x0) / side_px:.6f} {(y1 - y0) / side_px:.6f}\n"
        )
    (part / "labels" / f"{name}.txt").write_text("".join(lines))
