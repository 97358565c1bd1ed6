"""A Redis of the test's own that is taken away, stopped in its tracks, killed, filled up or brought back as it was."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.flow.requests import request_state
from engine.outcomes import Issued, Refusal, Refused, RequestStatus
from engine.shop import issuance
from engine.upkeep.guard import Verdict, watch_lanes
from ops.processes import free_port
from ops.stores import RunningStore
from ops.valkey import start_valkey
from tests.conftest import EngineMaker
from tests.integration.offers import assert_recorded_once, offer, state, waiting, win, win_all
from tests.integration.shop import drain_all

WITHIN_SECONDS = 1.0


class OwnRedis:
    """One server that can be killed and started again on the same data and port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.store: RunningStore = start_valkey(directory, self.port)

    def restart(self) -> None:
        self.store = start_valkey(self.directory, self.port)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    own = OwnRedis(tmp_path / "valkey")
    yield own
    own.store.stop()


@pytest.fixture
def engine(own_redis: OwnRedis, database_url: str, make_engine: EngineMaker) -> Engine:
    """A patient engine, as workers and the scheduler have it; its lane is open."""
    engine = make_engine(redis_url=own_redis.store.url, queue_redis_url=own_redis.store.url)
    watch_lanes(engine)
    return engine


@pytest.fixture
def hasty(engine: Engine) -> Iterator[Engine]:
    """An engine as the web has it, on the same stores."""
    hasty = Engine.connect(engine.settings)
    yield hasty
    hasty.close()


def ask(engine: Engine, coupon: int, user: int, key: str | None = None) -> Issued | Refused:
    return issuance.issue_coupon(engine, coupon_id=coupon, user_id=user, idempotency_key=key)


def assert_unavailable_soon(engine: Engine, coupon: int, user: int, key: str | None = None) -> None:
    started = time.monotonic()
    with pytest.raises(GateUnavailable):
        ask(engine, coupon, user, key)
    assert time.monotonic() - started < WITHIN_SECONDS


def on_disk(engine: Engine) -> None:
    """Return when everything decided so far is in the append-only file."""
    client: Any = engine.gate.client
    assert client.execute_command("WAITAOF", 1, 0, 10_000)[0] == 1


def test_without_redis_the_gate_is_unavailable_within_a_second(
    engine: Engine, hasty: Engine, own_redis: OwnRedis
) -> None:
    coupon = offer(engine)
    request_id = win(hasty, coupon, 1).request_id
    own_redis.store.kill()
    for user in (1, 2, 3):
        assert_unavailable_soon(hasty, coupon, user)
    started = time.monotonic()
    with pytest.raises(GateUnavailable):
        request_state(hasty, request_id)
    assert time.monotonic() - started < WITHIN_SECONDS


def test_while_redis_hangs_the_gate_is_unavailable_within_a_second_and_the_key_settles_the_outcome(
    engine: Engine, hasty: Engine, own_redis: OwnRedis
) -> None:
    coupon = offer(engine)
    win(hasty, coupon, 1)
    own_redis.store.pause()
    for _ in range(3):
        assert_unavailable_soon(hasty, coupon, 2, key="mine")
    own_redis.store.resume()
    # The server finds the questions when it wakes up and answers nobody: the outcome is unknown, the key makes it one.
    answers = {ask(engine, coupon, 2, key="mine") for _ in range(3)}
    assert len(answers) == 1
    (answer,) = answers
    assert isinstance(answer, Issued)
    assert answer.sequence == 2
    assert ask(engine, coupon, 3) != answer
    assert waiting(engine) == 3


def test_a_killed_redis_that_comes_back_on_its_file_goes_on_where_it_was(engine: Engine, own_redis: OwnRedis) -> None:
    coupon = offer(engine, total=20)
    wins = win_all(engine, coupon, range(1, 6))
    drain_all(engine)
    wins += win_all(engine, coupon, range(6, 11))
    on_disk(engine)
    own_redis.store.kill()
    own_redis.restart()
    with pytest.raises(GateUnavailable):
        ask(engine, coupon, 11)
    assert watch_lanes(engine) == {0: Verdict.APPROVE}
    assert ask(engine, coupon, 10) == Refused(Refusal.COUPON_ALREADY_ISSUED)
    assert {state(engine, each.request_id).status for each in wins[5:]} == {RequestStatus.PENDING}
    wins += win_all(engine, coupon, range(11, 21))
    assert [each.sequence for each in wins] == list(range(1, 21))
    assert ask(engine, coupon, 21) == Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"})
    drain_all(engine)
    assert_recorded_once(engine, coupon, wins)


def test_a_redis_that_comes_back_without_its_last_seconds_is_rebuilt_and_sells_nothing_twice(
    engine: Engine, own_redis: OwnRedis, tmp_path: Path
) -> None:
    """The file as it was a while ago: what a power cut leaves, or a replica that lagged behind and took over."""
    coupon = offer(engine, total=8)
    recorded = win_all(engine, coupon, range(1, 4))
    drain_all(engine)
    on_disk(engine)
    shutil.copytree(own_redis.directory / "appendonlydir", tmp_path / "a while ago")
    recorded += win_all(engine, coupon, range(4, 7))
    drain_all(engine)
    lost = win(engine, coupon, 7)
    own_redis.store.kill()
    shutil.rmtree(own_redis.directory / "appendonlydir")
    shutil.copytree(tmp_path / "a while ago", own_redis.directory / "appendonlydir")
    own_redis.restart()
    assert engine.gate.inspect(0).last_number == 3
    assert watch_lanes(engine) == {0: Verdict.REBUILD}
    assert state(engine, lost.request_id).status is RequestStatus.FAILED
    for user in range(1, 7):
        assert ask(engine, coupon, user) == Refused(Refusal.COUPON_ALREADY_ISSUED)
    recorded += win_all(engine, coupon, [7, 8])
    assert [each.sequence for each in recorded] == list(range(1, 9))
    assert ask(engine, coupon, 9) == Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"})
    drain_all(engine)
    assert_recorded_once(engine, coupon, recorded)


def test_a_redis_that_came_back_empty_is_rebuilt(engine: Engine, own_redis: OwnRedis) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, range(1, 4))
    drain_all(engine)
    own_redis.store.kill()
    shutil.rmtree(own_redis.directory / "appendonlydir")
    own_redis.restart()
    with pytest.raises(GateUnavailable):
        ask(engine, coupon, 4)
    assert watch_lanes(engine) == {0: Verdict.REBUILD}
    wins += win_all(engine, coupon, [4])
    drain_all(engine)
    assert_recorded_once(engine, coupon, wins)


def test_a_redis_that_is_full_decides_nothing_and_nothing_has_changed(engine: Engine, hasty: Engine) -> None:
    coupon = offer(engine)
    wins = [win(hasty, coupon, 1)]
    client: Any = engine.gate.client
    client.config_set("maxmemory", 1)
    for user in (2, 3):
        assert_unavailable_soon(hasty, coupon, user)
    client.config_set("maxmemory", 0)
    assert waiting(engine) == 1
    wins += win_all(hasty, coupon, [2])
    drain_all(engine)
    assert_recorded_once(engine, coupon, wins)


def test_a_redis_that_only_reads_is_an_unavailable_gate(engine: Engine, hasty: Engine) -> None:
    """A master that was made a replica of one that is gone: what a client sees in the middle of a failover."""
    coupon = offer(engine)
    win(hasty, coupon, 1)
    client: Any = engine.gate.client
    client.execute_command("REPLICAOF", "127.0.0.1", free_port())
    assert_unavailable_soon(hasty, coupon, 2)
    client.execute_command("REPLICAOF", "NO", "ONE")
    assert_unavailable_soon(hasty, coupon, 2)  # a promotion: whose data it goes on with is the guard's to find out
    assert watch_lanes(engine) == {0: Verdict.APPROVE}
    assert win(hasty, coupon, 2).sequence == 2
