"""DICOM validators, as the tests ask them."""

import subprocess
from pathlib import Path

from kit.servers import need


def dciodvfy(path: Path) -> str:
    """What dicom3tools says of an object; it holds "Error" if something is wrong."""
    done = subprocess.run(
        [need("dciodvfy"), "-new", str(path)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # it quotes values in whatever characters they have
        check=False,
    )
    return done.stderr
