"""Lane epochs: what the ledger fences the recording of decisions by."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE lane_epochs (
        lane bigint NOT NULL,
        epoch bigint NOT NULL,
        begins_after bigint NOT NULL,
        rebuilt boolean NOT NULL,
        begun_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_lane_epochs PRIMARY KEY (lane, epoch),
        CONSTRAINT ck_lane_epochs_begins_after_not_negative CHECK (begins_after >= 0)
    )
    """,
    # What was begun before this table existed is known by its last rebuild only.
    """
    INSERT INTO lane_epochs (lane, epoch, begins_after, rebuilt)
    SELECT lane, built_epoch, 0, true FROM lane_progress WHERE built_epoch > 0
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE lane_epochs")
