"""Change the number of lanes: what was decided is recorded under the old number, then the gate is built anew.

Only with everything else stopped: a process that still decides under the old number would write into lanes that nobody
drains any more.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from sqlalchemy import select

from engine.context import Engine
from engine.flow.drain import DrainReport, drain_batch
from engine.gate import keys, stock
from engine.gate.coupons import lane_of_coupon
from engine.gate.gate import Gate, unavailability_translated
from engine.gate.lanes import close_lane
from engine.ledger import progress
from engine.ledger.shop_tables import products
from engine.ledger.tables import coupons

logger = logging.getLogger(__name__)


def relane(engine: Engine, recorded: int) -> None:
    """Go from the ``recorded`` number of lanes to the engine's. The guard builds the new lanes when it starts.

    Safe to repeat after a crash. Raises GateUnavailable, LedgerUnavailable.
    """
    old = replace(engine, gate=Gate(engine.gate.client, recorded, engine.gate.backlog_limit))
    for lane in range(recorded):
        state = old.gate.inspect(lane)
        if state.open:
            close_lane(old.gate, state)
    for lane in range(recorded):
        report = DrainReport(lane)
        while drain_batch(old, report):
            pass
        _forget_holds(old, lane)
    _forget_entities(old)
    with engine.ledger.transaction() as connection:
        progress.change_setting(connection, "lanes", str(engine.gate.lanes))
    logger.warning("the data has %d lanes now instead of %d", engine.gate.lanes, recorded)


def _forget_holds(old: Engine, lane: int) -> None:
    client = old.gate.client
    with unavailability_translated():
        for nonce in client.zrange(keys.holds(lane), 0, -1):
            client.delete(keys.hold(lane, str(nonce)))
        client.delete(keys.holds(lane))


def _forget_entities(old: Engine) -> None:
    """Drop what the lanes know of coupons and products; the ledger has it all."""
    with old.ledger.read() as connection:
        coupon_ids = connection.execute(select(coupons.c.id)).scalars().all()
        product_ids = connection.execute(select(products.c.id)).scalars().all()
    with unavailability_translated():
        for coupon_id in coupon_ids:
            lane = lane_of_coupon(old.gate, coupon_id)
            old.gate.client.delete(keys.coupon(lane, coupon_id))
            old.gate.client.delete(keys.winners(lane, coupon_id))
        for product_id in product_ids:
            old.gate.client.delete(keys.sku(stock.lane_of_product(old.gate, product_id), product_id))
        for lane in range(old.gate.lanes):
            old.gate.client.delete(keys.lane(lane))
