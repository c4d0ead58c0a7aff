"""The plots of the evaluation's page, as PNG in base64."""

import base64
from io import BytesIO
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_Plots = dict[str, Figure]


def draw_plots(section: dict[str, Any]) -> dict[str, str]:
    """By title the plots of the figures of one origin."""
    plots = {**_detection_plots(section["detection"])}
    served = section["classification"].get("served")
    if served:
        plots |= {**_class_plots(served), **_decision_plots(served)}
    return {title: _encoded(figure) for title, figure in plots.items()}


def _detection_plots(detection: dict[str, Any]) -> _Plots:
    plots = {}
    froc = detection["froc"]
    plots["FROC"], axes = _axes("False boxes per image", "Sensitivity")
    axes.plot([p["false_per_image"] for p in froc], [p["sensitivity"] for p in froc], "o-")
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    points = detection["precision_recall"]
    if points:
        plots["Precision and recall of boxes"], axes = _axes("Recall", "Precision")
        axes.plot([p["recall"] for p in points], [p["precision"] for p in points])
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
    if detection["image_roc"]["points"]:
        plots["ROC: images with tumour against normal ones"], axes = _roc_axes()
        _add_roc(axes, "highest score", detection["image_roc"])
        axes.legend()
    return plots


def _class_plots(served: dict[str, Any]) -> _Plots:
    plots = {}
    plots["ROC: each class against the rest"], axes = _roc_axes()
    for name, curve in served["roc"].items():
        if curve["points"]:
            _add_roc(axes, name, curve)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    plots["Confusion"], axes = _axes("Called", "True class")
    axes.grid(visible=False)
    axes.imshow(served["confusion"], cmap="Blues")
    names, places = list(served["roc"]), range(len(served["confusion"]))
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    greatest = max(max(row) for row in served["confusion"])
    for place, row in enumerate(served["confusion"]):
        for column, count in enumerate(row):
            dark = count > greatest / 2
            axes.text(column, place, count, ha="center", color="white" if dark else "black")
    return plots


def _decision_plots(served: dict[str, Any]) -> _Plots:
    plots = {}
    plots["Calibration"], axes = _axes("Confidence", "Share right")
    bins = served["reliability"]
    axes.plot([0, 1], [0, 1], ":", color="grey")
    axes.plot([b["confidence"] for b in bins], [b["right"] for b in bins], "o-")
    plots["Risk and coverage"], axes = _axes("Share answered", "Error among the answered")
    axes.plot(*zip(*served["risk_coverage"], strict=True))
    plots["Decision curve"], axes = _axes("Threshold for malignant", "Net benefit")
    curve = served["decision_curve"]
    for name in ("model", "all", "none"):
        axes.plot([c["threshold"] for c in curve], [c[name] for c in curve], label=name)
    axes.set_ylim(bottom=-0.05)
    axes.legend()
    return plots


def _roc_axes() -> tuple[Figure, Any]:
    figure, axes = _axes("1 - specificity", "Sensitivity")
    axes.plot([0, 1], [0, 1], ":", color="grey")
    return figure, axes


def _add_roc(axes: Any, name: str, curve: dict[str, Any]) -> None:
    points = curve["points"]
    axes.plot(
        [p["false_positive_rate"] for p in points],
        [p["sensitivity"] for p in points],
        label=f"{name}: AUC {curve['auc']['value']:.3f}",
    )


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _encoded(figure: Figure) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
