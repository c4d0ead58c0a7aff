"""Delivering, as the ledger records it: what goes where, what came of it, and what is ours."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, insert, or_, select, update

from bonetumor.domain.progress import (
    STOPPED,
    UNDER_WAY,
    Claim,
    Content,
    Delivery,
    DeliveryState,
    StudyState,
)
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Commitment, OwnObject
from bonetumor.store.database import LedgerTables
from bonetumor.store.rows import delivery_of, utc
from bonetumor.store.schema import commitments, deliveries, own_objects, studies


def may_be_delivered() -> ColumnElement[bool]:
    """Whether a delivery goes on, given its study's state: people may hold a study at any time."""
    result, notice = (deliveries.c.content == c for c in (Content.RESULT, Content.NOTICE))
    return or_(
        and_(result, studies.c.state == StudyState.DELIVERING),
        and_(notice, studies.c.state.in_(STOPPED)),
    )


def _of_parcel(table: Table, destination: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.destination == destination, table.c.parcel == key


class Delivering(LedgerTables):
    """The Outbox port, and what StepLedger and Overview need of deliveries."""

    def deliveries(self, study_instance_uid: UID) -> Sequence[Delivery]:
        """Every delivery of a study, the oldest revision first."""
        query = (
            select(deliveries)
            .where(deliveries.c.study_instance_uid == study_instance_uid)
            .order_by(deliveries.c.revision, deliveries.c.content, deliveries.c.destination)
        )
        with self._transaction(write=False) as connection:
            return [delivery_of(row) for row in connection.execute(query).mappings()]

    def reason(self, claim: Claim) -> tuple[str, datetime]:
        """Why a notice is sent, and since when that is so."""
        query = select(deliveries.c.reason, deliveries.c.opened_at).where(
            deliveries.c.study_instance_uid == claim.study_instance_uid,
            deliveries.c.revision == claim.revision,
            deliveries.c.content == Content.NOTICE,
            deliveries.c.destination == claim.errand.destination,
        )
        with self._transaction(write=False) as connection:
            reason, at = connection.execute(query).one()
        return str(reason), utc(at)

    def note_own(
        self, study_instance_uid: UID, destination: str, key: str, objects: Sequence[OwnObject]
    ) -> None:
        """Remembers objects that we are about to send, so that they are known if they return."""
        with self._transaction() as connection:
            connection.execute(
                delete(commitments).where(*_of_parcel(commitments, destination, key))
            )
            connection.execute(
                delete(own_objects).where(*_of_parcel(own_objects, destination, key))
            )
            connection.execute(
                insert(own_objects),
                [
                    {
                        "sop_instance_uid": one.sop_instance_uid,
                        "destination": destination,
                        "parcel": key,
                        "study_instance_uid": study_instance_uid,
                        "series_instance_uid": one.series_instance_uid,
                        "sop_class_uid": one.sop_class_uid,
                    }
                    for one in objects
                ],
            )

    def sent_objects(self, destination: str, key: str) -> Sequence[OwnObject]:
        """What a destination was sent of a parcel."""
        query = select(own_objects).where(*_of_parcel(own_objects, destination, key))
        with self._transaction(write=False) as connection:
            return [
                OwnObject(
                    sop_instance_uid=UID(row["sop_instance_uid"]),
                    sop_class_uid=UID(row["sop_class_uid"]),
                    study_instance_uid=UID(row["study_instance_uid"]),
                    series_instance_uid=UID(row["series_instance_uid"]),
                )
                for row in connection.execute(query).mappings()
            ]

    def commitment(self, destination: str, key: str) -> Commitment | None:
        """What came of asking for storage commitment: the answer, else the newest request."""
        query = (
            select(commitments)
            .where(*_of_parcel(commitments, destination, key))
            .order_by(commitments.c.answered_at.is_(None), commitments.c.requested_at.desc())
        )
        with self._transaction(write=False) as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        return Commitment(
            transaction_uid=UID(row["transaction_uid"]),
            requested_at=utc(row["requested_at"]),
            is_answered=row["answered_at"] is not None,
            committed=row["committed"],
            failed=row["failed"],
        )

    def note_commitment_request(self, transaction_uid: UID, destination: str, key: str) -> None:
        """Remembers that commitment is asked for, beside requests that were not answered yet."""
        with self._transaction() as connection:
            connection.execute(
                insert(commitments).values(
                    transaction_uid=transaction_uid,
                    destination=destination,
                    parcel=key,
                    requested_at=self._clock(),
                    committed=0,
                    failed=0,
                )
            )

    def forget_commitment(self, transaction_uid: UID) -> None:
        """Lets commitment be asked for again."""
        with self._transaction() as connection:
            connection.execute(
                delete(commitments).where(commitments.c.transaction_uid == transaction_uid)
            )

    def note_commitment_answer(
        self, transaction_uid: UID, *, committed: Collection[UID], failed: Collection[UID]
    ) -> bool:
        """Remembers what the archive answers of what it was asked for; False if nobody asked."""
        asked = commitments.c.transaction_uid == transaction_uid
        query = select(own_objects.c.sop_instance_uid).join(
            commitments,
            and_(
                own_objects.c.parcel == commitments.c.parcel,
                own_objects.c.destination == commitments.c.destination,
            ),
        )
        with self._transaction() as connection:
            sent = set(connection.scalars(query.where(asked)))
            changed = connection.execute(
                update(commitments)
                .where(asked)
                .values(
                    answered_at=self._clock(),
                    committed=len(sent.intersection(committed).difference(failed)),
                    failed=len(sent.intersection(failed)),
                )
            ).rowcount
        return bool(changed)

    def _open_deliveries(
        self, connection: Connection, claim: Claim, destinations: Sequence[str]
    ) -> None:
        """One waiting delivery for each destination that has none yet."""
        for destination in destinations:
            self._open(
                connection, claim.study_instance_uid, claim.revision, Content.RESULT, destination
            )

    def _open_notices(self, connection: Connection, study: UID, revision: int, reason: str) -> None:
        """A notice for each destination that gets them; an older one of the revision makes way."""
        for destination in self._notify:
            self._open(connection, study, revision, Content.NOTICE, destination, reason)

    def _open(
        self,
        connection: Connection,
        study: UID,
        revision: int,
        content: Content,
        destination: str,
        reason: str = "",
    ) -> None:
        connection.execute(
            delete(deliveries).where(
                deliveries.c.study_instance_uid == study,
                deliveries.c.revision == revision,
                deliveries.c.content == content,
                deliveries.c.destination == destination,
            )
        )
        connection.execute(
            insert(deliveries).values(
                study_instance_uid=study,
                revision=revision,
                content=content,
                destination=destination,
                state=DeliveryState.WAITING,
                reason=reason,
                opened_at=self._clock(),
                updated_at=self._clock(),
                attempts=0,
                put_offs=0,
            )
        )

    def _fail_delivery(self, connection: Connection, claim: Claim, problem: str) -> None:
        connection.execute(
            update(deliveries)
            .where(
                deliveries.c.study_instance_uid == claim.study_instance_uid,
                deliveries.c.revision == claim.revision,
                deliveries.c.content == claim.errand.content,
                deliveries.c.destination == claim.errand.destination,
            )
            .values(
                state=DeliveryState.FAILED,
                problem=problem,
                owner=None,
                lease_expires_at=None,
                next_attempt_at=None,
                updated_at=self._clock(),
            )
        )
        detail = f"{claim.step} to {claim.errand.destination}: {problem}"
        self._event(connection, claim.study_instance_uid, claim.revision, "not_delivered", detail)
        self._settle(connection, claim, None)

    def _settle(self, connection: Connection, claim: Claim, again_at: datetime | None) -> None:
        """What the deliveries of a result make of its study: on its way, done, or failed.

        The study shows the problem of every delivery that has one. Notices change nothing: their
        study has stopped already.
        """
        if claim.errand.content is not Content.RESULT:
            return
        study, revision = claim.study_instance_uid, claim.revision
        # Two deliveries that end at once must not each think that the other is still under way.
        connection.execute(
            select(studies.c.revision)
            .where(studies.c.study_instance_uid == study)
            .with_for_update()
        )
        rows = connection.execute(
            select(deliveries.c.destination, deliveries.c.state, deliveries.c.problem).where(
                deliveries.c.study_instance_uid == study,
                deliveries.c.revision == revision,
                deliveries.c.content == Content.RESULT,
            )
        ).all()
        problem = "; ".join(f"{name}: {said}" for name, _, said in rows if said) or None
        values: dict[str, object] = {"problem": problem, "updated_at": self._clock()}
        states = {state for _, state, _ in rows}
        if not states & UNDER_WAY:
            failed = DeliveryState.FAILED in states
            values["state"] = StudyState.FAILED if failed else StudyState.DONE
            values["resume_state"] = StudyState.DELIVERING if failed else None
            values["next_attempt_at"] = None if failed else again_at
        changed = connection.execute(
            update(studies)
            .where(
                studies.c.study_instance_uid == study,
                studies.c.revision == revision,
                studies.c.state == StudyState.DELIVERING,
            )
            .values(**values)
        ).rowcount
        if changed and "state" in values:
            where = ", ".join(name for name, state, _ in rows if state == DeliveryState.CONFIRMED)
            detail = problem or f"delivered and confirmed: {where}"
            self._event(connection, study, revision, str(values["state"]), detail)
