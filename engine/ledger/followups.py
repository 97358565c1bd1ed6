"""What is still to be done because of an order: planned in the order's own transaction, worked off later."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import Connection, text


class FollowupKind(StrEnum):
    """What a follow-up does."""

    HISTORY = "HISTORY"
    DATA_PLATFORM = "DATA_PLATFORM"
    STATISTICS = "STATISTICS"
    CANCEL_HISTORY = "CANCEL_HISTORY"
    CANCEL_DATA_PLATFORM = "CANCEL_DATA_PLATFORM"
    CANCEL_STATISTICS = "CANCEL_STATISTICS"
    RETURN_STOCK = "RETURN_STOCK"


PLAN = text("""
    INSERT INTO order_followups (order_id, kind)
    SELECT order_id, kind
    FROM unnest(CAST(:order_ids AS bigint[])) AS planned (order_id)
    CROSS JOIN unnest(CAST(:kinds AS text[])) AS wanted (kind)
    ON CONFLICT (order_id, kind) DO NOTHING
""")


def plan(connection: Connection, order_ids: Sequence[int], kinds: Sequence[FollowupKind]) -> None:
    """Write down what has to follow, within the caller's transaction: with the order or not at all."""
    connection.execute(PLAN, {"order_ids": list(order_ids), "kinds": list(kinds)})
