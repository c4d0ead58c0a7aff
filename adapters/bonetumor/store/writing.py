"""Texts of blood markers, as the ledger keeps them beside the evidence."""

from contextlib import suppress

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.labs import BloodText
from bonetumor.domain.uid import UID
from bonetumor.store import documents as formats
from bonetumor.store.database import LedgerTables
from bonetumor.store.schema import texts


class Writing(LedgerTables):
    """The Texts port."""

    def text(self, study_instance_uid: UID, evidence: str, writer: str) -> BloodText | None:
        """What is kept for the digest of an evidence and the key of the writer that was asked."""
        query = select(texts.c.body).where(
            texts.c.study_instance_uid == study_instance_uid,
            texts.c.evidence == evidence,
            texts.c.writer == writer,
        )
        with self._transaction(write=False) as connection:
            body = connection.scalar(query)
        return None if body is None else formats.decode_text(bytes(body))

    def keep_text(
        self, study_instance_uid: UID, evidence: str, writer: str, text: BloodText
    ) -> BloodText:
        """Keeps a text, unless there is one already; answers the one that is kept."""
        with suppress(IntegrityError), self._transaction() as connection:  # another worker's
            connection.execute(
                insert(texts).values(
                    study_instance_uid=study_instance_uid,
                    evidence=evidence,
                    writer=writer,
                    body=formats.encode_text(text),
                )
            )
        kept = self.text(study_instance_uid, evidence, writer)
        if kept is None:
            raise InvalidInput(f"ledger: expected the text of {study_instance_uid}, got none")
        return kept
