"""Training the detector on phantom radiographs, from seed to a checkpoint on disk."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bonetumor.detection.letterbox import letterbox
from bonetumor.detection.vision import load_ultralytics
from bonetumor.detection.yolo import build_network, summarise
from bonetumor.phantom.patient import draw_normal, draw_patient
from bonetumor.phantom.radiograph import Radiograph

Progress = Callable[[str], None]
Render = Callable[[Radiograph], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTraining:
    """How a detector is trained. Sizes are our choice; the paper's abstract names none."""

    architecture: str = "yolov5n.yaml"
    image_size_px: int = 512
    patients: int = 448
    normals: int = 64
    validation: int = 96
    epochs: int = 28
    batch: int = 16
    seed: int = 7


def train_detector(plan: DetectorTraining, render: Render, folder: Path, say: Progress) -> Path:
    """Draws a cohort, trains on it, answers the path of the best checkpoint.

    `render` is the pixel pipeline that serving uses: training sees what serving will see.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = _write_data(plan, render, folder, say)
    ultralytics = load_ultralytics()
    model = ultralytics.YOLO(plan.architecture)
    model.train(
        data=str(data),
        imgsz=plan.image_size_px,
        epochs=plan.epochs,
        batch=plan.batch,
        seed=plan.seed,
        deterministic=True,
        optimizer="AdamW",
        lr0=0.002,
        amp=False,
        plots=False,
        device=0 if torch.cuda.is_available() else "cpu",
        workers=0,
        project=str(folder),
        name="run",
        exist_ok=True,
        verbose=False,
        single_cls=True,
        fliplr=0.5,
        flipud=0.3,
        degrees=15.0,
        hsv_h=0.0,
        hsv_s=0.0,
        hsv_v=0.4,
        scale=0.5,
        mosaic=0.5,
        close_mosaic=5,
        cache="ram",
    )
    return folder / "run" / "weights" / "best.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Familiarity:
    """Mean and precision matrix of the backbone's summaries of training pictures."""

    mean: torch.Tensor
    precision: torch.Tensor


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The weights of our own checkpoint. Training only: serving never unpickles."""
    load_ultralytics()
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    network = checkpoint.get("ema") or checkpoint["model"]
    return {k: v.float() if v.is_floating_point() else v for k, v in network.state_dict().items()}


def fit_familiarity(
    state: dict[str, torch.Tensor], plan: DetectorTraining, squares: Iterable[NDArray[np.uint8]]
) -> Familiarity:
    """How training pictures look to the backbone, with a shrunken covariance."""
    network = build_network(plan.architecture, state)
    summaries = torch.stack([summarise(network, square)[1] for square in squares])
    mean = summaries.mean(dim=0)
    covariance = torch.cov(summaries.T)
    shrunken = 0.7 * covariance + 0.3 * covariance.diagonal().mean() * torch.eye(len(mean))
    return Familiarity(mean=mean, precision=torch.linalg.inv(shrunken))


def _write_data(plan: DetectorTraining, render: Render, folder: Path, say: Progress) -> Path:
    root = folder / "data"
    shutil.rmtree(root, ignore_errors=True)
    for part, count, normals, first in (
        ("train", plan.patients, plan.normals, 0),
        ("val", plan.validation, plan.validation // 4, 1_000_000),
    ):
        (root / part / "images").mkdir(parents=True)
        (root / part / "labels").mkdir(parents=True)
        for index in range(count):
            patient = draw_patient(plan.seed, first + index)
            _write_image(root / part, f"p{index}", patient.radiograph, render, plan.image_size_px)
            if index % 100 == 0:
                say(f"{part}: {index} of {count} radiographs drawn")
        for index in range(normals):
            image = draw_normal(plan.seed, first + index)
            _write_image(root / part, f"n{index}", image, render, plan.image_size_px)
    data = root / "data.yaml"
    data.write_text(
        f"path: {root}\ntrain: train/images\nval: val/images\nchannels: 1\nnames:\n  0: tumour\n"
    )
    return data


def _write_image(part: Path, name: str, image: Radiograph, render: Render, side_px: int) -> None:
    square, placed = letterbox(render(image), side_px)
    Image.fromarray(square).save(part / "images" / f"{name}.png")
    line = ""
    if image.box is not None:
        x0, x1 = (v * placed.scale_x + placed.left for v in image.box[0::2])
        y0, y1 = (v * placed.scale_y + placed.top for v in image.box[1::2])
        line = (
            f"0 {(x0 + x1) / 2 / side_px:.6f} {(y0 + y1) / 2 / side_px:.6f} "
            f"{(x1 - x0) / side_px:.6f} {(y1 - y0) / side_px:.6f}\n"
        )
    (part / "labels" / f"{name}.txt").write_text(line)
