"""Let what is in quarantine come to an end, and keep it: who looks at the request later has to hear the same answer."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

UP = (
    "ALTER TABLE quarantined_outcomes ADD COLUMN ended_at timestamptz",
    "ALTER TABLE quarantined_outcomes ADD COLUMN ended_as text",
    "ALTER TABLE quarantined_outcomes ADD COLUMN ended_because text",
    """
    ALTER TABLE quarantined_outcomes ADD CONSTRAINT ck_quarantined_outcomes_end_known
    CHECK (ended_as IN ('RECORDED', 'DROPPED'))
    """,
    """
    ALTER TABLE quarantined_outcomes ADD CONSTRAINT ck_quarantined_outcomes_ended_as_something
    CHECK ((ended_at IS NULL) = (ended_as IS NULL))
    """,
    "CREATE INDEX ix_quarantined_outcomes_waiting ON quarantined_outcomes (id) WHERE ended_at IS NULL",
)


def upgrade() -> None:
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP INDEX ix_quarantined_outcomes_waiting")
    for column in ("ended_because", "ended_as", "ended_at"):
        op.execute(f"ALTER TABLE quarantined_outcomes DROP COLUMN {column}")
