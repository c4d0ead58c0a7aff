"""ultralytics' trainer, in half precision on processors that compute in it.

Its own mixed precision knows CUDA only. bfloat16 and channels-last memory made a training step of
yolov5n at 640 px 2.3 times faster on a processor with AVX-512 BF16 (228 → 97 ms an image).
Imported only after `load_ultralytics`.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel

from bonetumor.detection.beginning import STEM, describe_taken, described_stem, greyed
from bonetumor.detection.widening import fitting
from bonetumor.detection.windows import Windows, read_windows
from bonetumor.domain.errors import InvalidInput
from bonetumor.weights.precision import half_precision

if TYPE_CHECKING:
    from bonetumor.detection.train import DetectorTraining

_AVERAGED = 0.1


class BoneModel(DetectionModel):
    """YOLOv5 that runs its training passes under automatic mixed precision."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """A batch gives losses, a tensor predictions, as in the parent."""
        if not self.training:
            return super().forward(x, *args, **kwargs)
        with half_precision(next(self.parameters()).device):
            return super().forward(x, *args, **kwargs)


def begun(
    architecture: str, weights: Mapping[str, torch.Tensor], say: Callable[[str], None], *, seed: int
) -> BoneModel:
    """A network of one channel and one class that begins with `weights`, widened if they are of
    a narrower one of equal depth (`widening.fitting`). Three channels become one (`greyed`), and a
    head for other classes is left out, tensor by tensor. What was taken is said.

    Raises:
        InvalidInput: they are of a wider network or of none of the kind.
    """
    model = BoneModel(architecture, nc=1, ch=1, verbose=False)
    own = model.state_dict()
    fits = fitting(greyed(weights), own, seed=seed)
    if STEM not in fits:
        raise InvalidInput(
            f"detector: expected weights of {architecture}, or of a narrower one, to start from, "
            f"with {STEM} of shape {tuple(own[STEM].shape)}, got {described_stem(weights)}"
        )
    say(f"detector: {describe_taken(weights, fits, own)}")
    model.load_state_dict(fits, strict=False)
    model.to(memory_format=torch.channels_last)
    return model


class BoneTrainer(DetectionTrainer):
    """Builds our model, gives it channels-last batches, and uses every core.

    Made for few passes over many images, where the parent's habits do not fit: its learning rate
    falls once an epoch, so that the last of five is spent at a fifth of the first rate, and its
    average of the weights needs 2,000 steps to begin with. Here the rate falls with every step,
    and the average is over the last tenth of all steps.
    """

    def _setup_train(self) -> None:
        super()._setup_train()
        if self.device.type == "cpu":  # where the parent leaves one core, of two, unused
            torch.set_num_threads(os.cpu_count() or 1)
        window = max(1.0, len(self.train_loader) * self.epochs * _AVERAGED)
        self.ema.decay = lambda steps: min(steps / (steps + 1), 1 - 1 / window)

    def optimizer_step(self) -> None:
        """As the parent, once the rate has been set that the step is due."""
        steps, of_epoch = self.ema.updates, len(self.train_loader)
        if steps >= self._get_warmup_iterations(of_epoch):
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * self.lf(steps / of_epoch)
        super().optimizer_step()

    def _get_warmup_iterations(self, num_batches: int) -> int:
        """In the only epoch, too, where the parent would begin at the full rate."""
        return round(float(self.args.warmup_epochs) * num_batches)

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = False) -> BoneModel:
        """A network that has learned nothing, or that of a run that goes on."""
        model = BoneModel(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose)
        if weights:
            model.load(weights)
        model.to(memory_format=torch.channels_last)
        return model

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As the parent, in channels-last memory."""
        batch = super().preprocess_batch(batch)
        batch["img"] = batch["img"].to(memory_format=torch.channels_last)
        return batch


class WindowTrainer(BoneTrainer):
    """Learns windows of standardised pictures instead of ultralytics' own variations of squares."""

    def __init__(self, plan: "DetectorTraining", *args: Any, **kwargs: Any) -> None:
        self._plan = plan
        super().__init__(*args, **kwargs)

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Windows to train on; whole squares, as serving sees them, to validate with."""
        if mode != "train":
            return super().build_dataset(img_path, mode, batch)
        return self._windows(Path(img_path).parent)

    def _windows(self, folder: Path) -> Windows:
        plan = self._plan
        return read_windows(
            folder,
            side_px=plan.window_px,
            scale=plan.image_size_px / (plan.content_px or plan.image_size_px),
            normals=plan.normals,
            seed=plan.seed,
        )
