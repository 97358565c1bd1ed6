"""The gate's client while nodes of a cluster come and go: no decision twice, quick refusals, the other shards go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from engine.config import Settings
from engine.context import Engine
from engine.errors import GateUnavailable
from engine.gate import keys, outbox
from engine.gate.clients import connect
from engine.gate.gate import Gate
from engine.gate.lanes import known_versions
from tests.cluster.asking import (
    ASKING_THREADS,
    BUSY_WITHIN_SECONDS,
    ask,
    ask_until_answered,
    ask_while_it_hangs,
    hasty_client,
    longest,
)
from tests.cluster.members import paused
from tests.cluster.shards import ClusterTopology
from tests.stack.stack_driver import wait_until

LANES = 16
LOST = 0
"""The shard that is taken away; it has the first slots, so redis-py's default node is its primary."""


@pytest.fixture
def client(cluster: ClusterTopology) -> Iterator[Any]:
    client = hasty_client(cluster.url)
    for shard in range(len(cluster.shards)):
        assert ask(client, "SET", key_of(cluster, shard), "value").answer
    yield client
    client.close()


@pytest.fixture
def gate(cluster: ClusterTopology) -> Iterator[Gate]:
    gate = Gate.connect(cluster.url, lanes=LANES, backlog_limit=1000, timeout_seconds=0.5)
    assert [gate.inspect(lane).backlog for lane in range(LANES)] == [0] * LANES
    yield gate
    gate.close()


def key_of(cluster: ClusterTopology, shard: int) -> str:
    return keys.coupon(cluster.lanes_of(shard, LANES)[0], 1)


def test_a_question_that_got_no_answer_is_not_asked_again_by_the_client(cluster: ClusterTopology, client: Any) -> None:
    key, primary = key_of(cluster, LOST), cluster.primary(LOST)
    cluster.replica(LOST).kill()  # nobody takes over
    unanswered = ask_while_it_hangs(client, primary, "INCR", f"{key}:counter")
    assert unanswered.answer is None
    assert unanswered.seconds < BUSY_WITHIN_SECONDS
    wait_until(lambda: ask(client, "GET", key).answer == "value", "the client is answered again")
    assert ask(client, "GET", f"{key}:counter").answer in (None, "1")


def test_a_killed_primary_is_refused_at_once_and_its_successor_is_found_without_a_restart(
    cluster: ClusterTopology, client: Any
) -> None:
    cluster.primary(LOST).kill()
    asked = ask_until_answered(client, "SET", key_of(cluster, LOST), "later")
    assert longest(asked) < BUSY_WITHIN_SECONDS
    assert any(each.answer is None for each in asked)


def test_a_failover_on_purpose_is_followed(cluster: ClusterTopology, client: Any) -> None:
    cluster.fail_over(LOST)
    wait_until(lambda: ask(client, "SET", key_of(cluster, LOST), "later").answer, "the client is answered")


def test_a_shard_that_hangs_keeps_nobody_waiting_but_those_who_ask_first(cluster: ClusterTopology, client: Any) -> None:
    hanging, living = key_of(cluster, LOST), key_of(cluster, LOST + 1)
    with paused(*cluster.shards[LOST]), ThreadPoolExecutor(ASKING_THREADS) as pool:
        unanswered = [pool.submit(ask, client, "GET", hanging) for _ in range(100)]
        answered = [ask(client, "GET", living) for _ in range(100)]
        started = time.monotonic()
        seconds = [each.result().seconds for each in unanswered]
    assert {each.answer for each in answered} == {"value"}
    assert max(seconds) < BUSY_WITHIN_SECONDS
    assert time.monotonic() - started < 10.0, "a hundred who each wait for a time-out take longer than that"
    assert _answered(unanswered) == set()
    wait_until(lambda: ask(client, "GET", hanging).answer, "the shard is asked again when it answers")


def test_who_finds_all_connections_taken_waits_a_moment_and_disturbs_nobody(cluster: ClusterTopology) -> None:
    client: Any = connect(cluster.url, timeout_seconds=4, max_connections=1)
    key = key_of(cluster, LOST)
    assert ask(client, "SET", key, "value").answer
    stream = f"{key}:stream"
    free = client.get_node_from_key(key).redis_connection.connection_pool.pool
    with ThreadPoolExecutor(1) as pool:
        for milliseconds, answer in ((300, "value"), (2500, None)):
            waiting = pool.submit(client.xread, {stream: "0-0"}, block=milliseconds)
            wait_until(lambda: free.qsize() == 0, "the connection is taken")
            assert ask(client, "GET", key).answer == answer
            assert not waiting.result(), "who waits for an entry is left alone"
            assert ask(client, "GET", key).answer == "value"
    client.close()


def test_with_one_shard_dead_the_lanes_of_the_others_are_read_and_waited_for(
    cluster: ClusterTopology, gate: Gate
) -> None:
    for node in cluster.shards[LOST]:
        node.kill()
    for lane in range(LANES):
        if cluster.shard_of_lane(lane) == LOST:
            with pytest.raises(GateUnavailable):
                outbox.wait_for_more(gate, lane, 0.01)
        else:
            assert outbox.wait_for_more(gate, lane, 0.01) is False
            assert outbox.read_head(gate, lane, 1) == []
            assert gate.inspect(lane).backlog == 0


def test_with_one_shard_dead_a_lease_of_another_is_kept_though_its_server_is_new(
    cluster: ClusterTopology, gate: Gate
) -> None:
    """A lease is kept by a script, and a server that took over knows none."""
    other = LOST + 1
    (lane, *_) = cluster.lanes_of(other, LANES)
    cluster.fail_over(other)
    for node in cluster.shards[LOST]:
        node.kill()
    wait_until(lambda: _inspected(gate, lane), "the client has found the new server")
    lease = outbox.Lease(gate, lane)
    assert lease.take()
    assert lease.take()
    lease.release()
    assert not outbox.is_leased(gate, lane)


def test_an_engine_can_be_made_while_the_cluster_is_away_and_finds_it_when_it_comes(
    cluster: ClusterTopology, redis_url: str, database_url: str
) -> None:
    cluster.fail_over(LOST)
    cluster.await_health()
    _, *others = cluster.nodes
    for node in cluster.nodes:
        node.kill()
    engine = Engine.connect(Settings(cluster.url, redis_url, database_url, lanes=LANES))
    for _ in range(3):
        with pytest.raises(GateUnavailable):
            engine.gate.inspect(0)
    for node in others:  # the first in the URL stays away
        node.start()
    wait_until(lambda: _inspected(engine.gate, 0), "the engine has found the cluster")
    engine.close()


def test_slots_that_nobody_serves_are_an_unavailable_gate(cluster: ClusterTopology, gate: Gate) -> None:
    for node in cluster.nodes:
        node.run("CLUSTER", "DELSLOTSRANGE", *cluster.slots_of(LOST))
    (lane, *_) = cluster.lanes_of(LOST, LANES)
    fresh = Gate(hasty_client(cluster.url), LANES, 1000)
    for each in (gate, fresh):
        with pytest.raises(GateUnavailable):
            each.inspect(lane)
        with pytest.raises(GateUnavailable):
            known_versions(each, [keys.coupon(lane, 1)])
        (living, *_) = cluster.lanes_of(LOST + 1, LANES)
        assert each.inspect(living).backlog == 0
    cluster.primary(LOST).run("CLUSTER", "ADDSLOTSRANGE", *cluster.slots_of(LOST))
    for each in (gate, fresh):
        wait_until(lambda at=each: _inspected(at, lane), "the slots are served again")
    fresh.close()


def _answered(asked: list[Future[Any]]) -> set[Any]:
    return {each.result().answer for each in asked} - {None}


def _inspected(gate: Gate, lane: int) -> bool:
    try:
        gate.inspect(lane)
    except GateUnavailable:
        return False
    return True
