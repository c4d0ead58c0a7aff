"""Tiles are of the size that the bundle's network learned on, in serving and in measuring."""

import json
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bonetumor.cohort.record import Cohort, PatientRecord
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput, WeightsMismatch
from bonetumor.domain.pathology import PathologySlide
from bonetumor.slides.whole import SlideSampler
from bonetumor.weights.bundle import open_bundle, shipped_bundle
from bonetumor.weights.tiles import tile_px_of
from bonetumor.worker.evaluating import Predictions, predict
from bonetumor.worker.sampling import BundleSampler
from bonetumor.worker.thinking import BundleSlides
from kit.cohorts import run
from kit.slides import tissue, write_slide, write_tiff


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose network learned on tiles of 64 pixels: its manifest alone."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"fusion": {"tile_px": 64}}))
    return folder


def _slide_picture():
    buffer = BytesIO()
    Image.fromarray(tissue(1)).save(buffer, "PNG")
    return PathologySlide(source="s", content_type="image/png", data=buffer.getvalue())


def test_the_tile_size_is_the_bundle_s(bundle):
    shipped = open_bundle(shipped_bundle()).manifest.fusion["tile_px"]
    assert tile_px_of(None) == tile_px_of(shipped_bundle()) == shipped
    assert tile_px_of(bundle) == 64


@pytest.mark.parametrize("text", ["{", "{}", '{"fusion": {"tile_px": "64"}}', "[]", None])
def test_a_manifest_that_does_not_say_is_refused(bundle, text):
    (bundle / "manifest.json").unlink()
    if text is not None:
        (bundle / "manifest.json").write_text(text)
    with pytest.raises(WeightsMismatch, match=r"expected fusion\.tile_px"):
        BundleSlides(bundle).tiles(_slide_picture())


def test_serving_samples_and_cuts_at_the_bundle_s_size(bundle, tmp_path):
    write_slide(tmp_path / "a.dcm", 2048)
    sheet = BundleSampler(bundle).sample_file(tmp_path / "a.dcm")
    assert sheet == SlideSampler(tile_px=64).sample_file(tmp_path / "a.dcm")
    cut = BundleSlides(bundle).tiles(
        PathologySlide(source="s", content_type="image/png", data=sheet)
    )
    assert cut.pixels.shape[1:] == (64, 64, 3)
    whole = [SlideSampler(tile_px=64, tiles=1).sample_file(tmp_path / "a.dcm")]
    first = np.asarray(Image.open(BytesIO(whole[0])))
    assert any(np.array_equal(first, tile) for tile in cut.pixels)


def test_measuring_cuts_at_the_bundle_s_size(tmp_path):
    (tmp_path / "a.png").write_bytes(_slide_picture().data)
    record = PatientRecord(patient="1", tumour_class=TumourClass.BENIGN, slides=("a.png",))
    seen = []
    fusion = SimpleNamespace(
        preparation=SimpleNamespace(tile_px=64),
        by_subset=lambda evidence: seen.append(evidence) or {},
    )
    model = SimpleNamespace(detector=None, fusion=fusion)
    predict(Cohort(tmp_path, (record,), ()), record, model, 0.5, Predictions())
    [evidence] = seen
    assert [s.pixels.shape[1:] for s in evidence.slides] == [(64, 64, 3)]


def test_whole_slides_become_tiles_for_a_cohort(bundle, tmp_path):
    levels = tmp_path / "levels"
    levels.mkdir()
    write_slide(levels / "0.dcm", 2048)
    write_slide(tmp_path / "a.dcm", 2048)
    write_tiff(tmp_path / "b.svs", 1024)
    (tmp_path / "c.svs").write_bytes(b"no slide")
    out = tmp_path / "out"
    given = [tmp_path / name for name in ("a.dcm", "b.svs", "levels", "c.svs")]
    said = run("cohort", "tiles", *given, "--out", out, "--bundle", bundle)
    assert said.exit_code == 1
    assert "not used: c.svs: whole slide: expected" in said.output
    assert "3 slides, 1 problems" in said.output
    for slide in given[:3]:
        written = (out / f"{slide.stem}.png").read_bytes()
        assert written == SlideSampler(tile_px=64).sample_file(slide)
    assert run("cohort", "tiles", given[0], "--out", out).exit_code == 0
    assert (out / "a.png").read_bytes() == SlideSampler(tile_px=128).sample_file(given[0])


def test_slides_of_one_name_would_overwrite_each_other(bundle, tmp_path):
    with pytest.raises(InvalidInput, match="expected slides of different names, got a twice"):
        run("cohort", "tiles", tmp_path / "a.svs", tmp_path / "a.dcm", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
