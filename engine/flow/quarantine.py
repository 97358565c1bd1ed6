"""Deciding about what the ledger refused to record: trying once more, or giving it up.

The cause of a refusal lies outside the entry more often than in it: a coupon whose row was damaged, a bug that is
mended. Then it can be recorded after all, exactly as a drain would, behind the same fence: a lane that was rebuilt
since has given the place in line to somebody else, and the entry of before has to stay out. The client was told FAILED
when the entry went into quarantine. A retry that succeeds makes that COMPLETED, which is why only a person retries.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from engine.context import Engine
from engine.flow.drain import Recorded, record_batch
from engine.gate.outbox import Entry
from engine.ledger import quarantine as ledger_quarantine
from engine.ledger.quarantine import QuarantinedOutcome, QuarantineEnd
from engine.shop.orders import end_holds

logger = logging.getLogger(__name__)


class QuarantineAnswer(StrEnum):
    """What came of a wish about a quarantined decision; all but the first two changed nothing."""

    RECORDED = "recorded"
    DROPPED = "dropped"
    NOT_FOUND = "not_found"
    ENDED_BEFORE = "ended_before"
    """Somebody has recorded or dropped it already."""
    FORGOTTEN = "forgotten"
    """Its lane was opened anew without it: it can only be dropped."""
    REFUSED = "refused"
    """The ledger still refuses it; ``detail`` says why."""


@dataclass(frozen=True)
class Decided:
    """The answer about one of them, in a few words more if there is more to say."""

    id: int
    answer: QuarantineAnswer
    detail: str = ""

    @property
    def ended(self) -> bool:
        """Whether it does not wait any more, for this reason or an earlier one."""
        return self.answer in (QuarantineAnswer.RECORDED, QuarantineAnswer.DROPPED, QuarantineAnswer.ENDED_BEFORE)


def retry_quarantined(engine: Engine, outcome_id: int) -> Decided:
    """Record the decision after all, if the ledger takes it now. Safe to repeat; raises LedgerUnavailable.

    An order that expired in quarantine, as its hold did, is not revived: its row says FAILED and that stays.
    """

    def work(connection: Connection) -> tuple[Decided, Recorded | None]:
        outcome = _waiting(connection, outcome_id)
        if isinstance(outcome, Decided):
            return outcome, None
        recorded = record_batch(connection, outcome.lane, [Entry(outcome.epoch, outcome.number, outcome.fields)])
        if not recorded.count:
            return Decided(outcome_id, QuarantineAnswer.FORGOTTEN), None
        ledger_quarantine.end_quarantined(connection, outcome_id, QuarantineEnd.RECORDED)
        return Decided(outcome_id, QuarantineAnswer.RECORDED), recorded

    try:
        decided, recorded = engine.ledger.run(work)
    except (DBAPIError, ValueError, KeyError) as error:
        reason = str(error.orig) if isinstance(error, DBAPIError) else f"{type(error).__name__}: {error}"
        return Decided(outcome_id, QuarantineAnswer.REFUSED, (reason.strip().splitlines() or ["?"])[0])
    if recorded is not None:
        # As after a drain's commit: whoever dies here leaves it to the holds' deadlines and to the next ring.
        end_holds(engine, recorded.settlement)
        if recorded.settlement.sold:
            engine.bell.ring_for_followups()
        logger.info("quarantined decision %d was recorded after all", outcome_id)
    return decided


def drop_quarantined(engine: Engine, outcome_id: int, because: str) -> Decided:
    """Give the decision up, for good; its request stays FAILED. Safe to repeat; raises LedgerUnavailable.

    The row stays, with the reason, and the log has all of it.
    """

    def work(connection: Connection) -> tuple[Decided, QuarantinedOutcome | None]:
        outcome = _waiting(connection, outcome_id)
        if isinstance(outcome, Decided):
            return outcome, None
        ledger_quarantine.end_quarantined(connection, outcome_id, QuarantineEnd.DROPPED, because)
        return Decided(outcome_id, QuarantineAnswer.DROPPED), outcome

    decided, outcome = engine.ledger.run(work)
    if outcome is not None:
        logger.warning(
            "quarantined decision %d was dropped (%s): entry %d-%d of lane %d, request %s, refused with %s, fields %s",
            outcome_id,
            because,
            outcome.epoch,
            outcome.number,
            outcome.lane,
            outcome.request_id,
            (outcome.error.splitlines() or ["?"])[0],
            dict(outcome.fields),
        )
    return decided


def _waiting(connection: Connection, outcome_id: int) -> QuarantinedOutcome | Decided:
    """The row, locked, or why there is nothing to decide."""
    outcome = ledger_quarantine.lock_quarantined(connection, outcome_id)
    if outcome is None:
        return Decided(outcome_id, QuarantineAnswer.NOT_FOUND)
    if outcome.ended_as is not None:
        detail = outcome.ended_as + (f": {outcome.ended_because}" if outcome.ended_because else "")
        return Decided(outcome_id, QuarantineAnswer.ENDED_BEFORE, detail)
    return outcome
