"""What a cohort's files come from: `sources.json` beside `cohort.jsonl`, and how it is checked.

    [{"name": "Hospital A", "kind": "real", "credit": "Author et al., Journal 1:2 (2024)",
      "doi": "10.1000/182", "licence": "CC-BY-4.0", "licence_confirmed": true,
      "changes": "reduced to 1024 px", "files": ["images/a-*"],
      "files_sha256": "…", "counts": {"patients": 300}}]

`files` are patterns as of a shell, and `*` takes slashes too, for the files that the lines of
`cohort.jsonl` name (images, slides, fhir); without it all of them belong to the source. An empty
list says that the source is in the pictures but none of its files in the cohort, as with normals
that tumours were painted into: its hash and counts are then taken as they are stated. `doi`,
`files_sha256` and `counts` may be absent. Each file belongs to at least one source.
"""

import glob
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bonetumor.cohort.fingerprint import fingerprint_files
from bonetumor.cohort.record import Cohort, PatientRecord
from bonetumor.domain.errors import InvalidInput
from bonetumor.weights.source import Source, unstated_source

SOURCES = "sources.json"


class CohortSource(Source):
    """A source, and which of the cohort's files are of it."""

    files: tuple[str, ...] = ("*",)

    def takes(self, file: str) -> bool:
        """Whether a file of the cohort is of this source."""
        return any(fnmatchcase(file, pattern) for pattern in self.files)

    def measured(self, files_sha256: str | None, counts: dict[str, int]) -> Source:
        """The source as a bundle states it, with what was found."""
        stated = self.model_dump(exclude={"files", "files_sha256", "counts"})
        return Source(**stated, files_sha256=files_sha256, counts=counts)


_LIST = TypeAdapter(list[CohortSource])


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSources:
    """The sources as they were found, and where that is not what `sources.json` states."""

    sources: tuple[Source, ...]
    differing: tuple[str, ...]


def read_sources(folder: Path) -> tuple[CohortSource, ...]:
    """The sources that `sources.json` in a folder states; none where there is no such file.

    Raises:
        InvalidInput: the file cannot be read, or a field of it is wrong.
    """
    path = folder / SOURCES
    try:
        return tuple(_LIST.validate_json(path.read_bytes()))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InvalidInput(
            f"sources: expected a readable {SOURCES} in {folder}, got {error.strerror}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"sources: {SOURCES} in {folder}: {place}: {first['msg']}") from error


def write_sources(folder: Path, sources: Iterable[CohortSource]) -> None:
    """Writes `sources.json`."""
    content = [source.model_dump(mode="json", exclude_none=True) for source in sources]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SOURCES).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def measure_sources(cohort: Cohort) -> MeasuredSources:
    """The cohort's sources, each with the hash and the counts of its files as they are now.

    A source without any file in the cohort is left out, and said to be absent. A cohort without
    `sources.json` is one source of which nothing is stated.

    Raises:
        InvalidInput: `sources.json` cannot be used, or a file of the cohort is of no source.
    """
    files = files_of(cohort.patients)
    stated = read_sources(cohort.folder)
    if not stated:
        name = cohort.folder.resolve().name
        found, _ = _fingerprint(cohort.folder, files)
        source = unstated_source(name, found, _count(cohort.patients, files))
        return MeasuredSources(sources=(source,), differing=())
    _refuse_uncredited(stated, files)
    sources, differing = [], []
    for each in stated:
        measured, differs = _measure(cohort, each, [f for f in files if each.takes(f)])
        sources += [measured] if measured else []
        differing += [differs] if differs else []
    return MeasuredSources(sources=tuple(sources), differing=tuple(differing))


def files_of(patients: Iterable[PatientRecord]) -> list[str]:
    """Every file that the lines of a cohort name, once each: images, slides, fhir."""
    files: dict[str, None] = {}
    for record in patients:
        files |= dict.fromkeys(_files(record))
    return list(files)


def join_sources(cohorts: Sequence[Cohort], folder: Path) -> tuple[CohortSource, ...]:
    """The sources of several cohorts, as `sources.json` of the one that is joined in `folder`."""
    joined = []
    for cohort in cohorts:
        way = os.path.relpath(cohort.folder.resolve(), folder.resolve())
        before = glob.escape(Path(way).as_posix())
        joined += [
            source.model_copy(update={"files": tuple(f"{before}/{p}" for p in source.files)})
            for source in read_sources(cohort.folder) or [unstated_cohort(cohort)]
        ]
    return tuple(joined)


def unstated_cohort(cohort: Cohort) -> CohortSource:
    """The one source, of which nothing is stated, of a cohort without `sources.json`."""
    source = unstated_source(cohort.folder.resolve().name, None, {})
    return CohortSource(**source.model_dump())


def _measure(
    cohort: Cohort, stated: CohortSource, files: list[str]
) -> tuple[Source | None, str | None]:
    """The source as it is, if anything is left of it, and how it differs from what is stated."""
    if not stated.files:
        return stated.measured(stated.files_sha256, stated.counts), None
    found, there = _fingerprint(cohort.folder, files)
    if not there:
        return None, f"{stated.name}: expected files like {', '.join(stated.files)}, got none"
    source = stated.measured(found, _count(cohort.patients, there))
    if stated.files_sha256 in (None, found):
        return source, None
    absent = f", {len(files) - len(there)} absent" if len(there) < len(files) else ""
    return source, (
        f"{stated.name}: expected files_sha256 {str(stated.files_sha256)[:16]}…, got "
        f"{found[:16]}… over {len(there)} files{absent}"
    )


def _fingerprint(folder: Path, files: Iterable[str]) -> tuple[str, list[str]]:
    """The hash of those that are there, and which these are."""
    there = [file for file in files if (folder / file).is_file()]
    return fingerprint_files(folder / file for file in there), there


def _refuse_uncredited(stated: Iterable[CohortSource], files: Iterable[str]) -> None:
    left = [file for file in files if not any(source.takes(file) for source in stated)]
    if left:
        raise InvalidInput(
            f"sources: expected each file of the cohort in a source of {SOURCES}, "
            f"got {len(left)} in none, first {left[0]}"
        )


def _count(patients: Iterable[PatientRecord], files: Iterable[str]) -> dict[str, int]:
    own = set(files)
    shown = [record for record in patients if not own.isdisjoint(_files(record))]
    return {
        "patients": len(shown),
        "normals": sum(record.is_normal for record in shown),
        "images": sum(image.file in own for record in shown for image in record.images),
        "slides": sum(slide in own for record in shown for slide in record.slides),
    }


def _files(record: PatientRecord) -> list[str]:
    images = [image.file for image in record.images]
    return [*images, *record.slides, *([record.fhir] if record.fhir else [])]
