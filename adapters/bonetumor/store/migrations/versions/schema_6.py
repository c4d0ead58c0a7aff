"""Workitems of a worklist that we perform."""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Adds `workitems` and `workitem_studies`."""
    op.create_table(
        "workitems",
        sa.Column("workitem_uid", sa.String(64), primary_key=True),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("urgent", sa.Boolean, nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("said", sa.Text, nullable=False),
    )
    op.create_index("workitems_by_end", "workitems", ["ended_at"])
    op.create_table(
        "workitem_studies",
        sa.Column(
            "workitem_uid", sa.String(64), sa.ForeignKey("workitems.workitem_uid"), primary_key=True
        ),
        sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    )
    op.create_index("workitem_studies_by_study", "workitem_studies", ["study_instance_uid"])
