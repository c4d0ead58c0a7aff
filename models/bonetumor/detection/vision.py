"""The one door to ultralytics, which is kept offline, quiet and without telemetry."""

import importlib
import os
import tempfile
from types import ModuleType

from bonetumor.weights.vision import load_torchvision

_OFFLINE = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_VERBOSE": "False"}


def load_ultralytics() -> ModuleType:
    """ultralytics, ready to use without a network."""
    for name, value in _OFFLINE.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
    load_torchvision()
    module = importlib.import_module("ultralytics")
    module.settings.update({k: False for k, v in module.settings.items() if isinstance(v, bool)})
    return module
