"""What the door counts: every answer once, by route, way and status; faults are ours, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from engine.telemetry import metrics
from web.app import create_app
from web.door import Door
from web.exchange import Answered, Asked
from web.short_way import ShortWay
from web.wsgi_bridge import TooManyWaiting, WsgiBridge

PATH = "/api/v1/coupons/7/issue"
ANSWERED = Answered(202, [], b"{}")


def counted(way: str, status: int) -> float:
    labels = {"route": "issue", "way": way, "status": str(status)}
    return metrics.REGISTRY.get_sample_value("seonchak_http_request_seconds_count", labels) or 0.0


def faults() -> float:
    return metrics.REGISTRY.get_sample_value("seonchak_http_faults_total") or 0.0


async def answering() -> Answered:
    return ANSWERED


async def failing() -> Answered:
    raise ZeroDivisionError


async def never() -> Answered:
    await asyncio.Event().wait()
    raise AssertionError


async def exchange(door: Door) -> int:
    """The status of the door's answer to one POST."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": [], "http_version": "1.1"}
    await door(scope, receive, send)
    return int(sent[0]["status"])


def at_the_door(what: Callable[[Door], Coroutine[Any, Any, None]]) -> None:
    """Do it at a door, and hand over what that one has counted."""

    async def run() -> None:
        door = Door(create_app(SimpleNamespace(gate=None)))  # type: ignore[arg-type]
        try:
            await what(door)
        finally:
            door._times.hand_over()
            door.close()

    asyncio.run(run())


async def ask(door: Door) -> None:
    await exchange(door)


@pytest.fixture
def answered_by(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put these in place of the short way's and of Flask's answers; without one of the short way's, it is Flask's."""
    monkeypatch.setattr(ShortWay, "__init__", lambda _self, _serving, _admission: None)
    monkeypatch.setattr(ShortWay, "close", lambda _self: None)

    def put(short: Callable[[], Awaitable[Answered]] | None, views: Callable[[], Awaitable[Answered]] = never) -> None:
        def recognise(_self: ShortWay, _asked: Asked) -> Awaitable[Answered] | None:
            return None if short is None else short()

        monkeypatch.setattr(ShortWay, "recognise", recognise)
        monkeypatch.setattr(WsgiBridge, "answer", lambda _self, _scope, _body: views())

    return put


@pytest.mark.parametrize("way", ["short", "views"])
def test_an_answer_is_counted_by_the_way_it_came(answered_by: Callable[..., None], way: str) -> None:
    answered_by(answering if way == "short" else None, answering)
    before, faults_before = counted(way, 202), faults()
    at_the_door(ask)
    assert (counted(way, 202), faults()) == (before + 1, faults_before)


@pytest.mark.parametrize("way", ["short", "views"])
def test_what_fails_is_a_fault(answered_by: Callable[..., None], way: str) -> None:
    answered_by(failing if way == "short" else None, failing)
    before, faults_before = counted(way, 500), faults()
    at_the_door(ask)
    assert (counted(way, 500), faults()) == (before + 1, faults_before + 1)


def test_who_finds_all_places_taken_is_told_to_come_again_and_that_is_no_fault(
    answered_by: Callable[..., None],
) -> None:
    async def full() -> Answered:
        raise TooManyWaiting

    answered_by(None, full)
    before, faults_before = counted("views", 503), faults()
    at_the_door(ask)
    assert (counted("views", 503), faults()) == (before + 1, faults_before)


@pytest.mark.parametrize("way", ["short", "views"])
def test_who_goes_away_before_the_answer_is_nobodys_fault(answered_by: Callable[..., None], way: str) -> None:
    async def go_away(door: Door) -> None:
        asking = asyncio.create_task(exchange(door))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    answered_by(never if way == "short" else None, never)
    before, faults_before = counted(way, 500), faults()
    at_the_door(go_away)
    assert (counted(way, 500), faults()) == (before, faults_before)
