"""`evaluate` on pictures whose boxes are known: origins apart, what was not assessed, mistakes."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bonetumor.cohort.record import ImageRecord, PatientRecord, write_cohort
from bonetumor.domain.image import BoundingBox
from bonetumor.domain.lesion import Detection
from bonetumor.service.ports import Findings
from bonetumor.worker import evaluating
from kit.cohorts import run

LESION, ELSEWHERE = (8.0, 8.0, 40.0, 40.0), (44.0, 44.0, 60.0, 60.0)
FOUND, MISSED, FALSE, NOTHING, STRANGE = 10, 20, 30, 40, 50  # the grey level of a picture
SAYS = {
    FOUND: [(LESION, 0.9)],
    MISSED: [(ELSEWHERE, 0.7)],
    FALSE: [(ELSEWHERE, 0.8)],
    NOTHING: [],
    STRANGE: [(LESION, 0.9)],
}


class Detector:
    """Finds in a picture what its grey level stands for."""

    def detect_all(self, images):
        for image in images:
            grey = int(image.pixels[0, 0])
            found = tuple(
                Detection(
                    image=image.reference,
                    box=BoundingBox(**dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))),
                    score=score,
                )
                for box, score in SAYS[grey]
            )
            yield image, Findings(detections=found, out_of_distribution=grey == STRANGE)


@pytest.fixture
def known(monkeypatch):
    model = SimpleNamespace(detector=Detector(), fusion=None)
    monkeypatch.setattr(evaluating, "load_model", lambda *_, **__: model)


def laid(folder, *patients):
    """A cohort of pictures of 64 x 64: (name, grey level, true boxes, what else is known)."""
    (folder / "images").mkdir(parents=True)
    records = []
    for name, grey, boxes, more in patients:
        file = f"images/{name}.png"
        Image.fromarray(np.full((64, 64), grey, np.uint8)).save(folder / file)
        images = (ImageRecord(file=file, boxes=boxes),)
        records.append(PatientRecord(patient=name, split="test", images=images, **more))
    write_cohort(folder, records)
    return folder


def evaluated(cohort, out, *options):
    said = run("evaluate", "--cohort", cohort, "--out", out, *options)
    assert said.exit_code == 0, said.output
    return json.loads((out / "evaluation.json").read_text()), said.output


def all_of(value, key):
    """What stands under a key, at any depth."""
    if isinstance(value, list):
        return [found for own in value for found in all_of(own, key)]
    if not isinstance(value, dict):
        return []
    inner = [found for own in value.values() for found in all_of(own, key)]
    return [value[key], *inner] if key in value else inner


def test_real_and_synthetic_patients_never_share_a_figure(known, tmp_path):
    real, drawn = {"origin": "real", "centre": "a"}, {"origin": "synthetic", "centre": "a"}
    cohort = laid(
        tmp_path / "both",
        ("s1", MISSED, (LESION,), drawn),
        ("s2", MISSED, (LESION,), drawn | {"centre": "b"}),
        ("s3", FALSE, (), drawn),
        ("r1", FOUND, (LESION,), real),
        ("r2", FOUND, (LESION,), real | {"origin": None}),  # who says nothing is real
        ("r3", NOTHING, (), real),
        ("r4", NOTHING, (), real),
    )
    result, said = evaluated(cohort, tmp_path / "out", "--no-pictures")
    assert set(result) == {"bundle", "cohort", "origins"}
    assert set(result["cohort"]) == {"name", "split", "not_used"}
    assert list(result["origins"]) == ["real", "synthetic"]
    sections = result["origins"]
    assert [s["patients"] for s in sections.values()] == [4, 3]
    found = [s["detection"] for s in sections.values()]
    assert [f["map50"]["value"] for f in found] == [1.0, 0.0]
    assert [f["sensitivity"]["n"] for f in found] == [2, 2]
    assert [f["false_positives_per_normal"]["value"] for f in found] == [0.0, 1.0]
    assert [m["value"] for m in all_of(result, "map50")] == [1.0, 0.0]
    # Of all patients together it would be one half.
    values = [m["value"] for m in all_of(result, "sensitivity") if isinstance(m, dict)]
    assert set(values) <= {0.0, 1.0, None}
    assert sections["real"]["sources"]["a"]["detection"]["boxes"] == 2
    assert sections["synthetic"]["sources"]["a"]["detection"]["boxes"] == 1
    assert sections["real"]["centres"] == {}
    assert set(sections["synthetic"]["centres"]["each"]) == {"a", "b"}
    measured = re.findall(r"(\d+) (\w*) ?patients measured", said)
    assert measured == [("4", "real"), ("3", "synthetic")]
    page = (tmp_path / "out" / "index.html").read_text()
    assert 0 < page.index("<h2>Real patients</h2>") < page.index("<h2>Synthetic patients</h2>")
    card = (tmp_path / "out" / "model-card.md").read_text()
    assert 0 < card.index("test split: real patients") < card.index("test split: synthetic")


def test_pictures_of_the_worst_mistakes_are_drawn_and_left_out_where_that_is_asked_for(
    known, tmp_path
):
    named = {"origin": "real", "centre": "ward 7", "tumour_type": "osteosarcoma"}
    cohort = laid(
        tmp_path / "own",
        ("seen", FOUND, (LESION,), named),
        ("overlooked", MISSED, (LESION,), named),
        ("foreign", STRANGE, (LESION,), named),
        ("healthy", FALSE, (), {"fractured": True, "age_years": 12}),
        ("quiet", NOTHING, (), {"fractured": False, "age_years": 40}),
    )
    out = tmp_path / "out"
    result, _ = evaluated(cohort, out)
    assert result["origin"] == "real"
    assert result["cohort"]["patients"] == result["patients"] == 5
    found = result["detection"]
    assert found["not_assessed"] == {"with_tumour": 1, "normal": 0}
    assert (found["sensitivity"]["value"], found["sensitivity"]["n"]) == (pytest.approx(1 / 3), 3)
    fractures, ages = (found[f"false_positives_by_{label}"] for label in ("fracture", "age"))
    assert {k: v["value"] for k, v in fractures.items()} == {"fractured": 1, "unfractured": 0}
    assert {k: v["value"] for k, v in ages.items()} == {"under 18": 1, "18 and more": 0}
    by_kind = {}
    for entry in result["pictures"]:
        by_kind.setdefault(entry["kind"], []).append((entry["patient"], entry["score"]))
    assert by_kind == {
        "missed": [("overlooked", 0.0), ("foreign", 0.0)],
        "false-on-normal": [("healthy", 0.8)],
        "false-on-tumour": [("overlooked", 0.7)],
    }
    first = result["pictures"][0]
    assert (first["source"], first["truth"]) == ("ward 7", "osteosarcoma")
    picture = np.asarray(Image.open(out / first["file"]).convert("RGB")).astype(int)
    assert picture.shape == (640, 640, 3)
    green = picture[..., 1] - picture[..., 0] > 100
    red = picture[..., 0] - picture[..., 1] > 100
    assert green[80:400, 80].all()  # the lesion, ten times as large
    assert green[80, 80:400].all()
    assert red[440:600, 440].all()  # the box that was found elsewhere
    assert not (green | red)[100:380, 100:380].any()
    page = (out / "index.html").read_text()
    assert all(f'src="{entry["file"]}"' in page for entry in result["pictures"])
    assert "overlooked, ward 7; score 0.00; truth: osteosarcoma" in page
    assert "truth: osteosarcoma; not assessed" in page
    card = (out / "model-card.md").read_text()
    assert not any(word in card for word in ("pictures/", "overlooked", "data:image"))
    own = out / "pictures" / "of-mine.png"
    own.write_bytes(b"x")
    fewer, _ = evaluated(cohort, out, "--worst", "1")
    assert [e["patient"] for e in fewer["pictures"]] == ["overlooked", "healthy", "overlooked"]
    assert len(list((out / "pictures").iterdir())) == 4
    without, _ = evaluated(cohort, out, "--no-pictures")
    assert "pictures" not in without
    assert list((out / "pictures").iterdir()) == [own]
    page = (out / "index.html").read_text()
    assert "overlooked" not in page
    assert 'src="pictures' not in page
