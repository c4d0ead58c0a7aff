"""What of the weights goes into a wheel or a source distribution.

The synthetic bundle always does. Another does if a person has confirmed the licence of each of its
sources (`licence_confirmed` in the manifest). Editable installs hold all that lies in the tree.
"""

import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WEIGHTS = "models/bonetumor/weights"
ALWAYS = "synthetic"


class ConfirmedWeights(BuildHookInterface):
    """Leaves out bundles with a source whose licence is not confirmed, and says so."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - as inherited
        """Excludes their folders, before files are collected."""
        if version == "editable":
            return
        target, common = self.build_config.target_config, self.build_config.build_config
        excluded = list(target.get("exclude", common.get("exclude", [])))
        for folder in sorted(p for p in Path(self.root, WEIGHTS).iterdir() if p.is_dir()):
            if folder.name == "__pycache__":
                continue
            reason = None if folder.name == ALWAYS else find_obstacle(folder / "manifest.json")
            if reason:
                excluded.append(f"/{WEIGHTS}/{folder.name}/")
                self.app.display_warning(f"weights/{folder.name} is left out: {reason}")
            else:
                self.app.display_info(f"weights/{folder.name} is in")
        target["exclude"] = excluded


def find_obstacle(manifest: Path) -> str | None:
    """Why a bundle may not be released; None if it may."""
    try:
        sources = json.loads(manifest.read_bytes()).get("sources")
    except (OSError, ValueError, AttributeError) as error:
        return f"expected a manifest, got {type(error).__name__}"
    if not isinstance(sources, list) or not sources:
        return "its manifest names no sources"
    unconfirmed = [_name(s) for s in sources if not _is_confirmed(s)]
    return f"licence not confirmed of {', '.join(unconfirmed)}" if unconfirmed else None


def _is_confirmed(source: Any) -> bool:
    return isinstance(source, dict) and source.get("licence_confirmed") is True


def _name(source: Any) -> str:
    return str(source.get("name")) if isinstance(source, dict) else "a source without a name"
