"""Single flight: one works, all get the result."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.errors import LedgerUnavailable
from engine.single_flight import SingleFlight
from tests.integration.stack_driver import wait_until


class Work:
    """Work that ends when the test says so, and counts how often it was begun."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = 0
        self.started = threading.Event()
        self.may_end = threading.Event()
        self._error = error

    def __call__(self) -> int:
        self.begun += 1
        self.started.set()
        assert self.may_end.wait(10)
        if self._error is not None:
            raise self._error
        return self.begun


class CountedKey:
    """A key that tells how often it was looked up."""

    def __init__(self) -> None:
        self.looked_up = 0

    def __hash__(self) -> int:
        self.looked_up += 1
        return 1


def test_who_comes_while_somebody_works_gets_the_same_result() -> None:
    flights: SingleFlight[int] = SingleFlight()
    work, key = Work(), CountedKey()
    with ThreadPoolExecutor(9) as pool:
        leader = pool.submit(flights.do, key, work)
        assert work.started.wait(10)
        before = key.looked_up
        followers = [pool.submit(flights.do, key, work) for _ in range(8)]
        wait_until(lambda: key.looked_up == before + 8, "every follower has looked whether somebody works")
        work.may_end.set()
        assert leader.result() == 1
        assert [follower.result() for follower in followers] == [1] * 8
    assert work.begun == 1


def test_who_comes_after_the_end_starts_anew() -> None:
    flights: SingleFlight[int] = SingleFlight()
    work = Work()
    work.may_end.set()
    assert [flights.do("key", work), flights.do("key", work)] == [1, 2]


def test_other_keys_are_other_work() -> None:
    flights: SingleFlight[int] = SingleFlight()
    slow, fast = Work(), Work()
    fast.may_end.set()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(flights.do, "slow", slow)
        assert slow.started.wait(10)
        assert flights.do("fast", fast) == 1
        slow.may_end.set()
        assert first.result() == 1


def test_an_error_is_shared_and_not_remembered() -> None:
    flights: SingleFlight[int] = SingleFlight()
    failing, working = Work(LedgerUnavailable("away")), Work()
    failing.may_end.set()
    working.may_end.set()
    with pytest.raises(LedgerUnavailable):
        flights.do("key", failing)
    assert flights.do("key", working) == 1
