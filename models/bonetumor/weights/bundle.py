"""A bundle: weights as safetensors, a vocabulary, and a manifest that names each file's SHA-256.

Nothing is unpickled, ever. A file that is absent, added or changed refuses the whole bundle.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from bonetumor.domain.errors import WeightsMismatch
from bonetumor.weights.installed import shipped_bundle, synthetic_bundle

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Bundle",
    "Entry",
    "Manifest",
    "open_bundle",
    "read_entry",
    "shipped_bundle",
    "synthetic_bundle",
    "write_bundle",
]

MANIFEST = "manifest.json"
FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle is, what it was trained on, and what it must not be used for."""

    name: str
    version: str
    training_data: str
    intended_use: str
    limits: str
    files: dict[str, str]
    detector: dict[str, Any]
    fusion: dict[str, Any]
    metrics: dict[str, Any]
    sha256: str


class Entry(BaseModel):
    """What of a manifest's entry a network needs; what else stands there are notes.

    NaN is refused with all that is no number: a threshold that nothing exceeds is a gate that is
    open.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


_E = TypeVar("_E", bound=Entry)


def read_entry(kind: type[_E], name: str, content: Mapping[str, Any]) -> _E:
    """The manifest's entry `name`; raises WeightsMismatch with the first field that is wrong."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in (name, *first["loc"]))
        raise WeightsMismatch(f"manifest: {place}: {first['msg']}") from error


class Bundle:
    """A folder whose files were checked against its manifest."""

    def __init__(self, folder: Path, manifest: Manifest, contents: dict[str, bytes]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._contents = contents

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of a safetensors file, as float32 where they are floating point."""
        try:
            loaded = load(self._contents[name])
        except (KeyError, SafetensorError) as error:
            raise WeightsMismatch(f"weights: expected safetensors in {name}, got none") from error
        return {k: t.float() if t.is_floating_point() else t for k, t in loaded.items()}

    def text(self, name: str) -> str:
        """A text file of the bundle."""
        if name not in self._contents:
            raise WeightsMismatch(f"weights: expected {name} in the bundle, got none")
        return self._contents[name].decode("utf-8")


def open_bundle(folder: Path) -> Bundle:
    """Reads and checks a bundle.

    Raises:
        WeightsMismatch: the manifest is absent or unreadable, or a file is not the one it names.
    """
    manifest = _read_manifest(folder)
    found = {p.name for p in folder.iterdir() if p.is_file()} - {MANIFEST}
    if found != set(manifest.files):
        raise WeightsMismatch(
            f"weights: expected the files {sorted(manifest.files)} in {folder}, got {sorted(found)}"
        )
    contents = {name: (folder / name).read_bytes() for name in manifest.files}
    for name, expected in manifest.files.items():
        actual = hashlib.sha256(contents[name]).hexdigest()
        if actual != expected:
            raise WeightsMismatch(
                f"weights: expected SHA-256 {expected[:16]}… for {name} in {folder}, "
                f"got {actual[:16]}…"
            )
    return Bundle(folder, manifest, contents)


def write_bundle(
    folder: Path,
    *,
    tensors: dict[str, dict[str, torch.Tensor]],
    texts: dict[str, str],
    description: dict[str, Any],
) -> None:
    """Writes a bundle: safetensors in 16 bits where they fit, texts, and the manifest.

    `description` holds the manifest's other fields: name, version, training_data, …
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {name: save(_shortened(state)) for name, state in tensors.items()}
    contents |= {name: text.encode("utf-8") for name, text in texts.items()}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    manifest = {"format": FORMAT, **description, "files": hashes}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def _shortened(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: _shorten(tensor).contiguous() for name, tensor in state.items()}


def _shorten(tensor: torch.Tensor) -> torch.Tensor:
    """In bfloat16 where that holds each value, else in half precision, unless a value is too large
    for that: a precision matrix may have such. Vectors are small and stay as they are."""
    if not tensor.is_floating_point() or tensor.dim() < 2:
        return tensor
    brain, half = tensor.bfloat16(), tensor.half()
    if torch.equal(brain.to(tensor.dtype), tensor):
        return brain
    return half if torch.isfinite(half).all() else tensor


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
        if content.pop("format") != FORMAT:
            raise WeightsMismatch(
                f"weights: expected manifest format {FORMAT}, got another in {path}"
            )
        manifest = Manifest(**content, sha256=hashlib.sha256(raw).hexdigest())
        _check_kinds(manifest)
        return manifest
    except OSError as error:
        raise WeightsMismatch(
            f"weights: expected a readable {path}, got {error.strerror}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsMismatch(
            f"weights: expected a manifest in {path}, got something else"
        ) from error


def _check_kinds(manifest: Manifest) -> None:
    """TypeError where a field is not of its kind: JSON has kinds of its own."""
    for field in fields(manifest):
        value, kind = getattr(manifest, field.name), str if field.type is str else dict
        if not isinstance(value, kind):
            raise TypeError(field.name)
