"""Tell repetitions of an order from the order itself, and count the returns that the gate has confirmed."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE order_repetitions (
            request_id text NOT NULL,
            nonce text NOT NULL,
            CONSTRAINT pk_order_repetitions PRIMARY KEY (request_id)
        )
    """)
    op.execute("ALTER TABLE lane_progress ADD COLUMN returned bigint NOT NULL DEFAULT 0")


def downgrade() -> None:
    op.execute("ALTER TABLE lane_progress DROP COLUMN returned")
    op.execute("DROP TABLE order_repetitions")
