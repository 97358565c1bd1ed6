"""Many at once for few: exactly as many winners as units, each with a place in line of their own.

The negative control decides in two round trips, look first and write second, and the same assertion catches it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from engine.errors import EngineError
from engine.flow.turnstile import Passed, Turnstile
from engine.gate import coupons as gate_coupons
from engine.gate import keys
from engine.gate.coupons import ASKS_PER_CALL, IssueAsk, IssueDecision, lane_of_coupon
from engine.gate.gate import Gate
from engine.gate.request_ids import split_request_id
from engine.outcomes import IssueStatus
from tests.integration.lane_driver import LaneDriver

THREADS = 16
ATTEMPTS = 2000
USERS = 1500
UNITS = 100
COUPONS = (41, 42, 43, 44)

Decide = Callable[[Gate, int, int], IssueDecision]


Turnstiles = dict[int, Turnstile[IssueAsk, IssueDecision]]
_turnstiles: dict[int, Turnstiles] = {}
"""By gate: what its crowd goes through; a gate that is not here is asked by each alone."""


@pytest.fixture(params=[(1, False), (16, False), (1, True), (16, True)], ids=str)
def gate(redis_url: str, request: pytest.FixtureRequest) -> Iterator[Gate]:
    """A gate whose lanes are all open and empty; its crowd comes one by one, or together through a turnstile."""
    lanes, together = request.param
    gate = Gate.connect(redis_url, lanes=lanes, backlog_limit=1_000_000, timeout_seconds=10)
    gate.client.flushdb()
    for number in range(gate.lanes):
        LaneDriver(gate, number).open()
    if together:
        _turnstiles[id(gate)] = {lane: turnstile(gate, lane) for lane in range(lanes)}
    yield gate
    for each in _turnstiles.pop(id(gate), {}).values():
        each.close()
    gate.close()


def turnstile(gate: Gate, lane: int) -> Turnstile[IssueAsk, IssueDecision]:
    return Turnstile(
        lambda asks: Passed(gate_coupons.issue(gate, lane, asks).decisions), at_once=ASKS_PER_CALL, places=THREADS
    )


def issue_one(gate: Gate, ask: IssueAsk) -> IssueDecision:
    lane = lane_of_coupon(gate, ask.coupon_id)
    if id(gate) in _turnstiles:
        told: Future[IssueDecision | EngineError] = Future()
        _turnstiles[id(gate)][lane].put(ask, told.set_result)
        outcome = told.result()
        assert isinstance(outcome, IssueDecision), outcome
        return outcome
    return gate_coupons.issue(gate, lane, [ask]).decisions[0]


def issue(gate: Gate, coupon_id: int, user_id: int) -> IssueDecision:
    return issue_one(gate, IssueAsk(coupon_id, user_id))


def publish(gate: Gate, coupon_id: int, units: int) -> None:
    LaneDriver(gate, lane_of_coupon(gate, coupon_id)).publish(coupon_id, total=units)


def crowd(gate: Gate, decide: Decide, coupon_ids: Sequence[int], attempts: int = ATTEMPTS) -> list[IssueDecision]:
    """Let the threads begin together and share the attempts; users and coupons alternate."""
    begin = threading.Barrier(THREADS)

    def run(thread: int) -> list[IssueDecision]:
        begin.wait(10)
        return [
            decide(gate, coupon_ids[number % len(coupon_ids)], 1 + number % USERS)
            for number in range(thread, attempts, THREADS)
        ]

    with ThreadPoolExecutor(THREADS) as pool:
        return [decision for part in pool.map(run, range(THREADS)) for decision in part]


def assert_fair(gate: Gate, coupon_id: int, units: int) -> None:
    """The gate gave out exactly ``units``: places 1 … units, in the order of the outbox, each to another user."""
    lane = LaneDriver(gate, lane_of_coupon(gate, coupon_id))
    entries = [entry for _, entry in lane.outbox() if entry["coupon_id"] == str(coupon_id)]
    assert [int(entry["sequence"]) for entry in entries] == list(range(1, units + 1))
    assert len({entry["user_id"] for entry in entries}) == units
    assert lane.coupon(coupon_id)["issued"] == str(units)
    assert gate.client.hgetall(keys.winners(lane.number, coupon_id)) == {
        entry["user_id"]: f"{entry['sequence']} {entry['request_id']}" for entry in entries
    }


def in_two_steps(meeting: threading.Barrier) -> Decide:
    """Look in one round trip, write in the next; the first ones to look wait for each other before they write."""
    met = threading.local()

    def decide(gate: Gate, coupon_id: int, user_id: int) -> IssueDecision:
        lane = lane_of_coupon(gate, coupon_id)
        coupon_key, winners_key = keys.coupon(lane, coupon_id), keys.winners(lane, coupon_id)
        issued, total = (int(str(text)) for text in gate.client.hmget(coupon_key, ["issued", "total"]))
        if gate.client.hexists(winners_key, str(user_id)):
            return IssueDecision(IssueStatus.ALREADY_ISSUED)
        if issued >= total:
            return IssueDecision(IssueStatus.SOLD_OUT)
        if not hasattr(met, "once"):
            met.once = meeting.wait(10)
        epoch = gate.known_lane(lane).epoch
        with gate.client.pipeline() as pipeline:
            number = gate.client.hincrby(keys.lane(lane), "last_number", 1)
            request_id, sequence = f"{lane}.{epoch}.{number}.c", str(issued + 1)
            fields = {"request_id": request_id, "coupon_id": coupon_id, "user_id": user_id, "sequence": sequence}
            pipeline.xadd(keys.outbox(lane), fields)  # type: ignore[arg-type]
            pipeline.hset(coupon_key, "issued", sequence)
            pipeline.hset(winners_key, str(user_id), f"{sequence} {request_id}")
            pipeline.execute()
        return IssueDecision(IssueStatus.ISSUED, issued + 1, request_id)

    return decide


def test_two_thousand_attempts_for_a_hundred_units_have_a_hundred_winners(gate: Gate) -> None:
    publish(gate, COUPONS[0], UNITS)
    decisions = crowd(gate, issue, COUPONS[:1])
    counted = Counter(decision.status for decision in decisions)
    assert counted[IssueStatus.ISSUED] == UNITS
    assert set(counted) <= {IssueStatus.ISSUED, IssueStatus.SOLD_OUT, IssueStatus.ALREADY_ISSUED}
    assert_fair(gate, COUPONS[0], UNITS)
    told = {decision.request_id: decision.sequence for decision in decisions if decision.request_id}
    lane = LaneDriver(gate, lane_of_coupon(gate, COUPONS[0]))
    assert told == {entry["request_id"]: int(entry["sequence"]) for _, entry in lane.outbox()}


def test_several_coupons_at_once_do_not_disturb_each_other_and_lanes_number_without_gaps(gate: Gate) -> None:
    for coupon_id in COUPONS:
        publish(gate, coupon_id, UNITS)
    decisions = crowd(gate, issue, COUPONS)
    for coupon_id in COUPONS:
        assert_fair(gate, coupon_id, UNITS)
    winners = [split_request_id(decision.request_id) for decision in decisions if decision.request_id]
    assert len(winners) == UNITS * len(COUPONS)
    for lane in {request.lane for request in winners}:
        numbers = sorted(request.number for request in winners if request.lane == lane)
        assert numbers == list(range(1, len(numbers) + 1))
        assert [entry_id for entry_id, _ in LaneDriver(gate, lane).outbox()] == [f"7-{number}" for number in numbers]


def test_one_user_who_asks_from_everywhere_at_once_gets_one(gate: Gate) -> None:
    publish(gate, COUPONS[0], UNITS)
    decisions = crowd(gate, lambda gate, coupon, _: issue(gate, coupon, 7), COUPONS[:1], attempts=200)
    counted = Counter(decision.status for decision in decisions)
    assert counted == {IssueStatus.ISSUED: 1, IssueStatus.ALREADY_ISSUED: 199}
    assert_fair(gate, COUPONS[0], 1)


def test_one_idempotency_key_asked_from_everywhere_at_once_has_one_answer(gate: Gate) -> None:
    publish(gate, COUPONS[0], UNITS)
    decisions = crowd(
        gate, lambda gate, coupon, _: issue_one(gate, IssueAsk(coupon, 7, "key")), COUPONS[:1], attempts=200
    )
    counted = Counter(decision.status for decision in decisions)
    assert counted == {IssueStatus.ISSUED: 1, IssueStatus.REPLAYED: 199}
    assert len({(decision.request_id, decision.sequence) for decision in decisions}) == 1
    assert_fair(gate, COUPONS[0], 1)


def test_the_last_unit_goes_to_exactly_one_user(gate: Gate) -> None:
    for coupon_id in range(100, 130):
        publish(gate, coupon_id, 1)
        decisions = crowd(gate, issue, [coupon_id], attempts=THREADS)
        counted = Counter(decision.status for decision in decisions)
        assert counted == {IssueStatus.ISSUED: 1, IssueStatus.SOLD_OUT: THREADS - 1}
        assert_fair(gate, coupon_id, 1)


def test_a_decision_in_two_steps_is_noticed(gate: Gate) -> None:
    publish(gate, COUPONS[0], UNITS)
    crowd(gate, in_two_steps(threading.Barrier(THREADS)), COUPONS[:1])
    with pytest.raises(AssertionError):
        assert_fair(gate, COUPONS[0], UNITS)


def test_a_last_unit_given_in_two_steps_goes_to_several(gate: Gate) -> None:
    publish(gate, COUPONS[0], 1)
    decisions = crowd(gate, in_two_steps(threading.Barrier(THREADS)), COUPONS[:1], attempts=THREADS)
    assert Counter(decision.status for decision in decisions) == {IssueStatus.ISSUED: THREADS}
    with pytest.raises(AssertionError):
        assert_fair(gate, COUPONS[0], 1)


def test_the_two_steps_are_fair_while_nobody_comes_in_between(gate: Gate) -> None:
    """What the control gets wrong is the race and nothing else."""
    publish(gate, COUPONS[0], 5)
    alone = in_two_steps(threading.Barrier(1))
    statuses = [alone(gate, COUPONS[0], user).status for user in (1, 2, 2, 3, 4, 5, 6)]
    assert Counter(statuses) == {IssueStatus.ISSUED: 5, IssueStatus.ALREADY_ISSUED: 1, IssueStatus.SOLD_OUT: 1}
    assert_fair(gate, COUPONS[0], 5)
