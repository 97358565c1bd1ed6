"""Remember which holds an order was made from: the hold of a repetition must not pass for one of them."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE orders ADD COLUMN held text")


def downgrade() -> None:
    op.execute("ALTER TABLE orders DROP COLUMN held")
