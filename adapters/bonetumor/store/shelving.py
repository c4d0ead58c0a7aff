"""Reports that the plugin serves itself, as the ledger keeps them."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, RowMapping, insert, or_, select, update

from bonetumor.domain.uid import UID
from bonetumor.service.shelf import ReportQuery, ShelvedReport
from bonetumor.store.database import LedgerTables
from bonetumor.store.rows import utc
from bonetumor.store.schema import report_resources, reports


class Shelving(LedgerTables):
    """The Shelf port."""

    def keep(self, report: ShelvedReport) -> None:
        """Puts a report on the shelf; it takes the place of an earlier one of its study."""
        with self._transaction() as connection:
            there = connection.scalar(
                select(reports.c.report_id).where(reports.c.report_id == report.report_id)
            )
            connection.execute(
                update(reports)
                .where(
                    reports.c.study_instance_uid == report.study_instance_uid,
                    reports.c.report_id != report.report_id,
                )
                .values(superseded=True)
            )
            if there is not None:  # an earlier result again, which is the newest now
                connection.execute(
                    update(reports)
                    .where(reports.c.report_id == report.report_id)
                    .values(superseded=False)
                )
            else:
                connection.execute(
                    insert(reports).values(
                        report_id=report.report_id,
                        study_instance_uid=report.study_instance_uid,
                        run=report.run,
                        patient=report.patient,
                        patient_id=report.patient_id,
                        patient_system=report.patient_system,
                        accession_number=report.accession_number,
                        acquired_at=report.acquired_at,
                        written_at=report.written_at,
                        superseded=False,
                        body=report.body,
                    )
                )
                rows = [
                    {"resource_id": key, "report_id": report.report_id}
                    for key in report.resource_ids
                ]
                connection.execute(insert(report_resources), rows)

    def find(self, query: ReportQuery) -> Sequence[ShelvedReport]:
        """Reports that fit and are not superseded, the newest first."""
        wanted = (
            select(reports)
            .where(*_conditions(query))
            .order_by(reports.c.written_at.desc(), reports.c.report_id)
            .limit(query.limit)
            .offset(query.offset)
        )
        with self._transaction(write=False) as connection:
            return [_report(row) for row in connection.execute(wanted).mappings()]

    def holding(self, resource_id: str) -> ShelvedReport | None:
        """The newest report, superseded or not, that one of our resources belongs to."""
        query = (
            select(reports)
            .join(report_resources, report_resources.c.report_id == reports.c.report_id)
            .where(report_resources.c.resource_id == resource_id)
            .order_by(reports.c.written_at.desc())
            .limit(1)
        )
        with self._transaction(write=False) as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else _report(row)


def _conditions(query: ReportQuery) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [reports.c.superseded.is_(False)]
    if query.patient is not None:
        found.append(reports.c.patient == query.patient)
    if query.patient_id is not None:
        found.append(reports.c.patient_id == query.patient_id)
    if query.patient_system:
        found.append(reports.c.patient_system.in_((query.patient_system, "")))
    if query.identifier is not None:
        found.append(
            or_(reports.c.accession_number == query.identifier, reports.c.run == query.identifier)
        )
    if query.acquired_from is not None:
        found.append(reports.c.acquired_at >= query.acquired_from)
    if query.acquired_until is not None:
        found.append(reports.c.acquired_at < query.acquired_until)
    return found


def _report(row: RowMapping) -> ShelvedReport:
    return ShelvedReport(
        report_id=row["report_id"],
        resource_ids=(),
        study_instance_uid=UID(row["study_instance_uid"]),
        run=row["run"],
        patient=row["patient"],
        patient_id=row["patient_id"],
        patient_system=row["patient_system"],
        accession_number=row["accession_number"],
        acquired_at=utc(row["acquired_at"]) if row["acquired_at"] else None,
        written_at=utc(row["written_at"]),
        body=row["body"],
    )
