"""The coupon gate against its model: whatever is done to a lane, in whatever order, both answer and end up alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.gate import keys
from engine.gate.gate import Gate
from tests.integration.lane_driver import LaneDriver
from tests.simulation.coupon_gate_model import Ask, Coupon, CouponGate
from tests.simulation.doctored import doctored_scripts
from tests.simulation.examples import machine_settings

LANE = 3
PAST_MS, FUTURE_MS = "1000", "4000000000000"
COUPONS = st.integers(1, 3)
USERS = st.integers(1, 4)
ASKS = st.tuples(COUPONS, USERS, st.sampled_from(("a", "aa")))
EPOCHS = st.sampled_from((0, 0, 0, 0, 0, -1, 1))
"""What a caller believes, as its distance from the truth."""


class CouponGateMachine(RuleBasedStateMachine):
    """One lane of a real server, and the model of it."""

    driver: LaneDriver

    @initialize()
    def start(self) -> None:
        self.driver.client.flushdb()
        self.model = CouponGate(LANE)
        self.open_it(1, 0)

    @rule(ahead=st.integers(-1, 2), last_number=st.integers(0, 3))
    def open_it(self, ahead: int, last_number: int) -> None:
        epoch = max(1, self.model.epoch + ahead)
        assert self.driver.open(epoch, last_number) == self.model.build_and_open(epoch, last_number)

    @precondition(lambda self: self.model.open and self.model.approved)
    @rule(closed=st.booleans())
    def close_or_find_itself_on_another_server(self, closed: bool) -> None:
        if closed:
            self.model.open = False
            self.driver.change_lane(open="0")
        else:
            self.model.approved = False
            self.driver.change_lane(replid="0" * 40)

    @rule(
        coupon=COUPONS,
        version=st.integers(1, 4),
        status=st.sampled_from(("ACTIVE", "ACTIVE", "ACTIVE", "INACTIVE")),
        total=st.integers(1, 3),
        window=st.sampled_from((("", ""),) * 5 + ((PAST_MS, FUTURE_MS), (FUTURE_MS, ""), ("", PAST_MS))),
        belief=EPOCHS,
    )
    def publish(self, coupon: int, version: int, status: str, total: int, window: tuple[str, str], belief: int) -> None:
        epoch, (starts, ends) = self.model.epoch + belief, window
        answer = self.driver.publish(coupon, total, status, starts, ends, version, epoch)
        assert answer == self.model.publish(coupon, Coupon(version, status, total, starts, ends), epoch)

    @rule(asks=st.lists(ASKS, min_size=1, max_size=4), belief=EPOCHS, limit=st.sampled_from((1, 2, 100)))
    def issue(self, asks: list[Ask], belief: int, limit: int) -> None:
        epoch = self.model.epoch + belief
        answer = self.driver.issue_many(asks, epoch=epoch, backlog_limit=limit)
        assert answer == self.model.issue(asks, epoch, limit, self.driver.now_ms())

    @precondition(lambda self: self.model.outbox)
    @rule(count=st.integers(1, 3))
    def drain(self, count: int) -> None:
        taken, self.model.outbox = self.model.outbox[:count], self.model.outbox[count:]
        self.driver.client.xdel(keys.outbox(LANE), *(entry_id for entry_id, _ in taken))

    @precondition(lambda self: self.model.bell)
    @rule()
    def let_the_bell_expire(self) -> None:
        self.model.bell = False
        self.driver.client.delete(keys.bell(LANE))

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        model, client = self.model, self.driver.client
        with client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(keys.lane(LANE)).xrange(keys.outbox(LANE)).exists(keys.bell(LANE))
            for coupon_id in (1, 2, 3):
                pipeline.hgetall(keys.coupon(LANE, coupon_id)).hgetall(keys.winners(LANE, coupon_id))
            lane, outbox, bell, *coupons = pipeline.execute()
        assert (lane["open"] == "1", lane["epoch"], lane["last_number"]) == (
            model.open,
            str(model.epoch),
            str(model.last_number),
        )
        assert [(entry_id, _timeless(entry)) for entry_id, entry in outbox] == model.outbox
        assert bool(bell) == model.bell
        for coupon_id, terms, winners in zip((1, 2, 3), coupons[::2], coupons[1::2], strict=True):
            assert (terms, winners) == _as_kept(model.coupons.get(coupon_id))


def _timeless(entry: dict[str, str]) -> dict[str, str]:
    assert int(entry["decided_at_ms"]) > 0
    return {name: value for name, value in entry.items() if name != "decided_at_ms"}


def _as_kept(coupon: Coupon | None) -> tuple[dict[str, str], dict[str, str]]:
    """The two hashes of a coupon."""
    if coupon is None:
        return {}, {}
    terms = {
        "version": str(coupon.version),
        "status": coupon.status,
        "total": str(coupon.total),
        "starts_at_ms": coupon.starts_at_ms,
        "ends_at_ms": coupon.ends_at_ms,
        "issued": str(coupon.issued),
    }
    return terms, {str(user): f"{place} {request_id}" for user, (place, request_id) in coupon.winners.items()}


@pytest.fixture
def machine(redis_url: str) -> Iterator[type[CouponGateMachine]]:
    gate = Gate.connect(redis_url, lanes=16, backlog_limit=1000, timeout_seconds=5)
    yield type("OnThisServer", (CouponGateMachine,), {"driver": LaneDriver(gate, LANE)})
    gate.client.flushdb()
    gate.close()


def test_the_coupon_gate_is_its_model(machine: type[CouponGateMachine]) -> None:
    run_state_machine_as_test(machine, settings=machine_settings())


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "pattern", "replacement"),
    [
        ("issue_coupon", r"coupon\.issued >= coupon\.total", "coupon.issued > coupon.total"),
        ("issue_coupon", r"'\.' \.\. nonce then", "nonce then"),
        ("issue_coupon", r"state\[1\] ~= '1' or [^\n]* then", "state[1] ~= '1' then"),
        ("issue_coupon", r"backlog >= backlog_limit", "backlog > backlog_limit"),
        ("publish_coupon", r"tonumber\(known\[1\]\) >= tonumber\(version\)", "tonumber(known[1]) > tonumber(version)"),
        ("open_lane", r"known\[2\] and tonumber\(known\[2\]\) > tonumber\(last_number\)", "false"),
    ],
)
def test_a_script_with_a_small_mistake_is_not_its_model(
    machine: type[CouponGateMachine], script: str, pattern: str, replacement: str
) -> None:
    with doctored_scripts({script: (pattern, replacement)}), pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=machine_settings(control=True))
