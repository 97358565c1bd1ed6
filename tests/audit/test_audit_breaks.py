"""Each identity is broken by hand once, and the audit finds exactly that, by the name of what was broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from engine.context import Engine
from engine.gate import keys
from engine.upkeep.auditing.findings import CheckName
from engine.upkeep.auditing.looking import Patience
from tests.audit.audited_shop import QUICK, Shop, cancel, found_off, open_shop
from tests.integration.offers import win_all
from tests.integration.stock_driver import NONCE, reserve

NO_PATIENCE_WITH_HEADS = replace(QUICK, head_seconds=0)


@dataclass(frozen=True)
class Break:
    """What is done to the shop, the one check that has to notice, and the words in which it has to name it."""

    check: CheckName
    named: str
    do: Callable[[Shop], object]
    how: str
    patience: Patience = QUICK


def off(check: CheckName, named: str, how: str, do: Callable[[Shop], object], patience: Patience = QUICK) -> object:
    return pytest.param(Break(check, named, do, how, patience), id=f"{check.name.lower()}, {how}")


def sql(statement: str) -> Callable[[Shop], None]:
    """The statement, with the shop's names filled in."""
    return lambda shop: shop.execute(statement.format(**vars(shop), product=shop.products[0]))


def _one_more_winner(shop: Shop) -> None:
    shop.gate.hset(shop.winners_key(), "999", "11 0.1.999.c")


def _one_more_issued_to_somebody(shop: Shop) -> None:
    _one_more_winner(shop)
    shop.gate.hincrby(shop.coupon_key(), "issued", 1)


def _the_last_issuance_is_gone(shop: Shop) -> None:
    shop.execute("DELETE FROM user_coupons WHERE coupon_id = :id AND sequence = 10", id=shop.coupon)
    shop.execute("UPDATE coupons SET issued = 9 WHERE id = :id", id=shop.coupon)


def _one_counted_more_than_waits(shop: Shop) -> None:
    win_all(shop.engine, shop.coupon, range(50, 55))
    shop.gate.hset(shop.winners_key(), "999", "16 0.1.999.c")
    shop.gate.hincrby(shop.coupon_key(), "issued", 1)


def _more_issued_than_there_are(shop: Shop) -> None:
    shop.execute("ALTER TABLE coupons DROP CONSTRAINT ck_coupons_issued_within_quantity")
    shop.execute("UPDATE coupons SET total_quantity = 9 WHERE id = :id", id=shop.coupon)
    shop.gate.hset(shop.coupon_key(), "total", 9)


def _an_entry_is_gone(shop: Shop) -> None:
    shop.order_waiting()
    lane = shop.lane_of()
    (entry,) = shop.gate.xrange(keys.outbox(lane))
    shop.gate.xdel(keys.outbox(lane), entry[0])


def _an_entry_is_gone_from_the_middle(shop: Shop) -> None:
    for _ in range(3):
        shop.order_waiting()
    entries = shop.gate.xrange(keys.outbox(shop.lane_of()))
    shop.gate.xdel(keys.outbox(shop.lane_of()), entries[1][0])


def _an_entry_that_nobody_decided(shop: Shop) -> None:
    shop.order_waiting()
    ((entry_id, fields),) = shop.gate.xrange(keys.outbox(shop.lane_of()))
    epoch, number = entry_id.split("-")
    shop.gate.xadd(keys.outbox(shop.lane_of()), fields, id=f"{epoch}-{int(number) + 1}")


def _a_recorded_entry_stays(shop: Shop) -> None:
    shop.order_waiting()
    shop.execute("UPDATE lane_progress SET last_number = last_number + 1 WHERE lane = :lane", lane=shop.lane_of())


def _a_hold_is_forgotten(shop: Shop) -> None:
    """Out of the list of deadlines, so that no sweeper ever comes to it."""
    shop.gate.zrem(keys.holds(shop.lane_of()), shop.order_waiting())


def _a_hold_that_nobody_sweeps(shop: Shop) -> None:
    assert reserve(shop.engine, {shop.products[0]: 1}, append=0)[0] == "reserved"
    shop.gate.zadd(keys.holds(0), {NONCE: 1})


def _returned_in_name_only(shop: Shop) -> None:
    """The marker says that the units are back on sale, and they are not."""
    cancel(shop.engine, shop.completed)
    nonce = shop.scalar("SELECT nonce FROM orders WHERE id = :id", id=shop.completed)
    shop.gate.set(keys.returned(shop.lane_of(), nonce), "1")


def _done_but_not_returned(shop: Shop) -> None:
    cancel(shop.engine, shop.completed)
    shop.execute("UPDATE order_followups SET status = 'DONE' WHERE kind = 'RETURN_STOCK'")


def _supplied_out_of_nowhere(shop: Shop) -> None:
    shop.execute("UPDATE products SET supplied = supplied + 1 WHERE id = :id", id=shop.products[0])
    shop.gate.hincrby(shop.sku_key(), "supplied", 1)


def _paid_out_of_nowhere(shop: Shop) -> None:
    """The payment is gone, and with it as much of a charge: the balance still is the sum."""
    paid = shop.scalar("SELECT paid_amount FROM orders WHERE id = :id", id=shop.completed)
    shop.execute("DELETE FROM balance_transactions WHERE order_id = :id AND type = 'PAYMENT'", id=shop.completed)
    left = "UPDATE balance_transactions SET amount = amount - :paid, balance_after = balance_after - :paid"
    shop.execute(f"{left} WHERE user_id = 1 AND type = 'CHARGE'", paid=paid)


def _paid_another_amount(shop: Shop) -> None:
    """One won more was taken, and had been charged."""
    more = "UPDATE balance_transactions SET amount = amount + 1"
    shop.execute(f"{more} WHERE order_id = :id AND type = 'PAYMENT'", id=shop.completed)
    shop.execute(f"{more} WHERE user_id = 1 AND type = 'CHARGE'")


def _less_to_pay_than_it_costs(shop: Shop) -> None:
    shop.execute("ALTER TABLE orders DROP CONSTRAINT ck_orders_amounts_add_up")
    shop.execute("UPDATE orders SET total_amount = total_amount + 1 WHERE id = :id", id=shop.completed)


LANE = "lane {lane}"
ONE_MORE_SOLD = "UPDATE product_stats SET quantity = quantity + 1 WHERE product_id = {product}"
ADD_REFUND = """
    INSERT INTO balance_transactions (user_id, type, amount, balance_after, status, order_id)
    SELECT user_id, 'REFUND', 0, balance, 'COMPLETED', {completed} FROM accounts WHERE user_id = 1
"""
ADD_PENDING = """
    INSERT INTO balance_transactions (user_id, type, amount, status) VALUES (2, 'CHARGE', 5, 'PENDING')
"""
ADD_QUARANTINE = """
    INSERT INTO quarantined_outcomes (request_id, lane, epoch, number, kind, fields, error)
    VALUES ('r', 0, 3, 77, 'order', '{{}}', 'e')
"""
OVERDUE = """
    UPDATE order_followups SET status = 'PENDING', due_at = now() - interval '10 minutes'
    WHERE kind = 'RETURN_STOCK' AND order_id = {cancelled}
"""
HISTORY_TOLD_EARLY = "UPDATE order_followups SET status = 'PENDING' WHERE order_id = {completed} AND kind = 'HISTORY'"
PARKED = "UPDATE order_followups SET status = 'PARKED' WHERE order_id = {completed} AND kind = 'DATA_PLATFORM'"
IN_SEVERAL_LANES_TOO = [
    off(CheckName.LANES, LANE, "closed", lambda shop: shop.gate.hset(keys.lane(shop.lane_of()), "open", 0)),
    off(CheckName.DECISIONS, LANE, "an entry is gone", _an_entry_is_gone),
    off(CheckName.DRAINED, LANE, "a recorded entry stays", _a_recorded_entry_stays),
    off(CheckName.COUPONS, "coupon {coupon}", "one more", _one_more_issued_to_somebody),
    off(CheckName.STOCK, "product {product}", "one unit more", lambda s: s.gate.hincrby(s.sku_key(), "available", 1)),
    off(CheckName.STOCK, "product {product}", "returned in name only", _returned_in_name_only),
]
BREAKS = [
    off(CheckName.LANES, LANE, "behind", lambda shop: shop.gate.hset(keys.lane(0), "last_number", 1)),
    off(CheckName.LANES, LANE, "another epoch", sql("UPDATE lane_progress SET epoch = epoch + 1")),
    off(CheckName.LANES, LANE, "built in another epoch", sql("UPDATE lane_progress SET built_epoch = 0")),
    off(CheckName.LANES, LANE, "one of more", lambda shop: shop.gate.hset(keys.lane(0), "lanes", 2)),
    off(CheckName.DECISIONS, LANE, "an entry is gone from the middle", _an_entry_is_gone_from_the_middle),
    off(CheckName.DECISIONS, LANE, "an entry that nobody decided", _an_entry_that_nobody_decided),
    off(CheckName.DRAINED, LANE, "nobody drains", Shop.order_waiting, NO_PATIENCE_WITH_HEADS),
    off(CheckName.HOLDS, NONCE, "nobody sweeps", _a_hold_that_nobody_sweeps),
    off(CheckName.QUARANTINE, "order 3-77 of lane 0", "an entry", sql(ADD_QUARANTINE)),
    off(CheckName.PARKED, "DATA_PLATFORM of order {completed}", "a delivery", sql(PARKED)),
    off(CheckName.WORKED_OFF, "RETURN_STOCK of order {cancelled}", "nobody works", sql(OVERDUE)),
    off(CheckName.LIVE, "coupon {coupon}", "a coupon", sql("UPDATE coupons SET version = 2 WHERE id = {coupon}")),
    off(CheckName.LIVE, "product {product}", "a product", sql("UPDATE products SET version = 2 WHERE id = {product}")),
    off(CheckName.COUPON_TERMS, "coupon {coupon}", "status", lambda s: s.gate.hset(s.coupon_key(), "status", "OFF")),
    off(CheckName.COUPON_TERMS, "coupon {coupon}", "old version", lambda s: s.gate.hset(s.coupon_key(), "version", 0)),
    off(CheckName.COUPON_TERMS, "coupon {coupon}", "new version", lambda s: s.gate.hset(s.coupon_key(), "version", 9)),
    off(CheckName.COUPON_TERMS, "coupon {coupon}", "unknown", lambda s: s.gate.delete(s.coupon_key())),
    off(CheckName.COUPONS, "coupon {coupon}", "one recorded less", _the_last_issuance_is_gone),
    off(CheckName.COUPONS, "coupon {coupon}", "one counted more than waits", _one_counted_more_than_waits),
    off(CheckName.WINNERS, "coupon {coupon}", "one more", _one_more_winner),
    off(CheckName.WINNERS, "coupon {coupon}", "one less", lambda s: s.gate.hdel(s.winners_key(), "10")),
    off(CheckName.NUMBERED, "coupon {coupon}", "a gap",
        sql("UPDATE user_coupons SET sequence = 99 WHERE coupon_id = {coupon} AND sequence = 3")),
    off(CheckName.NUMBERED, "coupon {coupon}", "a row is gone",
        sql("DELETE FROM user_coupons WHERE coupon_id = {coupon} AND sequence = 3")),
    off(CheckName.NUMBERED, "coupon {coupon}", "more than there are", _more_issued_than_there_are),
    off(CheckName.PRODUCT_TERMS, "product {product}", "price", lambda s: s.gate.hset(s.sku_key(), "price", 1)),
    off(CheckName.PRODUCT_TERMS, "product {product}", "old version", lambda s: s.gate.hset(s.sku_key(), "version", 0)),
    off(CheckName.PRODUCT_TERMS, "product {product}", "new version", lambda s: s.gate.hset(s.sku_key(), "version", 9)),
    off(CheckName.PRODUCT_TERMS, "product {product}", "unknown", lambda s: s.gate.delete(s.sku_key())),
    off(CheckName.STOCK, "product {product}", "one unit less", lambda s: s.gate.hincrby(s.sku_key(), "available", -1)),
    off(CheckName.STOCK, "product {product}", "a forgotten hold", _a_hold_is_forgotten),
    off(CheckName.STOCK, "product {product}", "done but not returned", _done_but_not_returned),
    off(CheckName.UNITS, "product {product}", "supplied out of nowhere", _supplied_out_of_nowhere),
    off(CheckName.BALANCES, "user 1", "one more", sql("UPDATE accounts SET balance = balance + 1 WHERE user_id = 1")),
    off(CheckName.BALANCES, "user 3", "a charge", sql("UPDATE balance_transactions SET amount = 7 WHERE user_id = 3")),
    off(CheckName.BALANCES, "user 2", "what the last one left",
        sql("UPDATE balance_transactions SET balance_after = 7 WHERE type = 'REFUND'")),
    off(CheckName.PENDING, "user 2", "a charge that never ended", sql(ADD_PENDING)),
    off(CheckName.AMOUNTS, "order {completed}", "the price of an item",
        sql("UPDATE order_items SET unit_price = 1 WHERE order_id = {completed}")),
    off(CheckName.AMOUNTS, "order {completed}", "the total", _less_to_pay_than_it_costs),
    off(CheckName.AMOUNTS, "order {redeeming}", "the discount",
        sql("UPDATE coupons SET discount_amount = 400 FROM user_coupons AS held "
            "WHERE held.id = {user_coupon} AND coupons.id = held.coupon_id")),
    off(CheckName.PAYMENTS, "order {completed}", "paid out of nowhere", _paid_out_of_nowhere),
    off(CheckName.PAYMENTS, "order {completed}", "another amount", _paid_another_amount),
    off(CheckName.PAYMENTS, "order {completed}", "refunded, but not cancelled", sql(ADD_REFUND)),
    off(CheckName.PAYMENTS, "order {cancelled}", "cancelled, but not refunded",
        sql("UPDATE balance_transactions SET type = 'CHARGE', order_id = NULL WHERE type = 'REFUND'")),
    off(CheckName.REDEMPTIONS, "order {redeeming}", "still to be used",
        sql("UPDATE user_coupons SET status = 'AVAILABLE' WHERE id = {user_coupon}")),
    off(CheckName.REDEMPTIONS, "order {redeeming}", "somebody else's",
        sql("UPDATE user_coupons SET user_id = 77 WHERE id = {user_coupon}")),
    off(CheckName.REDEMPTIONS, "user coupon 1:", "used by nobody",
        sql("UPDATE user_coupons SET status = 'USED' WHERE id = 1")),
    off(CheckName.FOLLOWUPS, "order {completed}", "one is missing",
        sql("DELETE FROM order_followups WHERE order_id = {completed} AND kind = 'DATA_PLATFORM'")),
    off(CheckName.FOLLOWUPS, "order {cancelled}", "one of a cancellation is missing",
        sql("DELETE FROM order_followups WHERE order_id = {cancelled} AND kind = 'CANCEL_DATA_PLATFORM'")),
    off(CheckName.HISTORY, "order {completed}", "an event is gone",
        sql("DELETE FROM order_history_events WHERE order_id = {completed}")),
    off(CheckName.HISTORY, "order {completed}", "told early", sql(HISTORY_TOLD_EARLY)),
    off(CheckName.STATISTICS, "product {product}", "one more", sql(ONE_MORE_SOLD)),
    off(CheckName.STATISTICS, "product {product}", "gone", sql("DELETE FROM product_stats WHERE quantity > 0")),
]  # fmt: skip


def assert_found(engine: Engine, case: Break) -> None:
    shop = open_shop(engine)
    case.do(shop)
    found = found_off(engine, case.patience)
    named = case.named.format(**vars(shop), product=shop.products[0], lane=shop.lane_of())
    assert list(found) == [case.check]
    assert named in found[case.check]


@pytest.mark.parametrize("case", [*BREAKS, *IN_SEVERAL_LANES_TOO])
def test_what_is_broken_is_found_and_nothing_else(engine: Engine, case: Break) -> None:
    assert_found(engine, case)


@pytest.mark.parametrize("lanes", [4], ids=["four lanes"])
@pytest.mark.parametrize("case", IN_SEVERAL_LANES_TOO)
def test_it_is_found_in_one_lane_of_several(engine: Engine, case: Break) -> None:
    assert_found(engine, case)


def test_every_check_is_broken_once() -> None:
    broken = {parameter.values[0].check for parameter in [*BREAKS, *IN_SEVERAL_LANES_TOO]}  # type: ignore[attr-defined]
    assert broken == set(CheckName)
