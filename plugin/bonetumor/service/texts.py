"""Texts of blood markers: written once for each evidence, kept, and read again ever after.

A language model need not give the same text twice: another GPU or another version of a library
rounds otherwise. What it wrote is evidence, and is kept beside it.
"""

from typing import Protocol

from bonetumor.domain.case import Evidence
from bonetumor.domain.labs import BloodText, LabPanel, Writer
from bonetumor.domain.uid import UID


class BloodWriter(Protocol):
    """Words the abnormal blood markers."""

    @property
    def writer(self) -> Writer:
        """Who is asked."""
        ...

    def write(self, panel: LabPanel) -> BloodText:
        """The text; where a language model fails, the template's with a note."""
        ...


class Texts(Protocol):
    """The part of the ledger that keeps texts of blood markers."""

    def text(self, study_instance_uid: UID, evidence: str, writer: str) -> BloodText | None:
        """What is kept for the digest of an evidence and the key of the writer that was asked."""
        ...

    def keep_text(
        self, study_instance_uid: UID, evidence: str, writer: str, text: BloodText
    ) -> BloodText:
        """Keeps a text, unless there is one already; answers the one that is kept."""
        ...


def text_of(
    study_instance_uid: UID, evidence: Evidence, writer: BloodWriter, texts: Texts
) -> BloodText | None:
    """The text of the blood markers; None where there are none. The writer is asked only once."""
    if evidence.labs is None or not evidence.has_labs:
        return None
    key = evidence.digest, writer.writer.key
    kept = texts.text(study_instance_uid, *key)
    return kept or texts.keep_text(study_instance_uid, *key, writer.write(evidence.labs))
