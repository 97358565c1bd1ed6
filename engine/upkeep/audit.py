"""The audit: proves, while everybody else works on, that gate and ledger agree and that all books add up.

It reads and changes nothing, takes no lock, and never stops anybody. Decisions, drains, sweepers, cancellations and
charges go on while it looks; so it must not call off what is only under way, and must not excuse as "under way" what
never ends. Four kinds of questions, each with its own answer to that:

*Books of the ledger* (``auditing/books.py``): balances and their transactions, orders and their items, payments,
coupons, follow-ups, history and statistics. All rows that one of these is about change in one transaction, so the
identity holds in every snapshot of Postgres, at any moment. A page of rows is compared in one REPEATABLE READ
snapshot: one look is proof.

*Gate against ledger* (``auditing/coupons.py``, ``auditing/stock.py``, and the numbers of a lane's decisions): two
stores without a common clock. One look takes a picture of the gate (one script, one instant of one lane) between two
snapshots of the ledger, and relies on what can only happen in one order: a decision, the commit of its entry, the
removal of that entry; a hold, the commit of its order, the end of that hold. Each module says why its comparison is
then exact. Where something moved too much for a look to be exact, that entity alone is looked at again. An epoch that
changed voids a look. Although one exact look would do, an entity is called off only when every one of several looks
finds it so, and right as soon as one look finds it right.

*What must not last* (``auditing/lanes.py``): a closed lane, an old head, a recorded entry that is still in its outbox,
an overdue hold, a change that is not live, a follow-up that is due. All of it happens when all is well, and passes.
Each suspicion has a token that changes with any progress (the head's id, the first hold's nonce, the epoch …); it is
called off when the token stayed the same for longer than anything takes that recovers by itself. Who asks once waits
for that, with looks in between; the scheduler does not wait, it remembers and is there again a minute later.

*What waits for a person*: quarantine and parked follow-ups are off as soon as there are any.

A look is bounded (ids per picture, holds per picture, entries per page, rows per page), so memory is, too. The books
take time with every order there ever was: :class:`RegularAudit` opens them only as often as costs a fixed share of one
core. What could be compared in no look, because too much was under way, is neither right nor off: the detail says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engine.context import Engine
from engine.flow.followups import workable_kinds
from engine.telemetry import metrics
from engine.upkeep.auditing.books import audit_books_of_the_ledger, audit_what_waits_for_a_person
from engine.upkeep.auditing.coupons import audit_coupons
from engine.upkeep.auditing.findings import BOOKS, Check, CheckName, Watch
from engine.upkeep.auditing.lanes import audit_decisions, suspicions
from engine.upkeep.auditing.looking import Looking, Patience
from engine.upkeep.auditing.stock import audit_stock

TRAFFIC_SHARE, BOOKS_SHARE = 0.01, 0.005
"""What the two halves of the regular audit (gate against ledger; the books) may take of one core, all processes
together. An audit does one thing after the other, so the time it takes is the most that it can have used."""

_WITHOUT_BOOKS = tuple(name for name in CheckName if name not in BOOKS)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """The result. ``complete`` is False when something could not be looked at; ``seconds`` is time at work."""

    checked_at: datetime
    checks: tuple[Check, ...]
    complete: bool
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing that was looked at is off."""
        return not self.off

    @property
    def off(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.ok)

    def body(self) -> dict[str, Any]:
        """The report as clients see it, its time as a datetime."""
        checks = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks]
        return {"ok": self.ok, "checkedAt": self.checked_at, "checks": checks}


def audit(engine: Engine, patience: Patience | None = None, *, books: bool = True) -> Report:
    """Look at everything, once and now; without ``books``, at all but what is within the ledger alone.

    It takes what the books take, and patience where something stands still. Raises GateUnavailable, LedgerUnavailable:
    then nothing is known.
    """
    looking = Looking(engine, patience or Patience())

    def look() -> None:
        _audit_what_must_not_last(looking, Watch(), wait=True)
        _audit_traffic(looking)
        if books:
            audit_books_of_the_ledger(looking)

    return _report_on(looking, tuple(CheckName) if books else _WITHOUT_BOOKS, look)


class RegularAudit:
    """The audit that is run again and again: it never waits, it remembers, and what costs too much comes less often.

    One per process; not thread-safe. ``keep_going`` is asked between looks.
    """

    def __init__(
        self,
        keep_going: Callable[[], bool] = lambda: True,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep_going = keep_going
        self._patience = patience or Patience()
        self._clock = clock
        self._watch = Watch(clock)
        self._traffic_due = self._books_due = clock()

    def run(self, engine: Engine) -> Report | None:
        """Look at what is due, export it, and write an ALARM for each thing that is off; None when nothing is due yet.

        Raises GateUnavailable, LedgerUnavailable.
        """
        if self._clock() < self._traffic_due:
            return None
        report = self._audit_traffic_of(engine)
        self._traffic_due = self._clock() + report.seconds / TRAFFIC_SHARE
        if self._clock() >= self._books_due and self._keep_going():
            books = self._audit_books_of(engine)
            self._books_due = self._clock() + books.seconds / BOOKS_SHARE
            report = _joined(report, books)
        if self._keep_going():  # who was told to leave has not looked at everything
            metrics.record_audit({check.name: check.ok for check in report.checks})
        for check in report.off:
            logger.error("ALARM: the audit finds off that %s: %s", check.name, check.detail)
        return report

    def _audit_traffic_of(self, engine: Engine) -> Report:
        looking = Looking(engine, self._patience, keep_going=self._keep_going)

        def look() -> None:
            _audit_what_must_not_last(looking, self._watch, wait=False)
            _audit_traffic(looking)

        return _report_on(looking, _WITHOUT_BOOKS, look)

    def _audit_books_of(self, engine: Engine) -> Report:
        looking = Looking(engine, self._patience, keep_going=self._keep_going)
        return _report_on(looking, BOOKS, lambda: audit_books_of_the_ledger(looking))


def _audit_what_must_not_last(looking: Looking, watch: Watch, *, wait: bool) -> None:
    """Look once; with ``wait``, again and again for as long as something stands still that has not lasted yet."""
    engine, patience, findings = looking.engine, looking.patience, looking.findings
    found = suspicions(engine, patience)
    lasting = watch.lasting(found, patience.lasting_seconds)
    unchanged = dict(found) if wait else {}
    while unchanged.keys() - lasting.keys() and looking.keep_going():
        looking.pause(patience.look_again_seconds)
        found = suspicions(engine, patience)
        lasting = watch.lasting(found, patience.lasting_seconds)
        # What came up only now is too young to be waited for: in traffic there is always something.
        unchanged = {key: each for key, each in unchanged.items() if key in found and found[key].token == each.token}
    for check in (CheckName.LANES, CheckName.DRAINED, CheckName.HOLDS):
        findings.looked_at(check, engine.gate.lanes)
    findings.looked_at(CheckName.WORKED_OFF, len(workable_kinds(engine)))
    for (check, _), suspicion in sorted(lasting.items()):
        findings.off(check, suspicion.what)


def _audit_traffic(looking: Looking) -> None:
    audit_what_waits_for_a_person(looking)
    audit_decisions(looking)
    audit_coupons(looking)
    audit_stock(looking)


def _report_on(looking: Looking, names: Sequence[CheckName], look: Callable[[], None]) -> Report:
    checked_at, started = datetime.now(UTC), time.monotonic()
    look()
    seconds = time.monotonic() - started - looking.slept_seconds
    return Report(
        checked_at=checked_at,
        checks=tuple(looking.findings.checks(names)),
        complete=looking.keep_going() and not looking.findings.anything_unseen,
        seconds=seconds,
    )


def _joined(first: Report, second: Report) -> Report:
    return Report(
        checked_at=first.checked_at,
        checks=first.checks + second.checks,
        complete=first.complete and second.complete,
        seconds=first.seconds + second.seconds,
    )
