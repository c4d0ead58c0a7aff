"""The house stays readable, and its four roots stay one namespace."""

import os
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
