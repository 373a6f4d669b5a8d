"""weight held by each slot; indexes for what the wallboard counts"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_QUEUED = sa.text("state IN ('parked', 'waiting', 'offered')")
_ACTIVE = sa.text("state = 'active'")
_BREACHED = sa.text("state IN ('active', 'paused') AND breached_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("agent_slot", sa.Column("load", sa.Integer(), nullable=False, server_default="0"))
    op.create_index(
        "ix_work_item_queue",
        "work_item",
        ["team_id", "ready_at"],
        postgresql_where=_QUEUED,
        sqlite_where=_QUEUED,
    )
    op.create_index(
        "ix_sla_clock_open_due", "sla_clock", ["due_at"], postgresql_where=_ACTIVE, sqlite_where=_ACTIVE
    )
    op.create_index(
        "ix_sla_clock_open_breached",
        "sla_clock",
        ["breached_at"],
        postgresql_where=_BREACHED,
        sqlite_where=_BREACHED,
    )


def downgrade() -> None:
    op.drop_index("ix_sla_clock_open_breached", "sla_clock")
    op.drop_index("ix_sla_clock_open_due", "sla_clock")
    op.drop_index("ix_work_item_queue", "work_item")
    op.drop_column("agent_slot", "load")
