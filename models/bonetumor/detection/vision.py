"""The one door to ultralytics, which is kept offline, quiet and without telemetry."""

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
    open_picture = Image.open
    with kept_threads():
        # Else it sets 1, for everybody.
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
        module = importlib.import_module("ultralytics")
    # It replaces Pillow's open by one that wants a HEIF reader whenever a picture is unreadable.
    Image.open = open_picture
    module.settings.update({k: False for k, v in module.settings.items() if isinstance(v, bool)})
    return module


@contextmanager
def kept_threads() -> Iterator[None]:
    """torch has as many threads afterwards as before: ultralytics takes some from the whole
    process, and sums round by how many share them."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
