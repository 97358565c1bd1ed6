"""The audit looks while everybody works: no false alarm, and what stays off is found all the same."""

from __future__ import annotations

import pytest

from engine.context import Engine
from engine.flow.holds import sweep_holds
from engine.upkeep.audit import audit
from engine.upkeep.auditing.findings import CheckName
from engine.upkeep.auditing.looking import Patience
from tests.audit.audited_shop import Shop, found_off, open_shop, work_off
from tests.audit.traffic import USERS, prepare, traffic
from tests.integration.products_on_sale import in_one_lane_and_in_several
from tests.integration.shop import drain_all, overdue

pytestmark = pytest.mark.long

PATIENCE = Patience(lasting_seconds=5.0, look_again_seconds=0.05)
COMPLETE_AUDITS = 8


@pytest.fixture
def shop(engine: Engine) -> Shop:
    shop = open_shop(engine)
    prepare(shop)
    return shop


def end_everything(engine: Engine) -> None:
    """Drain, sweep and work off what the traffic left behind."""
    drain_all(engine)
    overdue(engine)
    for lane in range(engine.gate.lanes):
        while sweep_holds(engine, lane):
            continue
    work_off(engine)


@in_one_lane_and_in_several
def test_in_traffic_nothing_is_called_off(shop: Shop) -> None:
    with traffic(shop) as progress:
        before = progress.as_dict()
        complete = 0
        # What changes with every batch is compared nevertheless, not only waited for; and everybody works meanwhile.
        while complete < COMPLETE_AUDITS or not all(progress.as_dict()[step] > before[step] for step in before):
            report = audit(shop.engine, PATIENCE)
            assert report.off == ()
            complete += report.complete
    end_everything(shop.engine)
    assert found_off(shop.engine) == {}


@in_one_lane_and_in_several
def test_in_traffic_one_unit_a_forgotten_winner_and_one_won_are_found(shop: Shop) -> None:
    with traffic(shop):
        shop.gate.hincrby(shop.sku_key(), "available", 1)
        shop.gate.hdel(shop.winners_key(), "10")
        shop.execute("UPDATE accounts SET balance = balance + 1 WHERE user_id = :id", id=USERS[0])
        found = found_off(shop.engine, PATIENCE)
    assert found.keys() == {CheckName.STOCK, CheckName.WINNERS, CheckName.BALANCES}
    assert f"product {shop.products[0]}:" in found[CheckName.STOCK]
    assert f"coupon {shop.coupon}:" in found[CheckName.WINNERS]
    assert f"user {USERS[0]}:" in found[CheckName.BALANCES]


def test_in_traffic_a_coupon_that_was_counted_once_too_often_is_found(shop: Shop) -> None:
    with traffic(shop):
        shop.gate.hincrby(shop.coupon_key(shop.waiting_coupon), "issued", 1)
        found = found_off(shop.engine, PATIENCE)
    assert f"coupon {shop.waiting_coupon}:" in found[CheckName.COUPONS]
