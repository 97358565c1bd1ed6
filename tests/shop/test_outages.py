"""What clients see while a store or a process is away, and that nothing they were promised is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from engine.gate import keys
from tests.e2e.whole_stack import BreakableShop, assert_problem, created
from tests.shop.told import BUSY, TEMPORARY_ERROR
from tests.stack.stack_driver import family_of, wait_until

BUSY_WITHIN_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
ATTEMPTS = 5
RUSH = 300
CROWD = 16


def backlog(shop: BreakableShop) -> int:
    return int(str(shop.redis().xlen(keys.outbox(0))))


def sequences(shop: BreakableShop, coupon: int) -> list[int]:
    found = shop.scalar(
        "SELECT array_agg(sequence ORDER BY sequence) FROM user_coupons WHERE coupon_id = :id", id=coupon
    )
    return list(found or [])


def assert_all_recorded(shop: BreakableShop, coupon: int, granted: list[httpx.Response]) -> None:
    """Every grant that a client was told of is durable, once, and nothing else is."""
    for answer in granted:
        state = shop.final_state(answer.json()["requestId"])
        assert state["status"] == "COMPLETED", state
        assert state["result"]["sequence"] == answer.json()["sequence"]
        assert state["result"]["userId"] == answer.json()["userId"]
    assert sequences(shop, coupon) == list(range(1, len(granted) + 1))
    assert shop.client.get(f"/admin/coupons/{coupon}").json()["pending"] == 0
    assert backlog(shop) == 0


def insist(shop: BreakableShop, coupon: int, user: int) -> httpx.Response:
    """Ask with a key until there is an answer, as a client does whose connection breaks."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer = shop.issue(coupon, user, idempotency_key="mine")
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code != 503:
            return answer
        assert time.monotonic() < deadline, "the shop did not come back"
        time.sleep(0.05)


def rush(shop: BreakableShop, coupon: int, disturb: Callable[[], None]) -> list[httpx.Response]:
    """Everybody asks; when a third has an answer, something happens."""
    answered: list[httpx.Response] = []
    with ThreadPoolExecutor(CROWD) as crowd:
        asked = [
            crowd.submit(lambda user=user: answered.append(insist(shop, coupon, user))) for user in range(1, RUSH + 1)
        ]
        wait_until(lambda: len(answered) >= RUSH // 3, "a third of the crowd has an answer")
        assert len(answered) < RUSH, "the rush was over before anything happened"
        disturb()
        for each in asked:
            each.result(PATIENCE_SECONDS)
    return answered


def kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a child whose parent went first goes with it
            os.kill(pid, signal.SIGKILL)


def process(shop: BreakableShop, name: str) -> int:
    """The pid of a process of the stack; of the worker, there is one."""
    return next(pid for each, pid in shop.driver.stack.pids.items() if each.split(".")[0] == name)


# Redis


def test_without_redis_issuing_is_busy_within_a_second(shop: BreakableShop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    with shop.without_redis():
        for _ in range(ATTEMPTS):
            answer = shop.issue(coupon, user)
            assert_problem(answer, *BUSY)
            assert answer.elapsed.total_seconds() < BUSY_WITHIN_SECONDS
    assert created(shop.issue(coupon, user, prefer="wait=10"))["sequence"] == 1


def test_while_redis_hangs_issuing_is_busy_within_a_second(shop: BreakableShop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    shop.valkey.pause()
    try:
        for _ in range(ATTEMPTS):
            answer = shop.issue(coupon, user, idempotency_key="k")
            assert_problem(answer, *BUSY)
            assert answer.elapsed.total_seconds() < BUSY_WITHIN_SECONDS
    finally:
        shop.valkey.resume()
    shop.await_ready()
    # The server may have found the question when it woke up: the outcome was unknown, the key makes it one grant.
    assert created(shop.issue(coupon, user, idempotency_key="k", prefer="wait=10"))["sequence"] == 1


def test_a_redis_that_dies_with_decisions_waiting_loses_none_it_had_written(shop: BreakableShop) -> None:
    coupon, users = shop.add_coupon(), [shop.add_user() for _ in range(5)]
    with shop.coupon_locked(coupon):
        granted = [shop.issue(coupon, user) for user in users]
        shop.redis().execute_command("BGREWRITEAOF")
        wait_until(lambda: is_written(shop), "the append-only file has everything")
        shop.valkey.kill()
    shop.start_redis()
    assert_all_recorded(shop, coupon, granted)


def is_written(shop: BreakableShop) -> bool:
    info = shop.redis().info("persistence")
    assert isinstance(info, dict)
    return (
        not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"] and not info["aof_pending_bio_fsync"]
    )


# Postgres


def test_without_postgres_issuing_goes_on_and_is_recorded_later(shop: BreakableShop) -> None:
    coupon, users = shop.add_coupon(quantity=20), [shop.add_user() for _ in range(21)]
    with shop.without_postgres():
        granted = [shop.issue(coupon, user) for user in users[:20]]
        assert {answer.status_code for answer in granted} == {202}
        assert [answer.json()["sequence"] for answer in granted] == list(range(1, 21))
        assert assert_problem(shop.issue(coupon, users[20]), 409, "COUPON_CLOSED", "쿠폰 발급이 마감되었습니다")
        assert backlog(shop) == 20
        for answer in granted:
            state = shop.client.get(f"/requests/{answer.json()['requestId']}")
            assert (state.status_code, state.json()["status"]) == (200, "PENDING")
        assert_problem(shop.client.get(f"/users/{users[0]}/coupons"), *TEMPORARY_ERROR)
        assert_problem(shop.client.get(f"/users/{users[0]}/balance"), *TEMPORARY_ERROR)
    assert_all_recorded(shop, coupon, granted)
    assert len(shop.client.get(f"/users/{users[0]}/coupons").json()["userCoupons"]) == 1


def test_who_prefers_to_wait_while_postgres_is_away_gets_a_pending_request(shop: BreakableShop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    with shop.without_postgres():
        answer = shop.issue(coupon, user, prefer="wait=1")
        assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
    assert_all_recorded(shop, coupon, [answer])


# Processes


def test_a_worker_killed_in_the_middle_of_a_batch_loses_nothing(shop: BreakableShop) -> None:
    coupon, users = shop.add_coupon(), [shop.add_user() for _ in range(10)]
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with shop.coupon_locked(coupon):
        granted = [shop.issue(coupon, user) for user in users]
        wait_until(lambda: shop.scalar(waits) > 0, "the worker is within its transaction")
        killed = process(shop, "worker")
        kill({killed})
        wait_until(lambda: process_or_none(shop, "worker") not in (None, killed), "there is another worker")
        assert backlog(shop) == 10
    assert_all_recorded(shop, coupon, granted)


def process_or_none(shop: BreakableShop, name: str) -> int | None:
    try:
        return process(shop, name)
    except StopIteration:
        return None


@pytest.mark.parametrize("victim", ["worker", "web", "scheduler"])
def test_a_rush_loses_nothing_when_a_process_is_killed(shop: BreakableShop, victim: str) -> None:
    coupon = shop.add_coupon(quantity=RUSH - 50)
    answered = rush(shop, coupon, lambda: kill(family_of(process(shop, victim))))
    granted = [answer for answer in answered if answer.status_code == 202]
    refused = [answer for answer in answered if answer.status_code != 202]
    assert (len(granted), len(refused)) == (RUSH - 50, 50)
    assert {answer.json()["reason"] for answer in refused} == {"SOLD_OUT"}
    shop.await_ready()
    assert_all_recorded(shop, coupon, granted)
