"""The stock gate against its model: whatever is done to holds and products, both answer and end up alike."""

from __future__ import annotations

from typing import Any

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

from engine.context import Engine
from engine.errors import BrokenContract
from engine.gate import keys
from tests.integration import stock_driver as driver
from tests.integration.stock_driver import BELL, HOLDS, KEEP_MS, LANE, OUTBOX
from tests.simulation.doctored import doctored_scripts
from tests.simulation.examples import machine_settings
from tests.simulation.stock_gate_model import Answer, Product, Reserve, StockGate

PRODUCTS = st.integers(1, 3)
QUANTITIES = st.dictionaries(PRODUCTS, st.integers(1, 2), min_size=1, max_size=3).map(
    lambda it: dict(sorted(it.items()))
)
NONCES = tuple("o" + letter * 44 for letter in "ab")
PAST_MS, FUTURE_MS = 1, 4_000_000_000_000


class StockGateMachine(RuleBasedStateMachine):
    """Lane 0 of a real server, and the model of it."""

    engine: Engine

    @initialize()
    def start(self) -> None:
        self.client: Any = self.engine.gate.client
        for key in self.client.scan_iter("sc:*"):
            if key != LANE:
                self.client.delete(key)
        self.client.hset(LANE, "last_number", 0)
        driver.change_lane(self.engine, returned="0")
        self.model = StockGate(epoch=int(driver.built_epoch(self.engine)))
        for product_id in (1, 2, 3):
            self.publish(product_id, 1, "ACTIVE", 3, 100)

    @rule(
        product=PRODUCTS,
        version=st.integers(1, 4),
        status=st.sampled_from(("ACTIVE", "ACTIVE", "ACTIVE", "INACTIVE")),
        more=st.integers(0, 2),
        price=st.sampled_from((100, 250)),
    )
    def publish(self, product: int, version: int, status: str, more: int, price: int) -> None:
        known = self.model.products.get(product)
        supplied = more + (known.supplied if known else 0)
        script_keys = [LANE, keys.sku(0, product)]
        terms: list[str | int] = [version, f"p{version}", price, status, supplied]
        answer = self.engine.gate.run("publish_product", script_keys, [self.model.epoch, *terms])
        assert answer == self.model.publish(product, Product(version, f"p{version}", price, status, supplied, 0))

    @rule(
        nonce=st.sampled_from(NONCES),
        quantities=QUANTITIES,
        keep=st.booleans(),
        append=st.booleans(),
        limit=st.sampled_from((1, 2, 100, 100, 100)),
        earlier=st.sampled_from(("", "", "", FUTURE_MS, PAST_MS)),
    )
    def reserve(
        self, nonce: str, quantities: dict[int, int], keep: bool, append: bool, limit: int, earlier: str | int
    ) -> None:
        changes: dict[str, Any] = {
            "keep": KEEP_MS if keep else 0,
            "append": int(append),
            "limit": limit,
            "deadline": earlier,
        }
        answer = driver.reserve(self.engine, quantities, nonce, **changes)
        ask = Reserve(nonce, quantities, keep, append, limit, late=earlier == PAST_MS)
        assert _timeless(answer) == self.model.reserve(ask)

    @rule(nonces=st.lists(st.sampled_from(NONCES), min_size=1, max_size=2, unique=True))
    def settle(self, nonces: list[str]) -> None:
        assert driver.settle(self.engine, *nonces) == self.model.settle(nonces)

    @rule(nonce=st.sampled_from(NONCES), shared=st.booleans())
    def release(self, nonce: str, shared: bool) -> None:
        assert driver.release(self.engine, 1, 2, 3, nonce=nonce, shared=shared) == self.model.release(nonce, shared)

    @rule(time_passes=st.booleans())
    def claim(self, time_passes: bool) -> None:
        overdue = [nonce for nonce, hold in self.model.holds.items() if hold.listed and time_passes]
        for nonce in overdue:
            self.model.holds[nonce].overdue = True
            self.client.zadd(HOLDS, {nonce: PAST_MS})
        answer = driver.claim(self.engine, *NONCES)
        answer[5::5] = ["DEADLINE" if int(text) > PAST_MS else text for text in answer[5::5]]
        assert answer == self.model.claim(NONCES)

    @rule(quantities=QUANTITIES)
    def put_back(self, quantities: dict[int, int]) -> None:
        assert driver.put_back(self.engine, quantities) == self.model.put_back(quantities)

    @precondition(lambda self: self.model.outbox)
    @rule(count=st.integers(1, 3))
    def drain(self, count: int) -> None:
        taken, self.model.outbox = self.model.outbox[:count], self.model.outbox[count:]
        self.client.xdel(OUTBOX, *(entry_id for entry_id, _ in taken))

    @precondition(lambda self: self.model.bell)
    @rule()
    def let_the_bell_expire(self) -> None:
        self.model.bell = False
        self.client.delete(BELL)

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        model = self.model
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.hget(LANE, "last_number").xrange(OUTBOX).exists(BELL).zrange(HOLDS, 0, -1, withscores=True)
            for product_id in (1, 2, 3):
                pipeline.hgetall(keys.sku(0, product_id))
            for nonce in NONCES:
                pipeline.hgetall(keys.hold(0, nonce)).pttl(keys.hold(0, nonce))
            last_number, outbox, bell, listed, *entities = pipeline.execute()
        assert (int(last_number), bool(bell)) == (model.last_number, model.bell)
        assert [(entry_id, entry["lines"]) for entry_id, entry in outbox] == model.outbox
        assert {nonce: score == PAST_MS for nonce, score in listed} == {
            nonce: hold.overdue for nonce, hold in model.holds.items() if hold.listed
        }
        assert dict(enumerate(entities[:3], 1)) == {
            product_id: {name: str(value) for name, value in vars(product).items()}
            for product_id, product in model.products.items()
        }
        assert all(product.available >= 0 for product in model.products.values())
        for nonce, found, expiry_ms in zip(NONCES, entities[3::2], entities[4::2], strict=True):
            self._assert_hold(nonce, found, expires=expiry_ms > 0)

    def _assert_hold(self, nonce: str, found: dict[str, str], *, expires: bool) -> None:
        hold = self.model.holds.get(nonce)
        if hold is None:
            assert found == {}
            return
        assert (found["state"], expires) == (hold.state, hold.state not in ("held", "ending"))
        if hold.state == "refused":
            assert found["answer"] == " ".join(hold.answer)
        else:
            assert (found["request_id"], found["lines"]) == (hold.request_id, hold.lines_text)


def _timeless(answer: Answer) -> Answer:
    """Any deadline is as good as another."""
    if answer[0] in ("reserved", "replayed") and answer[4]:
        return [*answer[:4], "DEADLINE", *answer[5:]]
    return answer


@pytest.fixture
def machine(engine: Engine) -> type[StockGateMachine]:
    return type("OnThisServer", (StockGateMachine,), {"engine": engine})


def test_the_stock_gate_is_its_model(machine: type[StockGateMachine]) -> None:
    run_state_machine_as_test(machine, settings=machine_settings())


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "pattern", "replacement"),
    [
        ("reserve_stock", r"tonumber\(sku\[3\]\) < tonumber\(quantity\)", "tonumber(sku[3]) + 1 < tonumber(quantity)"),
        ("reserve_stock", r"known\[1\] == 'ending'", "false"),
        ("reserve_stock", r"now_ms >= held_until_ms", "false"),
        ("release_stock", r"hold\[1\] ~= 'held' and hold\[1\] ~= 'ending'", "not hold[1]"),
        ("release_stock", r"hold\[4\] and ARGV\[4\] == '0'", "false"),
        ("settle_holds", r"redis\.call\('ZREM', holds_key, nonce\)", ""),
        ("claim_holds", r" and not waits\(hold\[2\]\)", ""),
        ("return_stock", r"redis\.call\('SET', marker_key, '1', 'PX', keep_ms\)", ""),
    ],
)
def test_a_script_with_a_small_mistake_is_not_its_model(
    machine: type[StockGateMachine], script: str, pattern: str, replacement: str
) -> None:
    with doctored_scripts({script: (pattern, replacement)}), pytest.raises((AssertionError, BrokenContract)):
        run_state_machine_as_test(machine, settings=machine_settings(control=True))
