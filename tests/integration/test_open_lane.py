"""Building, opening, approving and closing a lane on a real server: each by whoever knows how it stands, and once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.errors import BrokenContract, GateUnavailable
from engine.gate import keys, lanes
from engine.gate.building import LaneBuild, Superseded
from tests.integration.lane_driver import EPOCH, LARGEST, REQUEST_KEY, LaneDriver, keyspace

OTHER_SERVER = "0" * 40


def test_opening_leaves_exactly_this_key(lane: LaneDriver) -> None:
    assert lane.open(epoch=3, last_number=17) == ["opened"]
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
                "returned": "0",
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
    assert lane.approve(EPOCH + 1) == ["approved"]  # the ledger is behind: they wait in the outbox
    assert lane.issue(41, 4, epoch=EPOCH + 1)[2] == f"{lane.number}.{EPOCH + 1}.4.n4"


def test_only_a_rebuild_begins_a_new_built_epoch(lane: LaneDriver) -> None:
    lane.open(epoch=1)
    assert lane.approve(2) == ["approved"]
    assert lane.client.hmget(lane.lane_key, "epoch", "built_epoch") == ["2", "1"]
    lane.open(epoch=3)
    assert lane.client.hmget(lane.lane_key, "epoch", "built_epoch") == ["3", "3"]


def test_the_largest_numbers_stay_exact(lane: LaneDriver) -> None:
    assert lane.open(epoch=LARGEST - 1, last_number=LARGEST) == ["opened"]
    assert lane.open(epoch=LARGEST - 1) == ["epoch_not_newer", str(LARGEST - 1)]
    assert lane.open(epoch=LARGEST, last_number=LARGEST - 1) == ["opened"]
    assert lane.client.hmget(lane.lane_key, "epoch", "last_number") == [str(LARGEST)] * 2


@pytest.mark.parametrize("script", ["open_lane", "begin_build", "approve_lane", "close_lane"])
def test_a_wrong_number_of_keys_or_arguments_changes_nothing(lane: LaneDriver, script: str) -> None:
    """Those that the headers do not name; tests/unit/test_outcomes.py asks every guard for all others."""
    for key_count, argument_count in ((0, 5), (2, 5), (1, 0), (1, 6)):
        script_keys = [lane.lane_key, keys.outbox(lane.number)][:key_count]
        with pytest.raises(BrokenContract, match=f"{script} takes 1 key and"):
            lane.gate.run(script, script_keys, ["1"] * argument_count)
    assert lane.client.dbsize() == 0


# -- a rebuild that sleeps


def test_a_lane_that_is_being_built_is_closed(lane: LaneDriver) -> None:
    lane.open()
    lane.publish(41)
    assert lane.begin_build(EPOCH + 1) == ["building"]
    assert lane.issue(41, 1) == ["lane_not_ready"]
    assert lane.open_built(EPOCH + 1) == ["opened"]
    assert lane.issue(41, 1, epoch=EPOCH + 1)[0] == "issued"
    assert not lane.client.hexists(lane.lane_key, "building")


@pytest.mark.parametrize("epoch", [9, 10])
def test_of_two_rebuilds_the_newer_one_writes_and_opens(lane: LaneDriver, epoch: int) -> None:
    lane.begin_build(9)
    assert lane.begin_build(10) == ["building"]
    assert lane.begin_build(epoch) == ["epoch_not_newer", "10"]
    before = keyspace(lane.client)
    assert lane.open_built(9) == ["superseded"]
    assert keyspace(lane.client) == before
    assert lane.open_built(10) == ["opened"]
    before = keyspace(lane.client)
    assert lane.begin_build(10) == ["epoch_not_newer", "10"]
    assert (lane.open_built(10), lane.open_built(9)) == (["superseded"], ["superseded"])
    assert keyspace(lane.client) == before


def test_only_who_closed_a_lane_last_builds_it(lane: LaneDriver) -> None:
    lane.open(epoch=8)
    lane.begin_build(9)
    assert (lane.close("first"), lane.close("second")) == (["closed"], ["closed"])
    before = keyspace(lane.client)
    assert lane.open_built(9) == ["superseded"]
    assert [lane.begin_closed(10, claim=claim) for claim in ("first", "", "claim")] == [["superseded"]] * 3
    assert keyspace(lane.client) == before
    assert lane.begin_closed(10, claim="second") == ["building"]
    assert lane.open_built(10) == ["opened"]
    assert lane.begin_closed(11, claim="second") == ["superseded"]  # a claim ends with the opening


def test_a_claim_that_its_server_forgot_is_none(lane: LaneDriver) -> None:
    lane.close("mine")
    lane.client.flushdb()
    assert lane.begin_closed(2, claim="mine") == ["superseded"]
    assert lane.client.dbsize() == 0


def test_a_build_that_its_server_forgot_is_not_opened(lane: LaneDriver) -> None:
    lane.begin_build(2)
    lane.client.flushdb()
    assert lane.open_built(2) == ["superseded"]
    assert lane.client.dbsize() == 0


@pytest.mark.parametrize(
    ("script", "further_keys", "arguments"),
    [
        ("build_coupon", [keys.coupon(0, 41), keys.winners(0, 41)], [2, "ACTIVE", 9, "", "", 3]),
        ("build_winners", [keys.winners(0, 41)], ["7 1 0.1.1.c0"]),
        ("build_product", [keys.sku(0, 5)], [2, "감", 100, "ACTIVE", 9, 9]),
        ("forget_holds", [keys.holds(0), keys.hold(0, "n")], ["n"]),
        ("mark_returned", [keys.returned(0, "n")], [1000]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_rebuild_writes_after_it_was_overtaken_is_refused(
    lane: LaneDriver, script: str, further_keys: list[str], arguments: list[Any]
) -> None:
    """In a lane that sells, in one that another rebuild is at, and in one that knows of no rebuild at all."""
    own = [key.replace("{0}", f"{{{lane.number}}}") for key in further_keys]
    lane.open(epoch=9)
    lane.publish(41, epoch=9)
    lane.issue(41, 7, epoch=9)
    lane.client.zadd(keys.holds(lane.number), {"n": 1})
    lane.client.hset(keys.hold(lane.number, "n"), "state", "held")

    def write(token: int) -> Any:
        return lane.gate.run(script, [lane.lane_key, *own], [token, *arguments])[0]

    before = keyspace(lane.client)
    assert [write(token) for token in (8, 9)] == ["superseded"] * 2
    assert keyspace(lane.client) == before
    lane.begin_build(10)
    before = keyspace(lane.client)
    assert write(9) == "superseded"
    assert keyspace(lane.client) == before
    assert write(10) == "built"
    assert keyspace(lane.client) != before


def test_winners_are_built_from_lines_however_many(lane: LaneDriver) -> None:
    lane.begin_build(2)
    lines = [f"{user} {user - 1000} 0.1.{user}.c{user:x}" for user in range(1001, 2204)]
    reply = lane.gate.run("build_winners", [lane.lane_key, keys.winners(lane.number, 41)], [2, "\n".join(lines)])
    assert reply == ["built", 1203]
    built = lane.client.hgetall(keys.winners(lane.number, 41))
    assert built == {line.split()[0]: line.split(" ", 1)[1] for line in lines}


# -- approving


@pytest.mark.parametrize(
    ("examined", "refusal"),
    [
        ({"replid": OTHER_SERVER}, "server_changed"),
        ({"examined_epoch": str(EPOCH - 1)}, "lane_changed"),
        ({"last_number": "1"}, "lane_changed"),
    ],
    ids=["another server", "another epoch", "another last decision"],
)
def test_only_the_lane_that_was_examined_is_approved(lane: LaneDriver, examined: dict[str, str], refusal: str) -> None:
    lane.open()
    before = keyspace(lane.client)
    assert lane.approve(EPOCH + 1, **examined)[0] == refusal
    assert keyspace(lane.client) == before


def test_a_lane_that_is_closed_or_being_built_or_not_older_is_not_approved(lane: LaneDriver) -> None:
    lane.open()
    assert lane.approve(EPOCH) == ["lane_changed"]
    lane.change_lane(open="0")
    assert lane.approve(EPOCH + 1) == ["lane_changed"]
    lane.change_lane(open="1", building=str(EPOCH + 1))
    assert lane.approve(EPOCH + 1) == ["lane_changed"]


# -- the engine's side


def test_the_engine_takes_every_refusal_for_a_gate_that_is_not_ready(lane: LaneDriver) -> None:
    claim = lanes.close_lane(lane.gate, lane.gate.inspect(lane.number))

    def build(epoch: int, replid: str, claim: str = claim) -> LaneBuild:
        state = replace(lane.gate.inspect(lane.number), replid=replid)
        return LaneBuild(lane.gate, state, epoch, claim)

    with pytest.raises(Superseded, match="epoch 2"):
        build(2, lane.replid, "somebody's").begin()
    first = build(2, lane.replid)
    first.begin()
    with pytest.raises(GateUnavailable, match="server"):
        build(3, OTHER_SERVER).begin()
    with pytest.raises(Superseded, match="epoch 2"):
        build(2, lane.replid).begin()
    first.open(last_number=0, request_key=REQUEST_KEY)
    with pytest.raises(Superseded):
        first.add_winners(41, "7 1 r")
    examined = lane.gate.inspect(lane.number)
    lanes.approve_lane(lane.gate, examined, 3)
    with pytest.raises(GateUnavailable):
        lanes.approve_lane(lane.gate, examined, 4)
    with pytest.raises(Superseded, match="epoch 3"):
        lanes.close_lane(lane.gate, examined)


def test_a_closed_lane_keeps_everything_but_decides_nothing(lane: LaneDriver) -> None:
    lane.open()
    lane.publish(41)
    lane.issue(41, 1)
    before, state = keyspace(lane.client), lane.client.hgetall(lane.lane_key)
    claim = lanes.close_lane(lane.gate, lane.gate.inspect(lane.number))
    assert lane.issue(41, 2) == ["lane_not_ready"]
    closed = ("hash", {**state, "open": "0", "claim": claim}, False)
    assert keyspace(lane.client) == {**before, lane.lane_key: closed}
