"""The house stays readable, and its four roots stay one namespace."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("plugin", "adapters", "models", "workers")
SOURCES = [p for root in ROOTS for p in (ROOT / root / "bonetumor").rglob("*.py")]


@pytest.mark.parametrize("root", ROOTS)
def test_no_init_file_hides_the_other_roots(root):
    assert not (ROOT / root / "bonetumor" / "__init__.py").exists()


def test_files_are_short():
    lengths = sorted(len(p.read_text().splitlines()) for p in SOURCES)
    assert lengths[len(lengths) // 2] <= 120
    assert lengths[-1] <= 400


def test_rooms_have_no_junk_drawers():
    names = {p.stem for p in SOURCES} | {p.parent.name for p in SOURCES}
    assert not names & {"utils", "util", "helpers", "common", "manager", "misc"}


def test_every_room_is_typed_and_explained():
    for package in {p.parent for p in SOURCES}:
        # PEP 561: the marker of a package is valid for what is inside it.
        assert any((p / "py.typed").exists() for p in (package, *package.parents)), package
        assert (package / "__init__.py").read_text().startswith('"""'), package


def test_the_installed_package_is_this_tree():
    assert files("bonetumor")
    import bonetumor.domain
    import bonetumor.worker

    assert Path(bonetumor.domain.__file__).is_relative_to(ROOT / "plugin")
    assert Path(bonetumor.worker.__file__).is_relative_to(ROOT / "workers")


def test_a_wheel_holds_all_four_roots_and_the_weights(tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    listing = subprocess.run(
        ["python3", "-m", "zipfile", "-l", wheel], capture_output=True, text=True, check=True
    ).stdout
    for name in (
        "bonetumor/domain/errors.py",
        "bonetumor/dicom/sr.py",
        "bonetumor/detection/yolo.py",
        "bonetumor/worker/cli.py",
        "bonetumor/worker/pages/demo.html",
        "bonetumor/weights/synthetic/detector.safetensors",
        "bonetumor/weights/synthetic/CREDITS.md",
    ):
        assert name in listing
    assert "bonetumor/__init__.py" not in listing


MADE = ("confirmed", "unconfirmed", "silent", "broken")


@pytest.fixture
def project(tmp_path):
    """A project with our build settings and bundles of a few bytes."""
    folder = tmp_path / "project"
    (folder / "deploy").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "deploy/hatch_build.py"):
        shutil.copy(ROOT / name, folder / name)
    for root in ROOTS:
        (folder / root / "bonetumor").mkdir(parents=True)
    weights = folder / "models" / "bonetumor" / "weights"
    manifests = {
        "synthetic": {},
        "confirmed": {"sources": [{"name": "A", "licence_confirmed": True}]},
        "unconfirmed": {
            "sources": [
                {"name": "A", "licence_confirmed": True},
                {"name": "B", "licence_confirmed": False},
            ]
        },
        "silent": {"version": "1"},
    }
    for name in ("synthetic", *MADE):
        (weights / name).mkdir(parents=True)
        (weights / name / "detector.safetensors").write_bytes(b"weights")
        if name in manifests:
            (weights / name / "manifest.json").write_text(json.dumps(manifests[name]))
    return folder


@pytest.mark.parametrize("target", ["wheel", "sdist"])
def test_only_weights_whose_sources_are_confirmed_are_released(project, target):
    """Built by the command, as a release is."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target]
    built = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    [release] = (project / "dist").iterdir()
    module = "zipfile" if target == "wheel" else "tarfile"
    listing = subprocess.run(
        [sys.executable, "-m", module, "-l", release], capture_output=True, text=True, check=True
    ).stdout
    held = {n for n in ("synthetic", *MADE) if f"weights/{n}/detector.safetensors" in listing}
    assert held == {"synthetic", "confirmed"}
    said = built.stdout + built.stderr
    assert "weights/unconfirmed is left out: licence not confirmed of B\n" in said
    assert "weights/silent is left out: its manifest names no sources" in said
    assert "weights/broken is left out: expected a manifest, got FileNotFoundError" in said
    assert "weights/confirmed is in" in said


def test_an_editable_install_has_all_weights_of_the_tree(project):
    from hatchling.builders.wheel import WheelBuilder

    builder = WheelBuilder(str(project))
    list(builder.build(directory=str(project / "dist"), versions=["editable"]))
    assert "exclude" not in builder.config.target_config
    list(builder.build(directory=str(project / "dist"), versions=["standard"]))
    assert "/models/bonetumor/weights/silent/" in builder.config.target_config["exclude"]


COMMANDS = {
    ("--help",): ("typer", {"pydicom", "sqlalchemy", "celery"}),
    ("healthy", "--listener"): ("bonetumor.worker.health", {"celery"}),
    ("status",): ("bonetumor.worker.inspection", {"celery"}),
}


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_commands_import_no_more_than_they_need(arguments, tmp_path):
    """Containers ask `healthy` every half minute; networks in it would cost them seconds each."""
    code = (
        "import contextlib, sys\nfrom bonetumor.worker.cli import app\n"
        f"with contextlib.suppress(BaseException):\n    app({list(arguments)!r})\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    environment = {**os.environ, "BONETUMOR_FOLDER": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    needed, heavy = COMMANDS[arguments]
    imported = set(ran.stderr.split())
    assert needed in imported
    assert not imported & ({"torch", "transformers", "ultralytics"} | heavy)
