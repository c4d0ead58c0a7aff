"""Which patients of a data set may be one person: near copies, and the authors' own file names.

A data set that names no patients is read by a proxy, and the proxy is never quite right. What shows
one person under two of its names joins them to a group, and a group lies in one split.
"""

import csv
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bonetumor.domain.errors import InvalidInput

_SIDES_PX = (32, 64)
_ALIKE = 0.98
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

# As BTXRD's authors name their files. Centre 1, patients with a tumour: a number in a list of one
# hospital, sex, age, …, the view (b1-F-48-…-1). The lists of benign and of malignant tumours each
# begin with 1, so that the number alone is not a person.
_LISTED = re.compile(r"([A-Za-z]+\d+)-([MF])-(\d+)-")
# Centre 2: the case, and the view in parentheses (15m-osteosarcoma-6 (2)).
_CASE = re.compile(r"(.+?)(?: \(\d+\))?")
# Centre 3: age, sex, finding and the view (12w…2). A name of centre 1's normals has an underscore
# (10m_1): it counts pictures of one age and sex, not persons.
_VIEWED = re.compile(r"(\d+[A-Za-z][^_]*?)\d*")
_FORMS: Mapping[str, re.Pattern[str]] = {"1": _LISTED, "2": _CASE, "3": _VIEWED}


def find_copies(files: Sequence[Path]) -> list[tuple[int, int]]:
    """The pairs of pictures, by their places, of which one is nearly a copy of the other.

    They correlate above 0.98 at 32 or at 64 pixels a side, whatever their sizes, file formats and
    overall brightness. A picture that is even or cannot be read is like no other.
    """
    if not files:
        return []
    alike = np.zeros((len(files), len(files)), bool)
    small = [_small(file) for file in files]
    for number in range(len(_SIDES_PX)):
        features = np.stack([_normalised(sizes[number]) for sizes in small])
        alike |= features @ features.T > _ALIKE
    return [(int(a), int(b)) for a, b in np.argwhere(np.triu(alike, 1))]


def person_of(name: str, centre: str) -> Hashable | None:
    """Whom a file name of BTXRD's authors means; None where it does not say.

    `name`: the name with or without its suffix. Two names of one person give the same answer; at
    centre 3 two persons of equal age, sex and finding do too, because their names are alike.
    """
    form = _FORMS.get(centre)
    stem = re.sub(r"\.[A-Za-z]+$", "", name.strip())
    found = form and (form.match(stem) if form is _LISTED else form.fullmatch(stem))
    return (centre, *found.groups()) if found else None


def read_names(files: Iterable[Path]) -> dict[str, set[str]]:
    """The authors' names of each image of BTXRD, by the stem of its file name.

    `files`: CSV in UTF-8 with the columns `image_id` and `Original Name`, as the sheets that the
    authors publish have them.

    Raises:
        InvalidInput: one of them cannot be read, or lacks a column.
    """
    names: dict[str, set[str]] = {}
    for file in files:
        try:
            table = list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))
        except (OSError, ValueError, csv.Error) as error:
            raise InvalidInput(
                f"names: expected {file.name} as CSV in UTF-8 (save the sheet as “CSV UTF-8”), "
                f"got {type(error).__name__}"
            ) from error
        if not table or not {"image_id", "Original Name"} <= set(table[0]):
            got = ", ".join(map(str, table[0])) if table else "no row"
            raise InvalidInput(
                f"names: expected the columns image_id and Original Name in {file.name}, got {got}"
            )
        for row in table:
            if row["image_id"] and row["Original Name"]:
                names.setdefault(Path(row["image_id"].strip()).stem, set()).add(
                    row["Original Name"]
                )
    return names


def join_places(count: int, joins: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` places the first place that joins, one after another, lead it to."""
    pairs = np.array(list(joins), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return [int(first[label]) for label in labels]


def _small(file: Path) -> list[NDArray[np.float32]]:
    """The picture, squashed to each of the sides; even where it cannot be read."""
    try:
        with Image.open(file) as picture:
            picture.draft("L", (4 * _SIDES_PX[-1],) * 2)  # JPEG is decoded small: far quicker
            grey = picture.convert("F" if picture.mode.startswith(("I", "F")) else "L")
            return [
                np.asarray(grey.resize((side, side), Image.Resampling.BILINEAR), np.float32)
                for side in _SIDES_PX
            ]
    except _UNREADABLE:
        return [np.zeros((side, side), np.float32) for side in _SIDES_PX]


def _normalised(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels in a row, of mean 0 and length 1, so that products are correlations."""
    row = picture.ravel() - picture.mean()
    length = float(np.linalg.norm(row))
    return row / length if length > 1e-3 else np.zeros_like(row)
