"""The detector's throughput beside ultralytics' own predict loop, in one run on one machine.

    make bench-models

Not a test: it prints figures. Pictures are phantom radiographs; what is timed is everything from
the picture in memory to boxes in its pixels, and how much of that is not the network. By itself
ultralytics pads a picture no further than its stride needs, so that a long one is less work than
the square that ours sees; the row `squares` is without that. Each picture is looked at once, as
ultralytics does; the rows `served` look at its mirror image too where the bundle wants that, and
the row `studies` makes of each picture, with slides and blood, the diagnosis and its heat map too.
Boxes are compared with those of ours on torch that looks as often, as suppression leaves them, on
the squares that the detector sees, because ultralytics makes its own by another interpolation.

Each way is a process of its own, whose peak of memory is reported. They take turns, one round each,
because a machine that others share is faster in one minute than in the next: a ratio is the median
of those within each turn. Where torch finds a GPU, it is measured there too, in batches.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bonetumor.detection import yolo
from bonetumor.detection.familiarity import without_familiarity
from bonetumor.detection.letterbox import letterbox
from bonetumor.detection.vision import load_ultralytics
from bonetumor.detection.yolo import YoloDetector, build_network
from bonetumor.domain.image import iou
from bonetumor.domain.pathology import SlideTiles
from bonetumor.fusion.classifier import FusionClassifier
from bonetumor.fusion.text import Template
from bonetumor.phantom.patient import draw_patient
from bonetumor.service.assess import diagnose, look
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from bonetumor.worker.thinking import LoadedModel, build_slides, describe_algorithm
from kit.studies import panel_of, render

PICTURES, ROUNDS, THRESHOLD = 24, 7, 0.05
ON_CPU = (
    "ultralytics, predict, cpu, 1",
    "ultralytics, squares, cpu, 1",
    "ours, torch, cpu, 1",
    "ours, openvino, cpu, 1",
    "ours, torch, cpu, 1, served",
    "ours, openvino, cpu, 1, served",
    "ours, openvino, cpu, 1, studies",
)
BATCHES = (1, 8, 64)


def ways():
    """ultralytics' loop first, which is what speed is compared with."""
    if not torch.cuda.is_available():
        return ON_CPU
    on_gpu = [f"ours, torch, cuda, {n}" for n in BATCHES]
    return (*ON_CPU, "ultralytics, predict, cuda, 1", *on_gpu)


class Timed:
    """An engine, and the seconds that were spent in it."""

    def __init__(self, engine):
        self.engine, self.batch, self.seconds = engine, engine.batch, 0.0

    def __call__(self, squares):
        start = time.perf_counter()
        answer = self.engine(squares)  # its answer is in memory: nothing runs on
        self.seconds += time.perf_counter() - start
        return answer


def build(way, patients):
    """What finds the boxes of pictures, and how long its network took so far (NaN: not known)."""
    bundle = open_bundle(synthetic_bundle())
    whose, engine, device, batch, *served = way.split(", ")
    if not served:
        bundle.manifest.detector["mirrored"] = False
    if whose == "ultralytics":
        return _ultralytics(bundle, device, engine == "predict"), lambda: float("nan")
    detector = YoloDetector(
        bundle, device=device, engine=engine, least_score=THRESHOLD, batch=int(batch)
    )
    timed = detector._engine = Timed(detector._engine)
    if served == ["studies"]:
        return _studies(bundle, detector, patients), lambda: timed.seconds

    def run(images):
        return [
            [(d.box.as_tuple(), d.score) for d in findings.detections]
            for _, findings in detector.detect_all(images)
        ]

    return run, lambda: timed.seconds


def _studies(bundle, detector, patients):
    """Each picture a study of its own."""
    fusion = FusionClassifier(bundle, device="cpu")
    model = LoadedModel(describe_algorithm(bundle), detector, fusion, Template())
    cut = build_slides(fusion.preparation.tile_px).cut
    others = [
        (
            tuple(SlideTiles(source="slide", pixels=cut(s)) for s in patient.slides),
            panel_of(patient),
        )
        for patient in patients
    ]

    def run(images):
        found = []
        for image, (tiles, panel) in zip(images, others, strict=True):
            looked = look([image], detector)
            diagnose(looked, tiles, panel, model)
            found.append([(d.box.as_tuple(), d.score) for d in looked.detections])
        return found

    return run


def _ultralytics(bundle, device, rect):
    """ultralytics as its manual says: a checkpoint, `YOLO(path)`, `predict`."""
    ultralytics = load_ultralytics()
    config = bundle.manifest.detector
    tensors = without_familiarity(bundle.tensors("detector.safetensors"))
    network = build_network(config["architecture"], tensors)
    network.names = {0: "tumour"}
    network.args = {}
    path = Path(tempfile.mkdtemp()) / "detector.pt"
    torch.save({"model": network.float(), "train_args": {}}, path)
    model = ultralytics.YOLO(str(path))

    def predict(image):
        found = model.predict(
            image.pixels[..., None],
            imgsz=config["image_size_px"],
            conf=THRESHOLD,
            iou=config["iou_threshold"],
            max_det=config["max_detections"],
            rect=rect,
            device=device,
            verbose=False,
        )[0].boxes
        return [
            (tuple(b), s) for b, s in zip(found.xyxy.tolist(), found.conf.tolist(), strict=True)
        ]

    return lambda images: [predict(image) for image in images]


def measure(way):
    """Warms up, then does a round for each line that it reads, and tells of each; at the end of
    its input, of all."""
    patients = [draw_patient(55, n) for n in range(PICTURES)]
    drawn = [render(patient.radiograph) for patient in patients]
    images = drawn * (1 + max(BATCHES) // PICTURES if "cuda" in way else 1)
    run, in_network = build(way, patients)
    before = torch.get_num_threads()
    run(images)  # warm
    seconds, network = 0.0, in_network()
    tell({})
    for _ in sys.stdin:
        start = time.perf_counter()
        run(images)
        took = time.perf_counter() - start
        seconds += took
        tell({"images_per_second": len(images) / took})
    tell(
        {
            "around": 1 - (in_network() - network) / seconds,
            "threads": [before, torch.get_num_threads()],
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "boxes": plain_boxes(run, drawn),
        }
    )


def tell(found):
    print(json.dumps(found), flush=True)


class Way:
    """A process that measures one way."""

    def __init__(self, name, until):
        asked = [sys.executable, __file__, name]
        pipe = subprocess.PIPE
        self._process = until.enter_context(
            subprocess.Popen(asked, stdin=pipe, stdout=pipe, text=True)
        )
        until.callback(self._process.kill)
        self.speeds, self.found = [], {}

    def wait(self):
        """For its next line, which ultralytics may speak before."""
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self._process.args[-1]}: ended with {self._process.wait()}")

    def turn(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.speeds.append(self.wait()["images_per_second"])

    def end(self):
        self._process.stdin.close()
        self.found = self.wait()


def take_turns(names):
    """Each name with its speed in each round and what else it found."""
    with ExitStack() as until:
        all_ways = {name: Way(name, until) for name in names}
        for way in all_ways.values():
            way.wait()
        for _ in range(ROUNDS):
            for way in all_ways.values():
                way.turn()
        for way in all_ways.values():
            way.end()
        return all_ways


def plain_boxes(run, drawn):
    """What is found on the squares that the detector sees, each box as suppression leaves it."""
    yolo.agreed = lambda kept, _prediction: kept
    return run([squared(image) for image in drawn])


def squared(image):
    """The picture as the detector sees it: to be made a square again changes nothing."""
    side = open_bundle(synthetic_bundle()).manifest.detector["image_size_px"]
    square, _ = letterbox(image.pixels, side)
    reference = replace(image.reference, rows=side, columns=side)
    return replace(image, reference=reference, pixels=square)


def agreement(first, second):
    """Least IoU and greatest score difference of boxes that both found, and how many only one."""
    least, most, alone = 1.0, 0.0, 0
    for a, b in zip(first, second, strict=True):
        pairs = [max(((iou(x[0], y[0]), abs(x[1] - y[1])) for y in b), default=(0, 1)) for x in a]
        met = [p for p in pairs if p[0] > 0.5]
        alone += len(a) + len(b) - 2 * len(met)
        least = min([least, *(p[0] for p in met)])
        most = max([most, *(p[1] for p in met)])
    return least, most, alone


def main():
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return
    found = take_turns(ways())
    columns = ("", "images/s", "ratio", "not network", "threads", "peak MiB", "IoU ≥", "score ±")
    table = Table(*columns, "alone")
    base = found[ON_CPU[0]]
    for name, way in found.items():
        row = way.found
        like = "ours, torch, cpu, 1" + ", served" * name.endswith((", served", ", studies"))
        low, high, alone = agreement(found[like].found["boxes"], row["boxes"])
        ratios = [own / theirs for own, theirs in zip(way.speeds, base.speeds, strict=True)]
        table.add_row(
            name,
            f"{np.median(way.speeds):.1f}",
            f"{np.median(ratios):.2f}",
            "–" if np.isnan(row["around"]) else f"{100 * row['around']:.0f} %",
            str(row["threads"][1]),
            f"{row['peak_mib']:.0f}",
            f"{low:.4f}",
            f"{high:.4f}",
            str(alone),
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
