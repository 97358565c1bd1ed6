"""The numbers of all processes together, after a small rush, are exactly what happened."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from engine.upkeep.auditing.findings import CheckName
from ops.metrics_folder import metrics_folder
from ops.processes import children_of
from tests.e2e.whole_stack import ANSWER_SECONDS, Shop
from tests.shop.scrapes import Scrape, scrape
from tests.stack.stack_driver import wait_until
from web.request_times import HAND_OVER_SECONDS

COUPONS = 40
USERS = 60
CROWD = 8


def rush(shop: Shop, coupon_id: int) -> list[int]:
    """Every user asks twice, many at a time; the statuses of the answers."""
    with ThreadPoolExecutor(CROWD) as crowd:
        users = crowd.map(lambda _: shop.add_user(), range(USERS))
        askers = [user_id for user_id in users for _ in range(2)]
        return list(crowd.map(lambda user_id: shop.issue(coupon_id, user_id).status_code, askers))


def await_recorded(shop: Shop, coupon_id: int, count: int) -> None:
    query = "SELECT count(*) FROM user_coupons WHERE coupon_id = :coupon_id"
    wait_until(lambda: shop.scalar(query, coupon_id=coupon_id) == count, f"{count} coupons are recorded")


def decided(later: Scrape, earlier: Scrape, outcome: str, kind: str = "coupon_issue") -> float:
    name, labels = "seonchak_decisions_total", {"kind": kind, "outcome": outcome}
    return later.value(name, **labels) - earlier.value(name, **labels)


def asks(later: Scrape, earlier: Scrape, kind: str) -> float:
    """How many asks went in calls of that kind."""
    name = "seonchak_gate_call_asks_sum"
    return later.value(name, kind=kind) - earlier.value(name, kind=kind)


def scrape_at_rest(shop: Shop) -> Scrape:
    """Taken when the times of whatever other tests asked for are handed over, too."""
    seen = [scrape(shop)]

    def at_rest() -> bool:
        time.sleep(2 * HAND_OVER_SECONDS)
        seen.append(scrape(shop))
        before, now = (each.total("seonchak_http_request_seconds_count", way="short") for each in seen[-2:])
        return before == now

    wait_until(at_rest, "nothing more is handed over")
    return seen[-1]


def await_answers(shop: Shop, before: Scrape, route: str, expected: dict[str, int]) -> None:
    """Wait until exactly so many answers of each status are told, all of them given without Flask."""

    def told() -> dict[str, float]:
        name, way, now = "seonchak_http_request_seconds_count", {"route": route, "way": "short"}, scrape(shop)
        found = {
            status: now.total(name, **way, status=status) - before.total(name, **way, status=status)
            for status in ("200", "202", "404", "409", "500", "503")
        }
        return {status: count for status, count in found.items() if count}

    wait_until(lambda: told() == expected, f"the web processes have handed their times over: {route}")


def test_the_sums_over_all_processes_are_what_happened(shop: Shop) -> None:
    before = scrape_at_rest(shop)
    coupon_id = shop.add_coupon(quantity=COUPONS)
    statuses = rush(shop, coupon_id)
    assert (statuses.count(202), statuses.count(409)) == (COUPONS, 2 * USERS - COUPONS)
    await_recorded(shop, coupon_id, COUPONS)

    def recorded(now: Scrape) -> float:
        name = "seonchak_drain_entries_total"
        return now.value(name, result="recorded") - before.value(name, result="recorded")

    wait_until(lambda: recorded(scrape(shop)) >= COUPONS, "the drain has told what it recorded")
    now = scrape(shop)
    assert recorded(now) == COUPONS
    assert decided(now, before, "issued") == COUPONS
    refused = {outcome: decided(now, before, outcome) for outcome in ("already_issued", "sold_out")}
    assert sum(refused.values()) == 2 * USERS - COUPONS
    assert asks(now, before, "issue") == 2 * USERS

    await_answers(shop, before, "issue", {"202": COUPONS, "409": 2 * USERS - COUPONS})


def test_orders_and_polls_that_flask_never_sees_are_counted_one_by_one(shop: Shop) -> None:
    # Rich enough to pay for all: an order that could not be paid would give its unit back to the one too many.
    user_id, product_id = shop.add_user(balance=1000 * COUPONS), shop.add_product(price=1000, stock=COUPONS - 1)
    before = scrape_at_rest(shop)
    with ThreadPoolExecutor(CROWD) as crowd:
        placed = list(crowd.map(lambda _: shop.order(user_id, {product_id: 1}), range(COUPONS)))
        accepted = [each.json()["requestId"] for each in placed if each.status_code == 202]
        polled = list(crowd.map(lambda request_id: shop.client.get(f"/requests/{request_id}"), accepted))
    assert len(accepted) == COUPONS - 1
    assert {each.status_code for each in polled} == {200}
    assert decided(scrape(shop), before, "reserved", kind="order") == COUPONS - 1
    assert decided(scrape(shop), before, "out_of_stock", kind="order") == 1
    assert asks(scrape(shop), before, "order") == COUPONS
    assert asks(scrape(shop), before, "look") == COUPONS - 1
    await_answers(shop, before, "orders", {"202": COUPONS - 1, "409": 1})
    await_answers(shop, before, "requests", {"200": COUPONS - 1})


def test_what_the_regular_audit_found_is_told(shop: Shop) -> None:
    name = "seonchak_audit_check_ok"
    expected = sorted(check.value for check in CheckName)
    wait_until(lambda: scrape(shop).labels_of(name, "check") == expected, "every check has been looked at")
    assert scrape(shop).value("seonchak_audit_timestamp_seconds") > 0


def test_several_processes_have_a_share_in_the_sums(shop: Shop) -> None:
    """The negative control: were one process' numbers shown for all, the sum would be one of the shares."""
    folder, body = metrics_folder(Path(shop.driver.stack.data_dir)), {"userId": shop.add_user()}
    counted: list[float] = []

    def both_have_issued() -> bool:
        # On a connection of its own: one that is kept is always the same process'.
        with httpx.Client(base_url=shop.client.base_url, timeout=ANSWER_SECONDS) as alone:
            assert alone.post(f"/coupons/{shop.add_coupon(quantity=1)}/issue", json=body).status_code == 202
        shares = [issued_in(folder / f"counter_{pid}.db") for pid in children_of(shop.driver.stack.pids["web"])]
        counted[:] = [share for share in shares if share]
        return len(counted) == 2

    wait_until(both_have_issued, "both web processes have given a coupon")
    issued = scrape(shop).value("seonchak_decisions_total", kind="coupon_issue", outcome="issued")
    assert max(counted) < issued
    assert sum(counted) <= issued


def test_what_was_counted_stays_when_a_web_process_is_killed(shop: Shop) -> None:
    coupon_id = shop.add_coupon(quantity=COUPONS)
    rush(shop, coupon_id)
    await_recorded(shop, coupon_id, COUPONS)
    before = scrape(shop)
    victims = [pid for pid in children_of(shop.driver.stack.pids["web"]) if is_web(before, pid)]
    assert len(victims) == 2
    web = shop.driver.stack.pids["web"]
    os.kill(victims[0], signal.SIGKILL)
    wait_until(lambda: shop.driver.stack.pids.get("web") not in (None, web), "the supervisor has started web again")
    wait_until(lambda: answers(shop), "web answers again")
    after = scrape(shop)
    back = {
        key: (value, after.samples.get(key)) for key, value in before.counters.items() if not goes_on(after, key, value)
    }
    assert back == {}
    assert not is_web(after, victims[0])
    again = shop.add_coupon(quantity=COUPONS)
    rush(shop, again)
    assert decided(scrape(shop), before, "issued") == COUPONS


def test_how_the_stores_stand_is_told_by_the_scheduler_alone(shop: Shop) -> None:
    wait_until(lambda: "0" in scrape(shop).labels_of("seonchak_outbox_entries", "lane"), "the lane is observed")
    coupon_id, user_id = shop.add_coupon(quantity=1), shop.add_user()
    with shop.coupon_locked(coupon_id):
        assert shop.issue(coupon_id, user_id).status_code == 202
        wait_until(lambda: scrape(shop).value("seonchak_outbox_entries", lane="0") == 1, "one decision waits")
        wait_until(lambda: scrape(shop).value("seonchak_outbox_head_age_seconds", lane="0") > 1, "its age is told")
    wait_until(lambda: scrape(shop).value("seonchak_outbox_entries", lane="0") == 0, "it waits no more")
    now = scrape(shop)
    assert now.value("seonchak_lane_ready", lane="0") == 1
    assert now.value("seonchak_quarantined_outcomes") == shop.scalar("SELECT count(*) FROM quarantined_outcomes")
    assert now.labels_of("seonchak_heartbeat_timestamp_seconds", "process") == [
        "drain",
        "followups",
        "scheduler",
        "web",
        "web",
    ]


def issued_in(file: Path) -> float:
    """What one process has counted."""
    if not file.exists():
        return 0.0
    families = MultiProcessCollector.merge([str(file)])
    samples = [sample for family in families for sample in family.samples]
    return sum(sample.value for sample in samples if sample.labels.get("outcome") == "issued")


def is_web(found: Scrape, pid: int) -> bool:
    labels = {"process": "web", "pid": str(pid)}
    return ("seonchak_heartbeat_timestamp_seconds", frozenset(labels.items())) in found.samples


def goes_on(after: Scrape, key: tuple[str, frozenset[tuple[str, str]]], value: float) -> bool:
    return after.samples.get(key, 0.0) >= value


def answers(shop: Shop) -> bool:
    try:
        return bool(scrape(shop).samples)
    except httpx.HTTPError:
        return False


@pytest.fixture(autouse=True)
def _settled(shop: Shop) -> None:
    """Nothing of an earlier test is still on its way to the ledger."""
    with shop.redis() as client:
        wait_until(lambda: client.xlen("sc:{0}:outbox") == 0, "the outbox is empty")
