"""`models`: bundles of weights, looked at and made of one another."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bonetumor.weights.intended_use import IntendedUse
from bonetumor.worker.cohort_commands import say
from bonetumor.worker.research import CohortFolder, IntendedUseOption

_out = Console()
_aside = Console(stderr=True)

app = typer.Typer(help="Looks at bundles of weights, and makes new ones.", no_args_is_help=True)

Out = Annotated[Path, typer.Argument(help="Folder for the bundle")]
Version = Annotated[str, typer.Option(help="The bundle's version")]
Looked = Annotated[Path | None, typer.Argument(help="Bundle; else the shipped one")]
SameNetworks = Annotated[
    Path | None, typer.Option(help="Bundle whose networks are taken; else the shipped one")
]


@app.command("list")
def known(folder: Annotated[Path | None, typer.Argument(help="Folder of bundles")] = None) -> None:
    """The shipped bundle, the synthetic one, and those in a folder."""
    from bonetumor.domain.errors import WeightsMismatch
    from bonetumor.weights.bundle import MANIFEST, open_bundle, shipped_bundle, synthetic_bundle

    found = sorted(p.parent for p in folder.glob(f"*/{MANIFEST}")) if folder else []
    table = Table("version", "intended use", "trained on", "folder")
    table.columns[3].overflow = "fold"
    for path in dict.fromkeys((shipped_bundle(), synthetic_bundle(), *found)):
        try:
            manifest = open_bundle(path).manifest
            use = manifest.intended_use.value
            table.add_row(manifest.version, use, manifest.training_data, str(path))
        except WeightsMismatch as error:
            table.add_row("not usable", "", str(error), str(path))
    _out.print(table)


@app.command()
def show(bundle: Looked = None) -> None:
    """The manifest as JSON: version, hashes, training data, metrics, intended use, limits, sources;
    and the credits for these on the standard error."""
    from bonetumor.weights.bundle import MANIFEST, open_bundle, shipped_bundle
    from bonetumor.weights.source import credits_text

    opened = open_bundle(bundle or shipped_bundle())
    content = json.loads((opened.folder / MANIFEST).read_text())
    content["intended_use"] = opened.manifest.intended_use  # an older bundle may say it otherwise
    content["intended_use_statement"] = opened.manifest.intended_use_statement
    print(json.dumps(content, indent=2, sort_keys=True))  # noqa: T201 - plain JSON for programs
    said = credits_text(opened.manifest.known_sources)
    _aside.print(said, markup=False, highlight=False, soft_wrap=True)


@app.command()
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="best.pt of `train detector`, or of ultralytics; is unpickled")
    ],
    out: Out,
    cohort: CohortFolder,
    version: Version,
    training_data: Annotated[
        str, typer.Option(help="What it was trained on, as every report will say")
    ],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle that all but the detector is taken from")
    ] = None,
    intended_use: IntendedUseOption = IntendedUse.RESEARCH,
) -> None:
    """A bundle from a detector's checkpoint; the cohort's validation split sets its threshold."""
    from bonetumor.weights.bundle import open_bundle, shipped_bundle
    from bonetumor.worker import finishing, training
    from bonetumor.worker.origins import trace_origin

    base = open_bundle(bundle or shipped_bundle())
    text = finishing.BundleText.of(base, version, intended_use)
    if training_data != base.manifest.training_data:
        said = f"detector: {training_data}; all else: {base.manifest.training_data}"
        text = replace(text, training_data=said)
    found = training.open_cohort(cohort, say)
    origins = (finishing.origin_of(checkpoint), trace_origin(found, say))
    text = text.after("models convert", base, *origins)
    finishing.convert(out, found, checkpoint, base, text, say)


@app.command()
def join(
    work: Annotated[Path, typer.Argument(help="Folder where `train fusion` worked")],
    out: Out,
    version: Version,
    training_data: Annotated[
        str, typer.Option(help="What the fusion was trained on, as every report will say")
    ],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle that the detector is taken from")
    ] = None,
    intended_use: IntendedUseOption = IntendedUse.RESEARCH,
) -> None:
    """A bundle from a trained fusion network and another bundle's detector."""
    from bonetumor.weights.bundle import open_bundle, shipped_bundle
    from bonetumor.worker import finishing, training
    from bonetumor.worker.origins import read_origin

    base = open_bundle(bundle or shipped_bundle())
    said = f"fusion: {training_data}; detector: {base.manifest.training_data}"
    text = replace(finishing.BundleText.of(base, version, intended_use), training_data=said)
    origin = read_origin(work / training.FUSION_ORIGIN, of=f"fusion network of {version}")
    text = text.after("models join", base, origin)
    finishing.join(out, training.read_fusion(work), base, text)
    say(f"bundle {version} written to {out}")


@app.command()
def tune(
    out: Out,
    cohort: CohortFolder,
    version: Version,
    bundle: SameNetworks = None,
    intended_use: IntendedUseOption = IntendedUse.RESEARCH,
) -> None:
    """The same networks with the operating point of a cohort's validation split: the least score
    with, at 95 % confidence, at most one false box in ten normal images."""
    from bonetumor.weights.bundle import open_bundle, shipped_bundle
    from bonetumor.worker import finishing, training
    from bonetumor.worker.origins import trace_origin

    base = open_bundle(bundle or shipped_bundle())
    found = training.open_cohort(cohort, say)
    text = finishing.BundleText.of(base, version, intended_use)
    text = text.after("models tune", base, trace_origin(found, say))
    finishing.tune(out, found, base, text, say)


@app.command()
def calibrate(
    out: Out,
    cohort: CohortFolder,
    version: Version,
    bundle: SameNetworks = None,
    intended_use: IntendedUseOption = IntendedUse.RESEARCH,
) -> None:
    """The same networks with probabilities and prediction sets calibrated anew on the patients of
    a cohort's validation split, as its detector finds their lesions."""
    from bonetumor.weights.bundle import open_bundle, shipped_bundle
    from bonetumor.worker import finishing, training
    from bonetumor.worker.origins import trace_origin

    base = open_bundle(bundle or shipped_bundle())
    found = training.open_cohort(cohort, say)
    text = finishing.BundleText.of(base, version, intended_use)
    text = text.after("models calibrate", base, trace_origin(found, say))
    finishing.calibrate(out, found, base, text, say)


@app.command()
def verify(bundle: Looked = None) -> None:
    """Checks every hash, builds the networks, and runs them once."""
    from bonetumor.worker.thinking import verify_bundle

    say(verify_bundle(bundle))
