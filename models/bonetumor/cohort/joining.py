"""Several cohorts as one: of several hospitals, or drawn from several seeds."""

import os
from collections.abc import Sequence
from pathlib import Path

from bonetumor.cohort.record import Cohort, PatientRecord
from bonetumor.domain.errors import InvalidInput


def join_cohorts(cohorts: Sequence[Cohort], folder: Path) -> list[PatientRecord]:
    """The patients of all of them, for a `cohort.jsonl` in `folder`.

    Files stay where they are: paths lead there from `folder`. Patients and groups bear the name of
    their cohort's folder before their own, and it is their centre where they name none. Whether
    they are real or synthetic stays as it is.

    Raises:
        InvalidInput: two of the folders have one name, or `folder` is one of them.
    """
    if folder.resolve() in [cohort.folder.resolve() for cohort in cohorts]:
        raise InvalidInput(f"cohorts: expected another folder to join them in, got {folder}")
    names = [cohort.folder.resolve().name for cohort in cohorts]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"cohorts: expected folders of different names, got {name} twice")
    return [
        _moved(record, name, Path(os.path.relpath(cohort.folder.resolve(), folder.resolve())))
        for name, cohort in zip(names, cohorts, strict=True)
        for record in cohort.patients
    ]


def _moved(record: PatientRecord, name: str, way: Path) -> PatientRecord:
    return record.model_copy(
        update={
            "patient": f"{name}-{record.patient}",
            "group": f"{name}-{record.group}" if record.group else None,
            "centre": record.centre or name,
            "split": record.part,  # which may follow from the name
            "images": tuple(
                i.model_copy(update={"file": (way / i.file).as_posix()}) for i in record.images
            ),
            "slides": tuple((way / s).as_posix() for s in record.slides),
            "fhir": (way / record.fhir).as_posix() if record.fhir else None,
        }
    )
