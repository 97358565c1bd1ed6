"""Stock at the gate: reserve, settle, release, return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.errors import GateUnavailable
from engine.gate import keys
from engine.gate.gate import BELL_SECONDS, Gate, LaneState, unavailability_translated
from engine.gate.request_ids import new_nonce, repeatable_nonce
from engine.outcomes import RequestKind, ReserveStatus

KIND = "sku"
HOLD_SECONDS = 30
"""After this time the sweeper asks the ledger what became of a hold; far longer than an order takes to be appended."""
KEEP_SECONDS = 25 * 3600
"""How long an answer under an idempotency key is remembered: the contract's 24 hours and some."""
RETURN_MARKER_SECONDS = 7 * 24 * 3600
HOLDS_PER_CALL = 500


@dataclass(frozen=True)
class Line:
    """Units of one product at the price they were reserved at (KRW per unit)."""

    product_id: int
    quantity: int
    unit_price: int
    name: str


@dataclass(frozen=True)
class Reservation:
    """What one lane answered. ``request_id`` is set once the order was appended."""

    status: ReserveStatus
    lane: int
    request_id: str = ""
    ring: bool = False
    built_epoch: int = 0
    lines: tuple[Line, ...] = ()
    missing_product_id: int = 0
    available: Mapping[int, int] = field(default_factory=dict)

    @property
    def granted(self) -> bool:
        return self.status in (ReserveStatus.RESERVED, ReserveStatus.REPLAYED)


@dataclass(frozen=True)
class OrderAttempt:
    """Who orders, under which nonce, and what earlier lanes have reserved for it already."""

    nonce: str
    user_id: int
    user_coupon_id: int | None
    keep: bool
    reserved: tuple[Reservation, ...] = ()


@dataclass(frozen=True)
class Hold:
    """A hold as its key tells it; ``request_id`` is '' in every lane but the order's last."""

    lane: int
    nonce: str
    state: str
    request_id: str
    product_ids: tuple[int, ...]


def lane_of_product(gate: Gate, product_id: int) -> int:
    """The lane this product lives in."""
    return keys.lane_of(KIND, product_id, gate.lanes)


def order_nonce(gate: Gate, user_id: int, idempotency_key: str | None) -> str:
    """The nonce of an order: new, or the same one for the same user and idempotency key."""
    request_key = gate.request_key()
    if idempotency_key is None:
        return new_nonce(request_key, RequestKind.ORDER)
    return repeatable_nonce(request_key, RequestKind.ORDER, user_id, idempotency_key)


def claim_idempotency_key(gate: Gate, user_id: int, nonce: str, fingerprint: str) -> bool:
    """Tie an idempotency key to the body it is first used with; whether this body is that one."""
    lane = keys.lane_of("user", user_id, gate.lanes)
    with unavailability_translated():
        first = gate.client.set(keys.idempotency(lane, nonce), fingerprint, nx=True, get=True, ex=KEEP_SECONDS)
    return first is None or first == fingerprint


def reserve(
    gate: Gate, lane: int, quantities: Sequence[tuple[int, int]], attempt: OrderAttempt, *, append: bool
) -> Reservation:
    """Take units of the lane's products, all or none. ``append`` in the order's last lane submits the order.

    ``quantities`` are (product id, units), each product once. Raises GateUnavailable; after a time-out the outcome is
    unknown, and the sweeper gives back whatever was taken for nothing.
    """
    earlier = attempt.reserved

    def ask(state: LaneState) -> list[str]:
        arguments: list[str | int] = [
            lane,
            state.epoch or 0,
            attempt.nonce,
            attempt.user_id,
            attempt.user_coupon_id or "",
            HOLD_SECONDS * 1000,
            KEEP_SECONDS * 1000 if attempt.keep else 0,
            BELL_SECONDS * 1000,
            gate.backlog_limit,
            int(append),
            " ".join(f"{part.lane}:{part.built_epoch}" for part in earlier),
            " ".join(f"{line.product_id}:{line.quantity}:{line.unit_price}" for part in earlier for line in part.lines),
        ]
        for product_id, quantity in quantities:
            arguments += [product_id, quantity]
        for part in earlier:
            for line in part.lines:
                arguments += [line.product_id, line.name]
        lane_keys = [keys.lane(lane), keys.outbox(lane), keys.bell(lane)]
        hold_keys = [keys.hold(lane, attempt.nonce), keys.holds(lane)]
        sku_keys = [keys.sku(lane, product_id) for product_id, _ in quantities]
        return gate.run("reserve_stock", lane_keys + hold_keys + sku_keys, arguments)

    return _reservation(lane, gate.decide(lane, ask))


def settle(gate: Gate, lane: int, nonces: Sequence[str]) -> None:
    """End the holds of orders that the ledger completed. Safe to repeat."""
    for start in range(0, len(nonces), HOLDS_PER_CALL):
        part = nonces[start : start + HOLDS_PER_CALL]
        gate.run("settle_holds", [keys.holds(lane), *(keys.hold(lane, nonce) for nonce in part)], list(part))


def release(gate: Gate, lane: int, nonce: str, product_ids: Sequence[int]) -> bool:
    """Give a hold's units back; whether it still held any. Safe to repeat."""
    if not product_ids:
        return False
    reply = gate.run(
        "release_stock",
        [keys.holds(lane), keys.hold(lane, nonce), *(keys.sku(lane, product_id) for product_id in product_ids)],
        [nonce, *product_ids],
    )
    return bool(reply[0] == "released")


def put_back(gate: Gate, lane: int, nonce: str, quantities: Sequence[tuple[int, int]]) -> None:
    """Put the units of a cancelled order back on sale, once. Raises GateUnavailable while the lane is not ready."""
    gate.decide(
        lane,
        lambda state: gate.run(
            "return_stock",
            [
                keys.lane(lane),
                keys.returned(lane, nonce),
                *(keys.sku(lane, product_id) for product_id, _ in quantities),
            ],
            [state.epoch or 0, RETURN_MARKER_SECONDS * 1000, *(quantity for _, quantity in quantities)],
        ),
    )


def mark_returned(gate: Gate, lane: int, nonces: Sequence[str]) -> None:
    """Tell :func:`put_back` that a rebuild has counted these orders' units already. Only for a closed lane."""
    with unavailability_translated():
        for nonce in nonces:
            gate.client.set(keys.returned(lane, nonce), "1", ex=RETURN_MARKER_SECONDS)


def due_holds(gate: Gate, lane: int, limit: int) -> list[Hold]:
    """Holds whose deadline has passed, the longest overdue first."""
    return [_read_hold(gate, lane, str(nonce)) for nonce in gate.run("due_holds", [keys.holds(lane)], [limit])]


def forget_holds(gate: Gate, lane: int) -> int:
    """Drop every hold of a closed lane that is being rebuilt; how many there were."""
    with unavailability_translated():
        nonces = [str(nonce) for nonce in gate.client.zrange(keys.holds(lane), 0, -1)]
        for nonce in nonces:
            gate.client.delete(keys.hold(lane, nonce))
        gate.client.delete(keys.holds(lane))
    return len(nonces)


def parse_lines(text: str, names: Mapping[int, str]) -> tuple[Line, ...]:
    """Lines from their form in scripts and outbox entries: ``<product>:<quantity>:<price> …``."""
    lines = []
    for part in text.split():
        product_id, quantity, price = (int(word) for word in part.split(":"))
        lines.append(Line(product_id, quantity, price, names[product_id]))
    return tuple(lines)


def _read_hold(gate: Gate, lane: int, nonce: str) -> Hold:
    with unavailability_translated():
        state, request_id, lines = gate.client.hmget(keys.hold(lane, nonce), "state", "request_id", "lines")
    product_ids = tuple(int(part.split(":")[0]) for part in str(lines or "").split())
    return Hold(lane, nonce, str(state or ""), str(request_id or ""), product_ids)


def _reservation(lane: int, reply: Sequence[str]) -> Reservation:
    status = ReserveStatus(reply[0])
    if status is ReserveStatus.BACKLOGGED:
        raise GateUnavailable(f"the outbox of lane {lane} is over its limit")
    if status is ReserveStatus.PRODUCT_NOT_FOUND:
        return Reservation(status, lane, missing_product_id=int(reply[1]))
    if status is ReserveStatus.OUT_OF_STOCK:
        pairs = zip(reply[1::2], reply[2::2], strict=True)
        return Reservation(status, lane, available={int(product): int(units) for product, units in pairs})
    names = {int(product): name for product, name in zip(reply[5::2], reply[6::2], strict=True)}
    return Reservation(
        status,
        lane,
        request_id=reply[1],
        ring=int(reply[2]) == 1,
        built_epoch=int(reply[3]),
        lines=parse_lines(reply[4], names),
    )
