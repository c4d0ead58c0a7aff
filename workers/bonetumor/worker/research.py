"""The commands of those who train and measure: train, evaluate."""

import json as json_format
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bonetumor.weights.intended_use import IntendedUse
from bonetumor.worker.cohort_commands import RealNormals, say, tracked

train = typer.Typer(help="Trains weights on a cohort.", no_args_is_help=True)

CohortFolder = Annotated[Path, typer.Option("--cohort", help="Folder with cohort.jsonl")]
Work = Annotated[
    Path, typer.Option(help="Folder for checkpoints; a run that was cut off goes on from there")
]
IntendedUseOption = Annotated[
    IntendedUse,
    typer.Option(
        help="clinical is for whoever answers for the weights as a medical device under the law of "
        'the place (in the EU, Regulation 2017/745), and for nobody else: mode = "clinical" opens '
        "for it"
    ),
]
StartFrom = Annotated[
    Path | None,
    typer.Option(
        help="What the detector's training begins with: a bundle, a .safetensors file with "
        "ultralytics' names, or its checkpoint (.pt), as yolov5nu.pt: reading one runs what it "
        "says, so take those alone whose origin you know"
    ),
]
BioBert = Annotated[
    Path | None, typer.Option(help="Local folder of BioBERT; else a small stand-in")
]
ResNetWeights = Annotated[
    Path | None,
    typer.Option(
        help="Trained ResNet that the image encoders begin as: a .safetensors or .pth file with "
        "torchvision's names, or a folder of transformers"
    ),
]
Frozen = Annotated[
    bool | None,
    typer.Option(
        "--freeze/--fine-tune",
        help="Whether BioBERT and trained ResNet stay as they are; else they do below 2,000 "
        "patients to train on",
        show_default=False,
    ),
]
FusionFrom = Annotated[
    Path | None,
    typer.Option(help="Bundle whose fusion network goes on learning, where sizes are equal"),
]


class Part(StrEnum):
    """The splits of a cohort."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@train.command("detector")
def train_detector(
    cohort: CohortFolder,
    work: Work = Path("build/train"),
    epochs: Annotated[int, typer.Option(help="Passes over the cohort")] = 10,
    image_size: Annotated[int, typer.Option(help="Side of the detector's input, px")] = 640,
    architecture: Annotated[
        str | None,
        typer.Option(help="yolov5n, s, m, l or x; else that of --start-from, else yolov5n"),
    ] = None,
    batch: Annotated[int, typer.Option(help="Images per step")] = 16,
    learning_rate: Annotated[
        float, typer.Option(help="At first; 0.0005 to go on from trained weights")
    ] = 0.0015,
    augmentation: Annotated[
        float,
        typer.Option(min=0, max=1, help="How much pictures are varied; less for large cohorts"),
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of all chance")] = 7,
    start_from: StartFrom = None,
) -> None:
    """Trains the detector; uses every GPU, or every core."""
    from bonetumor.detection.train import DetectorTraining
    from bonetumor.worker import training

    start = training.detector_of(start_from)
    begun = start.architecture if start else DetectorTraining().architecture
    plan = DetectorTraining(
        architecture=f"{(architecture or begun).removesuffix('.yaml')}.yaml",
        image_size_px=image_size,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        augmentation=augmentation,
        seed=seed,
    )
    found = training.open_cohort(cohort, say)
    say(f"best weights: {training.fit_detector(found, plan, work, start, say)}")


@train.command("fusion")
def train_fusion(
    cohort: CohortFolder,
    work: Work = Path("build/train"),
    epochs: Annotated[int, typer.Option(help="Passes over the cohort")] = 14,
    resnet: Annotated[
        str, typer.Option(help="small, or 50 for ResNet-50; else that of --resnet-weights")
    ] = "small",
    design: Annotated[
        str, typer.Option(help="tokens, or concatenation as in the paper")
    ] = "tokens",
    biobert: BioBert = None,
    resnet_weights: ResNetWeights = None,
    fusion_from: FusionFrom = None,
    frozen: Frozen = None,
    seed: Annotated[int, typer.Option(help="Seed of all chance")] = 11,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Bundle whose detector finds the lesions; else the shipped one"),
    ] = None,
) -> None:
    """Trains the encoders and the fusion network, and calibrates them."""
    from bonetumor.fusion.network import RESNET_50, SMALL_RESNET
    from bonetumor.fusion.train import FusionTraining
    from bonetumor.weights.bundle import open_bundle, shipped_bundle
    from bonetumor.worker import training

    sizes = {"small": SMALL_RESNET, "50": RESNET_50}
    if resnet not in sizes:
        raise typer.BadParameter(f"expected small or 50, got {resnet}")
    plan = FusionTraining(epochs=epochs, seed=seed, design=design, resnet=dict(sizes[resnet]))
    found = training.open_cohort(cohort, say)
    detector = open_bundle(bundle or shipped_bundle())
    parts = training.TrainedParts(
        biobert=biobert, resnet=resnet_weights, fusion=fusion_from, frozen=frozen
    )
    trained = training.fit_fusion(found, plan, detector, work, say, parts=parts)
    say(json_format.dumps(trained.metrics))


@train.command("bundle")
def train_bundle(
    out: Annotated[Path, typer.Argument(help="Folder for the bundle")],
    work: Work = Path("build/train"),
    cohort: Annotated[
        Path | None, typer.Option(help="Cohort to train on; else a synthetic one is made")
    ] = None,
    real_normals: RealNormals = None,
    start_from: StartFrom = None,
    biobert: BioBert = None,
    resnet_weights: ResNetWeights = None,
    fusion_from: FusionFrom = None,
    frozen: Frozen = None,
    version: Annotated[str | None, typer.Option(help="The bundle's version")] = None,
    training_data: Annotated[
        str | None, typer.Option(help="What it was trained on, as every report will say")
    ] = None,
    intended_use: IntendedUseOption = IntendedUse.RESEARCH,
    scale: Annotated[
        float, typer.Option(help="1 is the whole recipe; less is quicker and worse")
    ] = 1.0,
    folds: Annotated[
        int,
        typer.Option(
            help="With --cohort: a detector of so many networks, each without a part of the "
            "patients, that learn windows of standardised pictures; 0 is one of whole pictures"
        ),
    ] = 0,
    unseen: Annotated[
        list[str] | None,
        typer.Option(
            help="With --folds: a centre whose normal pictures one of the networks does not see, "
            "to count false boxes on; may be repeated"
        ),
    ] = None,
) -> None:
    """Everything in one go: cohort, detector, fusion, operating point, manifest."""
    from bonetumor.worker.bundling import BundlePlan, make_bundle
    from bonetumor.worker.training import TrainedParts

    plan = BundlePlan(
        out=out,
        work=work,
        cohort=cohort,
        real_normals=real_normals,
        start_from=start_from,
        parts=TrainedParts(
            biobert=biobert, resnet=resnet_weights, fusion=fusion_from, frozen=frozen
        ),
        version=version,
        training_data=training_data,
        intended_use=intended_use,
        scale=scale,
        folds=folds,
        unseen=tuple(unseen or ()),
    )
    make_bundle(plan, say)


def evaluate(
    cohort: CohortFolder,
    out: Annotated[Path, typer.Option(help="Folder for index.html, evaluation.json, model card")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle; else the shipped one")] = None,
    split: Annotated[Part, typer.Option(help="Which patients")] = Part.TEST,
    strange: Annotated[
        Path | None, typer.Option(help="Folder of pictures that should be out of distribution")
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(help="Bundle with the same detector to measure beside it; may be repeated"),
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option(
            help="Pictures of the worst mistakes; they show patients, so they and the page stay"
        ),
    ] = True,
    worst: Annotated[
        int, typer.Option(min=1, help="How many of each kind: missed, false on normals, on others")
    ] = 12,
    folds: Annotated[
        int,
        typer.Option(
            help="Of a bundle of so many folds: train and validation, each patient asked of the "
            "network that has not seen the patient, whose bundles lie beside the bundle"
        ),
    ] = 0,
) -> None:
    """Measures a bundle on a cohort, through the code that serves; real and synthetic patients
    apart."""
    from bonetumor.worker import evaluating, training
    from bonetumor.worker.evaluation_page import sections_of

    plan = evaluating.EvaluationPlan(
        cohort=training.open_cohort(cohort, say),
        bundle=bundle,
        out=out,
        part=split.value,
        strange=strange,
        others=compare or (),
        pictures=worst if pictures else 0,
        folds=folds,
    )
    for section in sections_of(evaluating.evaluate_bundle(plan, tracked)):
        counts = section["classification"]["by_class"]
        absent = " or ".join(name for name, count in counts.items() if not count)
        whose = section["origin"]
        if absent and any(counts.values()):
            say(
                f"no {whose} patient is {absent}: it counts with nought in precision, recall and F1"
            )
        say(f"{section['patients']} {whose} patients measured; see {out / 'index.html'}")
