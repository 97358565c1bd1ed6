"""The client against a real stack: outages cost it time and nothing else."""

from __future__ import annotations

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from client import IssuedCoupon, Refused, Submitted
from client import Shop as Client
from tests.client_page import examples
from tests.e2e.whole_stack import BreakableShop
from tests.stack.stack_driver import wait_until


def client_of(shop: BreakableShop, **options: Any) -> Client:
    return Client(f"http://127.0.0.1:{shop.driver.port}", **options)


def test_the_curl_of_the_page_comes_again_with_the_same_key_when_it_is_told_to(
    shop: BreakableShop, tmp_path: Path
) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    script = examples("bash", shop.driver.port).replace("/coupons/1/", f"/coupons/{coupon}/")
    script = script.replace('"userId": 8', f'"userId": {user}').replace("curl -sS", "curl -sS -v")
    trace = tmp_path / "trace"
    with trace.open("wb") as errors, shop.without_redis():
        command = ["bash", "-c", "set -euo pipefail\n" + script]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=errors)
        wait_until(lambda: b"HTTP/1.1 503" in trace.read_bytes(), "it is told to come again")
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, trace.read_text()
    assert json.loads(told)["status"] == "COMPLETED"
    keys = [line for line in trace.read_text().splitlines() if line.lower().startswith("> idempotency-key:")]
    assert len(keys) > 1
    assert len(set(keys)) == 1


def test_a_wish_outlives_an_outage_of_the_gate(shop: BreakableShop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    told = threading.Event()
    client = client_of(shop, patience_seconds=60, told_to_wait=lambda _reason: told.set())
    with client, ThreadPoolExecutor(1) as pool:
        with shop.without_redis():
            wish = pool.submit(client.issue_coupon, coupon, user)
            wait_until(told.is_set, "the client is told to wait")
        won = wish.result()
    assert (won.coupon_id, won.user_id, won.sequence) == (coupon, user, 1)


def test_a_wish_is_not_told_as_durable_while_the_ledger_is_away(shop: BreakableShop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    with client_of(shop, patience_seconds=60) as client, ThreadPoolExecutor(1) as pool:
        with shop.without_postgres():
            submitted = client.submit_coupon(coupon, user)
            again = client.submit_coupon(coupon, user, key=submitted.key)
            waiting = pool.submit(client.wait_for, submitted.request_id)
            assert not waiting.done()
        won = waiting.result()
    assert isinstance(won, IssuedCoupon)
    assert (submitted, won.sequence) == (again, 1)


def test_an_order_is_placed_once_however_often_its_wish_is_repeated(shop: BreakableShop) -> None:
    user, product = shop.add_user(balance=100_000), shop.add_product(price=1_000)
    with client_of(shop) as client:
        orders = [client.place_order(user, {product: 1}, key="one-wish") for _ in range(3)]
        assert len({order.order_id for order in orders}) == 1
        assert client.balance(user).balance == 100_000 - orders[0].paid_amount
        cancelled = client.cancel_order(orders[0].order_id)
        assert (cancelled.status, client.order(cancelled.order_id).status) == ("CANCELLED", "CANCELLED")
        assert client.charge(user, 5, key="a-charge") == client.charge(user, 5, key="a-charge")
        assert client.balance(user).balance == 100_005
        # The negative control: without the key, each call is a wish of its own.
        assert len({client.submit_order(user, {product: 1}).request_id for _ in range(2)}) == 2


def test_what_a_shop_has_and_what_is_wrong_with_a_wish(shop: BreakableShop) -> None:
    first, second, product = shop.add_user(), shop.add_user(), shop.add_product()
    with client_of(shop) as client:
        offered = client.offer_coupon("한 장", 100, 1)
        assert isinstance(client.submit_coupon(offered.id, first), Submitted)
        with pytest.raises(Refused) as no:
            client.issue_coupon(offered.id, second)
        assert (no.value.code, no.value.details) == ("COUPON_CLOSED", {"reason": "SOLD_OUT"})
        assert client.offered_coupon(offered.id).remaining == 0
        wait_until(lambda: product in [listed.id for listed in client.products()], "the product is listed")
        wait_until(lambda: offered.id in [held.coupon_id for held in client.coupons_of(first)], "the coupon is durable")
        with pytest.raises(Refused, match="USER_NOT_FOUND"):
            client.balance(999_999_999)
