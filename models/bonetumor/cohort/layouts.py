"""Where data sets in YOLO's layouts keep their pictures and labels: ultralytics' and Roboflow's.

- `images/` and `labels/`, perhaps with `train`, `val` and `test` below each;
- `train/images` and `train/labels`, and `valid` or `val`, and `test`, likewise (Roboflow);
- a `data.yaml` whose `train`, `val` and `test` name folders of pictures, or text files that list
  them, below its `path` (https://docs.ultralytics.com/datasets/detect/).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from bonetumor.cohort.record import Split
from bonetumor.domain.errors import InvalidInput

PICTURES = (".jpeg", ".jpg", ".png", ".tif", ".tiff")
SPLITS: Mapping[str, Split] = {
    "train": "train", "val": "validation", "valid": "validation", "test": "test",
}  # fmt: skip
_BESIDE_PICTURES = (".txt", ".cache", ".npy")  # labels and what ultralytics keeps there
Picture = tuple[Path, Split | None]


def find_pictures(folder: Path, problems: list[str]) -> list[Picture]:
    """The pictures of a data set, each with its split where the layout names one.

    What is no picture, is not there, or is in two splits is named in `problems`.

    Raises:
        InvalidInput: a `data.yaml` that is no YAML.
    """
    found: dict[Path, Split | None] = {}
    for picture, split in _described(folder, problems) or _in_folders(folder, problems):
        if found.setdefault(picture, split) != split:
            problems.append(
                f"{picture.name}: expected a picture in one split, got it in {found[picture]} and "
                f"{split}; taken for the first"
            )
    return list(found.items())


def label_of(picture: Path) -> Path:
    """The label of a picture, as ultralytics looks for it: below `labels` where the picture lies
    below `images`, else beside it."""
    parts = list(picture.with_suffix(".txt").parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts)


def _in_folders(folder: Path, problems: list[str]) -> Iterator[Picture]:
    """Pictures of a layout that its folders alone describe."""
    images = folder / "images"
    for picture in _below(images, problems):
        yield picture, SPLITS.get(picture.relative_to(images).parts[0])
    for name, split in SPLITS.items():
        for picture in _below(folder / name / "images", problems):
            yield picture, split


def _described(folder: Path, problems: list[str]) -> list[Picture]:
    """Pictures of the places that `data.yaml`, or the only other YAML file, names."""
    files = sorted(f for f in folder.glob("*.y*ml") if f.suffix in (".yaml", ".yml"))
    chosen = [f for f in files if f.stem == "data"] or files
    if len(chosen) != 1:
        return []
    content = _read_yaml(chosen[0])
    root = _root(folder, content)
    return [
        (picture, split)
        for name, split in SPLITS.items()
        for place in _listed(content.get(name))
        for picture in _pictures_at(place, (root, folder), problems)
    ]


def _read_yaml(file: Path) -> Mapping[str, object]:
    try:
        content = yaml.safe_load(file.read_text("utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput(
            f"cohort: expected readable YAML in {file.name}, got {type(error).__name__}"
        ) from error
    return content if isinstance(content, dict) else {}


def _root(folder: Path, content: Mapping[str, object]) -> Path:
    """`path`, if it is there: it may be of the machine where the data set was made."""
    stated = folder / str(content.get("path") or ".")
    return stated if stated.is_dir() else folder


def _listed(value: object) -> Sequence[str]:
    """One place or several."""
    if isinstance(value, str):
        return [value]
    return [str(place) for place in value] if isinstance(value, list) else []


def _pictures_at(place: str, roots: Sequence[Path], problems: list[str]) -> Iterator[Path]:
    """The pictures of a folder, or those that a text file lists."""
    # Roboflow writes ../train/images for what lies beside its data.yaml.
    ways = [root / way for way in (place, place.removeprefix("../")) for root in roots]
    found = next((way for way in ways if way.exists()), None)
    if found is None:
        problems.append(f"{place}: expected a folder of pictures or a list of them, got none")
    elif found.is_dir():
        yield from _below(found, problems)
    else:
        yield from _on_list(found, roots, problems)


def _on_list(file: Path, roots: Sequence[Path], problems: list[str]) -> Iterator[Path]:
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        problems.append(f"{file.name}: expected a list of pictures, got {type(error).__name__}")
        return
    for line in filter(None, map(str.strip, lines)):
        ways = [root / line for root in (file.parent, *roots)]
        found = next((way for way in ways if way.is_file()), None)
        if found is None:
            problems.append(f"{line}: expected the picture that {file.name} lists, got none")
        else:
            yield found


def _below(folder: Path, problems: list[str]) -> Iterator[Path]:
    """The pictures of a folder and those below it."""
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        if file.suffix.lower() in PICTURES:
            yield file
        elif file.suffix.lower() not in _BESIDE_PICTURES:
            problems.append(f"{file.name}: expected a JPEG, PNG or TIFF picture, got another file")
