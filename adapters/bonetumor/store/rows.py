"""Rows of the ledger's tables as domain values, and back."""

from datetime import UTC, datetime

from sqlalchemy import RowMapping

from bonetumor.domain.progress import (
    NEXT_DELIVERY_STEP,
    NEXT_STEP,
    STATE_BEFORE,
    Content,
    Delivery,
    DeliveryState,
    Errand,
    Step,
    StudyProgress,
    StudyState,
)
from bonetumor.domain.study import Instance, InstanceKeys
from bonetumor.domain.uid import UID


def is_due(row: RowMapping, now: datetime, step: Step) -> bool:
    """Whether the step leads out of the row's state, nobody holds it, and its time has come.

    A finished study is looked at again only if a time for that is set.
    """
    lease, start = row["lease_expires_at"], row["next_attempt_at"]
    if row["state"] != STATE_BEFORE[step] or (lease is not None and utc(lease) > now):
        return False
    return step is not Step.LOOK_AGAIN if start is None else utc(start) <= now


def errand_of(row: RowMapping) -> Errand:
    """The step that leads out of the state of a study's row, or of a delivery's with its study's
    `urgent`."""
    study, urgent = UID(row["study_instance_uid"]), bool(row["urgent"])
    if "destination" not in row:
        step = NEXT_STEP.get(StudyState(row["state"]), Step.LOOK_AGAIN)
        return Errand(study_instance_uid=study, step=step, urgent=urgent)
    return Errand(
        study_instance_uid=study,
        step=NEXT_DELIVERY_STEP[DeliveryState(row["state"])],
        destination=row["destination"],
        content=Content(row["content"]),
        urgent=urgent,
    )


def utc(moment: datetime) -> datetime:
    """SQLite forgets the time zone; everything in the ledger is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def instance_row(instance: Instance) -> dict[str, object]:
    """An instance as a row."""
    return {
        "sop_instance_uid": instance.keys.sop_instance_uid,
        "study_instance_uid": instance.keys.study_instance_uid,
        "series_instance_uid": instance.keys.series_instance_uid,
        "sop_class_uid": instance.keys.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "size": instance.size,
        "sha256": instance.sha256,
        "received_at": instance.received_at,
        "calling_ae_title": instance.calling_ae_title,
        "called_ae_title": instance.called_ae_title,
    }


def instance_of(row: RowMapping) -> Instance:
    """A row as an instance."""
    return Instance(
        keys=InstanceKeys(
            study_instance_uid=UID(row["study_instance_uid"]),
            series_instance_uid=UID(row["series_instance_uid"]),
            sop_instance_uid=UID(row["sop_instance_uid"]),
            sop_class_uid=UID(row["sop_class_uid"]),
        ),
        transfer_syntax_uid=UID(row["transfer_syntax_uid"]),
        size=row["size"],
        sha256=row["sha256"],
        received_at=utc(row["received_at"]),
        calling_ae_title=row["calling_ae_title"],
        called_ae_title=row["called_ae_title"],
    )


def progress_of(row: RowMapping) -> StudyProgress:
    """A row as `status` shows it."""
    return StudyProgress(
        study_instance_uid=UID(row["study_instance_uid"]),
        state=StudyState(row["state"]),
        revision=row["revision"],
        instances=row["count"],
        last_instance_at=utc(row["last_instance_at"]),
        updated_at=utc(row["updated_at"]),
        problem=row["problem"],
        next_attempt_at=utc(row["next_attempt_at"]) if row["next_attempt_at"] else None,
        urgent=bool(row["urgent"]),
    )


def delivery_of(row: RowMapping) -> Delivery:
    """A row as `status` shows it."""
    return Delivery(
        revision=row["revision"],
        content=Content(row["content"]),
        destination=row["destination"],
        state=DeliveryState(row["state"]),
        problem=row["problem"],
        updated_at=utc(row["updated_at"]),
        next_attempt_at=utc(row["next_attempt_at"]) if row["next_attempt_at"] else None,
    )
