"""Deciding, as the ledger records it: what people do about a case, by whom and why."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, update

from bonetumor.domain.progress import REMOVABLE, STOPPED, Content, DeliveryState, StudyState
from bonetumor.domain.uid import UID
from bonetumor.store import documents as formats
from bonetumor.store.database import LedgerTables, study_row
from bonetumor.store.schema import deliveries, documents, studies

_ENDED = REMOVABLE | STOPPED


class Deciding(LedgerTables):
    """The Desk port, and the retry of Overview."""

    def retry(self, study_instance_uid: UID) -> bool:
        """Lets a held or failed study run again from where it stopped."""
        with self._transaction() as connection:
            resumed = self._resume(connection, study_instance_uid)
            if resumed is None:
                return False
            revision, state = resumed
            self._event(
                connection, study_instance_uid, revision, "retried", f"by a person, from {state}"
            )
            return True

    def hold(self, study_instance_uid: UID, by: str, reason: str) -> bool:
        """Stops a study until a person releases it; False where it has ended already."""
        with self._transaction() as connection:
            row = study_row(connection, study_instance_uid, lock=True)
            if row is None or row["state"] in _ENDED:
                return False
            self._stop(
                connection,
                study_instance_uid,
                int(row["revision"]),
                StudyState(row["state"]),
                StudyState.HELD,
                f"by {by}: {reason}",
            )
            return True

    def release(
        self, study_instance_uid: UID, by: str, reason: str, patient: str | None = None
    ) -> bool:
        """Lets a held study go on; the Patient that the person named is kept for good."""
        with self._transaction() as connection:
            row = study_row(connection, study_instance_uid, lock=True)
            if row is None or row["state"] != StudyState.HELD:
                return False
            revision = int(row["revision"])
            if patient is not None:
                self._choose(connection, study_instance_uid, revision, patient)
            self._resume(connection, study_instance_uid)
            chosen = f" for {patient}" if patient else ""
            self._event(
                connection, study_instance_uid, revision, "released", f"by {by}{chosen}: {reason}"
            )
            return True

    def reject(self, study_instance_uid: UID, by: str, reason: str) -> bool:
        """Ends a held or failed study for good, without a result."""
        with self._transaction() as connection:
            row = study_row(connection, study_instance_uid, lock=True)
            if row is None or row["state"] not in STOPPED:
                return False
            connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == study_instance_uid)
                .values(
                    state=StudyState.REJECTED,
                    resume_state=None,
                    problem=f"rejected by {by}: {reason}",
                    updated_at=self._clock(),
                )
            )
            self._event(
                connection,
                study_instance_uid,
                int(row["revision"]),
                StudyState.REJECTED,
                f"by {by}: {reason}",
            )
            return True

    def note_withdrawal(self, study_instance_uid: UID, by: str, reason: str) -> StudyState | None:
        """Remembers that a report was withdrawn, and makes no new one without a person.

        Late evidence counts no more, and a result that is on its way is held. Answers the state.
        """
        with self._transaction() as connection:
            row = study_row(connection, study_instance_uid, lock=True)
            if row is None:
                return None
            state, revision = StudyState(row["state"]), int(row["revision"])
            said = f"by {by}: {reason}"
            self._event(connection, study_instance_uid, revision, "withdrawn", said)
            if state is StudyState.DONE:
                self._watch_no_more(connection, study_instance_uid)
            elif state not in _ENDED:
                said = f"report withdrawn {said}"
                self._stop(connection, study_instance_uid, revision, state, StudyState.HELD, said)
                state = StudyState.HELD
            return state

    def runs(self, study_instance_uid: UID) -> Sequence[str]:
        """The run keys of the results of a study, the newest first."""
        found = self._documents(study_instance_uid, formats.ASSESSMENT)
        return [formats.decode_assessment(body).run_key for body in found]

    def _resume(self, connection: Connection, study: UID) -> tuple[int, str] | None:
        """Puts a stopped study back where it stopped; its revision and that state."""
        row = study_row(connection, study, lock=True)
        if row is None or row["resume_state"] is None:
            return None
        connection.execute(
            update(studies)
            .where(studies.c.study_instance_uid == study)
            .values(
                state=row["resume_state"],
                resume_state=None,
                problem=None,
                attempts=0,
                put_offs=0,
                next_attempt_at=None,
                updated_at=self._clock(),
            )
        )
        self._abandon(connection, study, [Content.NOTICE])  # there may be a result after all
        connection.execute(
            update(deliveries)
            .where(
                deliveries.c.study_instance_uid == study,
                deliveries.c.revision == row["revision"],
                deliveries.c.content == Content.RESULT,
                deliveries.c.state == DeliveryState.FAILED,
            )
            .values(state=DeliveryState.WAITING, problem=None, attempts=0, put_offs=0)
        )
        return int(row["revision"]), str(row["resume_state"])

    def _choose(self, connection: Connection, study: UID, revision: int, patient: str) -> None:
        """The choice is one document per revision; the event keeps every choice that was made."""
        key = (
            documents.c.study_instance_uid == study,
            documents.c.revision == revision,
            documents.c.kind == formats.CHOSEN_PATIENT,
        )
        connection.execute(delete(documents).where(*key))
        connection.execute(
            insert(documents).values(
                study_instance_uid=study,
                revision=revision,
                kind=formats.CHOSEN_PATIENT,
                body=patient.encode(),
            )
        )
