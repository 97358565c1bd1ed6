"""How every history begins, and how it comes to rest: the engine works undisturbed, in one piece."""

from __future__ import annotations

from collections.abc import Iterator

from engine.context import Engine
from engine.flow import followups, holds
from engine.flow.drain import drain
from engine.gate import keys
from engine.shop import coupon_offers, product_offers
from engine.upkeep.guard import Verdict, watch_lanes
from tests.simulation.plan import Shop
from tests.simulation.stores import Stores

MINUTE = 60.0
"""Longer than any hold, claim and session in a transaction."""
ROUNDS_TO_REST = 8

_COUPON = b"""
    INSERT INTO coupons (name, discount_amount, total_quantity, status, published_version)
    VALUES ('c', 100, %s, 'ACTIVE', 1)
"""
_PRODUCT = b"""
    INSERT INTO products (name, price, stock, supplied, status, published_version)
    VALUES ('p', %s, %s, %s, 'ACTIVE', 1)
"""
_ACCOUNT = b"INSERT INTO accounts (user_id, balance) VALUES (%s, %s)"
_CHARGE = b"""
    INSERT INTO balance_transactions (user_id, type, amount, balance_after, status)
    VALUES (%s, 'CHARGE', %s, %s, 'COMPLETED')
"""


class NoRest(Exception):
    """There is always something left to do."""


def open_shop(stores: Stores, shop: Shop, engine: Engine) -> None:
    """Fill the empty ledger, and let the guard open the lanes: built from it, they offer what it has."""
    execute = stores.monitor.execute
    execute(b"BEGIN")
    for total in shop.coupons:
        execute(_COUPON, [total])
    for price, units in shop.products:
        execute(_PRODUCT, [price, units, units])
    for user_id, balance in enumerate(shop.balances, 1):
        if balance is not None:
            execute(_ACCOUNT, [user_id, balance])
        if balance:
            execute(_CHARGE, [user_id, balance, balance])
    execute(b"COMMIT")
    watch_lanes(engine)


def come_to_rest(stores: Stores, engine: Engine) -> Iterator[dict[int, Verdict]]:
    """Guard, drains and all the others run until none of them has anything to do; what the guard found in each round.

    Raises NoRest, and whatever the engine raises.
    """
    lanes = range(engine.gate.lanes)
    for _ in range(ROUNDS_TO_REST):
        stores.pass_time(engine.gate.lanes, MINUTE, claims=True)
        found = watch_lanes(engine)
        work = coupon_offers.publish_changes(engine) + product_offers.publish_product_changes(engine)
        work += sum(drain(engine, lane, linger_seconds=0).batches for lane in lanes if _waiting(stores, lane))
        for lane in lanes:
            holds.sweep_holds(engine, lane)
        if followups.any_due(engine):
            work += sum(followups.work_off(engine).done.values())
        work += sum(int(stores.raw.zcard(keys.holds(lane))) + _waiting(stores, lane) for lane in lanes)
        yield found
        if not work and set(found.values()) == {Verdict.READY}:
            return
    raise NoRest("there is always something left to do")


def _waiting(stores: Stores, lane: int) -> int:
    return int(stores.raw.xlen(keys.outbox(lane)))
