"""The commands of those who make, import and check cohorts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import track

_T = TypeVar("_T")
_out = Console()

cohort = typer.Typer(help="Makes, imports and checks cohorts.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Folder of the cohort")]
RealNormals = Annotated[
    Path | None,
    typer.Option(help="Folder of real normal radiographs to paint synthetic tumours into"),
]


@cohort.command("make")
def cohort_make(
    folder: Folder,
    patients: Annotated[int, typer.Option(help="How many with a tumour")] = 100,
    normals: Annotated[int, typer.Option(help="How many without")] = 30,
    seed: Annotated[int, typer.Option(help="The same seed draws the same cohort")] = 1,
    longest_px: Annotated[int, typer.Option(help="Longer side of procedural radiographs")] = 960,
    real_normals: RealNormals = None,
    validation_share: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="How many are for validation, the rest to train on; else 70/15/15"
        ),
    ] = None,
    slides: Annotated[
        bool, typer.Option(help="Pathology slides too; a detector learns without, drawn sooner")
    ] = True,
) -> None:
    """Draws synthetic patients: DICOM, slides, FHIR bundles, and the truth in cohort.jsonl."""
    from bonetumor.worker.drawing import CohortPlan, make_cohort

    plan = CohortPlan(
        patients=patients,
        normals=normals,
        seed=seed,
        longest_px=longest_px,
        real_normals=real_normals,
        validation_share=validation_share,
        slides=slides,
    )
    for _ in track(
        make_cohort(plan, folder), total=patients + normals, console=Console(stderr=True)
    ):
        pass
    _out.print(f"{patients + normals} synthetic patients in {folder}")


@cohort.command("import")
def cohort_import(
    layout: Annotated[str, typer.Argument(help="btxrd, coco, yolo or normals")],
    folder: Annotated[Path, typer.Argument(help="Folder of the data set; cohort.jsonl goes there")],
    annotations: Annotated[Path | None, typer.Option(help="COCO's JSON file")] = None,
    names: Annotated[
        list[Path] | None,
        typer.Option(
            help="CSV in UTF-8 with the columns image_id and Original Name of BTXRD's authors, who "
            "publish them as spreadsheets; may be repeated"
        ),
    ] = None,
    unlabelled_are_normal: Annotated[
        bool,
        typer.Option(
            "--unlabelled-are-normal",
            help="An image of YOLO without a label file is a normal; else it is left out",
        ),
    ] = False,
) -> None:
    """Writes cohort.jsonl for a data set in another layout. Its files stay where they are."""
    from bonetumor.cohort import importers
    from bonetumor.cohort.record import write_cohort

    if layout == "btxrd":
        imported = importers.import_btxrd(folder, names or ())
    elif layout == "coco" and annotations is not None:
        imported = importers.import_coco(folder, annotations)
    elif layout == "yolo":
        imported = importers.import_yolo(folder, unlabelled_are_normal=unlabelled_are_normal)
    elif layout == "normals":
        imported = importers.import_normals(folder)
    else:
        raise typer.BadParameter(
            f"expected btxrd, yolo, normals, or coco with --annotations, got {layout}"
        )
    count = write_cohort(folder, imported.patients)
    for problem in imported.problems:
        say(f"not used: {problem}")
    _out.print(f"{count} patients, {len(imported.problems)} problems; cohort in {folder}")


@cohort.command("accompany")
def cohort_accompany(
    folder: Folder,
    seed: Annotated[int, typer.Option(help="The same seed draws the same for a patient")] = 1,
) -> None:
    """Draws slides and blood for real patients who have radiographs alone, to train the fusion
    network with. The cohort says what was drawn, and evaluate leaves it out."""
    from bonetumor.worker.companions import accompany
    from bonetumor.worker.training import open_cohort

    count = accompany(open_cohort(folder, say), seed)
    _out.print(f"slides and blood drawn for {count} patients in {folder}")


@cohort.command("tiles")
def cohort_tiles(
    slides: Annotated[
        list[Path],
        typer.Argument(help="Whole slides: .svs and others, DICOM, or a folder of one's DICOM"),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tiles, a PNG a slide")],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle that says how large a tile is; else the shipped one")
    ] = None,
) -> None:
    """Cuts whole slides into the tiles that serving would take of them, for a cohort's `slides`."""
    from bonetumor.worker.sampling import write_tiles

    problems: list[str] = []
    written = write_tiles(slides, out, bundle, problems)
    for problem in problems:
        say(f"not used: {problem}")
    _out.print(f"{len(written)} slides, {len(problems)} problems; tiles in {out}")
    if problems:
        raise typer.Exit(1)


@cohort.command("join")
def cohort_join(
    folder: Annotated[Path, typer.Argument(help="Folder for the joined cohort.jsonl")],
    cohorts: Annotated[list[Path], typer.Argument(help="Folders of the cohorts")],
) -> None:
    """Writes cohort.jsonl for several cohorts as one. Their files stay where they are."""
    from bonetumor.cohort.joining import join_cohorts
    from bonetumor.cohort.record import read_cohort, write_cohort
    from bonetumor.cohort.sources import join_sources, write_sources

    found = [read_cohort(each) for each in cohorts]
    count = write_cohort(folder, join_cohorts(found, folder))
    write_sources(folder, join_sources(found, folder))
    for each in found:
        for problem in each.problems:
            say(f"not used: {each.folder.name}: {problem}")
    _out.print(f"{count} patients of {len(found)} cohorts in {folder}")


@cohort.command("check")
def cohort_check(
    folder: Folder,
    aim: Annotated[
        str,
        typer.Option(
            "--for",
            help="bundle, which is all that training needs, or detector, fusion, tune, "
            "calibrate, evaluate",
        ),
    ] = "bundle",
) -> None:
    """Reads every line, image and slide of a cohort, and says what training could not use or
    would refuse; ends with 1 if there is anything of either."""
    from bonetumor.cohort.record import read_cohort
    from bonetumor.domain.errors import InvalidInput
    from bonetumor.worker import soundness

    if aim not in set(soundness.Aim):
        raise typer.BadParameter(f"expected one of {', '.join(soundness.Aim)}, got {aim}")
    try:
        found = read_cohort(folder)
    except InvalidInput as error:
        say(f"refused: {error}")
        raise typer.Exit(1) from error
    problems = list(found.problems)
    used = soundness.usable(found, tracked(found.patients), problems)
    problems = list(dict.fromkeys(problems))
    refused = soundness.refusals(used, soundness.Aim(aim))
    for problem in problems:
        say(f"not used: {problem}")
    for refusal in refused:
        say(f"refused: {refusal}")
    _out.print(soundness.count_patients(found))
    images = sum(len(r.images) for r in used.patients)
    _out.print(f"{len(found.patients)} patients, {images} images, {len(problems)} problems")
    if problems or refused:
        raise typer.Exit(1)


def say(text: str) -> None:
    """A line for whoever waits, as it is."""
    _out.print(text, markup=False, highlight=False, soft_wrap=True)


def tracked(records: Sequence[_T]) -> Iterator[_T]:
    """The records, with a bar that shows how far it is."""
    yield from track(records, console=Console(stderr=True))
