"""the team of past assignments: whose queue they came from, as far as their items still tell"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "UPDATE assignment SET team_id ="
        " (SELECT work_item.team_id FROM work_item WHERE work_item.id = assignment.item_id)"
        " WHERE team_id IS NULL"
    )


def downgrade() -> None:
    pass
