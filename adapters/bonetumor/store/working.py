"""Working, as the ledger records it: claims, leases, outcomes and what they made."""

from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from bonetumor.domain.assessment import Assessment
from bonetumor.domain.case import Evidence
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import STATE_BEFORE, Claim, Step, StudyState
from bonetumor.domain.study import Study
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Predecessor
from bonetumor.store import documents as formats
from bonetumor.store.database import LedgerTables, study_row
from bonetumor.store.rows import instance_of, is_due
from bonetumor.store.schema import documents, events, instances, studies


class Working(LedgerTables):
    """The StepLedger and Leases ports."""

    def claim(self, study_instance_uid: UID, step: Step, owner: str) -> Claim | None:
        """The right to do the step, or None if it is not due or someone else has it."""
        now = self._clock()
        with self._transaction() as connection:
            row = study_row(connection, study_instance_uid, lock=True)
            if row is None or not is_due(row, now, step):
                return None
            attempt = int(row["attempts"]) + 1
            if attempt > self._max_attempts:
                self._stop(
                    connection,
                    study_instance_uid,
                    int(row["revision"]),
                    StudyState(row["state"]),
                    StudyState.FAILED,
                    f"{step}: expected an end, got {self._max_attempts} attempts that died "
                    f"({row['problem'] or 'without a word'})",
                )
                return None
            expires = now + self._lease
            connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == study_instance_uid)
                .values(owner=owner, lease_expires_at=expires, attempts=attempt)
            )
            return Claim(
                study_instance_uid=study_instance_uid,
                revision=int(row["revision"]),
                step=step,
                owner=owner,
                attempt=attempt,
                put_offs=int(row["put_offs"]),
                expires_at=expires,
            )

    def study(self, study_instance_uid: UID) -> Study:
        """The study with all its instances, in a stable order."""
        with self._transaction(write=False) as connection:
            row = study_row(connection, study_instance_uid)
            if row is None:
                raise InvalidInput(f"ledger: expected study {study_instance_uid}, got none")
            found = connection.execute(
                select(instances)
                .where(instances.c.study_instance_uid == study_instance_uid)
                .order_by(instances.c.sop_instance_uid)
            ).mappings()
            return Study(
                study_instance_uid=study_instance_uid,
                instances=tuple(instance_of(r) for r in found),
                completeness=str(row["completeness"]),
            )

    def evidence(self, claim: Claim) -> Evidence:
        """What gathering saved for this revision."""
        return formats.decode_evidence(self._document(claim, formats.EVIDENCE))

    def assessment(self, claim: Claim) -> Assessment:
        """What assessing saved for this revision."""
        return formats.decode_assessment(self._document(claim, formats.ASSESSMENT))

    def predecessor(self, claim: Claim) -> Predecessor | None:
        """The last SR sent for an earlier revision."""
        query = (
            select(documents.c.body)
            .where(
                documents.c.study_instance_uid == claim.study_instance_uid,
                documents.c.revision < claim.revision,
                documents.c.kind == formats.ASSESSMENT,
                select(events.c.id)
                .where(
                    events.c.study_instance_uid == claim.study_instance_uid,
                    events.c.revision == documents.c.revision,
                    events.c.kind == StudyState.SR_SENT,
                )
                .exists(),
            )
            .order_by(documents.c.revision.desc())
            .limit(1)
        )
        with self._transaction(write=False) as connection:
            body = connection.scalar(query)
        if body is None:
            return None
        earlier = formats.decode_assessment(bytes(body))
        return Predecessor(
            sop_instance_uid=earlier.sr_sop_instance_uid,
            series_instance_uid=earlier.sr_series_instance_uid,
            run_key=earlier.run_key,
        )

    def chosen_patient(self, study_instance_uid: UID) -> str | None:
        """The Patient that a person named for the study, the last one if several did."""
        body = self._newest_document(study_instance_uid, formats.CHOSEN_PATIENT)
        return None if body is None else body.decode()

    def finish(
        self,
        claim: Claim,
        state: StudyState,
        saved: Evidence | Assessment | None,
        detail: str,
        again_at: datetime | None = None,
    ) -> None:
        """Records the step as done, with what it made. A claim that was lost changes nothing."""
        with self._transaction() as connection:
            if not self._release(
                connection,
                claim,
                state=state,
                attempts=0,
                put_offs=0,
                problem=None,
                next_attempt_at=again_at,
            ):
                return
            if saved is not None:
                self._save(connection, claim, claim.revision, saved)
            self._event(connection, claim.study_instance_uid, claim.revision, state, detail)

    def rest(self, claim: Claim, again_at: datetime | None) -> None:
        """Gives a claim back that changed nothing; the study keeps its place in `status`."""
        with self._transaction() as connection:
            self._release(
                connection,
                claim,
                attempts=0,
                next_attempt_at=again_at,
                updated_at=studies.c.updated_at,
            )

    def supersede(self, claim: Claim, evidence: Evidence, reason: str) -> None:
        """Opens the next revision of a finished study, with its evidence already gathered."""
        revision = claim.revision + 1
        with self._transaction() as connection:
            if not self._release(
                connection,
                claim,
                state=StudyState.GATHERED,
                revision=revision,
                attempts=0,
                put_offs=0,
                problem=None,
            ):
                return
            self._save(connection, claim, revision, evidence)
            self._event(
                connection,
                claim.study_instance_uid,
                revision,
                StudyState.GATHERED,
                f"reopened: {reason}",
            )

    def put_off(self, claim: Claim, problem: str, until: datetime) -> None:
        """Gives the claim back; the step is due again at `until`."""
        with self._transaction() as connection:
            if self._release(
                connection,
                claim,
                attempts=0,
                put_offs=claim.put_offs + 1,
                problem=problem,
                next_attempt_at=until,
            ):
                self._event(
                    connection,
                    claim.study_instance_uid,
                    claim.revision,
                    "put_off",
                    f"{claim.step}: {problem}",
                )

    def drop(self, claim: Claim, problem: str, until: datetime) -> None:
        """Gives the claim back after a crash: due again at `until`, and the attempt counts."""
        with self._transaction() as connection:
            if self._release(connection, claim, problem=problem, next_attempt_at=until):
                self._event(
                    connection,
                    claim.study_instance_uid,
                    claim.revision,
                    "crashed",
                    f"{claim.step}: {problem}",
                )

    def stop(self, claim: Claim, state: StudyState, problem: str) -> None:
        """Leaves the study held or failed, visibly."""
        with self._transaction() as connection:
            if self._release(connection, claim):
                self._stop(
                    connection,
                    claim.study_instance_uid,
                    claim.revision,
                    STATE_BEFORE[claim.step],
                    state,
                    f"{claim.step}: {problem}",
                )

    def free(self, owner_prefix: str) -> int:
        """Takes back every lease of owners that are known to be dead; answers how many."""
        with self._transaction() as connection:
            return int(
                connection.execute(
                    update(studies)
                    .where(studies.c.owner.startswith(owner_prefix, autoescape=True))
                    .values(owner=None, lease_expires_at=None)
                ).rowcount
            )

    def _release(self, connection: Connection, claim: Claim, **values: object) -> bool:
        """Gives up the lease if the claim still holds it; False if it was lost."""
        freed = {"owner": None, "lease_expires_at": None, "next_attempt_at": None}
        changed = connection.execute(
            update(studies)
            .where(
                studies.c.study_instance_uid == claim.study_instance_uid,
                studies.c.revision == claim.revision,
                studies.c.state == STATE_BEFORE[claim.step],
                studies.c.owner == claim.owner,
            )
            .values(**{**freed, "updated_at": self._clock(), **values})
        ).rowcount
        return bool(changed)

    def _save(
        self, connection: Connection, claim: Claim, revision: int, saved: Evidence | Assessment
    ) -> None:
        connection.execute(
            insert(documents).values(
                study_instance_uid=claim.study_instance_uid,
                revision=revision,
                kind=formats.kind_of(saved),
                body=formats.encode(saved),
            )
        )

    def _document(self, claim: Claim, kind: str) -> bytes:
        query = select(documents.c.body).where(
            documents.c.study_instance_uid == claim.study_instance_uid,
            documents.c.revision == claim.revision,
            documents.c.kind == kind,
        )
        with self._transaction(write=False) as connection:
            body = connection.scalar(query)
        if body is None:
            raise InvalidInput(
                f"ledger: expected {kind} of {claim.study_instance_uid}, "
                f"revision {claim.revision}, got none"
            )
        return bytes(body)
