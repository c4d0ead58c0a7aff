"""Storage commitment answers (PS3.4 J.3.3)."""

from typing import NamedTuple

from pydicom import Dataset

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.uid import UID, parse_uid


class Answer(NamedTuple):
    """What an N-EVENT-REPORT says, by SOP Instance UIDs."""

    transaction_uid: UID
    committed: frozenset[UID]
    failed: frozenset[UID]


def read_answer(report: Dataset) -> Answer:
    """The answer to a request for storage commitment.

    Raises:
        InvalidInput: it names no transaction, or an object without a UID.
    """
    transaction = report.get("TransactionUID")
    if not transaction:
        raise InvalidInput("storage commitment: expected a Transaction UID, got none")
    return Answer(
        transaction_uid=parse_uid(str(transaction), name="Transaction UID"),
        committed=_named(report, "ReferencedSOPSequence"),
        failed=_named(report, "FailedSOPSequence"),
    )


def _named(report: Dataset, sequence: str) -> frozenset[UID]:
    return frozenset(
        parse_uid(
            str(item.get("ReferencedSOPInstanceUID") or ""), name="Referenced SOP Instance UID"
        )
        for item in report.get(sequence) or []
    )
