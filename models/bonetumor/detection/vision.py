"""The one door to ultralytics, which is kept offline, quiet and without telemetry."""

import importlib
import os
import tempfile
from types import ModuleType

import torch
from PIL import Image

from bonetumor.weights.vision import load_torchvision

_OFFLINE = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_VERBOSE": "False"}


def load_ultralytics() -> ModuleType:
    """ultralytics, ready to use without a network."""
    for name, value in _OFFLINE.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
    load_torchvision()
    open_picture, threads = Image.open, torch.get_num_threads()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # else it sets 1, for everybody
    module = importlib.import_module("ultralytics")
    # It replaces Pillow's open by one that wants a HEIF reader whenever a picture is unreadable.
    Image.open = open_picture
    torch.set_num_threads(threads)
    module.settings.update({k: False for k, v in module.settings.items() if isinstance(v, bool)})
    return module
