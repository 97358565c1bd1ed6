"""Looking at the stores for those who watch from outside: what the active scheduler exports as metrics.

One process looks, however many there are: the numbers are the stores', and asking for them costs round trips.
"""

from __future__ import annotations

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.flow.followups import workable_kinds
from engine.gate import stock
from engine.ledger import followups as ledger_followups
from engine.ledger.followups import FollowupKind
from engine.ledger.quarantine import quarantined_count
from engine.telemetry import metrics


def observe_lane(engine: Engine, lane: int) -> bool:
    """Export how a lane stands; whether it could be asked."""
    try:
        state = engine.gate.inspect(lane)
        holds = stock.holds_count(engine.gate, lane)
    except GateUnavailable:
        return False
    head_age_seconds = (state.head_age_ms or 0) / 1000
    metrics.record_lane(lane, ready=state.ready, entries=state.backlog, head_age_seconds=head_age_seconds, holds=holds)
    return True


def observe_ledger(engine: Engine) -> None:
    """Export what waits in the ledger. Raises LedgerUnavailable."""
    with engine.ledger.read() as connection:
        waiting = {each.kind: each for each in ledger_followups.waiting(connection)}
        quarantined = quarantined_count(connection)
    for kind in FollowupKind:
        found = waiting.get(kind)
        metrics.FOLLOWUPS.labels(kind, "pending").set(found.pending if found else 0)
        metrics.FOLLOWUPS.labels(kind, "parked").set(found.parked if found else 0)
    # Deliveries to a data platform that has no address are due and wait for one: nobody is late with them.
    worked_on = workable_kinds(engine)
    overdue = max((each.overdue_seconds for each in waiting.values() if each.kind in worked_on), default=0.0)
    metrics.FOLLOWUPS_DUE_AGE_SECONDS.set(overdue)
    metrics.QUARANTINED_OUTCOMES.set(quarantined)
    metrics.record_look(metrics.LEDGER)


def observe_queues(engine: Engine) -> None:
    """Export what waits in RQ, and what failed there. Raises GateUnavailable."""
    for (queue, state), count in engine.bell.jobs().items():
        metrics.QUEUE_JOBS.labels(queue, state).set(count)
    metrics.record_look(metrics.QUEUE)
