"""Where a request stands: never COMPLETED before the commit, never forgotten, never made up."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import text

from engine.context import Engine
from engine.errors import GateUnavailable, LedgerUnavailable
from engine.flow.requests import request_state, request_states, wait_for_request
from engine.gate import keys
from engine.gate.coupons import lane_of_coupon
from engine.gate.lanes import close_lane
from engine.gate.request_ids import RequestId, new_nonce, split_request_id
from engine.outcomes import Issued, Refusal, Refused, RequestKind, RequestState, RequestStatus
from engine.shop import coupon_offers, issuance
from engine.shop.coupon_offers import CouponOverview, NewCoupon
from engine.upkeep.guard import Verdict, watch_lanes
from tests.conftest import EngineMaker
from tests.integration.shop import add_product, add_user, balance, drain_all, order

NOT_FOUND = Refused(Refusal.REQUEST_NOT_FOUND)
NOBODY_LISTENS = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
WAIT_SECONDS = 10.0


@pytest.fixture(params=[1, 4], ids=["one lane", "four lanes"])
def lanes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def coupon(engine: Engine) -> int:
    """A coupon to be had."""
    created = coupon_offers.create_coupon(engine, NewCoupon("쿠폰", 1000, 100, None, None, "ACTIVE"))
    assert isinstance(created, CouponOverview)
    return created.id


@pytest.fixture
def without_ledger(make_engine: EngineMaker, lanes: int) -> Engine:
    """An engine on the same gate whose Postgres is not to be had: what it answers, it answers without."""
    return make_engine(lanes=lanes, database_url=NOBODY_LISTENS)


def issue(engine: Engine, coupon: int, user_id: int = 7) -> str:
    """A granted request."""
    issued = issuance.issue_coupon(engine, coupon_id=coupon, user_id=user_id, idempotency_key=None)
    assert isinstance(issued, Issued)
    return issued.request_id


def pending(request_id: str, kind: RequestKind = RequestKind.COUPON_ISSUE, user_id: int = 7) -> RequestState:
    return RequestState(request_id, kind, RequestStatus.PENDING, user_id=user_id)


def lost(request_id: str, owner: int | None = None) -> RequestState:
    error = Refused(Refusal.TEMPORARY_ERROR)
    return RequestState(request_id, RequestKind.COUPON_ISSUE, RequestStatus.FAILED, error=error, user_id=owner)


def submitted(engine: Engine, user_id: int, product_id: int, quantity: int) -> str:
    outcome = order(engine, user_id, {product_id: quantity})
    assert not isinstance(outcome, Refused)
    return outcome.request_id


# PENDING


def test_a_pending_request_is_told_without_touching_the_ledger(
    engine: Engine, without_ledger: Engine, coupon: int
) -> None:
    request_id = issue(engine, coupon)
    assert request_state(without_ledger, request_id) == pending(request_id)
    user, product = add_user(engine, 8, 10), add_product(engine, 1, 5)
    request_id = submitted(engine, user, product, 1)
    assert request_state(without_ledger, request_id) == pending(request_id, RequestKind.ORDER, user)


def test_a_request_that_left_the_outbox_cannot_be_told_without_the_ledger(
    engine: Engine, without_ledger: Engine, coupon: int
) -> None:
    request_id = issue(engine, coupon)
    drain_all(engine)
    with pytest.raises(LedgerUnavailable):
        request_state(without_ledger, request_id)


def test_a_request_of_a_closed_lane_is_pending_while_it_waits(engine: Engine, coupon: int) -> None:
    request_id = issue(engine, coupon)
    close_lane(engine.gate, engine.gate.inspect(lane_of_coupon(engine.gate, coupon)))
    assert request_state(engine, request_id) == pending(request_id)


# COMPLETED and FAILED


def test_a_recorded_coupon_is_completed_with_its_result(engine: Engine, coupon: int) -> None:
    request_id = issue(engine, coupon)
    drain_all(engine)
    state = request_state(engine, request_id)
    assert isinstance(state, RequestState)
    assert (state.status, state.error) == (RequestStatus.COMPLETED, None)
    assert state.result is not None
    with engine.ledger.read() as connection:
        row = connection.execute(text("SELECT id, issued_at FROM user_coupons")).one()
    assert state.result == {
        "userCouponId": row.id,
        "couponId": coupon,
        "userId": 7,
        "sequence": 1,
        "issuedAt": state.result["issuedAt"],
    }


def test_a_settled_order_is_completed_and_one_that_cannot_be_paid_is_failed(engine: Engine) -> None:
    user, product = add_user(engine, 7, 10), add_product(engine, 6, 5)
    paid, unpaid = submitted(engine, user, product, 1), submitted(engine, user, product, 1)
    drain_all(engine)
    first, second = request_state(engine, paid), request_state(engine, unpaid)
    assert isinstance(first, RequestState)
    assert first.result is not None
    assert (first.status, first.result["paidAmount"]) == (RequestStatus.COMPLETED, 6)
    assert second == RequestState(
        unpaid, RequestKind.ORDER, RequestStatus.FAILED, error=Refused(Refusal.INSUFFICIENT_BALANCE), user_id=user
    )
    assert balance(engine, user) == 4


def test_requests_of_all_kinds_and_states_are_told_together_as_they_are_alone(engine: Engine, coupon: int) -> None:
    user, product = add_user(engine, 7, 10), add_product(engine, 6, 5)
    asked = [issue(engine, coupon, 8), submitted(engine, user, product, 1), submitted(engine, user, product, 1)]
    drain_all(engine)
    asked += [issue(engine, coupon, 9), submitted(engine, user, product, 1)]
    by_lane: dict[int, list[RequestId]] = {}
    for request in (split_request_id(each) for each in asked):
        by_lane.setdefault(request.lane, []).extend([request, request._replace(number=request.number + 1000)])
    for lane, requests in by_lane.items():
        alone = [request_states(engine, lane, [request])[0] for request in requests]
        assert request_states(engine, lane, requests) == alone
        assert Refused(Refusal.REQUEST_NOT_FOUND) in alone


def test_what_the_ledger_refused_to_record_is_failed(engine: Engine, coupon: int) -> None:
    request_id = issue(engine, coupon)
    with engine.ledger.transaction() as connection:
        connection.execute(text("DELETE FROM coupons"))
    drain_all(engine)
    assert request_state(engine, request_id) == lost(request_id, owner=7)
    assert request_state(engine, request_id, asked_by=8) == NOT_FOUND


def test_what_redis_forgot_before_the_drain_is_failed_and_can_be_asked_for_again(engine: Engine, coupon: int) -> None:
    request_id = issue(engine, coupon)
    engine.gate.client.flushdb()
    assert set(watch_lanes(engine).values()) == {Verdict.REBUILD}
    assert request_state(engine, request_id) == lost(request_id)
    again = issue(engine, coupon)
    drain_all(engine)
    state = request_state(engine, again)
    assert isinstance(state, RequestState)
    assert state.status is RequestStatus.COMPLETED
    assert request_state(engine, request_id) == lost(request_id)


def test_what_was_recorded_stays_completed_although_redis_forgot_everything(engine: Engine, coupon: int) -> None:
    request_id = issue(engine, coupon)
    drain_all(engine)
    before = request_state(engine, request_id)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    assert request_state(engine, request_id) == before


# Not to be known now


def test_a_final_state_stays_final_when_an_outbox_comes_back_with_what_had_left_it(
    engine: Engine, without_ledger: Engine, coupon: int
) -> None:
    """As after a power cut, when Redis has not yet written down that the entry was taken out."""
    request_id, lane = issue(engine, coupon), lane_of_coupon(engine.gate, coupon)
    client: Any = engine.gate.client
    ((entry_id, fields),) = client.xrange(keys.outbox(lane))
    assert request_state(without_ledger, request_id) == pending(request_id)
    drain_all(engine)
    completed = request_state(engine, request_id)
    assert isinstance(completed, RequestState)
    assert completed.status is RequestStatus.COMPLETED
    client.delete(keys.outbox(lane))
    client.xadd(keys.outbox(lane), fields, id=entry_id)
    client.hset(keys.lane(lane), "replid", "0" * 40)
    assert request_state(engine, request_id) == completed
    assert request_state(without_ledger, request_id) == pending(request_id)
    watch_lanes(engine)
    assert request_state(engine, request_id) == completed
    drain_all(engine)
    assert request_state(engine, request_id) == completed


def test_whether_a_request_was_lost_is_not_told_before_the_guard_has_looked(engine: Engine, coupon: int) -> None:
    request_id = issue(engine, coupon)
    engine.gate.client.flushdb()
    with pytest.raises(GateUnavailable):
        request_state(engine, request_id)


def test_a_recorded_request_is_told_even_while_the_gate_is_not_ready(engine: Engine, coupon: int) -> None:
    request_id = issue(engine, coupon)
    drain_all(engine)
    before = request_state(engine, request_id)
    engine.gate.client.flushdb()
    assert request_state(engine, request_id) == before


def test_a_process_that_just_started_cannot_tell_while_the_gate_is_not_ready(
    engine: Engine, make_engine: EngineMaker, lanes: int, coupon: int
) -> None:
    request_id = issue(engine, coupon)
    for lane in range(lanes):
        close_lane(engine.gate, engine.gate.inspect(lane))
    with pytest.raises(GateUnavailable):
        request_state(make_engine(lanes=lanes), request_id)


def test_without_redis_nothing_is_told(engine: Engine, make_engine: EngineMaker, coupon: int) -> None:
    request_id = issue(engine, coupon)
    with pytest.raises(GateUnavailable):
        request_state(make_engine(redis_url="redis://127.0.0.1:1/0"), request_id)


# Not ours


def test_an_id_that_was_never_given_is_not_found(engine: Engine, coupon: int) -> None:
    given = split_request_id(issue(engine, coupon))
    last = given.nonce[-1]
    forged_seal = given.nonce[:-1] + ("0" if last != "0" else "1")
    other_kind = "o" + given.nonce[1:]
    place = f"{given.lane}.{given.epoch}.{given.number}"
    for forged in (
        "",
        "x",
        "0.1.1",
        f"{place}.{forged_seal}",
        f"{place}.{other_kind}",
        f"{place}.{given.nonce}\n",
        f"{place}.{given.nonce.upper()}",
        f" {place}.{given.nonce}",
    ):
        assert request_state(engine, forged) == NOT_FOUND, forged


def test_a_seal_of_ours_on_a_place_in_line_nobody_got_is_not_found(engine: Engine, coupon: int) -> None:
    given = split_request_id(issue(engine, coupon))
    nonce = new_nonce(engine.gate.request_key(), RequestKind.COUPON_ISSUE)
    for number in (given.number, given.number + 1):
        assert request_state(engine, f"{given.lane}.{given.epoch}.{number}.{nonce}") == NOT_FOUND
    assert request_state(engine, f"{given.lane}.{given.epoch}.{given.number + 1}.{given.nonce}") == NOT_FOUND
    assert request_state(engine, f"{given.lane}.{given.epoch + 1}.{given.number}.{given.nonce}") == NOT_FOUND


def test_somebody_elses_place_in_line_tells_nothing_about_them(engine: Engine, coupon: int) -> None:
    mine, theirs = split_request_id(issue(engine, coupon, 7)), split_request_id(issue(engine, coupon, 8))
    assert request_state(engine, f"{theirs.lane}.{theirs.epoch}.{theirs.number}.{mine.nonce}") == NOT_FOUND


# Somebody else's


def test_somebody_elses_request_does_not_exist_at_any_time_of_its_life(engine: Engine, coupon: int) -> None:
    user, product = add_user(engine, 7, 10), add_product(engine, 6, 5)
    theirs = [
        issue(engine, coupon, user),
        submitted(engine, user, product, 1),
        submitted(engine, user, product, 1),  # which the balance does not pay for
    ]
    for status in ("pending", "recorded"):
        for request_id in theirs:
            assert request_state(engine, request_id, asked_by=8) == NOT_FOUND, status
            assert request_state(engine, request_id, asked_by=user) == request_state(engine, request_id), status
            assert wait_for_request(engine, request_id, 3600, asked_by=8) == NOT_FOUND, status
        drain_all(engine)


def test_what_redis_forgot_has_no_owner_any_more_and_is_failed_for_whoever_has_its_id(
    engine: Engine, coupon: int
) -> None:
    request_id = issue(engine, coupon, 7)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    assert request_state(engine, request_id, asked_by=8) == lost(request_id)


# Waiting


def test_who_waits_learns_the_end_as_soon_as_it_is_recorded(engine: Engine, coupon: int) -> None:
    request_id = issue(engine, coupon)
    seen: list[RequestState | Refused] = []
    waiting = threading.Thread(target=lambda: seen.append(wait_for_request(engine, request_id, WAIT_SECONDS)))
    waiting.start()
    drain_all(engine)
    waiting.join(WAIT_SECONDS)
    [state] = seen
    assert isinstance(state, RequestState)
    assert state.status is RequestStatus.COMPLETED


def test_who_waits_in_vain_is_told_that_it_is_pending(engine: Engine, coupon: int) -> None:
    request_id = issue(engine, coupon)
    assert wait_for_request(engine, request_id, 0.05) == pending(request_id)


def test_who_waits_for_nothing_is_told_at_once(engine: Engine) -> None:
    assert wait_for_request(engine, "x", 3600) == NOT_FOUND


def test_a_request_is_looked_for_in_its_own_lane(engine: Engine, lanes: int, coupon: int) -> None:
    given = split_request_id(issue(engine, coupon))
    assert given.lane == keys.lane_of("coupon", coupon, lanes)
    assert request_state(engine, f"{lanes + 7}.{given.epoch}.{given.number}.{given.nonce}") == NOT_FOUND
