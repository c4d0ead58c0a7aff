"""What a cohort was when something was learnt from it, noted so that a bundle can state it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bonetumor.cohort.fingerprint import fingerprint_files
from bonetumor.cohort.record import FILE, Cohort
from bonetumor.cohort.sources import files_of, measure_sources, read_sources
from bonetumor.domain.errors import InvalidInput
from bonetumor.weights.source import Source, unstated_source


class Origin(BaseModel):
    """A cohort by name and hashes, its sources, and how these differ from what it states.

    `cohort_sha256` is of `cohort.jsonl`, which holds the labels; `files_sha256` of all its files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cohort: str
    cohort_sha256: str | None = None
    files_sha256: str | None = None
    sources: tuple[Source, ...]
    differing: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """For the recipe in a manifest, which has the sources apart."""
        content = self.model_dump(mode="json", exclude={"sources"})
        return {key: value for key, value in content.items() if value}


def trace_origin(cohort: Cohort, say: Callable[[str], None]) -> Origin:
    """Hashes the cohort's files, and says which source is absent or differs from what it states.

    Raises:
        InvalidInput: the cohort's `sources.json` cannot be used.
    """
    measured = measure_sources(cohort)
    for differs in measured.differing:
        say(f"source differs: {differs}")
    there = [path for file in files_of(cohort.patients) if (path := cohort.folder / file).is_file()]
    return Origin(
        cohort=cohort.folder.resolve().name,
        cohort_sha256=hashlib.sha256((cohort.folder / FILE).read_bytes()).hexdigest(),
        files_sha256=fingerprint_files(there),
        sources=measured.sources,
        differing=measured.differing,
    )


def sources_of_weights(folder: Path) -> tuple[Source, ...]:
    """The sources of weights of others that training begins with: what `sources.json` in their
    folder states, else one source of which nothing is stated."""
    stated = read_sources(folder)
    if not stated:
        return (unstated_source(folder.resolve().name, None, {}),)
    return tuple(source.measured(source.files_sha256, source.counts) for source in stated)


def note_origin(origin: Origin, file: Path) -> None:
    """Writes it beside what was trained."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(origin.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_origin(file: Path, *, of: str) -> Origin:
    """What `note_origin` wrote. Where nothing was noted, `of` itself is a source of which nothing
    is stated, so that it is not taken for one that may be released.

    Raises:
        InvalidInput: the note cannot be read.
    """
    if not file.is_file():
        return Origin(cohort="not noted", sources=(unstated_source(of, None, {}),))
    try:
        return Origin.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise InvalidInput(f"training: expected the note of an origin in {file}") from error
