"""Every process replaced by a new one, one after the other, under a crowd: nobody's request fails, nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from engine.service_manager import FIRST_DESCRIPTOR
from loadtests.facts import collect, connect
from loadtests.verdict import judge
from ops.processes import PROJECT_ROOT, children_of, is_alive
from ops.rolling_restart import rolling_restart
from ops.stack import Stack
from scheduler.main import SCHEDULER_LOCK, SILENCE_SECONDS
from tests.e2e.keep_alive_crowd import Crowd
from tests.e2e.whole_stack import Shop, new_folder
from tests.stack.stack_driver import StackDriver, wait_until

ROLLED = ("web", "worker.1", "worker.2", "followups", "scheduler")
QUANTITY = 1_000_000
STOCK = 1_000_000
BUYERS = 20


WORKER = """\
test -e {flag} && exit 7
exec python -m workers.main "$1"
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """A stack whose next workers can be made to fail at their start."""
    driver = StackDriver(new_folder())
    (driver.folder / "worker.sh").write_text(WORKER.format(flag=driver.folder / "broken"))
    procfile = (PROJECT_ROOT / "Procfile").read_text()
    changed = procfile.replace("python -m workers.main drain", f"sh {driver.folder / 'worker.sh'} drain")
    assert changed != procfile
    (driver.folder / "Procfile").write_text(changed)
    driver.start_and_await_ready("--procfile", str(driver.folder / "Procfile"), DEMO_DATA="0", WORKERS="2")
    shop = Shop(driver)
    yield shop
    shop.close()


def crowd_of(shop: Shop) -> Crowd:
    buyers = [shop.add_user(balance=100_000_000) for _ in range(BUYERS)]
    product = shop.add_product(price=1, stock=STOCK)
    return Crowd(shop.driver.port, shop.add_coupon(quantity=QUANTITY), product, buyers)


def members(stack: Stack) -> dict[str, set[int]]:
    """Of each that is to be replaced: its process and, of the web, those that serve."""
    return {name: {stack.pids[name], *children_of(stack.pids[name])} for name in ROLLED}


def active_scheduler(shop: Shop) -> int | None:
    """The session of the active scheduler, once there is one. When the one before has let go of the lock, that is
    within a second; were it to be found out by its silence, it would take five more."""
    holder = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND granted"
    wait_until(lambda: shop.scalar(holder, key=SCHEDULER_LOCK), "a scheduler is active", SILENCE_SECONDS)
    found: int | None = shop.scalar(holder, key=SCHEDULER_LOCK)
    return found


def test_no_request_fails_while_every_process_is_replaced(shop: Shop) -> None:
    driver = shop.driver
    crowd = crowd_of(shop)
    before, active = members(driver.stack), active_scheduler(shop)
    with crowd.at_work():
        wait_until(lambda: len(crowd.attempts) > 100, "the crowd is at work")
        rolled = rolling_restart(driver.data_dir)
        restarted = len(crowd.attempts)
        wait_until(lambda: len(crowd.attempts) > restarted + 100, "the crowd meets the new ones")
    assert rolled.rolling_problem == ""
    after = members(driver.stack)
    for name in ROLLED:
        assert not before[name] & after[name], name
        assert not any(is_alive(pid) for pid in before[name]), name
    assert "had to be killed" not in driver.output
    assert active_scheduler(shop) not in (None, active)

    assert crowd.failures == []
    assert crowd.last_answers > 0, "nobody was told to open another connection: the old web was not under load"
    assert set(crowd.orders) <= {"201", "202"}, f"{Counter(crowd.orders)}\n{driver.output}"
    assert {attempt.status for attempt in crowd.attempts} <= {201, 202}
    engine = connect(driver.stack)
    try:
        facts = collect(
            driver.stack, engine, crowd.coupon_id, QUANTITY, crowd.attempts, planned=len(crowd.attempts), chaos=False
        )
    finally:
        engine.close()
    assert [check for check in judge(facts) if not check.ok] == []
    assert len(facts.rows) == len(crowd.attempts)
    sold = shop.scalar("SELECT sum(quantity) FROM order_items WHERE product_id = :id", id=crowd.product_id)
    assert sold == len(crowd.orders)
    assert shop.client.get("/admin/audit").json()["ok"]


def test_a_version_that_does_not_start_takes_nothing_down(shop: Shop) -> None:
    """What runs goes on when what should replace it cannot start."""
    driver, before = shop.driver, shop.driver.stack.pids
    (driver.folder / "broken").touch()
    problem = rolling_restart(driver.data_dir).rolling_problem
    assert problem == "the new worker.1 ended with exit code 7: the old one stays, and nobody else is replaced"
    after = driver.stack.pids
    assert after["web"] != before["web"]  # its turn came before, and it started well
    assert {name: after[name] for name in ROLLED[1:]} == {name: before[name] for name in ROLLED[1:]}
    accepted = shop.issue(shop.add_coupon(), shop.add_user())
    assert shop.final_state(accepted.json()["requestId"])["status"] == "COMPLETED"
    (driver.folder / "broken").unlink()
    assert rolling_restart(driver.data_dir).rolling_problem == ""
    assert not set(before.values()) & {driver.stack.pids[name] for name in ROLLED}


def test_whoever_waits_for_an_answer_gets_it_from_the_web_that_leaves(shop: Shop) -> None:
    driver = shop.driver
    coupon, user, web = shop.add_coupon(), shop.add_user(), driver.stack.pids["web"]
    body = json.dumps({"userId": user})
    with socket.create_connection(("127.0.0.1", driver.port), timeout=30) as connection:
        with shop.coupon_locked(coupon):  # nothing is durable, so the answer waits
            connection.sendall(
                f"POST /api/v1/coupons/{coupon}/issue HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=10\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            with shop.redis() as redis:
                wait_until(lambda: redis.hgetall(f"sc:{{0}}:coupon:{coupon}:winners"), "the request is accepted")
            shared = listeners_of(web)
            os.kill(web, signal.SIGTERM)
            wait_until(lambda: not shared & listeners_of(web), "the web takes nobody new")
        assert connection.recv(65536).startswith(b"HTTP/1.1 201")
    wait_until(lambda: driver.stack.pids.get("web", web) != web, "the supervisor starts the next one")
    assert "ended with exit code 0; starting again" in driver.output


def listeners_of(web: int) -> set[str]:
    """The sockets that the serving processes of this web take connections from."""
    return {os.readlink(f"/proc/{pid}/fd/{FIRST_DESCRIPTOR}") for pid in children_of(web)}
