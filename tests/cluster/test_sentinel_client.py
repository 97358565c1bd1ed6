"""The gate's and the queue's client while Sentinel fails over: no decision twice, quick refusals, quick recovery."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from engine.gate.clients import connect_queue
from engine.gate.sentinel_pool import LOOK_SECONDS
from tests.cluster.asking import (
    ASKING_THREADS,
    BUSY_WITHIN_SECONDS,
    ask,
    ask_until_answered,
    ask_while_it_hangs,
    hasty_client,
    longest,
)
from tests.cluster.members import Member
from tests.cluster.sentinel import HELLO_MS, SERVICE, SentinelTopology
from tests.stack.stack_driver import wait_until


@pytest.fixture
def client(sentinels: SentinelTopology) -> Iterator[Any]:
    client = hasty_client(sentinels.url)
    assert ask(client, "SET", "key", "value").answer
    yield client
    client.close()


def where(client: Any) -> int | None:
    """The port of the server that the client asks."""
    found = ask(client, "CONFIG", "GET", "port").answer
    return int(found["port"]) if found else None


def test_a_question_that_got_no_answer_is_not_asked_again_by_the_client(
    sentinels: SentinelTopology, client: Any
) -> None:
    sentinels.never_fail_over()
    unanswered = ask_while_it_hangs(client, sentinels.primary, "INCR", "counter")
    assert unanswered.answer is None
    assert unanswered.seconds < BUSY_WITHIN_SECONDS
    wait_until(lambda: ask(client, "GET", "key").answer == "value", "the client is answered again")
    assert ask(client, "GET", "counter").answer in (None, "1")


def test_a_killed_primary_is_refused_at_once_and_its_successor_is_found_without_a_restart(
    sentinels: SentinelTopology, client: Any
) -> None:
    queue = Queue("bells", connection=connect_queue(sentinels.url), serializer=JSONSerializer)
    queue.enqueue("operator.add", 1, 2)
    old = sentinels.primary
    for replica in sentinels.replicas:
        replica.await_all_of(old)
    old.kill()
    asked = ask_until_answered(client, "SET", "key", "later")
    assert longest(asked) < BUSY_WITHIN_SECONDS
    assert any(each.answer is None for each in asked)
    assert where(client) == sentinels.await_other_primary(old).port
    assert queue.count == 1
    queue.enqueue("operator.add", 3, 4)
    assert queue.count == 2
    queue.connection.close()


def test_a_sentinel_that_hangs_and_one_that_died_with_the_primary_cost_no_time(
    sentinels: SentinelTopology, client: Any
) -> None:
    """Two of three are needed to fail over, so the one that hangs wakes up when it is seen that nobody waits for it."""
    old, (dead, hanging, _) = sentinels.primary, sentinels.sentinels
    dead.kill()
    hanging.pause()
    old.kill()
    without = [ask(client, "SET", "key", "x") for _ in range(5)]
    assert {each.answer for each in without} == {None}
    assert longest(without) < BUSY_WITHIN_SECONDS
    hanging.resume()
    asked = ask_until_answered(client, "SET", "key", "x")
    assert longest(asked) < BUSY_WITHIN_SECONDS


def test_after_a_failover_on_purpose_the_old_primary_is_left_though_it_goes_on_answering(
    sentinels: SentinelTopology, client: Any
) -> None:
    old = sentinels.primary
    sentinels.take_your_time()
    sentinels.fail_over()
    assert old.is_primary, "it goes on as before for seconds: this is what the client has to get away from"
    wait_until(lambda: where(client) != old.port, "the client has left", LOOK_SECONDS + HELLO_MS / 1000 + 1.0)


def test_connections_that_lead_nowhere_are_not_kept(sentinels: SentinelTopology) -> None:
    for server in sentinels.servers:
        server.kill()
    wait_until(lambda: all(_names_nobody(each) for each in sentinels.sentinels), "no sentinel names anybody")
    client = hasty_client(sentinels.url)
    with ThreadPoolExecutor(ASKING_THREADS) as pool:
        asked = list(pool.map(lambda _: ask(client, "GET", "key"), range(200)))
    assert {each.answer for each in asked} == {None}
    assert len(client.connection_pool._connections) <= ASKING_THREADS
    client.close()


def _names_nobody(sentinel: Member) -> bool:
    return "s_down" in sentinel.run("SENTINEL MASTER", SERVICE)["flags"]
