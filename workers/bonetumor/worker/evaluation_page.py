"""The evaluation as a page with plots, and as a model card."""

from pathlib import Path
from typing import Any

import jinja2

from bonetumor.worker.evaluation_plots import draw_plots

_PAGES = Path(__file__).parent / "pages"


def write_pages(result: dict[str, Any], out: Path) -> None:
    """Writes `index.html` and `model-card.md` from the content of `evaluation.json`.

    The card goes with the weights: it holds no picture and nothing of a single patient.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGES),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure_text
    sections = sections_of(result)
    page = environment.get_template("evaluation.html").render(
        result=result, sections=[(section, draw_plots(section)) for section in sections]
    )
    (out / "index.html").write_text(page, encoding="utf-8")
    card = environment.get_template("model-card.md").render(result=result, sections=sections)
    (out / "model-card.md").write_text(card, encoding="utf-8")


def sections_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of each origin that the cohort has, real patients first. Of a cohort of one
    origin they are the content of `evaluation.json` itself."""
    return list(result["origins"].values()) if "origins" in result else [result]


def _figure_text(measured: dict[str, Any] | None) -> str:
    """0.83 (0.80–0.86), or a dash where nothing could be measured."""
    if not measured or measured.get("value") is None:
        return "–"
    low, high = measured["ci95"]
    if low is None:
        return f"{measured['value']:.3f}"
    return f"{measured['value']:.3f} ({low:.3f}–{high:.3f})"
