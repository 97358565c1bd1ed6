"""``lua/issue_coupon.lua`` on a real server: every answer, its precedence, and the raw keys that it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.errors import BrokenContract
from engine.gate import keys
from engine.gate.gate import Gate
from engine.gate.scripts import script, script_from
from engine.gate.turns import TurnLimits
from engine.outcomes import IssueStatus
from tests.integration.lane_driver import EPOCH, LARGEST, LaneDriver, keyspace

COUPON = 41


@pytest.fixture(params=[0, 13], ids=["lane 0", "lane 13"])
def lane(redis_url: str, request: pytest.FixtureRequest) -> Iterator[LaneDriver]:
    """An open lane with one coupon of ten units; nothing else is in the database."""
    gate = Gate.connect(redis_url, lanes=16, backlog_limit=1_000_000, timeout_seconds=5)
    lane = LaneDriver(gate, request.param)
    lane.client.flushdb()
    assert lane.open() == ["opened"]
    assert lane.publish(COUPON) == ["published", "0", str(EPOCH)]
    yield lane
    gate.close()


def test_a_winner_leaves_exactly_these_keys(lane: LaneDriver) -> None:
    before = keyspace(lane.client)
    earliest = lane.now_ms()
    answer = lane.issue(COUPON, 1001, "nonce")
    latest = lane.now_ms()
    request_id = f"{lane.number}.{EPOCH}.1.nonce"
    assert answer == ["issued", "1", request_id, 1]
    after = keyspace(lane.client)
    tag = f"sc:{{{lane.number}}}"
    ((entry_id, entry),) = lane.outbox()
    decided_at_ms = entry.pop("decided_at_ms")
    assert earliest <= int(decided_at_ms) <= latest
    assert entry_id == f"{EPOCH}-1"
    assert list(entry.items()) == [
        ("kind", "coupon_issue"),
        ("request_id", request_id),
        ("coupon_id", str(COUPON)),
        ("user_id", "1001"),
        ("sequence", "1"),
    ]
    assert after.pop(f"{tag}:outbox")[0] == "stream"
    assert after.pop(f"{tag}:bell") == ("string", "1", True)
    assert after.pop(f"{tag}:coupon:{COUPON}:winners") == ("hash", {"1001": f"1 {request_id}"}, False)
    before[f"{tag}:lane"][1]["last_number"] = "1"  # type: ignore[index]
    before[f"{tag}:coupon:{COUPON}"][1]["issued"] = "1"  # type: ignore[index]
    assert after == before


def test_the_bell_is_armed_for_its_time_and_rung_once(lane: LaneDriver) -> None:
    bell = keys.bell(lane.number)
    rings = [lane.issue(COUPON, user, bell_ms=60_000)[3] for user in (1, 2, 3)]
    assert rings == [1, 0, 0]
    assert 0 < lane.client.pttl(bell) <= 60_000
    lane.client.delete(bell)
    assert [lane.issue(COUPON, user)[3] for user in (4, 5)] == [1, 0]
    assert 0 < lane.client.pttl(bell) <= 5000


def test_a_bell_that_has_expired_is_rung_again(lane: LaneDriver) -> None:
    assert lane.issue(COUPON, 1, bell_ms=1)[3] == 1
    while lane.client.exists(keys.bell(lane.number)):
        continue
    assert lane.issue(COUPON, 2)[3] == 1


NO_TURNS_LEFT = (("user:1", 1),)


def use_up_turns(lane: LaneDriver) -> None:
    """Of the one whose limit is :data:`NO_TURNS_LEFT`."""
    assert lane.issue(404, 1, limits=NO_TURNS_LEFT) == ["not_found"]


def test_the_answers_come_in_their_order_of_precedence(lane: LaneDriver) -> None:
    """Everything that can be wrong is wrong at once; one thing after the other is put right."""
    given = []
    unknown, mine, others = 99, 1, 2
    use_up_turns(lane)
    lane.issue(COUPON, mine, "first")
    lane.change_coupon(
        COUPON, status="INACTIVE", total=1, starts_at_ms=lane.now_ms() + 10**9, ends_at_ms=lane.now_ms() - 1
    )
    lane.change_lane(open=0)
    given.append(lane.issue(unknown, mine, "first", epoch=EPOCH - 1))
    lane.change_lane(open=1)
    given.append(lane.issue(unknown, mine, "first", epoch=EPOCH - 1))
    given.append(lane.issue(COUPON, mine, "first", limits=NO_TURNS_LEFT, backlog_limit=0))
    given.append(lane.issue(unknown, mine, "second", limits=NO_TURNS_LEFT, backlog_limit=0))
    given.append(lane.issue(unknown, mine, "second", backlog_limit=0))
    given.append(lane.issue(COUPON, mine, "second", backlog_limit=0))
    given.append(lane.issue(COUPON, others, backlog_limit=0))
    lane.change_coupon(COUPON, status="ACTIVE")
    given.append(lane.issue(COUPON, others, backlog_limit=0))
    lane.change_coupon(COUPON, starts_at_ms="")
    given.append(lane.issue(COUPON, others, backlog_limit=0))
    lane.change_coupon(COUPON, ends_at_ms="")
    given.append(lane.issue(COUPON, others, backlog_limit=0))
    lane.change_coupon(COUPON, total=2)
    given.append(lane.issue(COUPON, others, backlog_limit=1))
    given.append(lane.issue(COUPON, others, backlog_limit=2))
    assert [answer[0] for answer in given] == list(IssueStatus)
    assert given[1] == ["stale_epoch", str(EPOCH)]
    assert given[2] == ["replayed", "1", f"{lane.number}.{EPOCH}.1.first"]
    assert given[5] == ["already_issued", "1"]
    assert given[-1] == ["issued", "2", f"{lane.number}.{EPOCH}.2.n2", 0]


@pytest.mark.parametrize("status", [status for status in IssueStatus if status is not IssueStatus.ISSUED])
def test_an_answer_that_is_not_a_win_leaves_nothing_behind(lane: LaneDriver, status: IssueStatus) -> None:
    lane.issue(COUPON, 1, "first")
    use_up_turns(lane)
    user, nonce, coupon, epoch, backlog_limit = 2, "n2", COUPON, EPOCH, 10
    limits: TurnLimits = ()
    match status:
        case IssueStatus.LANE_NOT_READY:
            lane.change_lane(replid="0" * 40)
        case IssueStatus.STALE_EPOCH:
            epoch = EPOCH + 1
        case IssueStatus.WAIT:
            limits = NO_TURNS_LEFT
        case IssueStatus.NOT_FOUND:
            coupon = COUPON + 1
        case IssueStatus.REPLAYED:
            user, nonce = 1, "first"
        case IssueStatus.ALREADY_ISSUED:
            user = 1
        case IssueStatus.INACTIVE:
            lane.change_coupon(COUPON, status="INACTIVE")
        case IssueStatus.NOT_STARTED:
            lane.change_coupon(COUPON, starts_at_ms=lane.now_ms() + 10**9)
        case IssueStatus.ENDED:
            lane.change_coupon(COUPON, ends_at_ms=lane.now_ms() - 1)
        case IssueStatus.SOLD_OUT:
            lane.change_coupon(COUPON, total=1)
        case IssueStatus.BACKLOGGED:
            backlog_limit = 1
    lane.client.delete(keys.bell(lane.number))  # so that one that is armed by mistake shows
    before = keyspace(lane.client)
    for _ in range(3):
        assert lane.issue(coupon, user, nonce, epoch, backlog_limit=backlog_limit, limits=limits)[0] == status
    assert keyspace(lane.client) == before


def test_a_replay_gets_the_first_answer_for_ever_and_changes_nothing(lane: LaneDriver) -> None:
    _, sequence, request_id, _ = lane.issue(COUPON, 1, "mine")
    lane.issue(COUPON, 2)
    lane.change_coupon(COUPON, status="INACTIVE", total=2, ends_at_ms=1)
    lane.client.delete(keys.outbox(lane.number))  # recorded meanwhile
    before = keyspace(lane.client)
    for _ in range(2):
        assert lane.issue(COUPON, 1, "mine", backlog_limit=0) == ["replayed", sequence, request_id]
    assert keyspace(lane.client) == before


@pytest.mark.parametrize("nonce", ["ine", "xmine", "MINE", "min", "mine0"])
def test_a_nonce_that_only_resembles_the_winning_one_is_no_replay(lane: LaneDriver, nonce: str) -> None:
    lane.issue(COUPON, 1, "mine")
    assert lane.issue(COUPON, 1, nonce) == ["already_issued", "1"]
    assert len(lane.outbox()) == 1


@pytest.mark.parametrize(
    ("more_keys", "more_arguments"), [(-5, 0), (-2, 0), (-1, 0), (1, 0), (2, 0), (0, -8), (0, -1), (0, 1)]
)
def test_a_wrong_number_of_keys_or_arguments_changes_nothing(
    lane: LaneDriver, more_keys: int, more_arguments: int
) -> None:
    before = keyspace(lane.client)
    script_keys = [*lane.issue_keys(COUPON), *lane.issue_keys(COUPON)[3:]][: 5 + more_keys]
    arguments = [lane.number, EPOCH, 5000, 10, "n", COUPON, 1, "", "extra"][: 8 + more_arguments]
    with pytest.raises(BrokenContract, match="2 for each ask"):
        lane.gate.run("issue_coupon", script_keys, arguments)
    assert keyspace(lane.client) == before


@pytest.mark.parametrize("bell_ms", ["0", "-1", "", "x", "1.5", "nan", "1e3", "0x10"])
def test_a_bell_time_that_is_none_is_an_error_before_anything_is_written(lane: LaneDriver, bell_ms: str) -> None:
    """The bell is armed last: refused there, it would leave a winner whom nobody told."""
    before = keyspace(lane.client)
    with pytest.raises(BrokenContract, match="bell time"):
        lane.gate.run("issue_coupon", lane.issue_keys(COUPON), [lane.number, EPOCH, bell_ms, 10, "n", COUPON, 1, ""])
    assert keyspace(lane.client) == before


@pytest.mark.parametrize("limit", ["", "x"])
def test_a_backlog_limit_that_is_none_is_an_error_and_changes_nothing(lane: LaneDriver, limit: str) -> None:
    before = keyspace(lane.client)
    with pytest.raises(BrokenContract, match="backlog limit"):
        lane.gate.run("issue_coupon", lane.issue_keys(COUPON), [lane.number, EPOCH, 5000, limit, "n", COUPON, 1, ""])
    assert keyspace(lane.client) == before


def test_a_lane_that_was_never_opened_decides_nothing(lane: LaneDriver) -> None:
    lane.client.delete(lane.lane_key)
    before = keyspace(lane.client)
    assert lane.issue(COUPON, 1) == ["lane_not_ready"]
    assert keyspace(lane.client) == before


def test_a_lane_approved_for_another_server_decides_nothing_until_it_is_approved_here(lane: LaneDriver) -> None:
    approved = lane.replid
    lane.change_lane(replid=approved[::-1])
    assert lane.issue(COUPON, 1) == ["lane_not_ready"]
    lane.change_lane(replid=approved)
    assert lane.issue(COUPON, 1)[0] == "issued"


def test_callers_with_an_older_or_a_newer_epoch_are_told_the_present_one(lane: LaneDriver) -> None:
    for epoch in (EPOCH - 1, EPOCH + 1, 0, "7.0", " 7", ""):
        assert lane.issue(COUPON, 1, epoch=epoch) == ["stale_epoch", str(EPOCH)]
    assert lane.outbox() == []


def test_numbers_and_sequences_have_no_gaps_whatever_is_refused_in_between(lane: LaneDriver) -> None:
    other = COUPON + 1
    lane.publish(other, total=3)
    for user in range(1, 8):
        for coupon in (COUPON, other):
            lane.issue(coupon, user)
            lane.issue(coupon, user, "again")
    entries = lane.outbox()
    assert [entry_id for entry_id, _ in entries] == [f"{EPOCH}-{number}" for number in range(1, 11)]
    for coupon, count in ((COUPON, 7), (other, 3)):
        sequences = [entry["sequence"] for _, entry in entries if entry["coupon_id"] == str(coupon)]
        assert sequences == [str(number) for number in range(1, count + 1)]
        assert lane.coupon(coupon)["issued"] == str(count)


def test_numbers_go_on_under_a_new_epoch(lane: LaneDriver) -> None:
    lane.issue(COUPON, 1)
    assert lane.approve(EPOCH + 1) == ["approved"]
    assert lane.issue(COUPON, 2) == ["stale_epoch", str(EPOCH + 1)]
    assert lane.issue(COUPON, 2, epoch=EPOCH + 1)[:3] == ["issued", "2", f"{lane.number}.{EPOCH + 1}.2.n2"]
    assert [entry_id for entry_id, _ in lane.outbox()] == [f"{EPOCH}-1", f"{EPOCH + 1}-2"]


def test_the_largest_numbers_stay_exact(lane: LaneDriver) -> None:
    largest = str(LARGEST)
    lane.publish(LARGEST, total=LARGEST)
    lane.change_coupon(LARGEST, issued=LARGEST - 1)
    lane.change_lane(epoch=LARGEST, last_number=LARGEST - 1)
    request_id = f"{lane.number}.{largest}.{largest}.n"
    assert lane.issue(LARGEST, LARGEST, "n", epoch=LARGEST) == ["issued", largest, request_id, 1]
    ((entry_id, entry),) = lane.outbox()
    assert entry_id == f"{largest}-{largest}"
    assert (entry["coupon_id"], entry["user_id"], entry["sequence"]) == (largest, largest, largest)
    assert lane.coupon(LARGEST)["issued"] == largest
    assert lane.client.hgetall(keys.winners(lane.number, LARGEST)) == {largest: f"{largest} {request_id}"}
    assert lane.client.hget(lane.lane_key, "last_number") == largest
    assert lane.issue(LARGEST, 1, epoch=LARGEST) == ["sold_out"]


@pytest.mark.parametrize(
    ("starts_after_ms", "ends_after_ms", "answer"),
    [
        (1, "", "not_started"),
        (0, "", "issued"),
        (-1, "", "issued"),
        ("", 1, "issued"),
        ("", 0, "ended"),
        ("", -1, "ended"),
        (0, 1, "issued"),
        ("", "", "issued"),
    ],
)
def test_a_window_begins_with_its_first_millisecond_and_ends_before_its_last(
    lane: LaneDriver, starts_after_ms: int | str, ends_after_ms: int | str, answer: str
) -> None:
    """The script itself, with the clock standing still at a known instant."""
    clock = "redis.call('TIME')"
    source = script("issue_coupon").source
    assert source.count(clock) == 1
    now_ms = 1_700_000_000_123
    stopped = script_from(source.replace(clock, "{'1700000000', '123999'}"), "issue_coupon_with_stopped_clock")
    window = {
        name: "" if after == "" else now_ms + int(after)
        for name, after in (("starts_at_ms", starts_after_ms), ("ends_at_ms", ends_after_ms))
    }
    lane.change_coupon(COUPON, **window)
    reply = stopped.run(lane.client, lane.issue_keys(COUPON), [lane.number, EPOCH, 5000, 10, "n", COUPON, 1, ""])
    assert reply[1][0] == answer
    assert [entry["decided_at_ms"] for _, entry in lane.outbox()] == [str(now_ms)] * (answer == "issued")


def test_the_window_is_judged_by_redis_own_clock(lane: LaneDriver) -> None:
    starts_at_ms = lane.now_ms() + 150
    ends_at_ms = starts_at_ms + 250
    lane.change_coupon(COUPON, total=10**6, starts_at_ms=starts_at_ms, ends_at_ms=ends_at_ms)
    answers: list[str] = []
    while answers[-1:] != ["ended"]:
        answers.append(lane.issue(COUPON, len(answers) + 1)[0])
    assert lane.now_ms() >= ends_at_ms
    assert sorted(set(answers), key=answers.index) == ["not_started", "issued", "ended"]
    decided = [int(entry["decided_at_ms"]) for _, entry in lane.outbox()]
    assert starts_at_ms <= min(decided) <= max(decided) < ends_at_ms
    assert decided == sorted(decided)


def test_when_the_append_is_refused_nothing_has_changed(lane: LaneDriver) -> None:
    """Somebody else wrote into the outbox: the one write that Redis can refuse comes before all others."""
    lane.client.xadd(keys.outbox(lane.number), {"kind": "strange"}, id=f"{EPOCH}-5")
    before = keyspace(lane.client)
    with pytest.raises(BrokenContract, match="equal or smaller"):
        lane.issue(COUPON, 1)
    assert keyspace(lane.client) == before


# -- many asks in one call


def test_asks_that_come_together_are_answered_as_if_they_had_come_one_after_the_other(lane: LaneDriver) -> None:
    """Winners, a repetition, a second try, another coupon, one that is paused, one that is not there, and the last."""
    other, paused, unknown = COUPON + 1, COUPON + 2, COUPON + 3
    asks = [
        (COUPON, 1, "a"),
        (other, 1, "b"),
        (COUPON, 2, "c"),
        (COUPON, 1, "a"),
        (COUPON, 1, "d"),
        (paused, 1, "e"),
        (unknown, 1, "f"),
        *((COUPON, user, f"g{user}") for user in range(3, 14)),
        (COUPON, 2, "c"),
    ]

    def fresh() -> None:
        lane.client.flushdb()
        lane.open()
        lane.publish(COUPON, total=10)
        lane.publish(other, total=5)
        lane.publish(paused, status="INACTIVE")

    fresh()
    one_by_one = [lane.issue_many([ask])[1] for ask in asks]
    apart = keyspace(lane.client)
    fresh()
    ring, *together = lane.issue_many(asks)
    assert (ring, together) == (1, one_by_one)
    statuses = [answer[0] for answer in together]
    assert statuses[:7] == ["issued", "issued", "issued", "replayed", "already_issued", "inactive", "not_found"]
    assert statuses[7:] == ["issued"] * 8 + ["sold_out"] * 3 + ["replayed"]
    at_once = keyspace(lane.client)
    for found in (apart, at_once):
        entries, last_id = found.pop(keys.outbox(lane.number))[1]  # type: ignore[misc]
        for _, entry in entries:
            del entry["decided_at_ms"]
        found["entries"] = ("stream", (entries, last_id), False)
    assert at_once == apart


def test_a_call_in_which_all_are_refused_writes_nothing_and_rings_nobody(lane: LaneDriver) -> None:
    lane.change_coupon(COUPON, total=0)
    before = keyspace(lane.client)
    assert lane.issue_many([(COUPON, user, "n") for user in range(1, 65)]) == [0, *[["sold_out"]] * 64]
    assert keyspace(lane.client) == before


def test_the_backlog_is_counted_while_a_call_fills_it(lane: LaneDriver) -> None:
    lane.issue(COUPON, 1)
    answers = lane.issue_many([(COUPON, user, "n") for user in range(2, 7)], backlog_limit=3)[1:]
    assert [answer[0] for answer in answers] == ["issued", "issued", "backlogged", "backlogged", "backlogged"]
    assert len(lane.outbox()) == 3


def test_when_the_first_append_of_many_is_refused_nothing_has_changed(lane: LaneDriver) -> None:
    lane.client.xadd(keys.outbox(lane.number), {"kind": "strange"}, id=f"{EPOCH}-5")
    before = keyspace(lane.client)
    with pytest.raises(BrokenContract, match="equal or smaller"):
        lane.issue_many([(COUPON, user, "n") for user in range(1, 9)])
    assert keyspace(lane.client) == before
