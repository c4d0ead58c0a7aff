"""The evaluation as a page with plots, and as a model card."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_PAGES = Path(__file__).parent / "pages"


def write_pages(result: dict[str, Any], out: Path) -> None:
    """Writes `index.html` and `model-card.md` from the content of `evaluation.json`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGES),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure_text
    pictures = {title: _encoded(figure) for title, figure in _plots(result).items()}
    page = environment.get_template("evaluation.html").render(result=result, plots=pictures)
    (out / "index.html").write_text(page, encoding="utf-8")
    card = environment.get_template("model-card.md").render(result=result)
    (out / "model-card.md").write_text(card, encoding="utf-8")


def _figure_text(measured: dict[str, Any] | None) -> str:
    """0.83 (0.80–0.86), or a dash where nothing could be measured."""
    if not measured or measured.get("value") is None:
        return "–"
    low, high = measured["ci95"]
    if low is None:
        return f"{measured['value']:.3f}"
    return f"{measured['value']:.3f} ({low:.3f}–{high:.3f})"


def _plots(result: dict[str, Any]) -> dict[str, Figure]:
    plots = {}
    froc = result["detection"]["froc"]
    figure, axes = _axes("False boxes per image", "Sensitivity")
    axes.plot([p["false_per_image"] for p in froc], [p["sensitivity"] for p in froc], "o-")
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    plots["FROC"] = figure
    served = result["classification"].get("served")
    if not served:
        return plots
    figure, axes = _axes("Confidence", "Share right")
    bins = served["reliability"]
    axes.plot([0, 1], [0, 1], ":", color="grey")
    axes.plot([b["confidence"] for b in bins], [b["right"] for b in bins], "o-")
    plots["Calibration"] = figure
    figure, axes = _axes("Share answered", "Error among the answered")
    axes.plot(*zip(*served["risk_coverage"], strict=True))
    plots["Risk and coverage"] = figure
    figure, axes = _axes("Threshold for malignant", "Net benefit")
    curve = served["decision_curve"]
    for name in ("model", "all", "none"):
        axes.plot([c["threshold"] for c in curve], [c[name] for c in curve], label=name)
    axes.set_ylim(bottom=-0.05)
    axes.legend()
    plots["Decision curve"] = figure
    return plots


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
