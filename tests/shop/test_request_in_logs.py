"""One request is followed by its id through the logs of all processes, as somebody would do who looks for it."""

from __future__ import annotations

import json

from tests.e2e.whole_stack import Shop
from tests.stack.stack_driver import wait_until


def seen_in(shop: Shop, request_id: str) -> set[str]:
    """The processes whose lines name the request."""
    lines = [line for line in shop.driver.output.splitlines() if line.startswith("{")]
    found = [json.loads(line) for line in lines if request_id in line]
    return {str(line["process"]) for line in found if request_id in line.get("request_ids", ())}


def test_an_order_is_seen_in_the_web_in_the_drain_and_in_its_followups(shop: Shop) -> None:
    placed = shop.order(shop.add_user(balance=10_000), {shop.add_product(): 1})
    request_id = placed.json()["requestId"]
    wait_until(lambda: seen_in(shop, request_id) == {"web", "drain", "followups"}, "all who had it have named it")


def test_a_coupon_is_seen_in_the_web_and_in_the_drain(shop: Shop) -> None:
    request_id = shop.issue(shop.add_coupon(), shop.add_user()).json()["requestId"]
    wait_until(lambda: seen_in(shop, request_id) == {"web", "drain"}, "all who had it have named it")


def test_every_line_is_for_machines(shop: Shop) -> None:
    """But the supervisor's announcement, which scripts and people look for."""
    others = [line for line in shop.driver.output.splitlines() if not line.startswith("{")]
    assert [line for line in others if not line.startswith(("Seonchak is ready", "  "))] == []
