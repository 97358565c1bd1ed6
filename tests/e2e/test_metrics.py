"""The numbers of all processes together, after a small rush, are exactly what happened."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from ops.metrics_folder import metrics_folder
from ops.processes import children_of
from tests.e2e.scrapes import Scrape, scrape
from tests.e2e.whole_stack import Shop
from tests.integration.stack_driver import wait_until

COUPONS = 40
USERS = 60
CROWD = 8


def rush(shop: Shop, coupon_id: int) -> list[int]:
    """Every user asks twice, many at a time; the statuses of the answers."""
    asks = [user_id for user_id in range(1, USERS + 1) for _ in range(2)]
    with ThreadPoolExecutor(CROWD) as crowd:
        return list(crowd.map(lambda user_id: shop.issue(coupon_id, user_id).status_code, asks))


def await_recorded(shop: Shop, coupon_id: int, count: int) -> None:
    query = "SELECT count(*) FROM user_coupons WHERE coupon_id = :coupon_id"
    wait_until(lambda: shop.scalar(query, coupon_id=coupon_id) == count, f"{count} coupons are recorded")


def decided(later: Scrape, earlier: Scrape, outcome: str) -> float:
    name, labels = "seonchak_decisions_total", {"kind": "coupon_issue", "outcome": outcome}
    return later.value(name, **labels) - earlier.value(name, **labels)


def test_the_sums_over_all_processes_are_what_happened(shop: Shop) -> None:
    before = scrape(shop)
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
    asked = "seonchak_gate_call_asks_sum"
    assert now.value(asked, kind="issue") - before.value(asked, kind="issue") == 2 * USERS

    def answered(later: Scrape) -> dict[str, float]:
        name = "seonchak_http_request_seconds_count"
        return {
            status: later.total(name, route="issue", status=status) - before.total(name, route="issue", status=status)
            for status in ("202", "409")
        }

    expected = {"202": COUPONS, "409": 2 * USERS - COUPONS}
    wait_until(lambda: answered(scrape(shop)) == expected, "the web processes have handed their times over")


def test_several_processes_have_a_share_in_the_sums(shop: Shop) -> None:
    """The negative control: were one process' numbers shown for all, the sum would be one of the shares."""
    coupon_id = shop.add_coupon(quantity=COUPONS)
    rush(shop, coupon_id)
    folder = metrics_folder(Path(shop.driver.stack.data_dir))
    shares = [issued_in(folder / f"counter_{pid}.db") for pid in children_of(shop.driver.stack.pids["web"])]
    counted = [share for share in shares if share]
    assert len(counted) == 2, shares
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
    coupon_id = shop.add_coupon(quantity=1)
    with shop.coupon_locked(coupon_id):
        assert shop.issue(coupon_id, 1).status_code == 202
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
