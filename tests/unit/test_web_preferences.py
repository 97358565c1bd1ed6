"""``Prefer: wait=N``: what is understood, and how many may wait."""

from __future__ import annotations

import pytest

from web.preferences import WAITING_PLACES, WaitingRoom, wanted_wait_seconds
from web.wsgi_bridge import THREADS


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=5", 5),
        ("WAIT = 5", 5),
        ('wait="5"', 5),
        ("wait=005", 5),
        ("wait=10", 10),
        ("wait=11", 10),
        ("wait=" + "9" * 900, 10),
        ("respond-async, wait=3", 3),
        ("wait=3; foo=bar, return=minimal", 3),
        ('foo="a, wait=9", wait=2', 2),
        ("wait=2, wait=9", 2),
    ],
)
def test_a_wait_is_read_and_capped(header: str, seconds: int) -> None:
    assert wanted_wait_seconds(header) == seconds


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "wait",
        "wait=",
        "wait=-1",
        "wait=1.5",
        "wait=+5",
        "wait=٣",
        "wait=²",
        "wait=abc",
        "wait=0",
        "waits=5",
        "respond-async",
        ";;,,==",
        'wait="5',
        "wait=5" + " " * 2000,
    ],
)
def test_a_malformed_or_unknown_preference_is_ignored(header: str | None) -> None:
    assert wanted_wait_seconds(header) == 0


def test_who_finds_no_free_place_does_not_wait_and_a_place_is_free_again_afterwards() -> None:
    room = WaitingRoom(places=2)
    with room.granted("wait=5") as first, room.granted("wait=5") as second, room.granted("wait=5") as third:
        assert (first, second, third) == (5, 5, 0)
    with room.granted("wait=5") as again, room.granted("wait=5") as once_more:
        assert (again, once_more) == (5, 5)


def test_a_place_is_given_back_when_the_wait_fails() -> None:
    room = WaitingRoom(places=1)
    with pytest.raises(RuntimeError, match="store"), room.granted("wait=5"):
        raise RuntimeError("the store went away")
    with room.granted("wait=5") as seconds:
        assert seconds == 5


def test_who_does_not_ask_to_wait_takes_no_place() -> None:
    room = WaitingRoom(places=1)
    with room.granted(None) as none, room.granted("wait=5") as some:
        assert (none, some) == (0, 5)


def test_those_who_wait_leave_half_of_the_threads_to_submissions() -> None:
    assert THREADS >= 2 * WAITING_PLACES
