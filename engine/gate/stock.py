"""Stock at the gate: reserve, settle, release, return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from engine.errors import GateUnavailable
from engine.gate import keys
from engine.gate.gate import BELL_SECONDS, Gate, LaneState, unavailability_translated
from engine.gate.request_ids import new_nonce, repeatable_nonce
from engine.gate.scripts import Argument, Call
from engine.gate.turns import TurnLimits, limits_text
from engine.outcomes import RequestKind, ReserveStatus

KIND = "sku"
HOLD_SECONDS = 30
"""A hold's deadline; far longer than an order takes to be appended, and afterwards it is not appended any more."""
GRACE_SECONDS = 2
"""How long after its deadline the sweeper takes a hold for overdue: several servers' clocks may differ by that."""
KEEP_SECONDS = 25 * 3600
"""How long an answer under an idempotency key is remembered: the contract's 24 hours and some."""
RETURN_MARKER_SECONDS = 7 * 24 * 3600
HOLDS_PER_CALL = 500

Quantities = Sequence[tuple[int, int]]
"""(product id, units), each product once."""


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
    deadline_ms: int | None = None
    """When the hold expires, by its server's clock; None once it has ended."""
    lines: tuple[Line, ...] = ()
    missing_product_id: int = 0
    wait_ms: int = 0
    available: Mapping[int, int] = field(default_factory=dict)

    @property
    def granted(self) -> bool:
        return self.status in (ReserveStatus.RESERVED, ReserveStatus.REPLAYED)


@dataclass(frozen=True)
class OrderAttempt:
    """Who orders, under which nonce, and what earlier lanes have reserved for it already.

    ``limits`` are what the order counts against: in the first lane that is asked, for all of them.
    """

    nonce: str
    user_id: int
    user_coupon_id: int | None
    keep: bool
    again: bool = False
    """Whether this was asked under its idempotency key before."""
    reserved: tuple[Reservation, ...] = ()
    limits: TurnLimits = ()

    @property
    def lines(self) -> tuple[Line, ...]:
        """What earlier lanes reserved."""
        return tuple(line for part in self.reserved for line in part.lines)


@dataclass(frozen=True)
class Hold:
    """An overdue hold that was set aside; ``request_id`` is '' in every lane but the one the order is submitted in."""

    lane: int
    built_epoch: int
    nonce: str
    request_id: str
    order_lane: int
    deadline_ms: int
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


class KeyUse(Enum):
    """Whether an idempotency key was used before, and for what."""

    FIRST = "first"
    AGAIN = "again"
    OTHER_BODY = "other body"


def claim_idempotency_keys(gate: Gate, claims: Sequence[tuple[int, str, str]]) -> list[KeyUse]:
    """Tie idempotency keys to the bodies they are first used with; for each, what became of that.

    ``claims`` are (user id, nonce, fingerprint of the body).
    """
    with unavailability_translated(), gate.client.pipeline(transaction=False) as pipeline:
        for user_id, nonce, fingerprint in claims:
            key = keys.idempotency(keys.lane_of("user", user_id, gate.lanes), nonce)
            pipeline.set(key, fingerprint, nx=True, get=True, ex=KEEP_SECONDS)
        firsts = pipeline.execute() if claims else []
    uses = {None: KeyUse.FIRST}
    return [
        uses.get(first, KeyUse.AGAIN if first == fingerprint else KeyUse.OTHER_BODY)
        for first, (_, _, fingerprint) in zip(firsts, claims, strict=True)
    ]


def reserve(gate: Gate, lane: int, attempt: OrderAttempt, quantities: Quantities, *, order_lane: int) -> Reservation:
    """Take units of the lane's products, all or none; in ``order_lane``, the last one, this submits the order.

    Raises GateUnavailable; after a time-out the outcome is unknown, and the sweeper gives back whatever was taken for
    nothing.
    """
    (outcome,) = reserve_many(gate, lane, [(attempt, quantities)], order_lane=order_lane)
    if isinstance(outcome, GateUnavailable):
        raise outcome
    return outcome


def reserve_many(
    gate: Gate, lane: int, attempts: Sequence[tuple[OrderAttempt, Quantities]], *, order_lane: int
) -> list[Reservation | GateUnavailable]:
    """As :func:`reserve` for several orders, one after the other, in one round trip (on a cluster, in one each)."""

    def calls(state: LaneState) -> list[Call]:
        return [_reserve_call(gate, state, attempt, quantities, order_lane) for attempt, quantities in attempts]

    return [_reservation(lane, reply) for reply in gate.decide_each(lane, "reserve_stock", calls)]


def _reserve_call(gate: Gate, state: LaneState, attempt: OrderAttempt, quantities: Quantities, order_lane: int) -> Call:
    lane, earlier = state.lane, attempt.reserved
    limits = () if earlier else attempt.limits
    deadlines = [part.deadline_ms for part in earlier if part.deadline_ms is not None]
    order = {
        "lane": lane,
        "epoch": state.epoch or 0,
        "nonce": attempt.nonce,
        "user_id": attempt.user_id,
        "user_coupon_id": attempt.user_coupon_id or "",
        "hold_ms": HOLD_SECONDS * 1000,
        "keep_ms": KEEP_SECONDS * 1000 if attempt.keep else 0,
        "bell_ms": BELL_SECONDS * 1000,
        "backlog_limit": gate.backlog_limit,
        "order_lane": order_lane,
        "held": ",".join(f"{part.lane}:{part.built_epoch}:{part.deadline_ms or 0}" for part in earlier),
        "held_until_ms": min(deadlines, default=""),
        "lines": ",".join(f"{line.product_id}:{line.quantity}:{line.unit_price}" for line in attempt.lines),
        "limits": limits_text(limits, ";"),
    }
    script_keys = [
        keys.lane(lane),
        keys.outbox(lane),
        keys.bell(lane),
        keys.hold(lane, attempt.nonce),
        keys.holds(lane),
    ]
    arguments: list[Argument] = [" ".join(f"{name}={value}" for name, value in order.items())]
    for product_id, quantity in quantities:
        script_keys.append(keys.sku(lane, product_id))
        arguments += (product_id, quantity)
    script_keys += [keys.turns(lane, who) for who, _ in limits]
    for line in attempt.lines:
        arguments += (line.product_id, line.name)
    return script_keys, arguments


def remembered_answer(gate: Gate, nonce: str, lanes: Sequence[int]) -> Reservation | None:
    """What an order over these lanes was answered before under its idempotency key: that it was submitted, in the last
    of them, or a refusal. None if no lane remembers, or if its end is just being asked of the ledger."""
    with unavailability_translated(), gate.client.pipeline(transaction=False) as pipeline:
        for lane in lanes:
            pipeline.hmget(keys.hold(lane, nonce), "state", "answer", "request_id", "lines")
        found = pipeline.execute()
    state, _, request_id, lines = found[-1]
    if request_id and state != "ending":
        return Reservation(ReserveStatus.REPLAYED, lanes[-1], request_id, lines=_lines_without_names(lines))
    for lane, (state, answer, *_) in zip(lanes, found, strict=True):
        if state == "refused":
            return _refusal(lane, answer.split())
    return None


def settle(gate: Gate, lane: int, built_epoch: int, nonces: Sequence[str]) -> None:
    """End the holds of orders that the ledger completed, unless the lane was rebuilt meanwhile. Safe to repeat."""
    for start in range(0, len(nonces), HOLDS_PER_CALL):
        part = nonces[start : start + HOLDS_PER_CALL]
        hold_keys = [keys.hold(lane, nonce) for nonce in part]
        gate.run("settle_holds", [keys.lane(lane), keys.holds(lane), *hold_keys], [built_epoch, *part])


def release(
    gate: Gate,
    lane: int,
    built_epoch: int,
    nonce: str,
    product_ids: Sequence[int],
    *,
    deadline_ms: int,
    shared: bool = True,
) -> bool:
    """Give a hold's units back, unless the lane was rebuilt meanwhile; whether it still held any. Safe to repeat.

    ``deadline_ms`` names the hold that is meant: not one that a repetition of the request has taken since. 0 is the one
    there is. With ``shared=False`` a hold stays that another attempt under the same nonce has been told of.
    """
    if not product_ids:
        return False
    sku_keys = [keys.sku(lane, product_id) for product_id in product_ids]
    reply = gate.run(
        "release_stock",
        [keys.lane(lane), keys.holds(lane), keys.hold(lane, nonce), *sku_keys],
        [built_epoch, nonce, deadline_ms or "", int(shared), *product_ids],
    )
    return bool(reply[0] == "released")


def put_back(
    gate: Gate, lane: int, built_epoch: int, nonce: str, quantities: Sequence[tuple[int, int]]
) -> tuple[int, int] | None:
    """Put the units of a cancelled order back on sale, once: the lane's epoch, and how many returns that makes in it.

    ``built_epoch`` is the lane's in the ledger at the time when that said the units are to be returned: a lane that was
    built later has counted them, for good, and the answer is None. Raises GateUnavailable while the lane is not ready.
    """
    sku_keys = [keys.sku(lane, product_id) for product_id, _ in quantities]
    reply = gate.run(
        "return_stock",
        [keys.lane(lane), keys.returned(lane, nonce), *sku_keys],
        [built_epoch, gate.lanes, RETURN_MARKER_SECONDS * 1000, *(quantity for _, quantity in quantities)],
    )
    if reply[0] == "lane_not_ready":
        raise GateUnavailable(f"lane {lane} is not ready")
    return None if reply[0] == "rebuilt" else (int(reply[1]), int(reply[2]))


def claim_overdue_holds(gate: Gate, lane: int, limit: int) -> list[Hold]:
    """Set holds aside that are overdue and whose order does not wait in this lane's outbox, the longest overdue first.

    Until such a hold has ended, a repetition of its request is not answered.
    """
    nonces = [str(nonce) for nonce in gate.run("due_holds", [keys.holds(lane)], [limit])]
    if not nonces:
        return []
    built_epoch, *words = gate.run(
        "claim_holds",
        [keys.lane(lane), keys.outbox(lane), keys.holds(lane), *(keys.hold(lane, nonce) for nonce in nonces)],
        [GRACE_SECONDS * 1000, *nonces],
    )
    return [
        Hold(
            lane,
            int(built_epoch or 0),
            nonce,
            request_id,
            int(order_lane or lane),
            int(deadline_ms),
            _product_ids(lines),
        )
        for nonce, request_id, lines, order_lane, deadline_ms in zip(
            *(words[part::5] for part in range(5)), strict=True
        )
    ]


def holds_count(gate: Gate, lane: int) -> int:
    """How many holds of this lane have not ended."""
    with unavailability_translated():
        return int(gate.client.zcard(keys.holds(lane)))


def submitted_request_ids(gate: Gate, lane: int, nonces: Sequence[str]) -> dict[str, str]:
    """By nonce, the request id that each order was submitted under in this lane; '' where the lane knows of none."""
    with unavailability_translated(), gate.client.pipeline(transaction=False) as pipeline:
        for nonce in nonces:
            pipeline.hget(keys.hold(lane, nonce), "request_id")
        return {nonce: str(found or "") for nonce, found in zip(nonces, pipeline.execute(), strict=True)}


def parse_lines(text: str, names: Mapping[int, str]) -> tuple[Line, ...]:
    """Lines from their form in scripts and outbox entries: ``<product>:<quantity>:<price>,…``."""
    lines = []
    for part in filter(None, text.split(",")):
        product_id, quantity, price = (int(word) for word in part.split(":"))
        lines.append(Line(product_id, quantity, price, names[product_id]))
    return tuple(lines)


def _lines_without_names(lines: str) -> tuple[Line, ...]:
    return parse_lines(lines, dict.fromkeys(_product_ids(lines), ""))


def _product_ids(lines: str) -> tuple[int, ...]:
    return tuple(int(part.split(":")[0]) for part in filter(None, lines.split(",")))


def _reservation(lane: int, reply: Sequence[str] | GateUnavailable) -> Reservation | GateUnavailable:
    if isinstance(reply, GateUnavailable):
        return reply
    status = ReserveStatus(reply[0])
    if status is ReserveStatus.BACKLOGGED:
        return GateUnavailable(f"the outbox of lane {lane} is over its limit")
    if status in (ReserveStatus.ENDING, ReserveStatus.HOLD_EXPIRED):
        return GateUnavailable("the order came too late for what it had reserved; what it can be told is known soon")
    if status is ReserveStatus.KEY_REUSED:
        return Reservation(status, lane)
    if status is ReserveStatus.WAIT:
        return Reservation(status, lane, wait_ms=int(reply[1]))
    if status in (ReserveStatus.PRODUCT_NOT_FOUND, ReserveStatus.OUT_OF_STOCK):
        return _refusal(lane, reply)
    names = {int(product): name for product, name in zip(reply[6::2], reply[7::2], strict=True)}
    # Of products that were not asked for no name is told: the hold is that of another body under the same key.
    held = (part.partition(":")[0] for part in filter(None, reply[5].split(",")))
    names = dict.fromkeys(map(int, held), "") | names
    return Reservation(
        status,
        lane,
        request_id=reply[1],
        ring=int(reply[2]) == 1,
        built_epoch=int(reply[3]),
        deadline_ms=int(reply[4]) if reply[4] else None,
        lines=parse_lines(reply[5], names),
    )


def _refusal(lane: int, reply: Sequence[str]) -> Reservation:
    status = ReserveStatus(reply[0])
    if status is ReserveStatus.PRODUCT_NOT_FOUND:
        return Reservation(status, lane, missing_product_id=int(reply[1]))
    pairs = zip(reply[1::2], reply[2::2], strict=True)
    return Reservation(status, lane, available={int(product): int(units) for product, units in pairs})
