"""The side of the slide tiles that a bundle's network learned on, for processes without torch."""

import json
from pathlib import Path

from bonetumor.domain.errors import WeightsMismatch
from bonetumor.weights.installed import shipped_bundle


def tile_px_of(bundle: Path | None) -> int:
    """In pixels, from the manifest of a bundle's folder; None is the shipped bundle.

    The files of the bundle are not checked, because that takes reading all of them: whoever runs
    the networks does (`bundle.open_bundle`).

    Raises:
        WeightsMismatch: the manifest is absent or unreadable, or does not say.
    """
    folder = bundle or shipped_bundle()
    try:
        tile_px = json.loads((folder / "manifest.json").read_bytes())["fusion"]["tile_px"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsMismatch(
            f"weights: expected fusion.tile_px in the manifest of {folder}, "
            f"got {type(error).__name__}"
        ) from error
    if not isinstance(tile_px, int) or tile_px < 1:
        raise WeightsMismatch(
            f"weights: expected fusion.tile_px of at least 1 in {folder}, got {tile_px}"
        )
    return tile_px
