"""Texts of blood markers, kept beside the evidence that they were written of."""

import sqlalchemy as sa
from alembic import op

revision = "7"
down_revision = "6"


def upgrade() -> None:
    """Adds `texts`."""
    op.create_table(
        "texts",
        sa.Column("study_instance_uid", sa.String(64), primary_key=True),
        sa.Column("evidence", sa.String(64), primary_key=True),
        sa.Column("writer", sa.String(64), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
