"""The drain: move the head of a lane's outbox into the ledger.

It never decides again. What the gate granted, the ledger records; an entry that the ledger refuses is a fault, put
into quarantine for a person to look at, and the rest goes on. Killed anywhere, the next drain reads the same head, and
the unique request ids make the repetition harmless.

Asleep between reading and writing, it may wake in another world: Redis forgot what it had read, the lane was opened
anew, and others have what these entries promised. So the transaction that records looks first at what the lane stands
on by now, and drops what it does not stand on. Constraints alone would punish the newer promise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from engine.context import Engine
from engine.fault_points import reach
from engine.gate import outbox
from engine.gate.outbox import Entry
from engine.ledger import coupons as ledger_coupons
from engine.ledger import progress
from engine.ledger.coupons import Issuance
from engine.ledger.settlement import Settlement, settle_orders
from engine.outcomes import RequestKind
from engine.shop.orders import end_holds, submitted_order
from engine.telemetry import metrics
from engine.telemetry.logs import about

BATCH_LIMIT = 5000
SLICE_SECONDS = 20.0
LINGER_SECONDS = 2.0
SMALL_BATCH = 200
SMALL_BATCH_PAUSE_SECONDS = 0.02

logger = logging.getLogger(__name__)


@dataclass
class DrainReport:
    """What one drain did. ``more`` says that it left work behind and somebody has to be rung."""

    lane: int
    recorded: int = 0
    orders: int = 0
    quarantined: int = 0
    forgotten: int = 0
    """Entries that were dropped: the lane was opened anew without them."""
    batches: int = 0
    leased_elsewhere: bool = False
    more: bool = False
    seconds: float = field(default=0.0)


def drain(
    engine: Engine,
    lane: int,
    *,
    linger_seconds: float = LINGER_SECONDS,
    slice_seconds: float = SLICE_SECONDS,
    leave_early: Callable[[], bool] = lambda: False,
) -> DrainReport:
    """Drain a lane, linger for more, go. Raises GateUnavailable or LedgerUnavailable: nothing is lost by that.

    ``leave_early`` is asked between batches; when it says yes the drain goes without lingering (a worker that stops,
    another lane that waits).
    """
    with about(lane=lane):
        return _drain(engine, DrainReport(lane), linger_seconds, slice_seconds, leave_early)


def _drain(
    engine: Engine,
    report: DrainReport,
    linger_seconds: float,
    slice_seconds: float,
    leave_early: Callable[[], bool],
) -> DrainReport:
    lease = outbox.Lease(engine.gate, report.lane)
    if not lease.take():
        report.leased_elsewhere = True
        return report
    started = time.monotonic()
    try:
        report.more = not _drain_until_quiet(
            engine, report, lease, started + slice_seconds, linger_seconds, leave_early
        )
    finally:
        report.seconds = time.monotonic() - started
        lease.release()
    return report


def _drain_until_quiet(
    engine: Engine,
    report: DrainReport,
    lease: outbox.Lease,
    slice_end: float,
    linger_seconds: float,
    leave_early: Callable[[], bool],
) -> bool:
    """Drain until nothing came for a while; False when entries are left behind that nobody else will take."""
    lane = report.lane
    quiet_since = time.monotonic()
    while True:
        if not lease.take():
            return True
        outbox.arm_bell(engine.gate, lane)
        count = drain_batch(engine, report)
        now = time.monotonic()
        if count:
            quiet_since = now
        stop = now >= slice_end or leave_early()
        if stop or now - quiet_since >= linger_seconds:
            # Disarm first, look second: a decision taken in between rings for itself, one taken before is seen here.
            outbox.disarm_bell(engine.gate, [lane])
            if drain_batch(engine, report) == 0:
                return True
            if stop:
                return False
            quiet_since = now
        elif count == 0:
            outbox.wait_for_more(engine.gate, lane, min(0.5, linger_seconds))
        elif count < SMALL_BATCH:
            # A commit costs the same for one row as for a hundred: let a few gather.
            time.sleep(SMALL_BATCH_PAUSE_SECONDS)


def drain_batch(engine: Engine, report: DrainReport) -> int:
    """Record the head of the outbox in one transaction, then remove it; how many entries that were.

    Between the two the gate is told what became of holds; a crash in between repeats that too.
    """
    started = time.monotonic()
    entries = outbox.read_head(engine.gate, report.lane, BATCH_LIMIT)
    if entries:
        reach("drain.after_reading_head")
        _record(engine, report, entries)
        reach("drain.before_removal")
        outbox.remove(engine.gate, report.lane, entries)
        report.batches += 1
        metrics.DRAIN_BATCH_ENTRIES.observe(len(entries))
        metrics.DRAIN_BATCH_SECONDS.observe(time.monotonic() - started)
    return len(entries)


def _record(engine: Engine, report: DrainReport, entries: Sequence[Entry]) -> None:
    """Commit these entries; halve the batch around what the ledger refuses until the culprits are alone."""
    lane = report.lane
    for attempt in (1, 2):
        try:
            recorded = engine.ledger.run(lambda connection: record_batch(connection, lane, entries))
        except (DBAPIError, ValueError, KeyError) as error:
            # The first refusal may be a drain beside this one that committed the same rows: look once more.
            if attempt == 2:
                refusal = error
        else:
            _conclude(engine, report, entries, recorded)
            return
    if len(entries) > 1:
        middle = len(entries) // 2
        _record(engine, report, entries[:middle])
        _record(engine, report, entries[middle:])
        return
    _quarantine(engine, report, entries[0], refusal)


def _conclude(engine: Engine, report: DrainReport, entries: Sequence[Entry], recorded: Recorded) -> None:
    """What follows a commit: the gate is told of holds, a worker of follow-ups, the log of what was dropped."""
    forgotten = len(entries) - recorded.count
    if logger.isEnabledFor(logging.DEBUG):
        request_ids = [entry.fields.get("request_id", "") for entry in entries]
        logger.debug(
            "recorded %d decisions of lane %d", recorded.count, report.lane, extra={"request_ids": request_ids}
        )
    report.recorded += recorded.count
    report.forgotten += forgotten
    report.orders += len(recorded.settlement.sold) + len(recorded.settlement.unsold)
    metrics.DRAIN_ENTRIES.labels("recorded").inc(recorded.count)
    metrics.DRAIN_ENTRIES.labels("forgotten").inc(forgotten)
    metrics.SETTLED_ORDERS.labels("COMPLETED").inc(len(recorded.settlement.sold))
    metrics.SETTLED_ORDERS.labels("FAILED").inc(len(recorded.settlement.unsold))
    reach("drain.after_commit")
    end_holds(engine, recorded.settlement)
    if recorded.settlement.sold:
        engine.bell.ring_for_followups()
    if forgotten:
        logger.warning("lane %d was opened anew without %d decisions that a drain still held", report.lane, forgotten)


@dataclass(frozen=True)
class Recorded:
    """What one transaction recorded: how many of its entries, and what became of their orders."""

    count: int
    settlement: Settlement


def record_batch(connection: Connection, lane: int, entries: Sequence[Entry]) -> Recorded:
    """Write the entries of a lane that it stands on, kind by kind, each kind in a fixed number of statements.

    Within the caller's transaction. Raises DBAPIError, ValueError or KeyError for what the ledger refuses.
    """
    fence = progress.fence(connection, lane, entries[0].epoch)
    standing = [entry for entry in entries if fence.admits(entry.epoch, entry.number)]
    issuances = [_issuance(entry) for entry in standing if _kind(entry) is RequestKind.COUPON_ISSUE]
    orders = [submitted_order(entry) for entry in standing if _kind(entry) is RequestKind.ORDER]
    # Coupons first: an order may redeem one that was issued just before it.
    if issuances:
        ledger_coupons.record_issuances(connection, issuances)
    settlement = settle_orders(connection, orders) if orders else Settlement()
    if standing:
        progress.advance(connection, lane, standing[-1].number)
    reach("drain.before_commit")
    return Recorded(len(standing), settlement)


def _quarantine(engine: Engine, report: DrainReport, entry: Entry, error: Exception) -> None:
    values: dict[str, object] = {
        "request_id": _storable(entry.fields.get("request_id", "")),
        "epoch": entry.epoch,
        "number": entry.number,
        "kind": _storable(entry.fields.get("kind", "")),
        "fields": {_storable(name): _storable(value) for name, value in entry.fields.items()},
        "error": _storable(f"{type(error).__name__}: {error}"[:2000]),
    }

    def work(connection: Connection) -> bool:
        stands = progress.fence(connection, report.lane, entry.epoch).admits(entry.epoch, entry.number)
        if stands:
            progress.quarantine(connection, report.lane, values)
            progress.advance(connection, report.lane, entry.number)
        return stands

    if not engine.ledger.run(work):
        report.forgotten += 1
        metrics.DRAIN_ENTRIES.labels("forgotten").inc()
        return
    report.quarantined += 1
    metrics.DRAIN_ENTRIES.labels("quarantined").inc()
    with about(lane=report.lane, request_id=values["request_id"]):
        alarm = "ALARM: entry %s of lane %d went into quarantine: %s"
        logger.error(alarm, entry.entry_id, report.lane, values["error"])


def _storable(text: str) -> str:
    """Postgres holds UTF-8 without NUL, and an entry that could not even be quarantined would block its lane."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace").replace("\0", "\\0")


def _kind(entry: Entry) -> RequestKind:
    return RequestKind(entry.fields["kind"])


def _issuance(entry: Entry) -> Issuance:
    fields = entry.fields
    return Issuance(
        request_id=fields["request_id"],
        coupon_id=int(fields["coupon_id"]),
        user_id=int(fields["user_id"]),
        sequence=int(fields["sequence"]),
        issued_at_ms=int(fields["decided_at_ms"]),
    )
