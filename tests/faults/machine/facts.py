"""What the stores hold once all has come to rest: the other side of what clients were told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from engine.context import Engine
from engine.errors import EngineError
from engine.gate import coupons as gate_coupons
from engine.gate.request_ids import repeatable_nonce
from engine.outcomes import RequestKind
from engine.upkeep.audit import audit
from loadtests import order_verdict
from loadtests.verdict import Row
from tests.faults.machine.asking import Asker
from tests.faults.machine.history import GATE_REFUSALS, History

SETTLE_PATIENCE_SECONDS = 60.0
SAMPLE = 50


@dataclass(frozen=True)
class CouponCounts:
    """One coupon's numbers: in the ledger, and ``gate_issued`` at the gate."""

    total: int
    issued: int
    gate_issued: int


@dataclass(frozen=True)
class KeptOrder:
    """One row of ``orders``; ``request_id`` is '' for a hold that expired without an order."""

    order_id: int
    request_id: str
    nonce: str
    user_id: int
    status: str
    failure: str


@dataclass(frozen=True)
class Marks:
    """How far the ledger was checked before."""

    order_id: int = 0
    transaction_id: int = 0
    quarantine_id: int = 0


@dataclass(frozen=True)
class Kept:
    """All that the verdict compares a history with.

    ``states`` are what the API says of promised requests that have no row, and of some that have; ``refused_nonces``
    belong to orders that were refused under a key; ``alarms`` is what processes called for a person for meanwhile.
    """

    rows: Mapping[int, Sequence[Row]]
    coupons: Mapping[int, CouponCounts]
    orders: Sequence[KeptOrder]
    charges: Mapping[int, tuple[int, int]]
    states: Mapping[str, str]
    refused_nonces: frozenset[str] = frozenset()
    quarantined: Sequence[str] = ()
    shop: Sequence[order_verdict.Check] = ()
    audit: Sequence[str] = ()
    alarms: Sequence[str] = ()
    unsettled: str = ""
    rows_by_request: Mapping[str, Row] = field(init=False)
    orders_by_nonce: Mapping[str, KeptOrder] = field(init=False)

    def __post_init__(self) -> None:
        rows = {row.request_id: row for rows in self.rows.values() for row in rows}
        object.__setattr__(self, "rows_by_request", rows)
        object.__setattr__(self, "orders_by_nonce", {order.nonce: order for order in self.orders})

    def order_of(self, request_id: str) -> KeptOrder | None:
        """By its nonce: when Redis forgot a key that is used again, two request ids stand for one order."""
        return self.orders_by_nonce.get(request_id.rpartition(".")[2])


def await_settled(engine: Engine, patience_seconds: float = SETTLE_PATIENCE_SECONDS) -> str:
    """Wait until nothing is under way; '' then, or what still is when patience ends."""
    deadline = time.monotonic() + patience_seconds
    reason = ""
    while time.monotonic() < deadline:
        try:
            if order_verdict.is_settled(engine):
                return ""
            reason = "entries, holds or follow-ups are still under way"
        except EngineError as error:
            reason = str(error)
        time.sleep(0.1)
    return reason


def marks_now(engine: Engine) -> Marks:
    """Where the next check begins."""
    query = """
        SELECT (SELECT coalesce(max(id), 0) FROM orders), (SELECT coalesce(max(id), 0) FROM balance_transactions),
               (SELECT coalesce(max(id), 0) FROM quarantined_outcomes)
    """
    with engine.ledger.read() as connection:
        return Marks(*connection.execute(text(query)).one())


def gather(engine: Engine, asker: Asker, history: History, coupon_ids: Iterable[int], since: Marks) -> Kept:
    """The facts that belong to a history. Only while nobody shops."""
    unsettled = await_settled(engine)
    promised = history.promised_ids()
    wanted = sorted({*coupon_ids, *(issue.coupon_id for issue in history.issues)})
    with engine.ledger.snapshot() as connection:
        rows = _rows(connection, wanted)
        orders = _orders(connection, since, promised)
        charges = _charges(connection, since)
        totals = _totals(connection, wanted)
        quarantined = _quarantined(connection, since)
    known = {row.request_id for each in rows.values() for row in each} | {order.request_id for order in orders}
    asked_after = sorted(promised - known) + sorted(promised & known)[:SAMPLE]
    return Kept(
        rows=rows,
        coupons={
            coupon_id: CouponCounts(total, issued, gate_coupons.issued_count(engine.gate, coupon_id) or 0)
            for coupon_id, (total, issued) in totals.items()
        },
        orders=orders,
        charges=charges,
        states={request_id: _state(asker, request_id) for request_id in asked_after},
        refused_nonces=_refused_nonces(engine, history),
        quarantined=quarantined,
        shop=_judge_shop(engine),
        audit=_audit(engine),
        unsettled=unsettled,
    )


def _rows(connection: Connection, coupon_ids: Sequence[int]) -> dict[int, list[Row]]:
    query = "SELECT coupon_id, user_id, sequence, request_id FROM user_coupons WHERE coupon_id = ANY(:ids)"
    rows: dict[int, list[Row]] = {coupon_id: [] for coupon_id in coupon_ids}
    for found in connection.execute(text(query), {"ids": list(coupon_ids)}):
        rows[found.coupon_id].append(Row(found.user_id, found.sequence, found.request_id))
    return rows


def _totals(connection: Connection, coupon_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    query = "SELECT id, total_quantity, issued FROM coupons WHERE id = ANY(:ids)"
    found = connection.execute(text(query), {"ids": list(coupon_ids)})
    return {row.id: (row.total_quantity, row.issued) for row in found}


def _orders(connection: Connection, since: Marks, promised: Iterable[str]) -> list[KeptOrder]:
    query = """
        SELECT id, coalesce(request_id, '') AS request_id, nonce, coalesce(user_id, 0) AS user_id, status,
               coalesce(failure, '') AS failure
        FROM orders WHERE id > :after OR request_id = ANY(:promised)
    """
    found = connection.execute(text(query), {"after": since.order_id, "promised": list(promised)})
    return [KeptOrder(*row) for row in found]


def _charges(connection: Connection, since: Marks) -> dict[int, tuple[int, int]]:
    query = "SELECT id, user_id, amount FROM balance_transactions WHERE id > :after AND type = 'CHARGE'"
    found = connection.execute(text(query), {"after": since.transaction_id})
    return {row.id: (row.user_id, row.amount) for row in found}


def _quarantined(connection: Connection, since: Marks) -> list[str]:
    query = "SELECT request_id, error FROM quarantined_outcomes WHERE id > :after ORDER BY id"
    found = connection.execute(text(query), {"after": since.quarantine_id})
    return [f"{row.request_id}: {row.error.splitlines()[0]}" for row in found]


def _refused_nonces(engine: Engine, history: History) -> frozenset[str]:
    request_key = engine.gate.request_key()
    return frozenset(
        repeatable_nonce(request_key, RequestKind.ORDER, wish.user_id, wish.key)
        for wish in history.purchases
        if wish.key is not None and all(exchange.code in GATE_REFUSALS for exchange in wish.exchanges)
    )


def _audit(engine: Engine) -> list[str]:
    """What the shop's own audit finds."""
    report = audit(engine)
    found = [f"{check.name}: {check.detail}" for check in report.off]
    return found if report.complete else [*found, "not everything could be looked at"]


def _judge_shop(engine: Engine) -> list[order_verdict.Check]:
    """The load test's checks of units, money and coupons; those about a crowd do not apply to one that goes on."""
    facts = order_verdict.gather(engine, planned=1, recorded=1, accepted=[], states={}, unexpected={})
    others = ("the crowd was there", "every accepted order ended", "nothing is in quarantine", "no unexpected answer")
    return [check for check in order_verdict.judge(facts) if check.name not in others]


def _state(asker: Asker, request_id: str) -> str:
    for _ in range(20):
        exchange = asker.ask("GET", f"/requests/{request_id}")
        if not exchange.unknown:
            return str(exchange.body.get("status", "")) if exchange.status == 200 else exchange.code
        time.sleep(0.25)
    return "nobody answers"
