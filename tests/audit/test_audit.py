"""The audit: green where all is well, also with everything under way."""

from __future__ import annotations

from engine.context import Engine
from engine.upkeep.audit import audit
from engine.upkeep.auditing.findings import CheckName
from tests.audit.audited_shop import QUICK, found_off, leave_under_way, open_shop
from tests.integration.products_on_sale import in_one_lane_and_in_several


@in_one_lane_and_in_several
def test_an_empty_shop_is_in_order(engine: Engine) -> None:
    report = audit(engine, QUICK)
    assert [(check.name, check.detail) for check in report.checks if not check.ok] == []
    assert report.complete
    assert [check.name for check in report.checks] == [name.value for name in CheckName]


@in_one_lane_and_in_several
def test_a_shop_in_which_everything_happened_is_in_order(engine: Engine) -> None:
    shop = open_shop(engine)
    assert found_off(engine) == {}
    leave_under_way(shop)
    report = audit(engine, QUICK)
    assert (report.off, report.complete) == ((), True)
