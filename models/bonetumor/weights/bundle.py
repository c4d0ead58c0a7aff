"""A bundle: weights as safetensors, a vocabulary, and a manifest that names each file's SHA-256.

Nothing is unpickled, ever. A file that is absent, added or changed refuses the whole bundle.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_origin

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from bonetumor.domain.errors import WeightsMismatch
from bonetumor.weights.installed import shipped_bundle, synthetic_bundle
from bonetumor.weights.intended_use import IntendedUse
from bonetumor.weights.source import CREDITS, Source, credits_text, unstated_source

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
_SOURCES = TypeAdapter(list[Source])


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle is, what it was trained on, and what it must not be used for.

    `intended_use_statement` is the sentence that stood as the intended use before that was a closed
    choice. `sources` is empty in bundles from before there were any. `recipe` says how to make the
    weights again: plans, seeds, and the hashes of the cohorts.
    """

    name: str
    version: str
    training_data: str
    intended_use: IntendedUse
    intended_use_statement: str
    limits: str
    files: dict[str, str]
    detector: dict[str, Any]
    fusion: dict[str, Any]
    metrics: dict[str, Any]
    sources: tuple[Source, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    sha256: str

    @property
    def known_sources(self) -> tuple[Source, ...]:
        """The sources; a bundle that names none is itself one of which nothing is stated."""
        return self.sources or (unstated_source(f"bundle {self.version}", None, {}),)


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
    sources: tuple[Source, ...] = (),
) -> None:
    """Writes a bundle: safetensors in 16 bits where they fit, texts, the manifest, and for its
    sources the credits.

    `description` holds the manifest's other fields: name, version, training_data, …
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sources:
        texts = {**texts, CREDITS: credits_text(sources)}
        stated = [source.model_dump(mode="json", exclude_none=True) for source in sources]
        description = {**description, "sources": stated}
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
        content["sources"] = _read_sources(content.get("sources", []))
        content |= _read_intended_use(content)
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


def _read_sources(stated: Any) -> tuple[Source, ...]:
    """WeightsMismatch with the first field that is wrong: a credit must not be lost."""
    try:
        return tuple(_SOURCES.validate_python(stated))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("sources", *first["loc"]))
        raise WeightsMismatch(f"manifest: {place}: {first['msg']}") from error


def _read_intended_use(content: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing but the word opens more than research: a bundle without the field, or with a sentence
    as there was before, is for research, and the sentence is kept."""
    stated = content.get("intended_use", IntendedUse.RESEARCH.value)
    if stated in list(IntendedUse):
        return {
            "intended_use": IntendedUse(stated),
            "intended_use_statement": content.get("intended_use_statement", ""),
        }
    if not isinstance(stated, str):
        raise TypeError("intended_use")
    return {"intended_use": IntendedUse.RESEARCH, "intended_use_statement": stated}


def _check_kinds(manifest: Manifest) -> None:
    """TypeError where a field is not of its kind: JSON has kinds of its own."""
    for each in fields(manifest):
        kind: Any = get_origin(each.type) or each.type
        if not isinstance(getattr(manifest, each.name), kind):
            raise TypeError(each.name)
