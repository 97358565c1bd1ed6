"""A server that forgot what was published last is not approved: it would sell on old terms."""

from __future__ import annotations

from typing import Any

import pytest

from engine.context import Engine
from engine.gate import coupons as gate_coupons
from engine.gate import keys, stock
from engine.outcomes import Issued, Refusal, Refused
from engine.shop import coupon_offers, issuance, product_offers
from engine.shop.coupon_offers import CouponChange, CouponOverview, NewCoupon
from engine.shop.product_offers import NewProduct, ProductChange, ProductView
from engine.upkeep.guard import Verdict, watch_lanes
from tests.integration.shop import add_user, available, order


def come_back_as_another_server(engine: Engine, lane: int) -> None:
    """The approved server is not the one that answers now."""
    engine.gate.client.hset(keys.lane(lane), "replid", "0" * 40)


def fields(engine: Engine, key: str) -> dict[Any, Any]:
    found: Any = engine.gate.client.hgetall(key)
    return dict(found)


@pytest.fixture
def coupon(engine: Engine) -> CouponOverview:
    made = coupon_offers.create_coupon(engine, NewCoupon("쿠폰", 100, 5, None, None, "ACTIVE"))
    assert isinstance(made, CouponOverview)
    return made


@pytest.fixture
def product(engine: Engine) -> ProductView:
    made = product_offers.create_product(engine, NewProduct("상품", 100, 5, "ACTIVE"))
    assert isinstance(made, ProductView)
    return made


def test_a_pause_that_redis_forgot_holds_all_the_same(engine: Engine, coupon: CouponOverview) -> None:
    lane = gate_coupons.lane_of_coupon(engine.gate, coupon.id)
    before = fields(engine, keys.coupon(lane, coupon.id))
    coupon_offers.change_coupon(engine, coupon.id, CouponChange(status="INACTIVE"))
    engine.gate.client.hset(keys.coupon(lane, coupon.id), mapping=before)
    come_back_as_another_server(engine, lane)
    assert watch_lanes(engine)[lane] is Verdict.REBUILD
    outcome = issuance.issue_coupon(engine, coupon_id=coupon.id, user_id=1, idempotency_key=None)
    assert outcome == Refused(Refusal.COUPON_CLOSED, {"reason": "INACTIVE"})


def test_a_coupon_that_redis_forgot_is_there_all_the_same(engine: Engine, coupon: CouponOverview) -> None:
    lane = gate_coupons.lane_of_coupon(engine.gate, coupon.id)
    engine.gate.client.delete(keys.coupon(lane, coupon.id))
    come_back_as_another_server(engine, lane)
    assert watch_lanes(engine)[lane] is Verdict.REBUILD
    assert isinstance(issuance.issue_coupon(engine, coupon_id=coupon.id, user_id=1, idempotency_key=None), Issued)


def test_price_status_and_stock_that_redis_forgot_hold_all_the_same(engine: Engine, product: ProductView) -> None:
    add_user(engine, 1, 1_000)
    lane = stock.lane_of_product(engine.gate, product.id)
    before, listed = fields(engine, keys.sku(lane, product.id)), product_offers.list_products(engine)
    kept = {key: engine.gate.client.get(key) for key in (keys.product_list(), keys.product_generation())}
    product_offers.change_product(engine, product.id, ProductChange(status="INACTIVE", price=900, add_stock=7))
    engine.gate.client.hset(keys.sku(lane, product.id), mapping=before)
    for key, value in kept.items():
        engine.gate.client.set(key, str(value))
    assert product_offers.list_products(engine) == listed
    come_back_as_another_server(engine, lane)
    assert watch_lanes(engine)[lane] is Verdict.REBUILD
    assert order(engine, 1, {product.id: 1}) == Refused(Refusal.PRODUCT_NOT_FOUND)
    assert available(engine, product.id) == 12
    assert fields(engine, keys.sku(lane, product.id))["price"] == "900"


def test_a_server_that_forgot_nothing_is_approved_and_an_old_list_is_not_shown(
    engine: Engine, product: ProductView
) -> None:
    lane = stock.lane_of_product(engine.gate, product.id)
    product_offers.list_products(engine)
    generation = engine.gate.client.get(keys.product_generation())
    come_back_as_another_server(engine, lane)
    assert watch_lanes(engine)[lane] is (Verdict.APPROVE if engine.gate.lanes == 1 else Verdict.REBUILD)
    assert engine.gate.client.get(keys.product_generation()) != generation
