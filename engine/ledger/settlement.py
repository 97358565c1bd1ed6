"""Settling orders: coupon, payment and stock of a whole batch, in a fixed number of statements.

The rows that decide (accounts, coupons) are locked in key order and read once; the orders of the batch are then decided
one after another, in the order in which the gate accepted them, on what the ones before left over; the results are
written set by set. So two orders of one user in one batch see each other, and the number of statements depends neither
on the number of orders nor on how they fall among users (``docs/decisions/0008-settling-in-memory.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping, text

from engine.ledger.followups import FollowupKind, plan
from engine.ledger.orders import Decided, SubmittedOrder
from engine.ledger.progress import built_epochs
from engine.ledger.settlement_writes import write_repetitions, write_settlement
from engine.outcomes import Refusal

ORDER_FOLLOWUPS = (FollowupKind.HISTORY, FollowupKind.DATA_PLATFORM, FollowupKind.STATISTICS)


@dataclass
class Settlement:
    """The result for the gate: whose holds were sold, whose have to be given back."""

    sold: list[SubmittedOrder] = field(default_factory=list)
    unsold: list[SubmittedOrder] = field(default_factory=list)


@dataclass
class _Books:
    """The rows a batch decides on, as they stand after the orders decided so far."""

    balances: dict[int, int]
    coupons: dict[int, RowMapping]
    built_epochs: dict[int, int]
    spent_coupons: set[int] = field(default_factory=set)


def settle_orders(connection: Connection, orders: Sequence[SubmittedOrder]) -> Settlement:
    """Record these orders, the ones already there excepted, within the caller's transaction.

    Raises RepeatTransaction when another drain recorded one of them meanwhile (Ledger.run does it all again),
    IntegrityError when the ledger refuses what the gate granted.
    """
    settlement = Settlement()
    fresh = _without_recorded(connection, orders, settlement)
    if not fresh:
        return settlement
    books = _open_books(connection, fresh)
    decided = [_decide(order, books) for order in fresh]
    order_ids = write_settlement(connection, decided, books.balances)
    plan(connection, order_ids, ORDER_FOLLOWUPS)
    for each in decided:
        (settlement.unsold if each.failure else settlement.sold).append(each.order)
    return settlement


def _without_recorded(
    connection: Connection, orders: Sequence[SubmittedOrder], settlement: Settlement
) -> list[SubmittedOrder]:
    """The orders that have no row yet; the others go to the settlement as their row says."""
    rows = connection.execute(
        text("SELECT nonce, request_id, status FROM orders WHERE nonce = ANY(:nonces)"),
        {"nonces": [order.nonce for order in orders]},
    )
    recorded = {row.nonce: row for row in rows}
    fresh: dict[str, SubmittedOrder] = {}
    repetitions: list[SubmittedOrder] = []
    for order in orders:
        row = recorded.get(order.nonce)
        if row is None and order.nonce not in fresh:
            fresh[order.nonce] = order
        elif row is not None and row.request_id == order.request_id and row.status in ("COMPLETED", "CANCELLED"):
            settlement.sold.append(order)
        else:
            # Failed, expired by the sweeper, or recorded under another request id: a caller repeated an idempotency
            # key that Redis had forgotten. The first order stands, this one's units go back.
            settlement.unsold.append(order)
            if row is None or row.request_id != order.request_id:
                repetitions.append(order)
    write_repetitions(connection, repetitions)
    return list(fresh.values())


def _open_books(connection: Connection, orders: Sequence[SubmittedOrder]) -> _Books:
    """Lock and read what the orders will be decided on; rows in key order, so that two drains cannot deadlock."""
    epochs = built_epochs(connection)
    accounts = connection.execute(
        text("""
            SELECT user_id, balance FROM accounts WHERE user_id = ANY(:user_ids)
            ORDER BY user_id FOR NO KEY UPDATE
        """),
        {"user_ids": sorted({order.user_id for order in orders})},
    )
    balances = {row.user_id: row.balance for row in accounts}
    coupons = connection.execute(
        text("""
            SELECT held.id, held.user_id, held.status, coupons.discount_amount, coupons.starts_at, coupons.ends_at
            FROM user_coupons AS held JOIN coupons ON coupons.id = held.coupon_id
            WHERE held.id = ANY(:user_coupon_ids)
            ORDER BY held.id FOR NO KEY UPDATE OF held
        """),
        {"user_coupon_ids": sorted({order.user_coupon_id for order in orders if order.user_coupon_id is not None})},
    )
    return _Books(balances, {row["id"]: row for row in coupons.mappings()}, epochs)


def _decide(order: SubmittedOrder, books: _Books) -> Decided:
    """Decide one order and book it, so that the next one sees what is left."""
    if any(books.built_epochs.get(lane) != built_epoch for lane, built_epoch in order.held):
        # A lane was rebuilt after it had reserved: its hold is gone, somebody else may have the units.
        return Decided(order, Refusal.TEMPORARY_ERROR)
    if order.user_id not in books.balances:
        return Decided(order, Refusal.USER_NOT_FOUND)
    discount_amount = 0
    if order.user_coupon_id is not None:
        coupon = books.coupons.get(order.user_coupon_id)
        if coupon is None or order.user_coupon_id in books.spent_coupons or not _is_usable(coupon, order):
            return Decided(order, Refusal.COUPON_NOT_USABLE)
        discount_amount = min(coupon["discount_amount"], order.total_amount)
    balance_after = books.balances[order.user_id] - (order.total_amount - discount_amount)
    if balance_after < 0:
        return Decided(order, Refusal.INSUFFICIENT_BALANCE)
    books.balances[order.user_id] = balance_after
    if order.user_coupon_id is not None:
        books.spent_coupons.add(order.user_coupon_id)
    return Decided(order, None, discount_amount, balance_after, order.user_coupon_id)


def _is_usable(coupon: RowMapping, order: SubmittedOrder) -> bool:
    """Owned by the user, not used, and within its window when the order was placed (not when it is settled)."""
    placed_at = datetime.fromtimestamp(order.decided_at_ms / 1000, UTC)
    return (
        coupon["user_id"] == order.user_id
        and coupon["status"] == "AVAILABLE"
        and (coupon["starts_at"] is None or coupon["starts_at"] <= placed_at)
        and (coupon["ends_at"] is None or placed_at < coupon["ends_at"])
    )
