"""``lua/find_requests.lua`` on a real server: waiting, absent, or not to be told now; and nothing changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.errors import BrokenContract
from engine.gate import keys, outbox
from engine.gate.gate import Gate
from engine.gate.outbox import Whereabouts
from engine.gate.request_ids import RequestId, split_request_id
from tests.integration.lane_driver import EPOCH, LARGEST, LaneDriver, keyspace

COUPON = 41


@pytest.fixture(params=[0, 13], ids=["lane 0", "lane 13"])
def lane(redis_url: str, request: pytest.FixtureRequest) -> Iterator[LaneDriver]:
    """An open lane whose outbox holds three decisions."""
    gate = Gate.connect(redis_url, lanes=16, backlog_limit=1_000_000, timeout_seconds=5)
    lane = LaneDriver(gate, request.param)
    lane.client.flushdb()
    lane.open()
    lane.publish(COUPON)
    for user in (1, 2, 3):
        lane.issue(COUPON, user)
    yield lane
    gate.close()


def find(lane: LaneDriver, *entry_ids: str) -> list[object]:
    return lane.gate.run("find_requests", [lane.lane_key, keys.outbox(lane.number)], list(entry_ids))


def test_waiting_requests_are_found_with_their_owners_wherever_they_stand(lane: LaneDriver) -> None:
    before = keyspace(lane.client)
    entries = lane.outbox()
    waiting = [["waiting", fields["request_id"], fields["user_id"]] for _, fields in entries]
    assert [find(lane, entry_id) for entry_id, _ in entries] == [[str(EPOCH), each] for each in waiting]
    many = find(lane, entries[2][0], f"{EPOCH}-9", entries[0][0], entries[2][0])
    assert many == [str(EPOCH), waiting[2], ["absent"], waiting[0], waiting[2]]
    assert keyspace(lane.client) == before


def test_an_entry_without_the_known_fields_waits_as_nobodys(lane: LaneDriver) -> None:
    lane.client.xadd(keys.outbox(lane.number), {"kind": "strange"}, id=f"{EPOCH}-4")
    assert find(lane, f"{EPOCH}-4") == [str(EPOCH), ["waiting", "", ""]]


@pytest.mark.parametrize("entry_id", [f"{EPOCH}-4", f"{EPOCH}-0", f"{EPOCH - 1}-1", f"{EPOCH + 1}-1", "1-10"])
def test_a_request_that_is_not_there_is_absent_under_the_present_epoch(lane: LaneDriver, entry_id: str) -> None:
    before = keyspace(lane.client)
    assert find(lane, entry_id) == [str(EPOCH), ["absent"]]
    assert keyspace(lane.client) == before


def test_a_request_that_left_the_outbox_is_absent(lane: LaneDriver) -> None:
    outbox.remove(lane.gate, lane.number, outbox.read_head(lane.gate, lane.number, 2))
    found = find(lane, f"{EPOCH}-1", f"{EPOCH}-2", f"{EPOCH}-3")
    assert [answer[0] for answer in found[1:]] == ["absent", "absent", "waiting"]  # type: ignore[index]


@pytest.mark.parametrize("change", [{"open": "0"}, {"replid": "0" * 40}])
def test_what_waits_is_found_in_a_lane_that_is_not_ready_and_absence_is_not_told(
    lane: LaneDriver, change: dict[str, str]
) -> None:
    """An entry is a decision, whatever has happened to its lane since."""
    lane.change_lane(**change)
    before = keyspace(lane.client)
    epoch, first, fourth = find(lane, f"{EPOCH}-1", f"{EPOCH}-4")
    assert (epoch, first[0], fourth) == ("", "waiting", ["absent"])  # type: ignore[index]
    assert keyspace(lane.client) == before


def test_an_empty_server_knows_nothing(lane: LaneDriver) -> None:
    lane.client.flushdb()
    assert find(lane, f"{EPOCH}-1") == ["", ["absent"]]
    assert lane.client.dbsize() == 0


def test_the_largest_numbers_are_found(lane: LaneDriver) -> None:
    lane.change_lane(epoch=LARGEST, last_number=LARGEST - 1)
    lane.issue(COUPON, 4, epoch=LARGEST)
    epoch, last, one_before = find(lane, f"{LARGEST}-{LARGEST}", f"{LARGEST}-{LARGEST - 1}")
    assert (epoch, last[0], one_before) == (str(LARGEST), "waiting", ["absent"])  # type: ignore[index]


@pytest.mark.parametrize(("key_count", "argument_count"), [(0, 1), (1, 1), (3, 1), (2, 0)])
def test_a_wrong_number_of_keys_or_arguments_is_refused(lane: LaneDriver, key_count: int, argument_count: int) -> None:
    before = keyspace(lane.client)
    script_keys = [lane.lane_key, keys.outbox(lane.number), keys.bell(lane.number)][:key_count]
    with pytest.raises(BrokenContract, match="2 keys and at least 1 argument"):
        lane.gate.run("find_requests", script_keys, [f"{EPOCH}-1"] * argument_count)
    assert keyspace(lane.client) == before


def test_the_engine_finds_a_request_only_under_its_whole_id(lane: LaneDriver) -> None:
    """An id of ours with another one's number, or another one's nonce, is nobody's request."""
    request_id = lane.issue(COUPON, 4, "cabc")[2]
    request = split_request_id(request_id)
    forged, unknown = RequestId(lane.number, EPOCH, 1, "cabc"), RequestId(lane.number, EPOCH, 9, "cabc")
    assert outbox.find(lane.gate, lane.number, [request, forged, unknown]) == [
        Whereabouts(True, EPOCH, user_id=4),
        Whereabouts(False, EPOCH),
        Whereabouts(False, EPOCH),
    ]
    lane.change_lane(open="0")
    assert outbox.find(lane.gate, lane.number, [unknown, request]) == [
        Whereabouts(False, None),
        Whereabouts(True, None, user_id=4),
    ]
