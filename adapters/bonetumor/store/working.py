"""Working, as the ledger records it: claims, leases, outcomes and what they made."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, delete, insert, select, update

from bonetumor.domain.assessment import Assessment
from bonetumor.domain.case import Evidence
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import (
    STATE_BEFORE,
    Claim,
    Content,
    DeliveryState,
    Errand,
    State,
    StudyState,
)
from bonetumor.domain.study import Study
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Predecessor
from bonetumor.store import documents as formats
from bonetumor.store.database import study_row
from bonetumor.store.delivering import Delivering, may_be_delivered
from bonetumor.store.rows import errand_of, instance_of, is_due
from bonetumor.store.schema import deliveries, documents, events, instances, studies, workers

_SENT_BEFORE_SCHEMA_3 = "sr_sent"


class Working(Delivering):
    """The StepLedger and Leases ports. A delivery's row is claimed and released as a study's is."""

    def claim(self, errand: Errand, owner: str) -> Claim | None:
        """The right to do the step, or None if it is not due or someone else has it."""
        now = self._clock()
        with self._transaction() as connection:
            row = _locked(connection, errand)
            if row is None or not is_due(row, now, errand.step):
                return None
            claim = Claim(
                errand=errand,
                revision=int(row["revision"]),
                owner=owner,
                attempt=int(row["attempts"]) + 1,
                put_offs=int(row["put_offs"]),
                expires_at=now + self._lease,
            )
            if claim.attempt > self._max_attempts:
                why = row["problem"] or "without a word"
                self._give_up(
                    connection,
                    claim,
                    StudyState.FAILED,
                    f"expected an end, got {self._max_attempts} attempts that died ({why})",
                )
                return None
            connection.execute(
                update(table_of(errand))
                .where(*_key(errand, claim.revision))
                .values(owner=owner, lease_expires_at=claim.expires_at, attempts=claim.attempt)
            )
            return claim

    def companions(self, claim: Claim, limit: int) -> Sequence[Errand]:
        """The same step for other studies for which it is due and no attempt has died: urgent ones,
        then the oldest. Only of steps of a study as a whole."""
        now = self._clock()
        waiting = (
            select(studies)
            .where(
                studies.c.state == STATE_BEFORE[claim.step],
                studies.c.attempts == 0,
                studies.c.owner.is_(None),
                studies.c.study_instance_uid != claim.study_instance_uid,
            )
            .order_by(studies.c.urgent.desc(), studies.c.updated_at)
            .limit(limit)
        )
        with self._transaction(write=False) as connection:
            rows = connection.execute(waiting).mappings().all()
        return [errand_of(row) for row in rows if is_due(row, now, claim.step)]

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
        """The last result of an earlier revision that any destination was sent."""
        same = (
            deliveries.c.study_instance_uid == claim.study_instance_uid,
            deliveries.c.revision == documents.c.revision,
            deliveries.c.content == Content.RESULT,
            deliveries.c.sent_at.is_not(None),
        )
        old = (
            events.c.study_instance_uid == claim.study_instance_uid,
            events.c.revision == documents.c.revision,
            events.c.kind == _SENT_BEFORE_SCHEMA_3,
        )
        query = (
            select(documents.c.body)
            .where(
                documents.c.study_instance_uid == claim.study_instance_uid,
                documents.c.revision < claim.revision,
                documents.c.kind == formats.ASSESSMENT,
                select(deliveries.c.revision).where(*same).exists()
                | select(events.c.id).where(*old).exists(),
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
        found = self._documents(study_instance_uid, formats.CHOSEN_PATIENT)
        return found[0].decode() if found else None

    def finish(
        self,
        claim: Claim,
        state: State,
        saved: Evidence | Assessment | None,
        detail: str,
        again_at: datetime | None = None,
        deliver_to: Sequence[str] = (),
    ) -> None:
        """Records the step as done, with what it made. A claim that was lost changes nothing."""
        is_delivery = claim.errand.is_delivery
        with self._transaction() as connection:
            if not self._release(
                connection,
                claim,
                state=state,
                attempts=0,
                put_offs=0,
                problem=None,
                next_attempt_at=None if is_delivery else again_at,
            ):
                return
            if saved is not None:
                self._save(connection, claim, claim.revision, saved)
            said = f"{claim.errand.destination}: {detail}" if is_delivery else detail
            self._event(connection, claim.study_instance_uid, claim.revision, state, said)
            self._open_deliveries(connection, claim, deliver_to)
            if is_delivery:
                self._settle(connection, claim, again_at)

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
            self._abandon(connection, claim.study_instance_uid)
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
                self._tell(connection, claim, "put_off", problem)

    def drop(self, claim: Claim, problem: str, until: datetime) -> None:
        """Gives the claim back after a crash: due again at `until`, and the attempt counts."""
        with self._transaction() as connection:
            if self._release(connection, claim, problem=problem, next_attempt_at=until):
                self._tell(connection, claim, "crashed", problem)

    def stop(self, claim: Claim, state: StudyState, problem: str) -> None:
        """Leaves the study held or failed, or one of its deliveries failed, visibly."""
        with self._transaction() as connection:
            if self._release(connection, claim):
                self._give_up(connection, claim, state, problem)

    def free(self, owner_prefix: str) -> int:
        """Takes back every lease of owners that are known to be dead; answers how many."""
        with self._transaction() as connection:
            connection.execute(
                delete(workers).where(workers.c.owner.startswith(owner_prefix, autoescape=True))
            )
            return sum(
                int(
                    connection.execute(
                        update(table)
                        .where(table.c.owner.startswith(owner_prefix, autoescape=True))
                        .values(owner=None, lease_expires_at=None)
                    ).rowcount
                )
                for table in (studies, deliveries)
            )

    def _give_up(
        self, connection: Connection, claim: Claim, state: StudyState, problem: str
    ) -> None:
        """Stops what the claim is about, for good or until a person wants it again."""
        if claim.errand.is_delivery:
            self._fail_delivery(connection, claim, problem)
            return
        study, before = claim.study_instance_uid, StudyState(STATE_BEFORE[claim.step])
        said = f"{claim.step}: {problem}"
        self._stop(connection, study, claim.revision, before, state, said)
        self._open_notices(connection, study, claim.revision, said)

    def _tell(self, connection: Connection, claim: Claim, kind: str, problem: str) -> None:
        """An event about a claim that was given back, and the problem where `status` shows it."""
        errand = claim.errand
        where = f" to {errand.destination}" if errand.is_delivery else ""
        detail = f"{errand.step}{where}: {problem}"
        self._event(connection, claim.study_instance_uid, claim.revision, kind, detail)
        if errand.is_delivery:
            self._settle(connection, claim, None)

    def _release(self, connection: Connection, claim: Claim, **values: object) -> bool:
        """Gives up the lease if the claim still holds it; False if it was lost."""
        freed = {"owner": None, "lease_expires_at": None, "next_attempt_at": None}
        table = table_of(claim.errand)
        if values.get("state") == DeliveryState.SENT:
            values["sent_at"] = self._clock()
        changed = connection.execute(
            update(table)
            .where(
                *_key(claim.errand, claim.revision),
                table.c.state == STATE_BEFORE[claim.step],
                table.c.owner == claim.owner,
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


def table_of(errand: Errand) -> Table:
    """The table whose row the errand is about."""
    return deliveries if errand.is_delivery else studies


def _key(errand: Errand, revision: int) -> list[ColumnElement[bool]]:
    table = table_of(errand)
    key = [table.c.study_instance_uid == errand.study_instance_uid, table.c.revision == revision]
    if errand.is_delivery:
        key += [table.c.content == errand.content, table.c.destination == errand.destination]
    return key


def _locked(connection: Connection, errand: Errand) -> RowMapping | None:
    """The row of the errand, kept from other writers; of a delivery the newest."""
    if not errand.is_delivery:
        return study_row(connection, errand.study_instance_uid, lock=True)
    query = (
        select(deliveries)
        .join(studies, studies.c.study_instance_uid == deliveries.c.study_instance_uid)
        .where(
            may_be_delivered(),
            deliveries.c.study_instance_uid == errand.study_instance_uid,
            deliveries.c.content == errand.content,
            deliveries.c.destination == errand.destination,
            deliveries.c.state == STATE_BEFORE[errand.step],
        )
        .order_by(deliveries.c.revision.desc())
        .limit(1)
        .with_for_update(of=deliveries)
    )
    return connection.execute(query).mappings().first()
