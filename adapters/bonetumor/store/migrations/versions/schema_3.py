"""From schema 1 or 2, which knew no migrations: reports, and deliveries that walk by themselves.

What every ledger has had from the beginning is not made here: a new ledger gets the newest tables.
"""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = None

_UID = sa.String(64)
_CHAIN_OF_SCHEMA_2 = ("sr_sent", "sr_confirmed", "report_sent")


def upgrade() -> None:
    """Adds what is missing; a ledger of schema 3 lacks nothing but perhaps an index."""
    inspector = sa.inspect(op.get_bind())
    tables = set(inspector.get_table_names())
    for table, made in _TABLES.items():
        if table not in tables:
            op.create_table(table, *made())
    for table, column in _COLUMNS:
        if column.name not in {c["name"] for c in inspector.get_columns(table)}:
            op.add_column(table, column)
    for table, name, indexed in _INDEXES:
        op.create_index(name, table, [indexed], if_not_exists=True)
    # What was sent is sent again and found to be there: identifiers are the same.
    studies = sa.table(
        "studies", *map(sa.column, ("state", "resume_state", "owner", "lease_expires_at"))
    )
    for state in (studies.c.state, studies.c.resume_state):
        op.execute(
            studies.update()
            .where(state.in_(_CHAIN_OF_SCHEMA_2))
            .values({state.name: "assessed", "owner": None, "lease_expires_at": None})
        )
    op.drop_table("schema_version")


def _deliveries() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("study_instance_uid", _UID, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("content", sa.String(16), primary_key=True),
        sa.Column("destination", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True)),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("problem", sa.Text),
        sa.Column("owner", sa.String(64)),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("put_offs", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True)),
    ]


def _own_objects() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("sop_instance_uid", _UID, primary_key=True),
        sa.Column("destination", sa.String(64), primary_key=True),
        sa.Column("parcel", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("series_instance_uid", _UID, nullable=False),
        sa.Column("sop_class_uid", _UID, nullable=False),
    ]


def _commitments() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("transaction_uid", _UID, primary_key=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True)),
        sa.Column("committed", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
    ]


def _announced() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("sop_instance_uid", _UID, primary_key=True),
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
    ]


def _procedure_steps() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("sop_instance_uid", _UID, primary_key=True),
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("is_over", sa.Boolean, nullable=False),
    ]


def _reports() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("report_id", sa.String(36), primary_key=True),
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("patient", sa.String(80), nullable=False),
        sa.Column("patient_id", sa.String(64), nullable=False),
        sa.Column("accession_number", sa.String(64), nullable=False),
        sa.Column("acquired_at", sa.DateTime(timezone=True)),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("superseded", sa.Boolean, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    ]


def _report_resources() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("resource_id", sa.String(36), primary_key=True),
        sa.Column("report_id", sa.String(36), sa.ForeignKey("reports.report_id"), primary_key=True),
    ]


_TABLES = {
    "deliveries": _deliveries,
    "own_objects": _own_objects,
    "commitments": _commitments,
    "announced": _announced,
    "procedure_steps": _procedure_steps,
    "reports": _reports,
    "report_resources": _report_resources,
}
_COLUMNS = (
    ("studies", sa.Column("urgent", sa.Boolean, nullable=False, server_default=sa.false())),
    ("studies", sa.Column("wanted_by_hand", sa.Boolean, nullable=False, server_default=sa.false())),
    ("instances", sa.Column("called_ae_title", sa.String(16), nullable=False, server_default="")),
)
_INDEXES = (
    ("studies", "studies_by_next_attempt", "next_attempt_at"),
    ("studies", "studies_by_update", "updated_at"),
    ("deliveries", "deliveries_by_state", "state"),
    ("own_objects", "own_objects_by_study", "study_instance_uid"),
    ("own_objects", "own_objects_by_parcel", "parcel"),
    ("announced", "announced_by_study", "study_instance_uid"),
    ("procedure_steps", "procedure_steps_by_study", "study_instance_uid"),
    ("reports", "reports_by_study", "study_instance_uid"),
    ("reports", "reports_by_patient", "patient"),
    ("reports", "reports_by_patient_id", "patient_id"),
    ("reports", "reports_by_accession", "accession_number"),
    ("reports", "reports_by_run", "run"),
    ("reports", "reports_by_acquired", "acquired_at"),
)
