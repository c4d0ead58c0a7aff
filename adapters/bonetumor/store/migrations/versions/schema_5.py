"""Storage commitment that knows what it was asked for, and reports whose patient is.

Requests under way are forgotten, because nothing says of which parcel they were; each is made again
under a Transaction UID of its own.
"""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Makes `commitments` anew, and lets `reports` hold what sites send."""
    op.drop_table("commitments")
    op.create_table(
        "commitments",
        sa.Column("transaction_uid", sa.String(64), primary_key=True),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("parcel", sa.String(64), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True)),
        sa.Column("committed", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
    )
    op.create_index("commitments_by_parcel", "commitments", ["parcel"])
    op.add_column(
        "reports", sa.Column("patient_system", sa.Text, nullable=False, server_default="")
    )
    if op.get_bind().dialect.name == "postgresql":  # SQLite's texts are of any length already
        for name in ("patient_id", "accession_number"):
            op.alter_column("reports", name, type_=sa.Text)
