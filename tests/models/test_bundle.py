"""A bundle that was touched in any way does not load."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load

from bonetumor.domain.errors import Misconfigured, WeightsMismatch
from bonetumor.weights import installed
from bonetumor.weights.bundle import open_bundle, synthetic_bundle, write_bundle
from bonetumor.weights.source import Source
from bonetumor.worker.settings import ModelSettings, Settings
from bonetumor.worker.thinking import build_bundle, load_model


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(synthetic_bundle(), tmp_path / "bundle")
    return tmp_path / "bundle"


def _flip(name, position):
    def tamper(folder):
        data = bytearray((folder / name).read_bytes())
        data[position] ^= 1
        (folder / name).write_bytes(bytes(data))

    return tamper


def _manifest(change):
    def tamper(folder):
        path = folder / "manifest.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return tamper


TAMPERINGS = {
    "first byte of detector": _flip("detector.safetensors", 0),
    "middle of detector": _flip("detector.safetensors", 100_000),
    "last byte of detector": _flip("detector.safetensors", -1),
    "first byte of fusion": _flip("fusion.safetensors", 0),
    "last byte of fusion": _flip("fusion.safetensors", -1),
    "vocabulary": _flip("vocabulary.txt", 3),
    "credits": _flip("CREDITS.md", 3),
    "no credits": lambda f: (f / "CREDITS.md").unlink(),
    "no detector": lambda f: (f / "detector.safetensors").unlink(),
    "no fusion": lambda f: (f / "fusion.safetensors").unlink(),
    "no vocabulary": lambda f: (f / "vocabulary.txt").unlink(),
    "no manifest": lambda f: (f / "manifest.json").unlink(),
    "empty detector": lambda f: (f / "detector.safetensors").write_bytes(b""),
    "truncated detector": lambda f: (f / "detector.safetensors").write_bytes(
        (f / "detector.safetensors").read_bytes()[:-10]
    ),
    "swapped files": lambda f: shutil.copy(f / "fusion.safetensors", f / "detector.safetensors"),
    "a file more": lambda f: (f / "extra.pt").write_bytes(b"x"),
    "manifest no JSON": lambda f: (f / "manifest.json").write_text("{"),
    "manifest a list": lambda f: (f / "manifest.json").write_text("[]"),
    "manifest of another format": _manifest(lambda m: m.update(format=99)),
    "manifest without files": _manifest(lambda m: m.pop("files")),
    "manifest with a field more": _manifest(lambda m: m.update(unknown=1)),
    "manifest whose texts are none": _manifest(lambda m: m.update(training_data=7)),
    "manifest whose intended use is none": _manifest(lambda m: m.update(intended_use=7)),
    "manifest with a list of files": _manifest(lambda m: m.update(files=list(m["files"]))),
    "manifest with a detector that is none": _manifest(lambda m: m.update(detector="yolov5n")),
    "manifest with another hash": _manifest(
        lambda m: m["files"].update({"vocabulary.txt": "0" * 64})
    ),
}


def _entry(name, **change):
    return _manifest(lambda m: m[name].update(change))


NOT_SERVED = {
    "detector.score_threshold": _entry("detector", score_threshold=float("nan")),
    "detector.iou_threshold": _entry("detector", iou_threshold=45),
    "detector.familiarity_threshold": _entry("detector", familiarity_threshold=None),
    "detector.trunk_threshold": _entry("detector", trunk_threshold="far"),
    "detector.image_size_px": _entry("detector", image_size_px=641),
    "detector.max_detections": _manifest(lambda m: m["detector"].pop("max_detections")),
    "detector.beyond": _entry("detector", beyond="CHEST"),
    "an architecture that is known": _entry("detector", architecture="yolov5q.yaml"),
    "those of yolov5m.yaml": _entry("detector", architecture="yolov5m.yaml"),
    "fusion.crop_px": _entry("fusion", crop_px="wide"),
    "fusion.temperatures.image": _manifest(lambda m: m["fusion"]["temperatures"].update(image=0)),
    "got none for labs": _manifest(lambda m: m["fusion"]["temperatures"].pop("labs")),
    "fusion.greatest_energies.labs": _manifest(
        lambda m: m["fusion"]["greatest_energies"].update(labs=float("nan"))
    ),
    "fusion.biases.labs.malignant": _manifest(
        lambda m: m["fusion"]["biases"]["labs"].update(malignant=float("inf"))
    ),
    "fusion.biases: .*expected one for each class": _manifest(
        lambda m: m["fusion"]["biases"]["labs"].pop("malignant")
    ),
    "one for each class": _manifest(
        lambda m: m["fusion"]["least_probabilities"]["image+labs"].pop("benign")
    ),
    "fusion.network: expected sizes": _manifest(
        lambda m: m["fusion"]["network"].update(unknown_width=3)
    ),
    "those of the fusion network": _manifest(lambda m: m["fusion"]["network"].update(width=48)),
}


@pytest.mark.parametrize("said", NOT_SERVED)
def test_a_manifest_that_cannot_be_served_with_says_which_entry_is_wrong(folder, said):
    """Some of these would be worse than a crash: above NaN there is no distance, so that a gate
    would be open, and no score, so that nothing would ever be found."""
    NOT_SERVED[said](folder)
    with pytest.raises(WeightsMismatch, match=said):
        load_model(open_bundle(folder), device="cpu", engine="torch")


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_touched_bundle_is_refused(folder, name):
    TAMPERINGS[name](folder)
    with pytest.raises(WeightsMismatch, match="expected"):
        open_bundle(folder)


def test_the_synthetic_bundle_opens_and_says_what_it_is():
    manifest = open_bundle(synthetic_bundle()).manifest
    assert "synthetic" in manifest.training_data
    assert manifest.intended_use == "research"
    assert "Not for primary diagnosis" in manifest.intended_use_statement
    assert {s.name for s in manifest.sources} >= {"FracAtlas", "GRAZPEDWRI-DX"}
    credits_said = open_bundle(synthetic_bundle()).text("CREDITS.md")
    for source in manifest.sources:
        assert source.licence_confirmed
        assert source.credit in credits_said
    size = sum(p.stat().st_size for p in synthetic_bundle().iterdir())
    assert size < 60 * 1024 * 1024


SENTENCE = "Clinical trials and research. Not for primary diagnosis."
USES = {
    "as ours": (lambda m: None, "research"),
    "without the field": (lambda m: m.pop("intended_use"), "research"),
    "with a sentence as before": (lambda m: m.update(intended_use=SENTENCE), "research"),
    "in other letters": (lambda m: m.update(intended_use="Clinical"), "research"),
    "for patients, trained on some": (lambda m: m.update(training_data="patients"), "research"),
    "for clinical use": (lambda m: m.update(intended_use="clinical"), "clinical"),
}


@pytest.mark.parametrize("case", USES)
def test_clinical_mode_opens_for_a_bundle_that_says_clinical_and_for_no_other(folder, case):
    change, use = USES[case]
    _manifest(change)(folder)
    model = ModelSettings(bundle=folder)
    bundle = build_bundle(Settings(model=model))
    assert bundle.manifest.intended_use == use
    clinical = Settings(mode="clinical", model=model)
    if use == "clinical":
        assert build_bundle(clinical).manifest == bundle.manifest
        return
    said = r'expected model\.bundle with intended_use "clinical".*got synthetic-14 .*"research"'
    with pytest.raises(Misconfigured, match=said):
        build_bundle(clinical)


def test_the_sentence_of_an_older_bundle_is_kept(folder):
    _manifest(lambda m: m.update(intended_use=SENTENCE))(folder)
    assert open_bundle(folder).manifest.intended_use_statement == SENTENCE


WRONG_SOURCES = {
    "sources.1.licence_confirmed": lambda m: m["sources"][1].update(licence_confirmed="yes"),
    "sources.0.licence: Field required": lambda m: m["sources"][0].pop("licence"),
    "sources.2.kind": lambda m: m["sources"][2].update(kind="patients"),
    "sources: Input should be a valid list": lambda m: m.update(sources="FracAtlas"),
}


@pytest.mark.parametrize("said", WRONG_SOURCES)
def test_a_wrong_source_is_named(folder, said):
    _manifest(WRONG_SOURCES[said])(folder)
    with pytest.raises(WeightsMismatch, match=f"manifest: {said}"):
        open_bundle(folder)


def test_a_bundle_from_before_there_were_sources_opens_and_none_of_it_counts_as_confirmed(folder):
    def older(content):
        del content["sources"], content["intended_use_statement"], content["files"]["CREDITS.md"]

    _manifest(older)(folder)
    (folder / "CREDITS.md").unlink()
    manifest = open_bundle(folder).manifest
    assert (manifest.sources, manifest.recipe) == ((), {})
    [itself] = manifest.known_sources
    assert (itself.name, itself.licence_confirmed) == ("bundle synthetic-14", False)


def test_the_real_bundle_ships_where_there_is_one_and_the_synthetic_one_stays(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(installed, "_weights", lambda: tmp_path)
    (tmp_path / "synthetic").mkdir()
    assert installed.shipped_bundle() == installed.synthetic_bundle() == tmp_path / "synthetic"
    (tmp_path / "real").mkdir()
    assert installed.shipped_bundle() == tmp_path / "real"
    assert installed.synthetic_bundle() == tmp_path / "synthetic"


def test_what_is_written_with_sources_has_their_credits_in_a_file_of_its_own(tmp_path):
    source = Source(
        name="Hospital A",
        kind="real",
        credit="A. Author, 2024",
        licence="CC0-1.0",
        licence_confirmed=True,
        changes="none",
        files_sha256="a" * 64,
    )
    words = ("name", "version", "training_data", "intended_use", "limits")
    description = {**dict.fromkeys(words, "-"), "detector": {}, "fusion": {}, "metrics": {}}
    write_bundle(tmp_path, tensors={}, texts={}, description=description, sources=(source,))
    bundle = open_bundle(tmp_path)
    assert bundle.manifest.sources == (source,)
    assert "A. Author, 2024" in bundle.text("CREDITS.md")


def test_tensors_are_written_in_sixteen_bits_where_they_fit(tmp_path):
    large = torch.tensor([[1.0, 70_001.0]])
    state = {
        "large": large,
        "small": large / 70_001,
        "short": torch.tensor([[257.0 / 256 - 1, 3e38]]).bfloat16().float(),
        "vector": large[0] / 70_001,
    }
    write_bundle(
        tmp_path,
        tensors={"detector.safetensors": state},
        texts={},
        description={
            **dict.fromkeys(("name", "version", "training_data", "intended_use", "limits"), "-"),
            **{key: {} for key in ("detector", "fusion", "metrics")},
        },
    )
    loaded = open_bundle(tmp_path).tensors("detector.safetensors")
    assert torch.equal(loaded["small"], state["small"].half().float())
    assert all(torch.equal(loaded[name], state[name]) for name in ("large", "short", "vector"))
    held = load((tmp_path / "detector.safetensors").read_bytes())
    assert {name: tensor.dtype for name, tensor in held.items()} == {
        "large": torch.float32,
        "small": torch.float16,
        "short": torch.bfloat16,
        "vector": torch.float32,
    }


def test_an_absent_folder_is_refused(tmp_path):
    with pytest.raises(WeightsMismatch):
        build_bundle(Settings(model=ModelSettings(bundle=tmp_path / "absent")))
