"""Find parked follow-ups without reading all that are done: the audit asks for them every minute."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX ix_order_followups_parked ON order_followups (kind, id) WHERE status = 'PARKED'")


def downgrade() -> None:
    op.execute("DROP INDEX ix_order_followups_parked")
