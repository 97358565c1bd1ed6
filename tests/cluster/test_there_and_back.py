"""There and back: a failover to a lagging replica, and back to the first server before the guard has looked.

The first server is then the process that the guard approved, with the other one's older data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.outcomes import Issued, Refusal, Refused, RequestStatus
from engine.shop import issuance
from engine.upkeep.guard import Verdict, watch_lanes
from tests.cluster.members import PASSWORD, Member, data_servers
from tests.conftest import EngineMaker
from tests.integration.offers import assert_recorded_once, offer, state, win_all
from tests.integration.shop import drain_all

WINNERS = range(1, 51)


@dataclass(frozen=True)
class Pair:
    """``first`` is where the clients are connected; ``second`` follows it."""

    first: Member
    second: Member

    def there(self) -> None:
        """``second`` takes over with what it has; ``first`` follows it and takes that over."""
        self.second.run("REPLICAOF", "NO", "ONE")
        self.second.catch_up()
        self.first.run("REPLICAOF", "127.0.0.1", self.second.port)
        self.first.await_link()

    def back(self) -> None:
        """``first`` takes over again."""
        self.first.run("REPLICAOF", "NO", "ONE")
        self.second.run("REPLICAOF", "127.0.0.1", self.first.port)
        self.second.await_link()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with data_servers(tmp_path, ("first", "second")) as (first, second):
        second.run("REPLICAOF", "127.0.0.1", first.port)
        second.await_link()
        yield Pair(first, second)


@pytest.fixture
def engine(pair: Pair, make_engine: EngineMaker, redis_url: str) -> Engine:
    url = f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{pair.first.port}/0"
    engine = make_engine(redis_url=url, queue_redis_url=redis_url)
    watch_lanes(engine)
    return engine


def ask(engine: Engine, coupon: int, user: int) -> Issued | Refused:
    return issuance.issue_coupon(engine, coupon_id=coupon, user_id=user, idempotency_key=None)


def assert_closed(engine: Engine, coupon: int) -> None:
    """Nobody gets an answer, neither who has won nor who comes new."""
    answers = []
    for user in (*WINNERS, len(WINNERS) + 1):
        with suppress(GateUnavailable):
            answers.append(ask(engine, coupon, user))
    again = sum(isinstance(answer, Issued) for answer in answers)
    assert not answers, f"{len(answers)} were answered, {again} of them won, a second time if they had won before"


def test_recorded_winners_do_not_win_again_after_a_failover_there_and_back(engine: Engine, pair: Pair) -> None:
    coupon = offer(engine, total=100)
    pair.second.await_all_of(pair.first)
    pair.second.fall_behind()
    wins = win_all(engine, coupon, WINNERS)
    drain_all(engine)
    pair.there()
    pair.back()
    assert_closed(engine, coupon)
    assert watch_lanes(engine) == {0: Verdict.REBUILD}
    assert {ask(engine, coupon, user) for user in WINNERS} == {Refused(Refusal.COUPON_ALREADY_ISSUED)}
    wins += win_all(engine, coupon, range(51, 101))
    assert [win.sequence for win in wins] == list(range(1, 101))
    assert ask(engine, coupon, 101) == Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"})
    drain_all(engine)
    assert_recorded_once(engine, coupon, wins)


def test_winners_that_only_the_first_server_knew_end_failed_and_nobody_is_taken_back_later(
    engine: Engine, pair: Pair
) -> None:
    coupon = offer(engine, total=60)
    kept = win_all(engine, coupon, range(1, 11))
    drain_all(engine)
    pair.second.await_all_of(pair.first)
    pair.second.fall_behind()
    lost = win_all(engine, coupon, range(11, 51))
    pair.there()
    pair.back()
    assert_closed(engine, coupon)
    assert watch_lanes(engine) == {0: Verdict.APPROVE}
    assert {state(engine, win.request_id).status for win in lost} == {RequestStatus.FAILED}
    kept += win_all(engine, coupon, range(11, 61))
    drain_all(engine)
    assert {state(engine, win.request_id).status for win in lost} == {RequestStatus.FAILED}
    assert_recorded_once(engine, coupon, kept)


def test_a_failover_that_lost_nothing_there_and_back_is_approved_and_keeps_what_waits(
    engine: Engine, pair: Pair
) -> None:
    coupon = offer(engine, total=60)
    wins = win_all(engine, coupon, WINNERS)
    pair.second.await_all_of(pair.first)
    pair.there()
    pair.back()
    assert_closed(engine, coupon)
    assert watch_lanes(engine) == {0: Verdict.APPROVE}
    wins += win_all(engine, coupon, range(51, 61))
    drain_all(engine)
    assert_recorded_once(engine, coupon, wins)
