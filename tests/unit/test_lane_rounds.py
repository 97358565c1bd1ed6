"""Rounds over lanes: one that does not come back holds up none of the others."""

from __future__ import annotations

import threading

import pytest

from engine.errors import GateUnavailable
from engine.upkeep.lane_rounds import LaneRounds


def test_results_and_errors_come_by_lane() -> None:
    def work(lane: int) -> int:
        if lane == 1:
            raise GateUnavailable("away")
        return lane * 10

    results, errors = LaneRounds(work, range(3)).go()
    assert results == {0: 0, 2: 20}
    assert {lane: type(error) for lane, error in errors.items()} == {1: GateUnavailable}


def test_a_lane_that_hangs_is_left_out_until_it_comes_back() -> None:
    released, calls = threading.Event(), []

    def work(lane: int) -> int:
        calls.append(lane)
        if lane == 0:
            released.wait(30)
        return lane

    rounds = LaneRounds(work, range(3))
    assert rounds.go(0.5)[0] == {1: 1, 2: 2}
    assert rounds.away == (0,)
    assert rounds.go(0.5)[0] == {1: 1, 2: 2}
    assert calls.count(0) == 1
    released.set()
    assert rounds.go()[0] == {0: 0, 1: 1, 2: 2}
    assert rounds.away == ()


def test_what_is_no_error_of_the_engines_is_raised_after_the_others_came_back() -> None:
    done = []

    def work(lane: int) -> None:
        if lane == 0:
            raise ZeroDivisionError
        done.append(lane)

    with pytest.raises(ZeroDivisionError):
        LaneRounds(work, range(3)).go()
    assert sorted(done) == [1, 2]


def test_more_lanes_than_threads_are_all_visited() -> None:
    results, errors = LaneRounds(lambda lane: lane, range(100)).go()
    assert results == {lane: lane for lane in range(100)}
    assert errors == {}


def test_nothing_is_begun_after_the_end() -> None:
    rounds = LaneRounds(lambda lane: lane, range(2))
    rounds.close()
    with pytest.raises(RuntimeError):
        rounds.go()
