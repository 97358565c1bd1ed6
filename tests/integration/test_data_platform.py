"""One delivery to the data platform: what is sent, how it is signed, answers of every kind; and the stand-in."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from typing import Any

import pytest

from engine.config import Settings
from engine.errors import InvalidSettings
from engine.flow import data_platform
from engine.flow.data_platform import DataPlatform, DeliveryFailed, is_signed, signature
from engine.ledger.order_events import OrderEvent, OrderEventName
from ops.mock_data_platform import MockDataPlatform, Mode
from ops.processes import PROJECT_ROOT, free_port
from tests.integration.placed_orders import (
    SECRET,
)

EVENT = OrderEvent(7, OrderEventName.ORDER_COMPLETED, {"event": "ORDER_COMPLETED", "orderId": 7})
SHORT = 0.5
"""Seconds that an exchange may take in tests of what happens when they are over."""


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
