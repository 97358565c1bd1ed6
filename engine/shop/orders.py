"""Orders: reserved at the gate lane by lane, settled by the ledger, ended at the gate again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from engine.context import Engine
from engine.errors import EngineError, GateUnavailable, TooManyAsks
from engine.fault_points import reach
from engine.gate import stock
from engine.gate.outbox import Entry
from engine.gate.stock import KeyUse, OrderAttempt, Reservation
from engine.gate.turns import TurnLimits
from engine.ledger.orders import SubmittedLine, SubmittedOrder, holds_from_text
from engine.ledger.settlement import Settlement
from engine.outcomes import Refusal, Refused, RequestKind, ReserveStatus, Submitted
from engine.telemetry import metrics

_KEY_REUSED = Refused(Refusal.IDEMPOTENCY_KEY_REUSED)

logger = logging.getLogger(__name__)


class OrderAsk(NamedTuple):
    """What somebody wants to order: ``quantities`` are (product id, units), each product once, in order of the id.

    ``limits`` are what the ask counts against, unless it was answered before.
    """

    user_id: int
    quantities: tuple[tuple[int, int], ...]
    user_coupon_id: int | None = None
    idempotency_key: str | None = None
    limits: TurnLimits = ()


def place_order(engine: Engine, ask: OrderAsk) -> Submitted | Refused:
    """Hold the stock of an order and submit it.

    Raises TooManyAsks when one of the limits is reached, unless this very ask was answered before. Raises
    GateUnavailable when nothing could be decided or the answer did not arrive: the same ask with the same idempotency
    key gets the first answer, and the sweeper gives back what was held for nothing.
    """
    lane = only_lane_of(engine, ask)
    outcome: Submitted | Refused | EngineError
    if lane is None:
        outcome = _place_across_lanes(engine, ask)
    else:
        (outcome,), ring = place_orders(engine, lane, [ask])
        if ring:
            engine.bell.ring(lane)
    if isinstance(outcome, EngineError):
        raise outcome
    return outcome


def only_lane_of(engine: Engine, ask: OrderAsk) -> int | None:
    """The lane that all products of an order live in; None if there are several."""
    lanes = {stock.lane_of_product(engine.gate, product_id) for product_id, _ in ask.quantities}
    return lanes.pop() if len(lanes) == 1 else None


def place_orders(
    engine: Engine, lane: int, asks: Sequence[OrderAsk]
) -> tuple[list[Submitted | Refused | EngineError], bool]:
    """As :func:`place_order` for orders of one lane, one after the other, together; and whether to ring its bell.

    Raises GateUnavailable when nothing could be decided for any of them.
    """
    try:
        with metrics.timed_call("order", len(asks)):
            attempts = _attempts(engine, asks)
            going = [(attempt, ask.quantities) for attempt, ask in zip(attempts, asks, strict=True) if attempt]
            reserved = stock.reserve_many(engine.gate, lane, going, order_lane=lane) if going else []
    except GateUnavailable:
        metrics.count_decisions(RequestKind.ORDER, [metrics.UNAVAILABLE] * len(asks))
        raise
    _count(reserved, keys_reused=len(asks) - len(going))
    reach("order.decided")
    reservations = iter(reserved)
    outcomes: list[Submitted | Refused | EngineError] = []
    ring = False
    for attempt, ask in zip(attempts, asks, strict=True):
        if attempt is None:
            outcomes.append(_KEY_REUSED)
            continue
        reservation = next(reservations)
        if isinstance(reservation, GateUnavailable):
            outcomes.append(reservation)
        else:
            ring = ring or reservation.ring
            outcomes.append(_answer(reservation, ask.quantities, ask))
    return outcomes, ring


def _count(reserved: Sequence[Reservation | GateUnavailable], *, keys_reused: int = 0) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        request_ids = [each.request_id for each in reserved if isinstance(each, Reservation) and each.request_id]
        logger.debug("accepted %d orders", len(request_ids), extra={"request_ids": request_ids})
    outcomes = [metrics.UNAVAILABLE if isinstance(each, GateUnavailable) else each.status for each in reserved]
    metrics.count_decisions(RequestKind.ORDER, [*outcomes, *[metrics.KEY_REUSED] * keys_reused])


def _attempts(engine: Engine, asks: Sequence[OrderAsk]) -> list[OrderAttempt | None]:
    """An attempt for each ask; None where the idempotency key was used for another body before."""
    nonces = [stock.order_nonce(engine.gate, ask.user_id, ask.idempotency_key) for ask in asks]
    keyed = [(ask, nonce) for ask, nonce in zip(asks, nonces, strict=True) if ask.idempotency_key is not None]
    claims = [(ask.user_id, nonce, _fingerprint(ask)) for ask, nonce in keyed]
    uses = iter(stock.claim_idempotency_keys(engine.gate, claims))
    attempts: list[OrderAttempt | None] = []
    for ask, nonce in zip(asks, nonces, strict=True):
        keep = ask.idempotency_key is not None
        use = next(uses) if keep else KeyUse.FIRST
        attempt = OrderAttempt(nonce, ask.user_id, ask.user_coupon_id, keep, use is KeyUse.AGAIN, limits=ask.limits)
        attempts.append(None if use is KeyUse.OTHER_BODY else attempt)
    return attempts


def _place_across_lanes(engine: Engine, ask: OrderAsk) -> Submitted | Refused | TooManyAsks:
    """Reserve lane by lane in ascending order; a refusal in one gives back what the earlier ones reserved."""
    (attempt,) = _attempts(engine, [ask])
    if attempt is None:
        _count([], keys_reused=1)
        return _KEY_REUSED
    by_lane: dict[int, list[tuple[int, int]]] = {}
    for product_id, quantity in ask.quantities:
        by_lane.setdefault(stock.lane_of_product(engine.gate, product_id), []).append((product_id, quantity))
    lanes = sorted(by_lane)
    if attempt.again:
        # Only the lane that gave the first answer knows it: those before might refuse for a reason of today.
        first = stock.remembered_answer(engine.gate, attempt.nonce, lanes)
        if first is not None:
            _count([first])
            return _answer(first, by_lane[first.lane], ask)
    for lane in lanes:
        try:
            reservation = stock.reserve(engine.gate, lane, attempt, by_lane[lane], order_lane=lanes[-1])
        except GateUnavailable as error:
            _count([error])
            # Before the last lane nothing was submitted, so what is held serves nobody. In the last one the order may
            # have been accepted without our hearing of it: then the drain settles it, else the sweeper ends it.
            if lane != lanes[-1]:
                _give_back(engine, attempt)
            raise
        outcome = _answer(reservation, by_lane[lane], ask)
        if not isinstance(outcome, Submitted):
            _count([reservation])
            _give_back(engine, attempt)
            return outcome
        attempt = replace(attempt, reserved=(*attempt.reserved, reservation))
        reach("order.decided" if lane == lanes[-1] else "order.between_lanes")
    _count([reservation])
    if reservation.ring:
        engine.bell.ring(reservation.lane)
    return outcome


def submitted_order(entry: Entry) -> SubmittedOrder:
    """The order an outbox entry tells of. Raises KeyError or ValueError for an entry that is none."""
    fields = entry.fields
    names = {int(name[5:]): value for name, value in fields.items() if name.startswith("name:")}
    lines = stock.parse_lines(fields["lines"], names)
    return SubmittedOrder(
        request_id=fields["request_id"],
        nonce=fields["nonce"],
        user_id=int(fields["user_id"]),
        user_coupon_id=int(fields["user_coupon_id"]) if fields["user_coupon_id"] else None,
        decided_at_ms=int(fields["decided_at_ms"]),
        lines=tuple(SubmittedLine(line.product_id, line.quantity, line.unit_price, line.name) for line in lines),
        held=holds_from_text(fields["held"]),
    )


def end_holds(engine: Engine, settlement: Settlement) -> None:
    """Tell the gate what the ledger has committed: sold units stay away, unsold ones come back. Safe to repeat.

    Never raises GateUnavailable: a lane whose server is away must not keep this lane's outbox from moving on. Its holds
    keep their deadline, and the sweeper asks the ledger.
    """
    away: set[int] = set()
    sold: dict[tuple[int, int], list[str]] = {}
    for order in [*settlement.sold, *settlement.sold_before]:
        for held in order.held:
            sold.setdefault((held.lane, held.built_epoch), []).append(order.nonce)
    for (lane, built_epoch), nonces in sorted(sold.items()):
        try:
            stock.settle(engine.gate, lane, built_epoch, nonces)
        except GateUnavailable as error:
            away.add(lane)
            logger.warning("holds in lane %d are left to their deadline: %s", lane, error)
        reach("holds.mid_release")
    for order in settlement.unsold:
        for lane, built_epoch, deadline_ms in order.held:
            if lane in away:
                continue
            products = [line.product_id for line in order.lines]
            own = [product for product in products if stock.lane_of_product(engine.gate, product) == lane]
            try:
                stock.release(engine.gate, lane, built_epoch, order.nonce, own, deadline_ms=deadline_ms)
            except GateUnavailable as error:
                away.add(lane)
                logger.warning("holds in lane %d are left to their deadline: %s", lane, error)
            reach("holds.mid_release")


def _give_back(engine: Engine, attempt: OrderAttempt) -> None:
    """Release what this attempt took in earlier lanes. What cannot be released now, and what another attempt under the
    same key has been told that it holds, too, the sweeper releases at its deadline."""
    for held in attempt.reserved:
        products = [line.product_id for line in held.lines]
        deadline_ms = held.deadline_ms or 0
        try:
            stock.release(
                engine.gate, held.lane, held.built_epoch, attempt.nonce, products, deadline_ms=deadline_ms, shared=False
            )
        except GateUnavailable:
            continue


def _is_for(reservation: Reservation, quantities: stock.Quantities) -> bool:
    """Whether this is an answer to this body. It is not if Redis forgot which body an idempotency key was first used
    with, and remembers what that body holds."""
    lines = [(line.product_id, line.quantity) for line in reservation.lines]
    is_other = reservation.granted and sorted(lines) != sorted(quantities)
    return not is_other and reservation.status is not ReserveStatus.KEY_REUSED


def _answer(reservation: Reservation, quantities: stock.Quantities, ask: OrderAsk) -> Submitted | Refused | TooManyAsks:
    """What a lane's word on the part of the order that lives there is to the client."""
    if not _is_for(reservation, quantities):
        return _KEY_REUSED
    if reservation.granted:
        return Submitted(reservation.request_id, ask.user_id)
    if reservation.status is ReserveStatus.WAIT:
        return TooManyAsks(reservation.wait_ms)
    if reservation.status is ReserveStatus.PRODUCT_NOT_FOUND:
        return Refused(Refusal.PRODUCT_NOT_FOUND)
    requested = dict(ask.quantities)
    short = [
        {"productId": product_id, "requested": requested.get(product_id, 0), "available": available}
        for product_id, available in sorted(reservation.available.items())
    ]
    return Refused(Refusal.OUT_OF_STOCK, {"items": short})


def _fingerprint(ask: OrderAsk) -> str:
    return sha256(repr((ask.quantities, ask.user_coupon_id)).encode()).hexdigest()
