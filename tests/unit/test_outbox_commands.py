"""The outbox' plain commands, on fakeredis: quick, and enough where no script is involved."""

from __future__ import annotations

import fakeredis
import pytest

from engine.errors import GateUnavailable
from engine.gate import keys, outbox
from engine.gate.gate import Gate


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
def gate(server: fakeredis.FakeServer) -> Gate:
    client = fakeredis.FakeRedis(server=server, decode_responses=True)
    for number in (1, 2, 3):
        client.xadd(keys.outbox(0), {"kind": "coupon_issue", "request_id": f"r{number}"}, id=f"7-{number}")
    return Gate(client, lanes=2, backlog_limit=10)


def test_the_head_is_read_in_order_and_stays_until_it_is_removed(gate: Gate) -> None:
    head = outbox.read_head(gate, 0, 2)
    assert [(entry.epoch, entry.number, entry.fields["request_id"]) for entry in head] == [(7, 1, "r1"), (7, 2, "r2")]
    assert outbox.read_head(gate, 0, 2) == head
    outbox.remove(gate, 0, head)
    assert [entry.entry_id for entry in outbox.read_head(gate, 0, 2)] == ["7-3"]
    assert outbox.backlog(gate) == 1


def test_removing_nothing_asks_redis_for_nothing(gate: Gate, server: fakeredis.FakeServer) -> None:
    server.connected = False
    outbox.remove(gate, 0, [])


def test_a_bell_is_armed_for_a_while_and_disarmed_at_once(gate: Gate) -> None:
    outbox.arm_bell(gate, 1)
    assert 0 < gate.client.pttl(keys.bell(1)) <= 5000
    outbox.disarm_bell(gate, [0, 1])
    assert not gate.client.exists(keys.bell(1))


def test_only_one_drain_has_the_lease_and_a_lost_one_is_not_given_up_for_another(gate: Gate) -> None:
    mine, theirs = outbox.Lease(gate, 0), outbox.Lease(gate, 0)
    assert mine.take()
    assert mine.take()
    assert not theirs.take()
    gate.client.delete(keys.lease(0))
    assert theirs.take()
    assert not mine.take()
    mine.release()
    assert outbox.is_leased(gate, 0)


def test_a_server_that_does_not_answer_is_an_unavailable_gate(gate: Gate, server: fakeredis.FakeServer) -> None:
    server.connected = False
    with pytest.raises(GateUnavailable):
        outbox.read_head(gate, 0, 1)
