"""``lua/publish_coupon.lua`` on a real server: newer terms replace older ones, what was issued stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.errors import BrokenContract
from engine.gate import keys
from engine.gate.gate import Gate
from tests.integration.lane_driver import EPOCH, LARGEST, LaneDriver, keyspace

COUPON = 41


@pytest.fixture(params=[0, 13], ids=["lane 0", "lane 13"])
def lane(redis_url: str, request: pytest.FixtureRequest) -> Iterator[LaneDriver]:
    """An open lane and nothing else."""
    gate = Gate.connect(redis_url, lanes=16, backlog_limit=1_000_000, timeout_seconds=5)
    lane = LaneDriver(gate, request.param)
    lane.client.flushdb()
    lane.open()
    yield lane
    gate.close()


def test_a_new_coupon_leaves_exactly_this_key(lane: LaneDriver) -> None:
    before = keyspace(lane.client)
    assert lane.publish(COUPON, 10, "ACTIVE", 1_700_000_000_000, 1_700_000_100_000, version=3) == [
        "published",
        "0",
        str(EPOCH),
    ]
    after = keyspace(lane.client)
    assert after.pop(f"sc:{{{lane.number}}}:coupon:{COUPON}") == (
        "hash",
        {
            "version": "3",
            "status": "ACTIVE",
            "total": "10",
            "starts_at_ms": "1700000000000",
            "ends_at_ms": "1700000100000",
            "issued": "0",
        },
        False,
    )
    assert after == before


def test_newer_terms_replace_all_older_ones_and_leave_what_was_issued(lane: LaneDriver) -> None:
    lane.publish(COUPON, 10, "ACTIVE", 1, LARGEST, version=1)
    for user in (1, 2, 3):
        assert lane.issue(COUPON, user)[0] == "issued"
    before = keyspace(lane.client)
    assert lane.publish(COUPON, 20, "INACTIVE", "", "", version=2) == ["published", "3", str(EPOCH)]
    after = keyspace(lane.client)
    coupon_key = keys.coupon(lane.number, COUPON)
    assert after.pop(coupon_key)[1] == {
        "version": "2",
        "status": "INACTIVE",
        "total": "20",
        "starts_at_ms": "",
        "ends_at_ms": "",
        "issued": "3",
    }
    del before[coupon_key]
    assert after == before
    assert lane.issue(COUPON, 4) == ["inactive"]


@pytest.mark.parametrize("version", [1, 9, 10])
def test_a_version_that_is_not_newer_changes_nothing(lane: LaneDriver, version: int) -> None:
    """9 against 10 would be the newer one if versions were compared as texts."""
    lane.publish(COUPON, 10, version=10)
    lane.issue(COUPON, 1)
    before = keyspace(lane.client)
    assert lane.publish(COUPON, 99, "INACTIVE", 1, 2, version=version) == ["unchanged", "1", str(EPOCH)]
    assert keyspace(lane.client) == before
    assert lane.publish(COUPON, 99, version=11) == ["published", "1", str(EPOCH)]


def test_more_units_open_a_sold_out_coupon_at_once_and_the_line_goes_on(lane: LaneDriver) -> None:
    lane.publish(COUPON, 1)
    assert [lane.issue(COUPON, user)[0] for user in (1, 2)] == ["issued", "sold_out"]
    lane.publish(COUPON, 2, version=2)
    assert lane.issue(COUPON, 2)[:2] == ["issued", "2"]
    assert lane.issue(COUPON, 3) == ["sold_out"]


def test_a_lane_that_is_not_ready_takes_no_terms(lane: LaneDriver) -> None:
    for change in ({"open": "0"}, {"open": "1", "replid": "0" * 40}):
        lane.change_lane(**change)
        before = keyspace(lane.client)
        assert lane.publish(COUPON, epoch=EPOCH + 1) == ["lane_not_ready"]
        assert keyspace(lane.client) == before
    lane.client.delete(lane.lane_key)
    assert lane.publish(COUPON) == ["lane_not_ready"]
    assert lane.client.dbsize() == 0


def test_a_caller_from_another_epoch_is_told_the_present_one_before_versions_are_compared(lane: LaneDriver) -> None:
    lane.publish(COUPON, version=5)
    before = keyspace(lane.client)
    for epoch in (EPOCH - 1, EPOCH + 1):
        assert lane.publish(COUPON, version=1, epoch=epoch) == ["stale_epoch", str(EPOCH)]
        assert lane.publish(COUPON, version=9, epoch=epoch) == ["stale_epoch", str(EPOCH)]
    assert keyspace(lane.client) == before


def test_the_largest_numbers_stay_exact(lane: LaneDriver) -> None:
    largest = str(LARGEST)
    assert lane.publish(LARGEST, LARGEST, "ACTIVE", LARGEST, LARGEST, version=LARGEST - 1) == [
        "published",
        "0",
        str(EPOCH),
    ]
    assert lane.publish(LARGEST, LARGEST, "ACTIVE", LARGEST, LARGEST, version=LARGEST) == ["published", "0", str(EPOCH)]
    assert lane.publish(LARGEST, 1, version=LARGEST) == ["unchanged", "0", str(EPOCH)]
    coupon = lane.coupon(LARGEST)
    assert {coupon[name] for name in ("version", "total", "starts_at_ms", "ends_at_ms")} == {largest}


@pytest.mark.parametrize(("key_count", "argument_count"), [(0, 6), (1, 6), (3, 6), (2, 0), (2, 5), (2, 7)])
def test_a_wrong_number_of_keys_or_arguments_changes_nothing(
    lane: LaneDriver, key_count: int, argument_count: int
) -> None:
    before = keyspace(lane.client)
    script_keys = [lane.lane_key, keys.coupon(lane.number, COUPON), keys.winners(lane.number, COUPON)][:key_count]
    arguments = [EPOCH, 1, "ACTIVE", 10, "", "", ""][:argument_count]
    with pytest.raises(BrokenContract, match="2 keys and 6 arguments"):
        lane.gate.run("publish_coupon", script_keys, arguments)
    assert keyspace(lane.client) == before
