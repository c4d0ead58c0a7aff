"""Workitems: Unified Procedure Steps (PS3.4 CC) that a worklist manager offers to performers."""

from dataclasses import dataclass
from datetime import datetime

from bonetumor.domain.uid import UID


@dataclass(frozen=True, slots=True, kw_only=True)
class Workitem:
    """What is to be done: the studies that its input names. `urgent` is its priority HIGH."""

    uid: UID
    studies: tuple[UID, ...]
    urgent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """A workitem that we began to perform, under the Transaction UID that only we know.

    `claimed_at` is None until the manager has said that it is ours.
    """

    workitem: Workitem
    transaction_uid: UID
    begun_at: datetime
    claimed_at: datetime | None
