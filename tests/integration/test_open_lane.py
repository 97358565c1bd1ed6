"""``lua/open_lane.lua`` on a real server: an epoch is opened once, on the server that was examined."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.errors import BrokenContract, GateUnavailable
from engine.gate import keys, lanes
from engine.gate.gate import Gate
from tests.integration.lane_driver import EPOCH, LARGEST, REQUEST_KEY, LaneDriver, keyspace

OTHER_SERVER = "0" * 40


@pytest.fixture(params=[0, 13], ids=["lane 0", "lane 13"])
def lane(redis_url: str, request: pytest.FixtureRequest) -> Iterator[LaneDriver]:
    """A lane of an empty server."""
    gate = Gate.connect(redis_url, lanes=16, backlog_limit=1_000_000, timeout_seconds=5)
    lane = LaneDriver(gate, request.param)
    lane.client.flushdb()
    yield lane
    gate.close()


def test_opening_leaves_exactly_this_key(lane: LaneDriver) -> None:
    assert lane.open(epoch=3, last_number=17, rebuilt=1) == ["opened"]
    assert keyspace(lane.client) == {
        f"sc:{{{lane.number}}}:lane": (
            "hash",
            {
                "open": "1",
                "epoch": "3",
                "replid": lane.replid,
                "last_number": "17",
                "lanes": "16",
                "request_key": REQUEST_KEY,
                "built_epoch": "3",
            },
            False,
        )
    }


def test_a_server_other_than_the_examined_one_is_named_and_nothing_changes(lane: LaneDriver) -> None:
    assert lane.open(replid=OTHER_SERVER) == ["server_changed", lane.replid]
    assert lane.client.dbsize() == 0
    lane.open(epoch=9)
    before = keyspace(lane.client)
    # Of two reasons the server comes first: whoever examined another one knows nothing of epochs here.
    assert lane.open(epoch=1, replid=OTHER_SERVER) == ["server_changed", lane.replid]
    assert lane.open(epoch=10, replid=OTHER_SERVER) == ["server_changed", lane.replid]
    assert keyspace(lane.client) == before


@pytest.mark.parametrize("epoch", [9, 10])
def test_an_epoch_is_opened_once_and_epochs_only_grow(lane: LaneDriver, epoch: int) -> None:
    """9 against 10 would be newer if epochs were compared as texts."""
    lane.open(epoch=10)
    lane.change_lane(open="0")
    before = keyspace(lane.client)
    assert lane.open(epoch=epoch, last_number=1000) == ["epoch_not_newer", "10"]
    assert keyspace(lane.client) == before
    assert lane.open(epoch=11) == ["opened"]
    assert lane.client.hmget(lane.lane_key, "open", "epoch") == ["1", "11"]


@pytest.mark.parametrize(
    ("here", "told", "kept"), [(9, 10, "10"), (10, 9, "10"), (0, 0, "0"), (LARGEST, 5, str(LARGEST))]
)
def test_the_greater_last_number_is_kept(lane: LaneDriver, here: int, told: int, kept: str) -> None:
    lane.open(epoch=1, last_number=here)
    lane.open(epoch=2, last_number=told)
    assert lane.client.hget(lane.lane_key, "last_number") == kept


def test_numbers_of_a_lane_that_is_approved_go_on_after_its_own_last(lane: LaneDriver) -> None:
    lane.open(epoch=EPOCH)
    lane.publish(41)
    for user in (1, 2, 3):
        lane.issue(41, user)
    lane.open(epoch=EPOCH + 1, last_number=1, rebuilt=0)  # the ledger is behind: two wait in the outbox
    assert lane.issue(41, 4, epoch=EPOCH + 1)[2] == f"{lane.number}.{EPOCH + 1}.4.n4"


def test_only_a_rebuild_begins_a_new_built_epoch(lane: LaneDriver) -> None:
    lane.open(epoch=1, rebuilt=1)
    lane.open(epoch=2, rebuilt=0)
    assert lane.client.hmget(lane.lane_key, "epoch", "built_epoch") == ["2", "1"]
    lane.open(epoch=3, rebuilt=1)
    assert lane.client.hmget(lane.lane_key, "epoch", "built_epoch") == ["3", "3"]


def test_the_largest_numbers_stay_exact(lane: LaneDriver) -> None:
    assert lane.open(epoch=LARGEST - 1, last_number=LARGEST) == ["opened"]
    assert lane.open(epoch=LARGEST - 1) == ["epoch_not_newer", str(LARGEST - 1)]
    assert lane.open(epoch=LARGEST, last_number=LARGEST - 1) == ["opened"]
    assert lane.client.hmget(lane.lane_key, "epoch", "last_number") == [str(LARGEST)] * 2


@pytest.mark.parametrize(("key_count", "argument_count"), [(0, 6), (2, 6), (1, 0), (1, 5), (1, 7)])
def test_a_wrong_number_of_keys_or_arguments_changes_nothing(
    lane: LaneDriver, key_count: int, argument_count: int
) -> None:
    script_keys = [lane.lane_key, keys.outbox(lane.number)][:key_count]
    arguments = [EPOCH, lane.replid, 0, 16, REQUEST_KEY, 1, ""][:argument_count]
    with pytest.raises(BrokenContract, match="1 key and 6 arguments"):
        lane.gate.run("open_lane", script_keys, arguments)
    assert lane.client.dbsize() == 0


def test_the_engine_takes_both_refusals_for_a_gate_that_is_not_ready(lane: LaneDriver) -> None:
    def open_lane(epoch: int, replid: str) -> None:
        lanes.open_lane(
            lane.gate, lane.number, epoch=epoch, replid=replid, last_number=0, request_key=REQUEST_KEY, rebuilt=True
        )

    open_lane(2, lane.replid)
    with pytest.raises(GateUnavailable, match="server"):
        open_lane(3, OTHER_SERVER)
    with pytest.raises(GateUnavailable, match="epoch 2"):
        open_lane(2, lane.replid)


def test_a_closed_lane_keeps_everything_but_decides_nothing(lane: LaneDriver) -> None:
    lane.open()
    lane.publish(41)
    lane.issue(41, 1)
    before = keyspace(lane.client)
    lanes.close_lane(lane.gate, lane.number)
    assert lane.issue(41, 2) == ["lane_not_ready"]
    before[lane.lane_key][1]["open"] = "0"  # type: ignore[index]
    assert keyspace(lane.client) == before
