"""Small cohorts, made by the command as a researcher would."""

import shutil

from typer.testing import CliRunner

from bonetumor.cohort.record import read_cohort, write_cohort
from bonetumor.worker.cli import app

SMALL = ("--patients", "10", "--normals", "3", "--seed", "4", "--longest-px", "320")


def run(*arguments):
    """The `bonetumor` command, in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def copied(cohort, tmp_path, change):
    """The cohort with its records changed; files are shared by copying."""
    folder = tmp_path / "cohort"
    shutil.copytree(cohort, folder)
    records = change(list(read_cohort(folder).patients))
    write_cohort(folder, records)
    return folder
