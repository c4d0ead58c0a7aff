"""What ultralytics hands to the process of each GPU. No GPU is needed to see it."""

from pathlib import Path

import numpy as np
import torch

from bonetumor.detection.train import DetectorTraining, LabelledPicture, train_detector
from bonetumor.detection.vision import load_ultralytics

PLAN = DetectorTraining(image_size_px=64, epochs=1, batch=2)


def _handed_over(monkeypatch, folder, start_from):
    """The trainer as the process of a GPU makes it anew."""
    load_ultralytics()
    from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file
    from ultralytics.utils.patches import torch_load

    from bonetumor.detection.trainer import BoneTrainer

    trainers = []

    def kept(trainer):
        trainers.append(trainer)

    monkeypatch.setattr(BoneTrainer, "train", kept)
    picture = LabelledPicture(name="a", pixels=np.zeros((64, 64), np.uint8), boxes=())
    train_detector(PLAN, [picture], [picture], folder, print, start_from=start_from)
    script = generate_ddp_file(trainers[0])
    try:
        state = torch_load(Path(script).with_suffix(".pt"), map_location="cpu")
    finally:
        ddp_cleanup(trainers[0], script)
    trainer = state["trainer"](overrides=state["args"], _callbacks=state["callbacks"])
    trainer.model = state["model"]
    return trainer


def test_each_begins_with_the_weights_to_start_from(tmp_path, monkeypatch):
    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    weights = DetectionModel(PLAN.architecture, ch=1, nc=1, verbose=False).state_dict()
    trainer = _handed_over(monkeypatch, tmp_path, weights)
    trainer.setup_model()
    begun = trainer.model.state_dict()
    assert begun.keys() == weights.keys()
    assert all(torch.equal(begun[name], weights[name]) for name in weights)


def test_the_first_alone_has_figures_to_tell(tmp_path, monkeypatch, capsys):
    trainer = _handed_over(monkeypatch, tmp_path, None)
    trainer.epoch, trainer.metrics = 0, None  # as ultralytics leaves it to the others
    trainer.run_callbacks("on_fit_epoch_end")
    assert not capsys.readouterr().out
    trainer.metrics = {"metrics/mAP50(B)": 0.25}
    trainer.run_callbacks("on_fit_epoch_end")
    assert "epoch 1 of 1, mAP@0.5 0.250" in capsys.readouterr().out
