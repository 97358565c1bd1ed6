"""The whole system at a glance, for the people who run it: gate and ledger as they are at this moment.

However many look, a process asks its stores at most once per half a second: somebody who watches a rush must not take
part in it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.caching.single_flight import SingleFlight
from engine.context import Engine
from engine.errors import EngineError
from engine.gate import console as gate_console
from engine.gate.console import GateLook
from engine.gate.gate import LaneState
from engine.gate.popularity import PopularProduct
from engine.ledger import console as ledger_console
from engine.ledger.console import LedgerLook, Parked

FRESH_SECONDS = 0.5
WINNERS_SHOWN = 12
SILENT_SECONDS = 3.5
"""Beats come every second: whoever missed three of them is not busy but gone."""


@dataclass(frozen=True)
class CouponSeen:
    """A coupon: ``issued`` is the gate's count, ``pending`` of them are not yet recorded."""

    id: int
    name: str
    total_quantity: int
    issued: int
    remaining: int
    pending: int
    status: str


@dataclass(frozen=True)
class ProductSeen:
    """A product; ``stock`` are the units free to take, in KRW ``price`` each."""

    id: int
    name: str
    price: int
    stock: int
    status: str


@dataclass(frozen=True)
class Winner:
    """Somebody who got a coupon; ``durable`` once that is recorded."""

    request_id: str
    coupon_id: int
    user_id: int
    sequence: int
    durable: bool


@dataclass(frozen=True)
class ProcessSeen:
    """A process that was heard in the last minute."""

    kind: str
    name: str
    silent_seconds: float

    @property
    def alive(self) -> bool:
        return self.silent_seconds < SILENT_SECONDS


@dataclass(frozen=True)
class Look:
    """What was found. Without the gate or the ledger, what the other one knows; counts that nobody knows are None."""

    taken_at: datetime
    gate_answers: bool
    ledger_answers: bool
    decided: int | None
    """Decisions since the beginning; None while a lane is not built."""
    recorded: int | None
    lanes: Sequence[LaneState]
    coupons: Sequence[CouponSeen]
    products: Sequence[ProductSeen]
    winners: Sequence[Winner]
    refusals: Mapping[str, int]
    processes: Sequence[ProcessSeen]
    popular: Sequence[PopularProduct]
    quarantined: int | None
    parked: Sequence[Parked]

    @property
    def ready(self) -> bool:
        """Whether every lane decides."""
        return bool(self.lanes) and all(lane.ready for lane in self.lanes)


class Console:
    """Looks for one process. Thread-safe; nothing is asked before the first look."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._flights: SingleFlight[Look] = SingleFlight()
        self._lock = threading.Lock()
        self._last: tuple[float, Look] | None = None

    def look(self) -> Look:
        """The system, at most FRESH_SECONDS ago. Never raises an EngineError: an outage is something to see."""
        with self._lock:
            if self._last is not None and self._clock() - self._last[0] < FRESH_SECONDS:
                return self._last[1]
        return self._flights.do("look", self._look_afresh)

    def _look_afresh(self) -> Look:
        began = self._clock()
        look = look_at(self._engine)
        with self._lock:
            self._last = (began, look)
        return look


def look_at(engine: Engine) -> Look:
    """One look at both stores. The ledger first, so that the gate's counts are never the smaller ones."""
    in_ledger: LedgerLook | None = None
    at_gate: GateLook | None = None
    try:
        in_ledger = ledger_console.look(engine.ledger, WINNERS_SHOWN)
    except EngineError:
        in_ledger = None
    try:
        coupon_ids = [] if in_ledger is None else [coupon.id for coupon in in_ledger.coupons]
        product_ids = [] if in_ledger is None else [product.id for product in in_ledger.products]
        at_gate = gate_console.look(engine.gate, coupon_ids, product_ids, WINNERS_SHOWN)
    except EngineError:
        at_gate = None
    return Look(
        taken_at=datetime.now(UTC),
        gate_answers=at_gate is not None,
        ledger_answers=in_ledger is not None,
        decided=None if at_gate is None else _decided(at_gate.lanes),
        recorded=None if in_ledger is None else in_ledger.recorded,
        lanes=[] if at_gate is None else at_gate.lanes,
        coupons=_coupons(in_ledger, at_gate),
        products=_products(in_ledger, at_gate),
        winners=_winners(in_ledger, at_gate),
        refusals={} if at_gate is None else at_gate.refusals,
        processes=[] if at_gate is None else _processes(at_gate.heard_at),
        popular=[] if at_gate is None else at_gate.popular,
        quarantined=None if in_ledger is None else in_ledger.quarantined,
        parked=[] if in_ledger is None else in_ledger.parked,
    )


def _decided(lanes: Sequence[LaneState]) -> int | None:
    numbers = [lane.last_number for lane in lanes if lane.last_number is not None]
    return sum(numbers) if len(numbers) == len(lanes) else None


def _coupons(in_ledger: LedgerLook | None, at_gate: GateLook | None) -> list[CouponSeen]:
    found = []
    for coupon in () if in_ledger is None else in_ledger.coupons:
        issued = coupon.issued if at_gate is None else max(coupon.issued, at_gate.issued.get(coupon.id, 0))
        found.append(
            CouponSeen(
                coupon.id,
                coupon.name,
                coupon.total_quantity,
                issued,
                remaining=coupon.total_quantity - issued,
                pending=issued - coupon.issued,
                status=coupon.status,
            )
        )
    return found


def _products(in_ledger: LedgerLook | None, at_gate: GateLook | None) -> list[ProductSeen]:
    available = {} if at_gate is None else at_gate.available
    return [
        ProductSeen(each.id, each.name, each.price, available.get(each.id, each.stock), each.status)
        for each in (() if in_ledger is None else in_ledger.products)
    ]


def _winners(in_ledger: LedgerLook | None, at_gate: GateLook | None) -> list[Winner]:
    """The newest first: what still waits in an outbox is newer than all that is recorded of its lane."""
    recorded = [] if in_ledger is None else in_ledger.winners
    durable = {winner.request_id for winner in recorded}
    waiting = [winner for winner in (() if at_gate is None else at_gate.winners) if winner.request_id not in durable]
    found = [Winner(each.request_id, each.coupon_id, each.user_id, each.sequence, durable=False) for each in waiting]
    found += [Winner(each.request_id, each.coupon_id, each.user_id, each.sequence, durable=True) for each in recorded]
    return found[:WINNERS_SHOWN]


def _processes(heard_at: Mapping[str, float]) -> list[ProcessSeen]:
    now = time.time()
    found = []
    for member, heard in heard_at.items():
        kind, _, name = member.partition(" ")
        found.append(ProcessSeen(kind, name, max(0.0, now - heard)))
    return sorted(found, key=lambda process: (process.kind, process.name))
