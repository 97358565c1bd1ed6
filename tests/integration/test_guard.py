"""The guard on real servers: what Redis forgot is rebuilt from the ledger, what it kept goes on under a new epoch."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from engine.context import Engine
from engine.errors import GateUnavailable, LaneCountMismatch
from engine.flow.requests import request_state
from engine.gate import coupons as gate_coupons
from engine.gate import keys, stock
from engine.gate.building import LaneBuild
from engine.gate.lanes import close_lane
from engine.ledger import progress
from engine.ledger.progress import Progress
from engine.outcomes import Issued, Refusal, Refused, RequestState, RequestStatus
from engine.shop import coupon_offers, issuance
from engine.shop.coupon_offers import CouponOverview, NewCoupon
from engine.upkeep.guard import Verdict, watch_lanes
from engine.upkeep.relane import relane
from ops.stores import RunningStore
from ops.valkey import start_valkey
from tests.conftest import EngineMaker
from tests.integration.shop import add_product, add_user, assert_conserved, drain_all, order, state_of

SOME_USERS = range(1, 6)


@pytest.fixture(params=[1, 4], ids=["one lane", "four lanes"])
def lanes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def add_coupon(engine: Engine, quantity: int = 10, status: str = "ACTIVE") -> int:
    coupon = coupon_offers.create_coupon(engine, NewCoupon("쿠폰", 1000, quantity, None, None, status))
    assert isinstance(coupon, CouponOverview)
    return coupon.id


def issue(engine: Engine, coupon: int, user: int, key: str | None = None) -> Issued | Refused:
    return issuance.issue_coupon(engine, coupon_id=coupon, user_id=user, idempotency_key=key)


def sequence(outcome: Issued | Refused) -> int:
    assert isinstance(outcome, Issued), outcome
    return outcome.sequence


def everything(engine: Engine) -> dict[str, Any]:
    """What all lanes know of coupons and products, by key."""
    client: Any = engine.gate.client
    found = {}
    for pattern in ("sc:*:coupon:*", "sc:*:sku:*"):
        for key in client.scan_iter(pattern):
            found[key] = client.hgetall(key)
    return found


def recorded(engine: Engine) -> dict[int, Progress]:
    with engine.ledger.read() as connection:
        found = {lane: progress.progress_of_lane(connection, lane) for lane in range(engine.gate.lanes)}
    return {lane: each for lane, each in found.items() if each is not None}


def rush(engine: Engine) -> tuple[list[int], list[int]]:
    """Coupons and products with a history, all of it recorded; their ids."""
    coupons = [add_coupon(engine) for _ in range(4)]
    products = [add_product(engine, 10, 20) for _ in range(4)]
    add_coupon(engine, status="INACTIVE")
    for coupon in coupons:
        for user in SOME_USERS:
            sequence(issue(engine, coupon, user))
    user = add_user(engine, 1, 1000)
    for product in products:
        order(engine, user, {product: 3})
    drain_all(engine)
    return coupons, products


def assert_state(engine: Engine, request_id: str, status: RequestStatus) -> None:
    state = request_state(engine, request_id)
    assert isinstance(state, RequestState), state
    assert state.status is status


# A server that forgot


def test_a_lane_that_is_well_is_left_alone(engine: Engine, lanes: int) -> None:
    rush(engine)
    before, epochs = everything(engine), recorded(engine)
    assert watch_lanes(engine) == dict.fromkeys(range(lanes), Verdict.READY)
    assert (everything(engine), recorded(engine)) == (before, epochs)


def test_an_empty_redis_is_rebuilt_to_what_it_was(engine: Engine, lanes: int) -> None:
    rush(engine)
    before, epochs = everything(engine), recorded(engine)
    assert any("winners" in key for key in before)
    engine.gate.client.flushdb()
    assert watch_lanes(engine) == dict.fromkeys(range(lanes), Verdict.REBUILD)
    assert everything(engine) == before
    for lane, progressed in recorded(engine).items():
        assert progressed == Progress(epochs[lane].epoch + 1, epochs[lane].last_number)
    assert_conserved(engine)


def test_a_rebuild_that_missed_a_winner_would_be_noticed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    coupons, _ = rush(engine)
    before = everything(engine)
    add_winners = LaneBuild.add_winners

    def forgetful(build: LaneBuild, coupon_id: int, lines: str) -> None:
        add_winners(build, coupon_id, lines.partition("\n")[2])

    monkeypatch.setattr(LaneBuild, "add_winners", forgetful)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    assert everything(engine) != before
    assert isinstance(issue(engine, coupons[0], 1), Issued), "a coupon was issued twice to one user"


def test_places_in_line_go_on_without_a_gap_after_a_rebuild(engine: Engine) -> None:
    coupons, _ = rush(engine)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    for coupon in coupons:
        assert issue(engine, coupon, 1) == Refused(Refusal.COUPON_ALREADY_ISSUED)
        given = [sequence(issue(engine, coupon, user)) for user in range(100, 105)]
        assert given == [6, 7, 8, 9, 10]
        assert issue(engine, coupon, 105) == Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"})
    drain_all(engine)
    with engine.ledger.read() as connection:
        sequences = text("SELECT array_agg(sequence ORDER BY sequence) FROM user_coupons GROUP BY coupon_id")
        assert connection.execute(sequences).scalars().all() == [list(range(1, 11))] * 4


def test_an_answer_is_replayed_across_a_rebuild(engine: Engine) -> None:
    coupon = add_coupon(engine)
    first = issue(engine, coupon, 7, key="key")
    drain_all(engine)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    assert issue(engine, coupon, 7, key="key") == first


def test_what_waits_in_the_outbox_is_recorded_before_a_lane_is_rebuilt(engine: Engine, lanes: int) -> None:
    coupon = add_coupon(engine)
    waiting = issue(engine, coupon, 7)
    assert isinstance(waiting, Issued)
    for lane in range(lanes):
        close_lane(engine.gate, engine.gate.inspect(lane))
    assert watch_lanes(engine) == dict.fromkeys(range(lanes), Verdict.REBUILD)
    assert_state(engine, waiting.request_id, RequestStatus.COMPLETED)
    assert sequence(issue(engine, coupon, 8)) == 2


def test_a_rebuild_that_died_half_way_is_done_again(
    engine: Engine, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupons, _ = rush(engine)
    before = everything(engine)
    engine.gate.client.flushdb()

    class Crash(Exception):
        pass

    def die(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(LaneBuild, "add_coupon", die)
        with pytest.raises(Crash):
            watch_lanes(engine)
    for coupon in coupons:
        with pytest.raises(GateUnavailable):
            issue(engine, coupon, 99)
    watch_lanes(engine)
    assert everything(engine) == before
    assert watch_lanes(engine) == dict.fromkeys(range(lanes), Verdict.READY)


# A server that came back


def test_a_restart_that_lost_nothing_goes_on_under_a_new_epoch(
    make_engine: EngineMaker, own_redis: RunningStore, lanes: int
) -> None:
    engine = make_engine(redis_url=own_redis.url, lanes=lanes)
    watch_lanes(engine)
    coupons, _ = rush(engine)
    waiting = issue(engine, coupons[0], 50)
    assert isinstance(waiting, Issued)
    before, epochs = everything(engine), recorded(engine)
    own_redis.stop()
    restarted = start_valkey(own_redis.directory, own_redis.port)
    try:
        with pytest.raises(GateUnavailable):  # another replication id: it decides nothing until the guard has looked
            issue(engine, coupons[0], 51)
        verdict = Verdict.APPROVE if lanes == 1 else Verdict.REBUILD  # a lane may have forgotten another's hold
        assert watch_lanes(engine) == dict.fromkeys(range(lanes), verdict)
        if verdict is Verdict.APPROVE:
            assert everything(engine) == before
        assert {lane: each.epoch for lane, each in recorded(engine).items()} == {
            lane: each.epoch + 1 for lane, each in epochs.items()
        }
        drained = verdict is Verdict.REBUILD
        assert_state(engine, waiting.request_id, RequestStatus.COMPLETED if drained else RequestStatus.PENDING)
        assert sequence(issue(engine, coupons[0], 51)) == 7
        drain_all(engine)
        assert_state(engine, waiting.request_id, RequestStatus.COMPLETED)
    finally:
        restarted.stop()


def test_a_server_that_is_behind_the_ledger_is_rebuilt(
    make_engine: EngineMaker, own_redis: RunningStore, lanes: int
) -> None:
    engine = make_engine(redis_url=own_redis.url, lanes=lanes)
    watch_lanes(engine)
    coupon = add_coupon(engine)
    lane = gate_coupons.lane_of_coupon(engine.gate, coupon)
    sequence(issue(engine, coupon, 1))
    drain_all(engine)
    client: Any = engine.gate.client
    old_lane = client.hgetall(keys.lane(lane))
    old_coupon = client.hgetall(keys.coupon(lane, coupon))
    old_winners = client.hgetall(keys.winners(lane, coupon))
    sequence(issue(engine, coupon, 2))
    drain_all(engine)
    after = everything(engine)
    # A failover to a replica that had not heard of the second decision.
    client.hset(keys.lane(lane), mapping=old_lane)
    client.hset(keys.coupon(lane, coupon), mapping=old_coupon)
    client.delete(keys.winners(lane, coupon))
    client.hset(keys.winners(lane, coupon), mapping=old_winners)
    found = watch_lanes(engine)
    assert found[lane] is Verdict.REBUILD
    assert everything(engine) == after
    assert issue(engine, coupon, 2) == Refused(Refusal.COUPON_ALREADY_ISSUED)
    assert sequence(issue(engine, coupon, 3)) == 3


# Epochs


def test_a_process_that_believes_in_an_old_epoch_learns_the_new_one_and_decides_under_it(
    engine: Engine, lanes: int
) -> None:
    coupon = add_coupon(engine)
    lane = gate_coupons.lane_of_coupon(engine.gate, coupon)
    sequence(issue(engine, coupon, 1))
    drain_all(engine)
    believed = engine.gate.known_lane(lane).epoch
    engine.gate.client.flushdb()
    watch_lanes(engine)
    assert engine.gate.known_lane(lane).epoch == believed
    assert sequence(issue(engine, coupon, 2)) == 2
    assert engine.gate.known_lane(lane).epoch == (believed or 0) + 1


def test_a_decision_under_a_stale_epoch_is_refused_and_changes_nothing(engine: Engine) -> None:
    coupon = add_coupon(engine)
    lane = gate_coupons.lane_of_coupon(engine.gate, coupon)
    epoch = engine.gate.known_lane(lane).epoch or 0
    before = everything(engine)
    for stale in (epoch - 1, epoch + 1):
        script_keys = [keys.lane(lane), keys.outbox(lane), keys.bell(lane), keys.coupon(lane, coupon)]
        reply = engine.gate.run(
            "issue_coupon", [*script_keys, keys.winners(lane, coupon)], [lane, stale, 5000, 100, "c0", coupon, 7, ""]
        )
        assert reply[0] == "stale_epoch"
    assert everything(engine) == before
    assert engine.gate.client.xlen(keys.outbox(lane)) == 0


# The number of lanes


def test_data_of_another_number_of_lanes_is_refused(engine: Engine, make_engine: EngineMaker, lanes: int) -> None:
    coupons, _ = rush(engine)
    engine.gate.client.flushdb()
    other = make_engine(lanes=lanes + 1)
    with pytest.raises(LaneCountMismatch) as refusal:
        watch_lanes(other)
    assert (refusal.value.recorded, refusal.value.configured) == (lanes, lanes + 1)
    with pytest.raises(GateUnavailable):
        issue(other, coupons[0], 99)


@pytest.mark.parametrize("new_lanes", [2, 7])
def test_a_new_number_of_lanes_keeps_everything(
    engine: Engine, make_engine: EngineMaker, lanes: int, new_lanes: int
) -> None:
    coupons, products = rush(engine)
    first = issue(engine, coupons[0], 50, key="key")
    assert isinstance(first, Issued)
    bought = order(engine, 1, {products[0]: 1})
    before = {"coupons": coupon_numbers(engine, coupons), "products": product_numbers(engine, products)}
    with_new_lanes = make_engine(lanes=new_lanes)
    for _ in range(2):  # after a crash it is done again
        relane(with_new_lanes, lanes)
    assert set(watch_lanes(with_new_lanes).values()) == {Verdict.REBUILD}
    assert set(watch_lanes(with_new_lanes).values()) == {Verdict.READY}
    assert coupon_numbers(with_new_lanes, coupons) == before["coupons"]
    assert product_numbers(with_new_lanes, products) == before["products"]
    assert_state(with_new_lanes, first.request_id, RequestStatus.COMPLETED)
    assert state_of(with_new_lanes, bought).status is RequestStatus.COMPLETED
    assert issue(with_new_lanes, coupons[0], 50, key="key") == first
    assert sequence(issue(with_new_lanes, coupons[0], 51)) == 7
    drain_all(with_new_lanes)
    assert_conserved(with_new_lanes)


def coupon_numbers(engine: Engine, coupons: list[int]) -> dict[int, Any]:
    """Terms, count and winners by coupon, wherever they live."""
    client: Any = engine.gate.client
    found = {}
    for coupon in coupons:
        lane = gate_coupons.lane_of_coupon(engine.gate, coupon)
        found[coupon] = (client.hgetall(keys.coupon(lane, coupon)), client.hgetall(keys.winners(lane, coupon)))
        assert found[coupon][0]
    return found


def product_numbers(engine: Engine, products: list[int]) -> dict[int, Any]:
    client: Any = engine.gate.client
    found = {}
    for product in products:
        lane = stock.lane_of_product(engine.gate, product)
        found[product] = client.hgetall(keys.sku(lane, product))
        assert found[product]
    return found
