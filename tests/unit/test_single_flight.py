"""Single flight: one works, all get the result."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.caching.single_flight import SingleFlight
from engine.errors import LedgerUnavailable
from tests.stack.stack_driver import wait_until


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


def test_who_wants_it_fresh_waits_for_the_work_at_hand_and_then_shares_the_next() -> None:
    flights: SingleFlight[int] = SingleFlight()
    first, second, key = Work(), Work(), CountedKey()
    with ThreadPoolExecutor(9) as pool:
        leader = pool.submit(flights.do_afresh, key, first)
        assert first.started.wait(10)
        before = key.looked_up
        followers = [pool.submit(flights.do_afresh, key, lambda: second() + 10) for _ in range(8)]
        wait_until(lambda: key.looked_up == before + 8, "every follower has looked whether somebody works")
        assert second.begun == 0
        # The next lands only when everybody who waited for the first is aboard.
        aboard = key.looked_up
        first.may_end.set()
        assert leader.result() == 1
        wait_until(lambda: key.looked_up >= aboard + 1 + 8 + 1, "every follower has looked again")
        second.may_end.set()
        assert [follower.result() for follower in followers] == [11] * 8
    assert (first.begun, second.begun) == (1, 1)


def test_who_wants_it_fresh_shares_an_error_of_the_work_at_hand() -> None:
    flights: SingleFlight[int] = SingleFlight()
    failing, unwanted, key = Work(LedgerUnavailable("away")), Work(), CountedKey()
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(flights.do_afresh, key, failing)
        assert failing.started.wait(10)
        before = key.looked_up
        follower = pool.submit(flights.do_afresh, key, unwanted)
        wait_until(lambda: key.looked_up == before + 1, "the follower has looked whether somebody works")
        failing.may_end.set()
        for flight in (leader, follower):
            with pytest.raises(LedgerUnavailable):
                flight.result()
    assert unwanted.begun == 0


def test_whoever_has_heard_a_result_finds_only_work_begun_later() -> None:
    flights: SingleFlight[int] = SingleFlight()
    numbers = iter(range(10_000_000))
    late = []

    def ask(_turn: int) -> None:
        # The numbers count the pieces of work: one that was begun before we heard the last one is no greater.
        last = flights.do("key", lambda: next(numbers))
        late.append(flights.do("key", lambda: next(numbers)) <= last)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(2000)))
    assert not any(late)
