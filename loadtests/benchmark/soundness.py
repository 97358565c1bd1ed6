"""Whether what was measured did its work: the durable data against what the crowd was told.

The rules are pure functions over counts, so that each can be shown to notice what it is for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import text

from engine.context import Engine
from engine.gate import coupons as gate_coupons
from loadtests.benchmark.loads import Load
from loadtests.order_verdict import gather, judge
from loadtests.verdict import Check

ORDER_CHECKS = (
    "no unit is made or lost",
    "the gate agrees with the ledger",
    "nothing is negative",
    "statistics equal completed orders",
    "no balance is negative",
    "no money is made or lost",
    "completed orders are paid, once",
    "no hold is left",
    "nothing is in quarantine",
    "every order has its history",
)
"""Of the order verdict's checks, those that ask for nothing but the durable data."""

_COUPON = text("""
    SELECT coupons.total_quantity, coupons.issued, count(held.id) AS rows, count(DISTINCT held.user_id) AS users,
           coalesce(max(held.sequence), 0) AS last_sequence
    FROM coupons LEFT JOIN user_coupons AS held ON held.coupon_id = coupons.id
    WHERE coupons.id = :coupon_id GROUP BY coupons.id
""")
_QUARANTINED = text("SELECT count(*) FROM quarantined_outcomes")
_REQUEST_IDS = text("SELECT request_id FROM user_coupons WHERE coupon_id = :coupon_id")


@dataclass
class Tally:
    """What a crowd was told over all its slices; ``most_unheard`` answers may have been on their way at the ends.

    wrk leaves at the end of its time without waiting for what it has sent last: at most one request a connection.
    """

    accepted: int = 0
    most_unheard: int = 0

    def add(self, load: Load, *accepted_statuses: int, connections: int) -> None:
        """Count one slice in."""
        self.accepted += load.count(*accepted_statuses)
        self.most_unheard += connections + load.unanswered + load.broken


@dataclass(frozen=True)
class CouponCounts:
    """One coupon in the ledger and at the gate; ``gate_issued`` is None where the gate had no part in it."""

    quantity: int
    counted: int
    rows: int
    users: int
    last_sequence: int
    gate_issued: int | None


def count_coupon(engine: Engine, coupon_id: int, *, at_the_gate: bool = True) -> CouponCounts:
    """A coupon's counts as they stand now: ask when the outbox is empty."""
    with engine.ledger.read() as connection:
        found = connection.execute(_COUPON, {"coupon_id": coupon_id}).one()
    issued = gate_coupons.issued_count(engine.gate, coupon_id) if at_the_gate else None
    return CouponCounts(
        quantity=found.total_quantity,
        counted=found.issued,
        rows=found.rows,
        users=found.users,
        last_sequence=found.last_sequence,
        gate_issued=(issued or 0) if at_the_gate else None,
    )


def judge_coupon(name: str, counts: CouponCounts, tally: Tally) -> list[Check]:
    """Never more than there are, nobody twice, places without a gap, and every acceptance has its row."""
    heard = f"{counts.rows:,} rows, {tally.accepted:,} accepted, at most {tally.most_unheard:,} unheard"
    places = f"{counts.rows:,} rows, the last place is {counts.last_sequence:,}"
    agree = counts.rows == counts.counted and counts.gate_issued in (None, counts.rows)
    return [
        Check(
            f"{name}: every acceptance is persisted, and nothing else",
            tally.accepted <= counts.rows <= tally.accepted + tally.most_unheard,
            heard,
        ),
        Check(
            f"{name}: never more than there are",
            counts.rows <= counts.quantity,
            f"{counts.rows:,} of {counts.quantity:,}",
        ),
        Check(f"{name}: nobody has it twice", counts.users == counts.rows, f"{counts.users:,} users"),
        Check(f"{name}: places have no gap", counts.last_sequence == counts.rows, places),
        Check(
            f"{name}: gate and ledger agree",
            agree,
            f"gate {counts.gate_issued}, ledger {counts.counted:,}, rows {counts.rows:,}",
        ),
    ]


def persisted_request_ids(engine: Engine, coupon_id: int) -> set[str]:
    """Whose requests have their row."""
    with engine.ledger.read() as connection:
        return set(connection.execute(_REQUEST_IDS, {"coupon_id": coupon_id}).scalars())


def judge_persistence(name: str, accepted: Collection[str], persisted: Collection[str], unheard: int) -> Check:
    """Every accepted request has its row; every row was accepted, but for ``unheard`` who heard no final word."""
    told, kept = set(accepted), set(persisted)
    lost, untold = len(told - kept), len(kept - told)
    ok = not lost and untold <= unheard and len(told) == len(accepted) and bool(told)
    detail = f"{len(told):,} accepted, {len(kept):,} persisted, {lost:,} lost, {untold:,} nobody was told of"
    return Check(f"{name}: persisted = accepted", ok, detail)


def judge_answers(name: str, load: Load, *expected: int) -> Check:
    """Only the answers that this route is measured by: others take another way, and the figure would be of nothing."""
    wrong = load.others_than(*expected)
    ok = load.answered > 0 and not wrong and not load.broken and not load.unanswered
    detail = f"{load.answered:,} answered {'/'.join(map(str, expected))}"
    if not ok:
        detail += f"; others {wrong}, {load.broken} broken, {load.unanswered} unanswered"
    return Check(f"{name}: only the expected answers", ok, detail)


def judge_orders(engine: Engine, tally: Tally, before: int) -> list[Check]:
    """Units, money and statistics add up over all orders; ``before`` orders had been placed before the crowd's."""
    facts = gather(engine, planned=0, recorded=0, accepted=[], states={}, unexpected={})
    verdict = [check for check in judge(facts) if check.name in ORDER_CHECKS]
    orders = facts.orders_by_status
    ended = sum(orders.values()) - before
    return [
        Check(
            "orders: every acceptance is persisted, and nothing else",
            tally.accepted <= ended <= tally.accepted + tally.most_unheard,
            f"{ended:,} ended, {tally.accepted:,} accepted, at most {tally.most_unheard:,} unheard",
        ),
        Check("orders: all are completed", set(orders) == {"COMPLETED"}, _by_status(orders)),
        *(Check(f"orders: {check.name}", check.ok, check.detail) for check in verdict),
    ]


def judge_quarantine(engine: Engine) -> Check:
    """The ledger refused nothing that the gate granted."""
    with engine.ledger.read() as connection:
        quarantined = int(connection.execute(_QUARANTINED).scalar_one())
    return Check("nothing is in quarantine", quarantined == 0, f"{quarantined} entries")


def _by_status(orders: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in sorted(orders.items())) or "no orders"
