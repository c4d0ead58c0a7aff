"""Which bundles lie in this installation. Without torch: whoever only needs the folder may ask."""

from importlib.resources import files
from pathlib import Path


def shipped_bundle() -> Path:
    """The folder of the bundle that serves where settings name none: the one that was trained on
    real patients if the installation has it, else the synthetic one.

    A folder that is there is the answer even if it is damaged: opening it then says what is wrong.
    """
    real = _weights() / "real"
    return real if real.is_dir() else synthetic_bundle()


def synthetic_bundle() -> Path:
    """The folder of the bundle that knows synthetic patients only. It is always there."""
    return _weights() / "synthetic"


def _weights() -> Path:
    return Path(str(files("bonetumor.weights")))
