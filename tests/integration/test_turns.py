"""``lua/take_turn.lua`` on a real server: so many calls at once, as many again in a minute, and never one more."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from engine.gate import keys
from engine.gate.gate import Gate
from engine.gate.turns import PERIOD_SECONDS, take_turn

LIMIT = 5
PACE_MS = PERIOD_SECONDS * 1000 // LIMIT
USER, ADDRESS = "user:7", "address:192.0.2.1"


@pytest.fixture(params=[1, 16], ids=["one lane", "sixteen lanes"])
def gate(redis_url: str, request: pytest.FixtureRequest) -> Iterator[Gate]:
    gate = Gate.connect(redis_url, lanes=request.param, backlog_limit=1, timeout_seconds=5)
    assert isinstance(gate.client, Redis)
    gate.client.flushdb()
    yield gate
    gate.close()


def key_of(gate: Gate, who: str) -> str:
    [key] = gate.client.scan_iter(keys.turns(0, who).replace("{0}", "*"))
    return str(key)


def let_pass(gate: Gate, who: str, milliseconds: int) -> None:
    """Put the moment back, as if so much time had passed."""
    key = key_of(gate, who)
    gate.client.set(key, int(gate.client.get(key)) - milliseconds * 1000, keepttl=True)


def turns(gate: Gate, calls: int) -> list[bool]:
    return [take_turn(gate, {USER: LIMIT}) == 0 for _ in range(calls)]


def test_so_many_get_a_turn_at_once_and_the_next_is_told_how_long_to_wait(gate: Gate) -> None:
    assert turns(gate, LIMIT) == [True] * LIMIT
    wait = take_turn(gate, {USER: LIMIT})
    assert PACE_MS / 2 < wait <= PACE_MS


def test_who_waits_as_told_gets_exactly_one_turn(gate: Gate) -> None:
    turns(gate, LIMIT)
    let_pass(gate, USER, take_turn(gate, {USER: LIMIT}))
    assert turns(gate, 2) == [True, False]


def test_after_the_period_all_are_back_and_no_more(gate: Gate) -> None:
    turns(gate, LIMIT)
    let_pass(gate, USER, PERIOD_SECONDS * 1000)
    assert turns(gate, LIMIT + 1) == [True] * LIMIT + [False]
    let_pass(gate, USER, 100 * PERIOD_SECONDS * 1000)  # who was away for long has not saved anything
    assert turns(gate, LIMIT + 1) == [True] * LIMIT + [False]


def test_of_many_who_ask_at_once_exactly_so_many_get_a_turn(gate: Gate) -> None:
    with ThreadPoolExecutor(8) as crowd:
        granted = list(crowd.map(lambda _: take_turn(gate, {USER: LIMIT}) == 0, range(60)))
    assert granted.count(True) == LIMIT


def test_everybody_has_turns_of_their_own(gate: Gate) -> None:
    turns(gate, LIMIT)
    assert take_turn(gate, {"user:8": LIMIT}) == 0
    assert take_turn(gate, {USER: LIMIT}) > 0


def test_refused_calls_are_not_counted(gate: Gate) -> None:
    turns(gate, LIMIT)
    before = gate.client.get(key_of(gate, USER))
    for _ in range(10):
        assert take_turn(gate, {USER: LIMIT}) > 0
    assert gate.client.get(key_of(gate, USER)) == before


def test_a_call_has_to_be_within_every_limit_and_one_that_is_not_counts_against_none(redis_url: str) -> None:
    gate = Gate.connect(redis_url, lanes=1, backlog_limit=1, timeout_seconds=5)
    gate.client.flushdb()
    both = {USER: LIMIT, ADDRESS: 2}
    assert [take_turn(gate, both) == 0 for _ in range(3)] == [True, True, False]
    assert [take_turn(gate, {USER: LIMIT}) == 0 for _ in range(4)] == [True, True, True, False]
    assert take_turn(gate, {ADDRESS: 2}) > PACE_MS  # the slower of the two says how long
    gate.close()


def test_what_is_kept_goes_away_by_itself(gate: Gate) -> None:
    take_turn(gate, {USER: LIMIT})
    assert 0 < gate.client.pttl(key_of(gate, USER)) <= PACE_MS
    turns(gate, LIMIT + 3)
    assert PACE_MS < gate.client.pttl(key_of(gate, USER)) <= PERIOD_SECONDS * 1000
    assert gate.client.dbsize() == 1


def test_a_clock_that_was_set_back_locks_nobody_out(gate: Gate) -> None:
    take_turn(gate, {USER: LIMIT})
    let_pass(gate, USER, -24 * 3600 * 1000)
    assert 0 < take_turn(gate, {USER: LIMIT}) <= PACE_MS
