"""The turnstile: who waits goes together, in order, bounded; errors reach those they belong to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from engine.errors import BrokenContract, EngineError, GateUnavailable
from engine.flow.turnstile import Passed, Turnstile

PATIENCE_SECONDS = 10


class Way:
    """What is behind the turnstile: one call at a time, each of which waits until the test lets it go on."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.error: Exception | None = None
        self.afterwards: list[str] = []

    def __call__(self, asks: Sequence[int]) -> Passed[int]:
        self.calls.append(list(asks))
        self.entered.release()
        assert self.go_on.acquire(timeout=PATIENCE_SECONDS)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return Passed([10 * ask for ask in asks], lambda: self.afterwards.append("rung"))


@pytest.fixture
def way() -> Way:
    return Way()


@pytest.fixture
def turnstile(way: Way) -> Iterator[Turnstile[int, int]]:
    turnstile = Turnstile(way, at_once=4, places=6)
    yield turnstile
    for _ in range(20):
        way.go_on.release()
    turnstile.close()


class Told:
    """Who asked and what they were told."""

    def __init__(self) -> None:
        self.outcomes: dict[int, int | EngineError] = {}
        self._changed = threading.Condition()

    def by(self, ask: int) -> object:
        def told(outcome: int | EngineError) -> None:
            with self._changed:
                self.outcomes[ask] = outcome
                self._changed.notify_all()

        return told

    def wait_for(self, count: int) -> dict[int, int | EngineError]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.outcomes) >= count, PATIENCE_SECONDS)
        return self.outcomes


def put(turnstile: Turnstile[int, int], told: Told, *asks: int) -> None:
    for ask in asks:
        turnstile.put(ask, told.by(ask))  # type: ignore[arg-type]


def test_who_comes_while_a_call_is_on_its_way_goes_with_the_next_in_order_and_bounded(
    turnstile: Turnstile[int, int], way: Way
) -> None:
    told = Told()
    put(turnstile, told, 1)
    assert way.entered.acquire(timeout=PATIENCE_SECONDS)
    put(turnstile, told, 2, 3, 4, 5, 6, 7)
    for _ in range(3):
        way.go_on.release()
    assert told.wait_for(7) == {ask: 10 * ask for ask in range(1, 8)}
    assert way.calls == [[1], [2, 3, 4, 5], [6, 7]]


def test_when_all_places_are_taken_the_next_is_sent_away_at_once(turnstile: Turnstile[int, int], way: Way) -> None:
    told = Told()
    put(turnstile, told, 1)
    assert way.entered.acquire(timeout=PATIENCE_SECONDS)
    put(turnstile, told, 2, 3, 4, 5, 6, 7)
    with pytest.raises(GateUnavailable):
        put(turnstile, told, 8)
    for _ in range(3):
        way.go_on.release()
    assert 8 not in told.wait_for(7)


def test_a_store_that_is_away_fails_those_on_their_way_and_those_behind_them_and_nobody_after(
    turnstile: Turnstile[int, int], way: Way
) -> None:
    told, away = Told(), GateUnavailable("time-out")
    put(turnstile, told, 1)
    assert way.entered.acquire(timeout=PATIENCE_SECONDS)
    put(turnstile, told, 2, 3, 4, 5, 6)
    way.error = away
    way.go_on.release()
    assert set(told.wait_for(6).values()) == {away}
    assert way.calls == [[1]]
    way.go_on.release()
    put(turnstile, told, 7)
    assert told.wait_for(7)[7] == 70


def test_a_fault_reaches_its_own_call_and_does_not_end_the_thread(
    turnstile: Turnstile[int, int], way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    put(turnstile, told, 1)
    assert way.entered.acquire(timeout=PATIENCE_SECONDS)
    put(turnstile, told, 2)
    way.error = ZeroDivisionError("oh")
    way.go_on.release()
    way.go_on.release()
    outcomes = told.wait_for(2)
    assert isinstance(outcomes[1], BrokenContract)
    assert outcomes[2] == 20
    assert "ZeroDivisionError" in caplog.text


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def impatient(way: Way, clock: Clock) -> Iterator[Turnstile[int, int]]:
    turnstile = Turnstile(way, at_once=4, places=6, patience_seconds=1.0, now=clock)
    yield turnstile
    for _ in range(20):
        way.go_on.release()
    turnstile.close()


def test_who_waited_for_too_long_is_told_so_and_never_passed_on(
    impatient: Turnstile[int, int], way: Way, clock: Clock
) -> None:
    told = Told()
    put(impatient, told, 1)
    assert way.entered.acquire(timeout=PATIENCE_SECONDS)
    put(impatient, told, 2, 3)
    clock.seconds = 0.5
    put(impatient, told, 4)
    clock.seconds = 1.1
    way.go_on.release()
    way.go_on.release()
    outcomes = told.wait_for(4)
    assert (outcomes[1], outcomes[4]) == (10, 40)
    assert isinstance(outcomes[2], GateUnavailable)
    assert isinstance(outcomes[3], GateUnavailable)
    assert way.calls == [[1], [4]]


def test_who_comes_when_the_first_in_line_has_waited_for_too_long_is_sent_away_at_once(
    impatient: Turnstile[int, int], way: Way, clock: Clock
) -> None:
    told = Told()
    put(impatient, told, 1)
    assert way.entered.acquire(timeout=PATIENCE_SECONDS)
    put(impatient, told, 2)
    clock.seconds = 1.1
    with pytest.raises(GateUnavailable):
        put(impatient, told, 3)
    way.go_on.release()
    assert isinstance(told.wait_for(2)[2], GateUnavailable)
    way.go_on.release()
    put(impatient, told, 4)
    assert told.wait_for(3)[4] == 40
    assert way.calls == [[1], [4]]


def test_with_endless_patience_everybody_is_passed_on_however_late(way: Way, clock: Clock) -> None:
    """The negative control of the two above."""
    patient = Turnstile(way, at_once=4, places=6, patience_seconds=float("inf"), now=clock)
    told = Told()
    put(patient, told, 1)
    assert way.entered.acquire(timeout=PATIENCE_SECONDS)
    put(patient, told, 2)
    clock.seconds = 1000.0
    put(patient, told, 3)
    for _ in range(2):
        way.go_on.release()
    assert told.wait_for(3) == {1: 10, 2: 20, 3: 30}
    patient.close()


def test_what_comes_afterwards_comes_after_everybody_was_told(way: Way) -> None:
    seen: list[object] = []
    turnstile = Turnstile(way, at_once=4, places=6, deliver=lambda pairs: seen.append([*way.afterwards, len(pairs)]))
    way.go_on.release()
    put(turnstile, Told(), 1)
    turnstile.close()
    assert (seen, way.afterwards) == ([[1]], ["rung"])


def test_who_waits_at_the_end_is_still_passed_on_and_nobody_more() -> None:
    turnstile: Turnstile[int, int] = Turnstile(lambda asks: Passed(list(asks)), at_once=2, places=100)
    told = Told()
    put(turnstile, told, *range(50))
    turnstile.close()
    assert told.outcomes == {ask: ask for ask in range(50)}
    with pytest.raises(GateUnavailable):
        put(turnstile, told, 51)


def test_many_threads_all_get_their_own_answers_in_few_calls() -> None:
    calls: list[int] = []

    def pass_on(asks: Sequence[int]) -> Passed[int]:
        calls.append(len(asks))
        return Passed([-ask for ask in asks])

    turnstile = Turnstile(pass_on, at_once=8, places=100, patience_seconds=PATIENCE_SECONDS)

    def ask(number: int) -> int | EngineError:
        place: Future[int | EngineError] = Future()
        turnstile.put(number, place.set_result)
        return place.result(PATIENCE_SECONDS)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(5000)))
    assert answers == [-ask for ask in range(5000)]
    assert max(calls) <= 8
    assert sum(calls) == 5000
    turnstile.close()
