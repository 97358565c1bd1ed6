"""Settling orders: coupon, payment and stock of a whole batch, in a fixed number of statements.

The rows that decide (accounts, coupons) are locked in key order and read once; the orders of the batch are then decided
one after another, in the order in which the gate accepted them, on what the ones before left over; the results are
written set by set. So two orders of one user in one batch see each other, and the number of statements depends neither
on the number of orders nor on how they fall among users (``docs/decisions/0008-settling-in-memory.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping, text

from engine.ledger.followups import FollowupKind, plan
from engine.ledger.orders import Decided, Ending, SubmittedOrder, endings, holds_as_text
from engine.ledger.progress import built_epochs
from engine.ledger.settlement_writes import write_repetitions, write_settlement
from engine.outcomes import Refusal

ORDER_FOLLOWUPS = (FollowupKind.HISTORY, FollowupKind.DATA_PLATFORM, FollowupKind.STATISTICS)


@dataclass
class Settlement:
    """The result for the gate: whose holds were sold, whose have to be given back.

    A repetition of a request whose first order was completed may count on holds of that one; with these it is in
    ``sold_before``, with its own ones in ``unsold``.
    """

    sold: list[SubmittedOrder] = field(default_factory=list)
    unsold: list[SubmittedOrder] = field(default_factory=list)
    sold_before: list[SubmittedOrder] = field(default_factory=list)


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
    recorded = endings(connection, [order.nonce for order in orders])
    fresh: dict[str, SubmittedOrder] = {}
    others: list[SubmittedOrder] = []
    for order in orders:
        if order.nonce in recorded or order.nonce in fresh:
            others.append(order)
        else:
            fresh[order.nonce] = order
    if fresh:
        recorded |= _settle_fresh(connection, list(fresh.values()))
    settlement = Settlement()
    for order in fresh.values():
        _sort(order, recorded[order.nonce], settlement)
    write_repetitions(connection, [order for order in others if _sort(order, recorded[order.nonce], settlement)])
    return settlement


def _settle_fresh(connection: Connection, orders: Sequence[SubmittedOrder]) -> dict[str, Ending]:
    """Record orders that have no row yet; how they ended, by nonce."""
    books = _open_books(connection, orders)
    decided = [_decide(order, books) for order in orders]
    order_ids = write_settlement(connection, decided, books.balances)
    plan(connection, order_ids, ORDER_FOLLOWUPS)
    return {
        each.order.nonce: Ending(
            "FAILED" if each.failure else "COMPLETED", each.order.request_id, holds_as_text(each.order.held)
        )
        for each in decided
    }


def _sort(order: SubmittedOrder, ending: Ending, settlement: Settlement) -> bool:
    """Put an order where its holds belong, as the row of its nonce says; whether it is a repetition.

    Then a caller repeated an idempotency key that Redis had forgotten: the first order stands, and what this one took
    goes back. What it only counted on may be what the first one has sold: in a lane that Redis did not forget.
    """
    if ending.is_shown and ending.request_id == order.request_id:
        settlement.sold.append(order)
        return False
    *earlier, last = order.held
    sold_before = tuple(held for held in earlier if ending.has_sold(held))
    if sold_before:
        settlement.sold_before.append(replace(order, held=sold_before))
    settlement.unsold.append(replace(order, held=(*(held for held in earlier if held not in sold_before), last)))
    return ending.request_id != order.request_id


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
    if any(books.built_epochs.get(held.lane) != held.built_epoch for held in order.held):
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
