"""A rush from the page: as many winners as coupons, on the screen and in the ledger, whatever dies meanwhile."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.demo_shop import PATIENCE_MS
from tests.e2e.whole_stack import Shop
from tests.stack.stack_driver import wait_until

pytestmark = pytest.mark.long

CROWD = (4_000, 8_000, 400)
"""Users, requests, coupons: busy for seconds, so that what is broken is broken in a rush."""
RUSH_SECONDS = 90.0


def start(console: Page, shop: Shop, users: int, requests: int, coupons: int) -> None:
    """Press the button; returns when the crowd is asking, or was, if it was quick."""
    before = rush_of(shop)
    for name, value in (("Users", users), ("Requests", requests), ("Coupons", coupons)):
        console.get_by_role("spinbutton", name=name).fill(str(value))
    console.get_by_role("button", name="Start the rush").click()
    expect(console.get_by_text("The rush is on")).to_be_visible(timeout=PATIENCE_MS)
    wait_until(lambda: rush_of(shop).get("id") != before.get("id"), "the crowd is announced")
    wait_until(lambda: rush_of(shop)["phase"] != "starting", "the crowd is asking")


def rush_of(shop: Shop) -> dict[str, Any]:
    return shop.client.get("/admin/console").json()["rush"] or {}


def refusals_shown(shop: Shop) -> int:
    return sum(each["count"] for each in shop.client.get("/admin/console").json()["refusals"])


def assert_exactly(console: Page, shop: Shop, winners: int) -> None:
    """On the screen and in the ledger."""
    wait_until(lambda: rush_of(shop)["phase"] in ("done", "failed"), "the rush is over", RUSH_SECONDS)
    verdict = console.locator(".verdict")
    expect(verdict.get_by_role("heading")).to_have_text(f"Exactly {winners} winners", timeout=PATIENCE_MS)
    expect(verdict.locator("li.good")).to_have_count(5)
    coupon_id = rush_of(shop)["couponId"]
    coupon = console.get_by_role("listitem").filter(has_text=f"#{coupon_id}").filter(has_text="Issued")
    expect(coupon).to_contain_text(f"{winners} / {winners}", timeout=PATIENCE_MS)
    expect(coupon).to_contain_text("Sold out")
    of_coupon = f"FROM user_coupons WHERE coupon_id = {coupon_id}"
    assert shop.scalar(f"SELECT count(*) {of_coupon}") == winners
    assert shop.scalar(f"SELECT count(DISTINCT user_id) {of_coupon}") == winners
    assert shop.scalar(f"SELECT min(sequence) {of_coupon}") == 1
    assert shop.scalar(f"SELECT max(sequence) {of_coupon}") == winners


def test_a_rush_from_the_page_ends_with_exactly_as_many_winners_as_coupons(console: Page, shop: Shop) -> None:
    start(console, shop, 600, 1_200, 100)
    assert_exactly(console, shop, 100)
    expect(console.get_by_role("region", name="Newest winners").get_by_role("listitem").first).to_contain_text(
        re.compile(r"^\s*100\s*User"), timeout=PATIENCE_MS
    )
    expect(console.get_by_role("region", name="Refusals")).to_contain_text("Sold out")
    rush = rush_of(shop)
    assert (rush["asked"], rush["accepted"], rush["refused"]) == (1_200, 100, 1_100)
    # A web process tells its refusals once in a while, not one by one.
    wait_until(lambda: refusals_shown(shop) >= 1_100, "every refusal is told")


def test_a_killed_worker_is_seen_to_go_and_another_comes_and_nothing_is_lost(console: Page, shop: Shop) -> None:
    before = shop.driver.stack.pids["worker.1"]
    start(console, shop, *CROWD)
    assert rush_of(shop)["phase"] == "asking"
    console.get_by_role("button", name="Kill a worker").click()
    expect(console.get_by_text("A worker got kill -9")).to_be_visible(timeout=PATIENCE_MS)
    killed = console.get_by_role("listitem").filter(has_text=f":{before}")
    expect(killed).to_contain_text("silent for", timeout=PATIENCE_MS)
    expect(console.get_by_role("listitem").filter(has_text="Drain worker").filter(has_text="alive")).to_have_count(
        1, timeout=PATIENCE_MS
    )
    assert_exactly(console, shop, 400)
    assert shop.driver.stack.pids["worker.1"] != before


def test_redis_forgets_everything_in_a_rush_and_comes_back_from_the_ledger(console: Page, shop: Shop) -> None:
    epoch = shop.scalar("SELECT epoch FROM lane_progress WHERE lane = 0")
    start(console, shop, *CROWD)
    console.get_by_role("button", name="Make Redis forget").click()
    expect(console.get_by_text("Redis is empty")).to_be_visible(timeout=PATIENCE_MS)
    assert_exactly(console, shop, 400)
    expect(console.locator(".standing")).to_contain_text("Taking requests", timeout=PATIENCE_MS)
    assert shop.scalar("SELECT epoch FROM lane_progress WHERE lane = 0") > epoch
    assert rush_of(shop)["busy"] > 0, "nobody met the closed gate: Redis forgot when the crowd had gone"


def test_only_one_crowd_is_let_loose_at_a_time(console: Page, shop: Shop) -> None:
    crowd = {"users": 1_000, "requests": 4_000, "coupons": 10}
    assert shop.client.post("/admin/demo/rush", json=crowd).status_code == 202
    second = shop.client.post("/admin/demo/rush", json={"users": 1, "requests": 1, "coupons": 1})
    assert (second.status_code, second.json()["code"]) == (503, "BUSY")
    assert_exactly(console, shop, 10)
