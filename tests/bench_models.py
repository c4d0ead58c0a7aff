"""The detector's throughput beside ultralytics' own predict loop, in one run on one machine.

    make bench-models

Not a test: it prints figures. Pictures are phantom radiographs; what is timed is everything from
the picture in memory to boxes in its pixels, and how much of that is not the network. By itself
ultralytics pads a picture no further than its stride needs, so that a long one is less work than
the square that ours sees; the row `squares` is without that. Each picture is looked at once, as
ultralytics does; the row `as served` looks at its mirror image too where the bundle wants that.
Boxes are compared as suppression leaves them, on the squares that the detector sees, because
ultralytics makes its own by another interpolation. Memory is the peak of a process of its own.
Where torch finds a GPU, it is measured there too, in batches.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
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
from bonetumor.phantom.patient import draw_patient
from bonetumor.weights.bundle import open_bundle, shipped_bundle
from kit.studies import render

PICTURES, ROUNDS, THRESHOLD = 24, 3, 0.05
ON_CPU = (
    "ultralytics, predict, cpu, 1",
    "ultralytics, squares, cpu, 1",
    "ours, torch, cpu, 1",
    "ours, openvino, cpu, 1",
    "ours, as served, cpu, 1",
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


def build(way):
    """What finds the boxes of pictures, and how long its network took so far (NaN: not known)."""
    bundle = open_bundle(shipped_bundle())
    whose, engine, device, batch = way.split(", ")
    as_served = engine == "as served"
    if not as_served:
        bundle.manifest.detector["mirrored"] = False
    if whose == "ultralytics":
        return _ultralytics(bundle, device, engine == "predict"), lambda: float("nan")
    detector = YoloDetector(
        bundle,
        device=device,
        engine="auto" if as_served else engine,
        least_score=THRESHOLD,
        batch=int(batch),
    )
    timed = detector._engine = Timed(detector._engine)

    def run(images):
        return [
            [(d.box.as_tuple(), d.score) for d in findings.detections]
            for _, findings in detector.detect_all(images)
        ]

    return run, lambda: timed.seconds


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
    drawn = [render(draw_patient(55, n).radiograph) for n in range(PICTURES)]
    images = drawn * (1 + max(BATCHES) // PICTURES if "cuda" in way else 1)
    run, in_network = build(way)
    before = torch.get_num_threads()
    run(images)  # warm
    seconds, network = [], in_network()
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    return {
        "images_per_second": len(images) / float(np.median(seconds)),
        "around": 1 - (in_network() - network) / sum(seconds),
        "threads": [before, torch.get_num_threads()],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "boxes": plain_boxes(run, drawn),
    }


def plain_boxes(run, drawn):
    """What is found on the squares that the detector sees, each box as suppression leaves it."""
    yolo.agreed = lambda kept, _prediction: kept
    return run([squared(image) for image in drawn])


def squared(image):
    """The picture as the detector sees it: to be made a square again changes nothing."""
    side = open_bundle(shipped_bundle()).manifest.detector["image_size_px"]
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
        print(json.dumps(measure(sys.argv[1])))
        return
    found = {}
    for way in ways():
        done = subprocess.run(
            [sys.executable, __file__, way], capture_output=True, text=True, check=True
        )
        found[way] = json.loads(done.stdout.splitlines()[-1])
    columns = ("", "images/s", "ratio", "not network", "threads", "peak MiB", "IoU ≥", "score ±")
    table = Table(*columns, "alone")
    base = found[ON_CPU[0]]
    for way, row in found.items():
        low, high, alone = agreement(found["ours, torch, cpu, 1"]["boxes"], row["boxes"])
        table.add_row(
            way,
            f"{row['images_per_second']:.1f}",
            f"{row['images_per_second'] / base['images_per_second']:.2f}",
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
