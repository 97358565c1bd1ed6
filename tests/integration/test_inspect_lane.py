"""``lua/inspect_lane.lua`` on a real server: one consistent picture, and nothing changes."""

from __future__ import annotations

import pytest

from engine.errors import BrokenContract
from engine.gate import keys
from engine.gate.gate import LaneState
from tests.integration.lane_driver import EPOCH, LARGEST, REQUEST_KEY, LaneDriver, keyspace


def inspect(lane: LaneDriver) -> list[str]:
    return lane.gate.run("inspect_lane", [lane.lane_key, keys.outbox(lane.number)], [])


def test_an_empty_server_tells_its_replication_id_and_nothing_else(lane: LaneDriver) -> None:
    assert inspect(lane) == ["", "", "", "", "", "", lane.replid, "0", "", "", "0"]
    assert lane.client.dbsize() == 0
    state = lane.gate.inspect(lane.number)
    assert state == LaneState(lane.number, False, None, "", None, None, "", lane.replid, 0, None)
    assert not state.ready


def test_an_open_lane_tells_all_its_fields_in_order(lane: LaneDriver) -> None:
    lane.open(last_number=5)
    lane.change_lane(returned=3)
    before = keyspace(lane.client)
    told = ["1", str(EPOCH), lane.replid, "5", "16", REQUEST_KEY, lane.replid, "0", "", str(EPOCH), "3"]
    assert inspect(lane) == told
    assert keyspace(lane.client) == before
    state = lane.gate.inspect(lane.number)
    assert state == LaneState(lane.number, True, EPOCH, lane.replid, 5, 16, REQUEST_KEY, lane.replid, 0, None, EPOCH, 3)
    assert state.ready


@pytest.mark.parametrize("change", [{"open": "0"}, {"replid": "0" * 40}])
def test_a_lane_that_is_closed_or_approved_for_another_server_is_not_ready(
    lane: LaneDriver, change: dict[str, str]
) -> None:
    lane.open()
    lane.change_lane(**change)
    assert not lane.gate.inspect(lane.number).ready


def test_the_backlog_and_the_age_of_its_head_are_told(lane: LaneDriver) -> None:
    lane.open()
    lane.publish(41)
    for user in (1, 2, 3):
        lane.issue(41, user)
    decided_at_ms = int(lane.outbox()[0][1]["decided_at_ms"])
    earliest = lane.now_ms() - decided_at_ms
    before = keyspace(lane.client)
    state = lane.gate.inspect(lane.number)
    assert keyspace(lane.client) == before
    assert state.backlog == 3
    assert state.head_age_ms is not None
    assert earliest <= state.head_age_ms <= lane.now_ms() - decided_at_ms


def test_the_age_is_that_of_the_oldest_entry(lane: LaneDriver) -> None:
    now_ms = lane.now_ms()
    for number, age_ms in ((1, 60_000), (2, 90_000), (3, 0)):
        fields = {"kind": "order", "decided_at_ms": str(now_ms - age_ms), "held": ""}
        lane.client.xadd(keys.outbox(lane.number), fields, id=f"1-{number}")
    age_ms = lane.gate.inspect(lane.number).head_age_ms
    assert age_ms is not None
    assert 60_000 <= age_ms < 90_000


def test_a_head_from_the_future_is_new(lane: LaneDriver) -> None:
    """A clock that was set back must not make an age negative."""
    for moment in (str(lane.now_ms() + 10**9), "9" * 400):
        lane.client.delete(keys.outbox(lane.number))
        lane.client.xadd(keys.outbox(lane.number), {"decided_at_ms": moment}, id="1-1")
        assert lane.gate.inspect(lane.number).head_age_ms == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "strange"},
        *({"decided_at_ms": moment} for moment in ("soon", "", "nan", "-5", "1.5", "0x10", " 1", "1e3")),
    ],
    ids=lambda fields: str(list(fields.values())),
)
def test_a_head_that_does_not_say_when_it_was_decided_is_the_oldest_there_can_be(
    lane: LaneDriver, fields: dict[str, str]
) -> None:
    """The drain has to be told of it: everybody else looks at the lane through this script, and the guard, too."""
    lane.open()
    lane.client.xadd(keys.outbox(lane.number), fields, id=f"{EPOCH}-1")
    earliest = lane.now_ms()
    state = lane.gate.inspect(lane.number)
    assert (state.ready, state.backlog) == (True, 1)
    assert state.head_age_ms is not None
    assert earliest <= state.head_age_ms <= lane.now_ms()


def test_the_largest_numbers_stay_exact(lane: LaneDriver) -> None:
    lane.open(epoch=LARGEST, last_number=LARGEST)
    state = lane.gate.inspect(lane.number)
    assert (state.epoch, state.last_number) == (LARGEST, LARGEST)


@pytest.mark.parametrize(("key_count", "argument_count"), [(0, 0), (1, 0), (3, 0), (2, 1)])
def test_a_wrong_number_of_keys_or_arguments_is_refused(lane: LaneDriver, key_count: int, argument_count: int) -> None:
    script_keys = [lane.lane_key, keys.outbox(lane.number), keys.bell(lane.number)][:key_count]
    with pytest.raises(BrokenContract, match="2 keys and no arguments"):
        lane.gate.run("inspect_lane", script_keys, ["x"] * argument_count)
    assert lane.client.dbsize() == 0
