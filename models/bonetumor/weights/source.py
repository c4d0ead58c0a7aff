"""Where a bundle's knowledge comes from, and the credit that is due for it."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

CREDITS = "CREDITS.md"
_Text = Annotated[str, Field(min_length=1)]
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


class Source(BaseModel):
    """A data set, or other weights, that something was learnt from.

    Attributes:
        kind: `real` for pictures or weights of others, `synthetic` for what was drawn.
        credit: the citation that the source asks for.
        doi: without a resolver's address before it.
        licence: an identifier of the SPDX licence list, or words.
        licence_confirmed: whether a person has read the licence and it allows weights that were
            trained on the source to be passed on. Releases take no others.
        changes: what was done to the source before it was learnt from, which CC BY 4.0 wants said
            (section 3(a)(1)(B)).
        files_sha256: one hash for all its files that were used, see `cohort.fingerprint`; None
            where none was taken at the time.
        counts: how much of it was used, as patients or images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Text
    kind: Literal["real", "synthetic"]
    credit: _Text
    doi: _Text | None = None
    licence: _Text
    licence_confirmed: StrictBool
    changes: _Text
    files_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    counts: dict[str, int] = {}


def unstated_source(name: str, files_sha256: str | None, counts: dict[str, int]) -> Source:
    """A source of which nobody has said anything: it counts as real, its licence as unconfirmed."""
    return Source(
        name=name,
        kind="real",
        credit="not stated",
        licence="not stated",
        licence_confirmed=False,
        changes="not stated",
        files_sha256=files_sha256,
        counts=counts,
    )


def merge_sources(*groups: Iterable[Source]) -> tuple[Source, ...]:
    """All sources of the groups in their order; what is of one name and one hash stands once."""
    merged: dict[tuple[str, str | None], Source] = {}
    for group in groups:
        for source in group:
            merged.setdefault((source.name, source.files_sha256), source)
    return tuple(merged.values())


def credits_text(sources: Iterable[Source]) -> str:
    """The credits for all sources, in Markdown."""
    said = ["# Credits\n\nThese weights were trained on, or made from, the following sources."]
    return "\n\n".join([*said, *map(_credit, sources)]) + "\n"


def _credit(source: Source) -> str:
    state = "confirmed" if source.licence_confirmed else "not confirmed: not for release"
    lines = [
        f"## {source.name} ({source.kind})\n",
        source.credit,
        "",
        f"- Licence: {_licence(source.licence)} ({state})",
        f"- Changes: {source.changes}",
    ]
    if source.doi:
        lines.insert(3, f"- DOI: <https://doi.org/{source.doi}>")
    if source.counts:
        lines.append(f"- Used: {', '.join(f'{n} {what}' for what, n in source.counts.items())}")
    if source.files_sha256:
        lines.append(f"- SHA-256 of its files: `{source.files_sha256}`")
    return "\n".join(lines)


def _licence(stated: str) -> str:
    """With the licence's text where the statement is one word, which is an SPDX identifier."""
    if _SPDX.fullmatch(stated):
        return f"[{stated}](https://spdx.org/licenses/{stated}.html)"
    return stated
