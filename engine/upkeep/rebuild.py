"""Rebuild a lane of the gate from the ledger: close, drain what is left, build, open under a new epoch.

Whoever dies in the middle leaves a closed lane, which the guard finds and rebuilds from the start.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from engine.context import Engine
from engine.errors import LaneCountMismatch
from engine.fault_points import reach
from engine.flow.drain import DrainReport, drain_batch
from engine.gate import coupons as gate_coupons
from engine.gate import products as gate_products
from engine.gate import stock
from engine.gate.coupons import Winner, lane_of_coupon
from engine.gate.gate import LaneState
from engine.gate.lanes import close_lane, open_lane
from engine.gate.request_ids import new_request_key
from engine.ledger import coupons as ledger_coupons
from engine.ledger import orders as ledger_orders
from engine.ledger import products as ledger_products
from engine.ledger import progress
from engine.shop.coupon_offers import terms_of
from engine.shop.product_offers import terms_of_product

logger = logging.getLogger(__name__)


def recorded_request_key(engine: Engine) -> str:
    """The secret that seals request ids; made at the first call ever.

    Raises LaneCountMismatch when the data was built with another number of lanes.
    """
    with engine.ledger.transaction() as connection:
        lanes = int(progress.setting(connection, "lanes", str(engine.gate.lanes)))
        request_key = progress.setting(connection, "request_key", new_request_key())
    if lanes != engine.gate.lanes:
        raise LaneCountMismatch(recorded=lanes, configured=engine.gate.lanes)
    return request_key


def rebuild_lane(engine: Engine, state: LaneState) -> None:
    """Make the lane what the ledger says it is, and open it on the server that ``state`` was read from.

    Raises GateUnavailable (the server changed meanwhile: look again) and LedgerUnavailable; the lane is closed then.
    """
    lane = state.lane
    request_key = recorded_request_key(engine)
    if state.epoch is not None:
        close_lane(engine.gate, lane)
    reach("rebuild.closed")
    drained = sum(_drain_outbox(engine, each) for each in range(engine.gate.lanes))
    with engine.ledger.transaction() as connection:
        begun = progress.begin_epoch(connection, lane, rebuilt=True)
    reach("rebuild.begun")
    holds = stock.forget_holds(engine.gate, lane)
    with engine.ledger.snapshot() as connection:
        coupons = _build_coupons(engine, connection, lane)
        products = _build_products(engine, connection, lane)
        _mark_returns(engine, connection, lane)
    reach("rebuild.before_opening")
    open_lane(
        engine.gate,
        lane,
        epoch=begun.epoch,
        run_id=state.run_id,
        last_number=begun.last_number,
        request_key=request_key,
        rebuilt=True,
    )
    logger.warning(
        "lane %d was rebuilt and opened under epoch %d: %d coupons, %d products, %d holds dropped, %d entries drained",
        lane,
        begun.epoch,
        coupons,
        products,
        holds,
        drained,
    )


def _drain_outbox(engine: Engine, lane: int) -> int:
    """Empty one lane's outbox: an order that waits in one lane may count on stock that another lane holds."""
    report = DrainReport(lane)
    while drain_batch(engine, report):
        pass
    return report.recorded


def _build_coupons(engine: Engine, connection: Connection, lane: int) -> int:
    built = 0
    for coupon in ledger_coupons.all_coupons(connection):
        if lane_of_coupon(engine.gate, coupon.id) == lane:
            winners = ledger_coupons.winners_of(connection, coupon.id)
            gate_coupons.build(engine.gate, terms_of(coupon), coupon.issued, (Winner(*row) for row in winners))
            built += 1
            reach("rebuild.building")
    return built


def _build_products(engine: Engine, connection: Connection, lane: int) -> int:
    """Products with the stock that completed orders left over: in a rebuilt lane nothing is held."""
    built = 0
    for product in ledger_products.all_products(connection):
        if stock.lane_of_product(engine.gate, product.id) == lane:
            gate_products.build(engine.gate, terms_of_product(product), product.stock)
            built += 1
    return built


def _mark_returns(engine: Engine, connection: Connection, lane: int) -> None:
    """What the ledger took back from cancelled orders is in the stock just built: no follow-up may return it again."""
    stock.mark_returned(engine.gate, lane, ledger_orders.nonces_with_stock_to_return(connection))
