"""The life of coupons, balances and orders as a client sees it."""

from __future__ import annotations

from tests.e2e.whole_stack import Shop, created


def test_a_coupon_is_granted_at_once_and_durable_soon(shop: Shop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    answer = shop.issue(coupon, user)
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["Location"] == f"/api/v1/requests/{body['requestId']}"
    state = shop.final_state(body["requestId"])
    assert state["status"] == "COMPLETED"


def test_who_prefers_to_wait_gets_the_durable_coupon(shop: Shop) -> None:
    answer = shop.issue(shop.add_coupon(), shop.add_user(), prefer="wait=10")
    assert created(answer)["sequence"] == 1
