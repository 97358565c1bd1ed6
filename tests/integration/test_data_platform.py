"""Deliveries to the data platform: what is sent, how it is signed, and answers of every kind from the stand-in."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from engine import data_platform, followups
from engine.config import Settings
from engine.context import Engine
from engine.data_platform import DataPlatform, DeliveryFailed, is_signed, signature
from engine.errors import InvalidSettings
from engine.followups import FIRST_DELIVERIES, MOST_ATTEMPTS, retry_delay_seconds, work_off
from engine.ledger.followups import FollowupKind
from engine.ledger.order_events import OrderEvent, OrderEventName
from ops import requeue_followups
from ops.mock_data_platform import MockDataPlatform, Mode
from ops.processes import PROJECT_ROOT, free_port
from tests.integration.placed_orders import (
    add_order,
    add_product,
    execute,
    make_due,
    rows,
    statuses,
    with_settings,
)
from tests.integration.stack_driver import wait_until

SECRET = "hush"
DELIVERY = (FollowupKind.DATA_PLATFORM,)
EVENT = OrderEvent(7, OrderEventName.ORDER_COMPLETED, {"event": "ORDER_COMPLETED", "orderId": 7})
SHORT = 0.5
"""Seconds that an exchange may take in tests of what happens when they are over."""


@pytest.fixture(autouse=True)
def longest_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance has no say here: a failed row is due again when the test says so, or in two seconds at the earliest."""
    monkeypatch.setattr(followups, "retry_delay_seconds", lambda attempts: retry_delay_seconds(attempts, lambda: 1.0))


@pytest.fixture
def platform() -> Iterator[MockDataPlatform]:
    platform = MockDataPlatform(0, SECRET)
    thread = threading.Thread(target=platform.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield platform
    platform.stop()
    thread.join()


@pytest.fixture
def connected(engine: Engine, platform: MockDataPlatform) -> Iterator[Engine]:
    """An engine that knows the platform."""
    connected = with_settings(engine, data_platform_url=platform.url, data_platform_secret=SECRET)
    yield connected
    connected.close()


def attempts(engine: Engine) -> list[tuple[str, int, str | None]]:
    """Status, attempts and last error of every follow-up, by id."""
    return rows(engine, "SELECT status, attempts, last_error FROM order_followups ORDER BY id")


# -- one delivery


def test_a_delivery_carries_the_event_its_id_and_a_signature(platform: MockDataPlatform) -> None:
    seen: list[tuple[str, str, bytes]] = []
    receive = platform.receive
    platform.receive = lambda *arguments: seen.append(arguments) or receive(*arguments)  # type: ignore[method-assign, func-returns-value]
    with DataPlatform(platform.url, SECRET) as client:
        client.deliver(EVENT)
    [(key, header, body)] = seen
    assert key == "order-7-completed"
    assert json.loads(body) == {"eventId": "order-7-completed", "event": "ORDER_COMPLETED", "orderId": 7}
    timestamp, _, digest = header.removeprefix("t=").partition(",v1=")
    assert abs(int(timestamp) - time.time()) < 60
    assert digest == hmac.new(b"hush", timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def test_a_signature_holds_for_its_body_its_secret_and_five_minutes_only() -> None:
    header = signature(SECRET, 1_000_000, b"body")
    assert is_signed(header, b"body", SECRET, 1_000_000)
    assert is_signed(header, b"body", SECRET, 1_000_300)
    assert not is_signed(header, b"body", SECRET, 1_000_301)
    assert not is_signed(header, b"body", SECRET, 999_699)
    assert not is_signed(header, b"bodx", SECRET, 1_000_000)
    assert not is_signed(header, b"body", "other", 1_000_000)
    assert not is_signed(header.replace("t=1000000", "t=1000001"), b"body", SECRET, 1_000_000)
    for wrong in ("", "t=,v1=", "v1=" + "0" * 64, header + "0", header.upper(), "t=1000000,v1=" + "é" * 64):
        assert not is_signed(wrong, b"body", SECRET, 1_000_000)


def test_the_stand_in_refuses_what_is_signed_with_another_secret(platform: MockDataPlatform) -> None:
    with DataPlatform(platform.url, "guess") as client, pytest.raises(DeliveryFailed, match="HTTP 401"):
        client.deliver(EVENT)
    assert platform.received()["refused"] == 1
    assert platform.received()["count"] == 0


def test_a_repeated_delivery_is_taken_once(platform: MockDataPlatform) -> None:
    with DataPlatform(platform.url, SECRET) as client:
        client.deliver(EVENT)
        client.deliver(EVENT)
    received = platform.received()
    assert (received["count"], received["repeated"]) == (1, 1)


def test_connections_are_kept_alive(platform: MockDataPlatform) -> None:
    accepted: list[Any] = []
    accept = platform.get_request
    platform.get_request = lambda: accepted.append(1) or accept()  # type: ignore[method-assign, func-returns-value]
    with DataPlatform(platform.url, SECRET) as client:
        for _ in range(20):
            client.deliver(EVENT)
    assert len(accepted) == 1


def test_nobody_there_is_a_failure() -> None:
    with (
        DataPlatform(f"http://127.0.0.1:{free_port()}/events", SECRET) as client,
        pytest.raises(DeliveryFailed, match="ConnectError"),
    ):
        client.deliver(EVENT)


def test_a_platform_that_hangs_is_given_up_in_time(platform: MockDataPlatform) -> None:
    platform.behave(Mode.HANG)
    started = time.monotonic()
    with DataPlatform(platform.url, SECRET, answer_seconds=SHORT) as client, pytest.raises(DeliveryFailed):
        client.deliver(EVENT)
    assert SHORT <= time.monotonic() - started < SHORT + 2


def test_every_kind_of_garbage_is_a_failure_within_the_time(platform: MockDataPlatform) -> None:
    """No HTTP, a redirect, an endless error, and a header a tenth of a second: only a total deadline ends the last."""
    platform.behave(Mode.GARBAGE)
    reasons = set()
    with DataPlatform(platform.url, SECRET, answer_seconds=SHORT) as client:
        for _ in range(4):
            started = time.monotonic()
            with pytest.raises(DeliveryFailed) as failure:
                client.deliver(EVENT)
            assert time.monotonic() - started < SHORT + 2
            reasons.add(str(failure.value).partition(":")[0])
    assert reasons == {"RemoteProtocolError", "HTTP 307", "HTTP 500", "ReadTimeout"}
    assert platform.requests == 4  # the redirect was not followed
    assert platform.received()["count"] == 0


def test_without_the_deadline_a_trickle_would_go_on(
    platform: MockDataPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_platform._Deadline, "left", lambda _self, timeout, _expired: timeout)
    platform.behave(Mode.GARBAGE)
    platform.requests = 2  # the third answer is the trickle
    ended = threading.Event()

    def deliver() -> None:
        with DataPlatform(platform.url, SECRET, answer_seconds=SHORT) as client, pytest.raises(DeliveryFailed):
            client.deliver(EVENT)
        ended.set()

    thread = threading.Thread(target=deliver)
    thread.start()
    assert not ended.wait(4 * SHORT)
    platform.behave(Mode.OK)
    thread.join()


# -- deliveries as follow-ups


def test_orders_and_cancellations_are_delivered_with_items_and_amounts(
    connected: Engine, platform: MockDataPlatform
) -> None:
    product = add_product(connected, "감귤")
    order = add_order(
        connected, {product: 3}, (FollowupKind.DATA_PLATFORM, FollowupKind.CANCEL_DATA_PLATFORM), cancelled=True
    )
    report = work_off(connected)
    assert report.done == {FollowupKind.DATA_PLATFORM: 1, FollowupKind.CANCEL_DATA_PLATFORM: 1}
    assert set(statuses(connected).values()) == {"DONE"}
    common = {
        "orderId": order,
        "userId": 7,
        "orderItems": [{"productId": product, "name": "감귤", "unitPrice": 1000, "quantity": 3}],
        "totalAmount": 3000,
        "discountAmount": 100,
        "paidAmount": 2900,
        "userCouponId": None,
    }
    assert platform.received()["last"] == [
        {
            "eventId": f"order-{order}-completed",
            "event": "ORDER_COMPLETED",
            "occurredAt": "2030-05-01T12:34:56.789000Z",
            **common,
        },
        {
            "eventId": f"order-{order}-cancelled",
            "event": "ORDER_CANCELLED",
            "occurredAt": "2030-05-03T01:02:03.000000Z",
            **common,
        },
    ]


def test_without_an_address_deliveries_wait_and_cost_no_attempt(engine: Engine) -> None:
    add_order(engine, {add_product(engine): 1}, DELIVERY)
    assert engine.settings.data_platform_url == ""
    assert work_off(engine).done == {}
    assert not followups.any_due(engine)
    assert attempts(engine) == [("PENDING", 0, None)]


def test_deliveries_that_waited_for_an_address_go_out_when_there_is_one(
    engine: Engine, connected: Engine, platform: MockDataPlatform
) -> None:
    add_order(engine, {add_product(engine): 1}, DELIVERY)
    work_off(engine)
    assert followups.any_due(connected)
    work_off(connected)
    assert platform.received()["count"] == 1


def test_hundreds_are_delivered_each_once(connected: Engine, platform: MockDataPlatform) -> None:
    product = add_product(connected)
    for _ in range(300):
        add_order(connected, {product: 1}, DELIVERY)
    assert work_off(connected).done == {FollowupKind.DATA_PLATFORM: 300}
    received = platform.received()
    assert (received["count"], received["repeated"]) == (300, 0)


def test_a_failing_platform_is_tried_again_later_and_parked_in_the_end(
    connected: Engine, platform: MockDataPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    order = add_order(connected, {add_product(connected): 1}, DELIVERY)
    platform.behave(Mode.FAIL)
    for attempt in range(1, MOST_ATTEMPTS):
        assert work_off(connected).failed == 1
        assert attempts(connected) == [("PENDING", attempt, "HTTP 500")]
        assert "ALARM" not in caplog.text
        make_due(connected)
    report = work_off(connected)
    assert (report.failed, report.parked) == (1, 1)
    assert attempts(connected) == [("PARKED", MOST_ATTEMPTS, "HTTP 500")]
    assert f"ALARM: DATA_PLATFORM of order {order} is parked: HTTP 500" in caplog.text
    make_due(connected)
    platform.behave(Mode.OK)
    assert work_off(connected).done == {}  # nobody but a person takes it from there
    assert rows(connected, "SELECT status FROM orders") == [("COMPLETED",)]


def test_a_failed_delivery_is_set_aside_for_a_while(
    connected: Engine, platform: MockDataPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followups, "retry_delay_seconds", lambda _attempts: 100.0)
    add_order(connected, {add_product(connected): 1}, DELIVERY)
    platform.behave(Mode.FAIL)
    work_off(connected)
    [(seconds,)] = rows(connected, "SELECT extract(epoch FROM due_at - now()) FROM order_followups")
    assert 90 < seconds <= 100
    assert not followups.any_due(connected)
    assert work_off(connected).failed == 0


def test_requeueing_gives_parked_deliveries_all_their_attempts_again(
    connected: Engine, platform: MockDataPlatform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    product = add_product(connected)
    for _ in range(2):
        add_order(connected, {product: 1}, DELIVERY)
    add_order(connected, {product: 1}, (FollowupKind.HISTORY,))
    execute(
        connected,
        """
        UPDATE order_followups SET status = 'PARKED', attempts = 12, last_error = 'HTTP 500'
        WHERE kind = 'DATA_PLATFORM'
        """,
    )
    settings = connected.settings
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("LANES", str(settings.lanes))
    assert requeue_followups.main() == 0
    assert capsys.readouterr().out == "2 parked follow-ups will be tried again\n"
    assert connected.bell.followups_waiting() == 1
    assert attempts(connected) == [("PENDING", 0, "HTTP 500")] * 2 + [("PENDING", 0, None)]
    work_off(connected)
    assert platform.received()["count"] == 2
    assert attempts(connected)[:2] == [("DONE", 1, None)] * 2
    assert requeue_followups.main() == 0
    assert capsys.readouterr().out == "0 parked follow-ups will be tried again\n"


def test_a_flaky_platform_gets_everything_once_in_the_end(connected: Engine, platform: MockDataPlatform) -> None:
    product = add_product(connected)
    for _ in range(40):
        add_order(connected, {product: 1}, DELIVERY)
    platform.behave(Mode.FLAKY)

    def all_done() -> bool:
        make_due(connected)
        work_off(connected)
        return set(statuses(connected).values()) == {"DONE"}

    wait_until(all_done, "everything is delivered")
    received = platform.received()
    assert (received["count"], received["repeated"]) == (40, 0)
    assert platform.requests > 40


@pytest.mark.parametrize("mode", [Mode.HANG, Mode.GARBAGE, Mode.FAIL])
def test_a_bad_platform_holds_nothing_else_up(
    connected: Engine, platform: MockDataPlatform, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_platform, "ANSWER_SECONDS", SHORT)
    monkeypatch.setattr(DataPlatform.__init__, "__kwdefaults__", {"answer_seconds": SHORT})
    product = add_product(connected)
    for _ in range(100):
        add_order(connected, {product: 1}, (*DELIVERY, FollowupKind.HISTORY, FollowupKind.STATISTICS))
    platform.behave(mode)
    started = time.monotonic()
    report = work_off(connected)
    assert time.monotonic() - started < 10
    assert report.done == {FollowupKind.HISTORY: 100, FollowupKind.STATISTICS: 100}
    assert report.failed == FIRST_DELIVERIES  # it was not asked a hundred times what eight had shown
    untouched = rows(connected, "SELECT count(*) FROM order_followups WHERE attempts = 0 AND status = 'PENDING'")
    assert untouched == [(100 - FIRST_DELIVERIES,)]


def test_what_a_batch_has_no_time_for_goes_back_untried(
    connected: Engine, platform: MockDataPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followups, "DELIVERY_SECONDS", 0.0)
    add_order(connected, {add_product(connected): 1}, DELIVERY)
    report = work_off(connected)
    assert (report.done, report.failed, platform.requests) == ({}, 0, 0)
    assert attempts(connected) == [("PENDING", 0, None)]
    assert followups.any_due(connected)


def test_a_worker_killed_after_sending_sends_again_and_the_platform_has_it_once(
    connected: Engine, platform: MockDataPlatform
) -> None:
    add_order(connected, {add_product(connected): 1}, DELIVERY)
    settings = connected.settings
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os; from engine.config import Settings; from engine.context import Engine\n"
            "from engine import followups; from engine.ledger import followups as ledger_followups\n"
            "ledger_followups.finish = lambda *_: os.kill(os.getpid(), 9)\n"
            "followups.work_off(Engine.connect(Settings.from_environment()))\n",
        ],
        cwd=PROJECT_ROOT,
        env={
            **os.environ,
            "REDIS_URL": settings.redis_url,
            "DATABASE_URL": settings.database_url,
            "LANES": str(settings.lanes),
            "DATA_PLATFORM_URL": platform.url,
            "DATA_PLATFORM_SECRET": SECRET,
        },
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert platform.received()["count"] == 1
    assert attempts(connected) == [("PENDING", 1, None)]
    assert not followups.any_due(connected)  # the lease still holds
    make_due(connected)
    assert work_off(connected).done == {FollowupKind.DATA_PLATFORM: 1}
    received = platform.received()
    assert (received["count"], received["repeated"]) == (1, 1)


def test_a_delivery_that_never_comes_to_an_end_is_parked(connected: Engine, platform: MockDataPlatform) -> None:
    add_order(connected, {add_product(connected): 1}, DELIVERY)
    execute(connected, "UPDATE order_followups SET attempts = :most", most=MOST_ATTEMPTS)
    assert work_off(connected).parked == 1
    assert platform.requests == 0
    assert attempts(connected) == [("PARKED", MOST_ATTEMPTS + 1, "no attempt ever came to an end")]


# -- settings


STORES = {"REDIS_URL": "redis://127.0.0.1:1", "DATABASE_URL": "postgresql://127.0.0.1:1/none"}


@pytest.mark.parametrize("url", ["ftp://platform/in", "platform.example", "http://", "http://[", "https:///in"])
def test_an_address_that_cannot_be_posted_to_is_named(url: str) -> None:
    with pytest.raises(InvalidSettings) as problem:
        Settings.from_environment({**STORES, "DATA_PLATFORM_URL": url, "DATA_PLATFORM_SECRET": SECRET})
    assert len(problem.value.problems) == 1
    assert problem.value.problems[0].startswith("DATA_PLATFORM_URL: must be empty or http://… or https://…")


def test_an_address_needs_a_secret_and_the_secret_is_not_shown() -> None:
    given = {**STORES, "DATA_PLATFORM_URL": "https://platform.example/in"}
    with pytest.raises(InvalidSettings, match="DATA_PLATFORM_SECRET is not set"):
        Settings.from_environment(given)
    settings = Settings.from_environment({**given, "DATA_PLATFORM_SECRET": SECRET})
    assert settings.data_platform_secret == SECRET
    assert SECRET not in repr(settings)
    assert Settings.from_environment(STORES).data_platform_url == ""


# -- the stand-in as a process


def test_the_stand_in_can_be_told_how_to_behave_and_shows_what_it_received() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.mock_data_platform"],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PLATFORM_PORT": str(port), "DATA_PLATFORM_SECRET": SECRET},
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(path: str, body: dict[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data) as response:
            return json.load(response)

    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"listens on http://127.0.0.1:{port}/events\n"
        with DataPlatform(f"http://127.0.0.1:{port}/events", SECRET) as client:
            client.deliver(EVENT)
            assert ask("/behaviour", {"mode": "fail"}) == {"mode": "fail"}
            with pytest.raises(DeliveryFailed, match="HTTP 500"):
                client.deliver(EVENT)
        shown = ask("/events")
        assert (shown["count"], shown["mode"], shown["last"][0]["eventId"]) == (1, "fail", "order-7-completed")
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask("/behaviour", {"mode": "nice"})
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
