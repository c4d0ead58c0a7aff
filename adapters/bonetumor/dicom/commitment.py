"""Storage commitment answers (PS3.4 J.3.3)."""

from pydicom import Dataset

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.uid import UID, parse_uid


def committed_and_failed(report: Dataset) -> tuple[UID, int, int]:
    """The transaction of an N-EVENT-REPORT, and how many objects were committed and were not.

    Raises:
        InvalidInput: it names no transaction.
    """
    transaction = report.get("TransactionUID")
    if not transaction:
        raise InvalidInput("storage commitment: expected a Transaction UID, got none")
    return (
        parse_uid(str(transaction), name="Transaction UID"),
        len(report.get("ReferencedSOPSequence") or []),
        len(report.get("FailedSOPSequence") or []),
    )
