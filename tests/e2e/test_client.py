"""The client against a real stack: its page runs as it stands, and outages cost it time and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from client import IssuedCoupon, Refused, Shop, Submitted
from ops.processes import PROJECT_ROOT
from tests.browser.demo_shop import open_demo_shop
from tests.e2e.client_page import examples
from tests.e2e.whole_stack import BreakableShop
from tests.e2e.whole_stack import Shop as WholeShop
from tests.stack.stack_driver import wait_until


@pytest.fixture(scope="module")
def demo() -> Iterator[WholeShop]:
    """What `make run` shows a newcomer."""
    shop = open_demo_shop()
    yield shop
    shop.close()


def client_of(shop: WholeShop, **options: float) -> Shop:
    return Shop(f"http://127.0.0.1:{shop.driver.port}", **options)  # type: ignore[arg-type]


# -- the page


def test_the_python_of_the_page_runs_as_it_stands(demo: WholeShop) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", examples("python", demo.driver.port)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    first, second, third = ended.stdout.splitlines()
    sequence = demo.scalar("SELECT sequence FROM user_coupons WHERE coupon_id = 1 AND user_id = 7")
    paid = demo.scalar("SELECT paid_amount FROM orders WHERE user_id = 7 ORDER BY id LIMIT 1")
    assert first == f"place {sequence}, paid {paid}"
    assert second.startswith("COUPON_ALREADY_ISSUED - ")
    assert second.isascii()
    assert third == "True COMPLETED"
    assert demo.scalar("SELECT count(*) FROM orders WHERE user_id = 7") == 2


def test_the_curl_of_the_page_runs_as_it_stands(demo: WholeShop, tmp_path: Path) -> None:
    script = "set -euo pipefail\n" + examples("bash", demo.driver.port)
    ended = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    state = json.loads(ended.stdout)
    assert (state["status"], state["result"]["userId"]) == ("COMPLETED", 8)
    assert demo.scalar("SELECT count(*) FROM user_coupons WHERE coupon_id = 1 AND user_id = 8") == 1


def test_the_curl_of_the_page_comes_again_with_the_same_key_when_it_is_told_to(
    breakable_shop: BreakableShop, tmp_path: Path
) -> None:
    shop = breakable_shop
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


# -- outages


def test_a_wish_outlives_an_outage_of_the_gate(breakable_shop: BreakableShop) -> None:
    coupon, user = breakable_shop.add_coupon(), breakable_shop.add_user()
    told = threading.Event()
    shop = Shop(
        f"http://127.0.0.1:{breakable_shop.driver.port}", patience_seconds=60, told_to_wait=lambda _reason: told.set()
    )
    with shop, ThreadPoolExecutor(1) as pool:
        with breakable_shop.without_redis():
            wish = pool.submit(shop.issue_coupon, coupon, user)
            wait_until(told.is_set, "the client is told to wait")
        won = wish.result()
    assert (won.coupon_id, won.user_id, won.sequence) == (coupon, user, 1)


def test_a_wish_is_not_told_as_durable_while_the_ledger_is_away(breakable_shop: BreakableShop) -> None:
    coupon, user = breakable_shop.add_coupon(), breakable_shop.add_user()
    with client_of(breakable_shop, patience_seconds=60) as shop, ThreadPoolExecutor(1) as pool:
        with breakable_shop.without_postgres():
            submitted = shop.submit_coupon(coupon, user)
            again = shop.submit_coupon(coupon, user, key=submitted.key)
            waiting = pool.submit(shop.wait_for, submitted.request_id)
            assert not waiting.done()
        won = waiting.result()
    assert isinstance(won, IssuedCoupon)
    assert (submitted, won.sequence) == (again, 1)


def test_an_order_is_placed_once_however_often_its_wish_is_repeated(demo: WholeShop) -> None:
    with client_of(demo) as shop:
        before = shop.balance(3).balance
        orders = [shop.place_order(3, {4: 1}, key="one-wish") for _ in range(3)]
        assert len({order.order_id for order in orders}) == 1
        assert shop.balance(3).balance == before - orders[0].paid_amount
        cancelled = shop.cancel_order(orders[0].order_id)
        assert (cancelled.status, shop.order(cancelled.order_id).status) == ("CANCELLED", "CANCELLED")
        assert shop.charge(3, 5, key="a-charge") == shop.charge(3, 5, key="a-charge")
        assert shop.balance(3).balance == before + 5
        # The negative control: without the key, each call is a wish of its own.
        assert len({shop.submit_order(3, {4: 1}).request_id for _ in range(2)}) == 2


def test_what_a_shop_has_and_what_is_wrong_with_a_wish(demo: WholeShop) -> None:
    with client_of(demo) as shop:
        offered = shop.offer_coupon("한 장", 100, 1)
        assert isinstance(shop.submit_coupon(offered.id, 4), Submitted)
        with pytest.raises(Refused) as no:
            shop.issue_coupon(offered.id, 5)
        assert (no.value.code, no.value.details) == ("COUPON_CLOSED", {"reason": "SOLD_OUT"})
        assert shop.offered_coupon(offered.id).remaining == 0
        assert len(shop.products()) == 10
        wait_until(lambda: offered.id in [held.coupon_id for held in shop.coupons_of(4)], "the coupon is durable")
        with pytest.raises(Refused, match="USER_NOT_FOUND"):
            shop.balance(999)
