"""Working off what follows from orders: history, statistics, the data platform, stock that goes back on sale.

No failure here ever changes an order. Effects in the ledger are committed together with their rows, so each happens
exactly once. Effects elsewhere are claimed, done, and then marked: a crash in between repeats them, and the event id
(data platform) or the order's nonce (gate) makes the repetition harmless. What keeps failing is tried again ever more
rarely and parked after :data:`MOST_ATTEMPTS` for a person: `make requeue`.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from engine.context import Engine
from engine.errors import BrokenContract, EngineError, GateUnavailable
from engine.fault_points import reach
from engine.flow.data_platform import DataPlatform
from engine.flow.returns import return_stock
from engine.ledger import followups as ledger_followups
from engine.ledger import statistics
from engine.ledger.followups import Failure, Followup, FollowupKind, ParkedFollowup
from engine.ledger.order_events import OrderEventName, read_events, record_events
from engine.ledger.orders import order_by_id, request_ids_of
from engine.ledger.progress import Returned, built_epochs, confirm_returns
from engine.telemetry import metrics
from engine.telemetry.logs import about

BATCH_LIMIT = 500
RETURNS_LIMIT = 50
FIRST_DELIVERIES = 8
MOST_DELIVERIES = 256
"""Deliveries of one batch: few until the platform has answered, so that one that hangs holds nobody up for long."""
DELIVERY_SECONDS = 2.0
"""No delivery of a batch begins later than this; what has not begun goes back untried."""
SLICE_SECONDS = 20.0
LEASE_SECONDS = 60.0
"""How long claimed rows are out of reach: far longer than a batch takes, short enough for a crash to be made good."""

MOST_ATTEMPTS = 12
FIRST_DELAY_SECONDS = 2.0
LONGEST_DELAY_SECONDS = 600.0
GATE_DELAY_SECONDS = 1.0

logger = logging.getLogger(__name__)

LedgerEffect = Callable[[Connection, Sequence[int]], None]

LEDGER_EFFECTS: Mapping[FollowupKind, LedgerEffect] = {
    FollowupKind.HISTORY: lambda connection, ids: record_events(connection, OrderEventName.ORDER_COMPLETED, ids),
    FollowupKind.CANCEL_HISTORY: lambda connection, ids: record_events(connection, OrderEventName.ORDER_CANCELLED, ids),
    FollowupKind.STATISTICS: statistics.add_sales,
    FollowupKind.CANCEL_STATISTICS: statistics.take_sales_back,
}
"""Kinds whose effect is in the ledger: a function of the connection and the ids of orders."""

DELIVERIES: Mapping[FollowupKind, OrderEventName] = {
    FollowupKind.DATA_PLATFORM: OrderEventName.ORDER_COMPLETED,
    FollowupKind.CANCEL_DATA_PLATFORM: OrderEventName.ORDER_CANCELLED,
}
"""Kinds that tell the data platform of an event."""


@dataclass
class FollowupReport:
    """What one run did. ``more`` says that it left due work behind and somebody has to be rung."""

    done: Counter[FollowupKind] = field(default_factory=Counter)
    failed: int = 0
    parked: int = 0
    unavailable: dict[FollowupKind, str] = field(default_factory=dict)
    """Kinds that could not be worked on, because a store did not answer: nothing of them counts as failed."""
    more: bool = False
    seconds: float = 0.0


@dataclass
class _Taken:
    """What became of claimed rows."""

    done: list[Followup] = field(default_factory=list)
    returned: dict[int, list[Returned]] = field(default_factory=dict)
    """By row id, of rows that are done, what the gate did for them: done for good only if it still stands on that."""
    failures: list[Failure] = field(default_factory=list)
    untried: list[Followup] = field(default_factory=list)
    untried_delay_seconds: float = 0.0
    unavailable: str = ""


_Effect = Callable[[Sequence[Followup], Mapping[int, int]], _Taken]
"""Does what claimed rows ask for; told of the lanes' built epochs as they were when the rows were claimed."""


def workable_kinds(engine: Engine) -> tuple[FollowupKind, ...]:
    """The kinds that can be worked off: all, but nothing for a data platform that has no address.

    Deliveries come last: they are the ones that may take long.
    """
    kinds = (FollowupKind.RETURN_STOCK, *LEDGER_EFFECTS)
    return (*kinds, *DELIVERIES) if engine.settings.data_platform_url else kinds


def work_off(
    engine: Engine,
    *,
    slice_seconds: float = SLICE_SECONDS,
    leave_early: Callable[[], bool] = lambda: False,
    stopping: Callable[[], bool] = lambda: False,
) -> FollowupReport:
    """Work off what is due, in rounds of one batch for each kind, until nothing is due or the slice is over.

    ``leave_early`` is asked between rounds: were it asked between kinds, rings that keep coming would keep the last
    kinds from ever having their turn. ``stopping`` is asked between kinds. Stores that do not answer are told of in
    the report; workers side by side take different rows.
    """
    report = FollowupReport()
    started = time.monotonic()
    settings = engine.settings
    connect = (
        DataPlatform(settings.data_platform_url, settings.data_platform_secret)
        if settings.data_platform_url
        else nullcontext()
    )
    with connect as platform:
        run = _Run(engine, report, platform)
        kinds = list(workable_kinds(engine))
        while kinds and not report.more:
            kinds = [kind for kind in kinds if not stopping() and run.work_on(kind)]
            over = time.monotonic() - started >= slice_seconds
            report.more = stopping() or (bool(kinds) and (over or leave_early()))
    report.seconds = time.monotonic() - started
    return report


def any_due(engine: Engine) -> bool:
    """Whether there is something that can be worked off now. Raises LedgerUnavailable."""
    with engine.ledger.read() as connection:
        return ledger_followups.any_due(connection, workable_kinds(engine))


class NotParked(EngineError):
    """Some of what was named does not wait for a person; nothing was changed."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = tuple(ids)
        super().__init__(f"not parked, so nothing was changed: {', '.join(map(str, self.ids))}")


def parked_followups(engine: Engine, limit: int) -> list[ParkedFollowup]:
    """What waits for a person, the oldest first. Raises LedgerUnavailable."""
    with engine.ledger.read() as connection:
        return ledger_followups.parked(connection, limit)


def requeue_parked(engine: Engine, among: Sequence[int] | None = None) -> int:
    """Give what is parked another full round of attempts, from now on; how many.

    ``among``, if given, are the ids of the only ones meant. Raises NotParked, LedgerUnavailable.
    """
    with engine.ledger.transaction() as connection:
        requeued = ledger_followups.requeue_parked(connection, among)
        if missing := sorted(set(among or ()) - requeued):
            raise NotParked(missing)
    if requeued:
        engine.bell.ring_for_followups()
    return len(requeued)


def retry_delay_seconds(attempts: int, spread: Callable[[], float] = random.random) -> float | None:
    """How long to wait after so many failed attempts; None: no more of them.

    Exponential backoff with full jitter: a uniform share of a bound that doubles, so that what failed together does
    not come back together. ``spread`` gives that share, from 0 to 1.
    """
    if attempts >= MOST_ATTEMPTS:
        return None
    return spread() * min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** (attempts - 1))


class _Run:
    """One run: what it is done with, and how far the platform is trusted by now."""

    def __init__(self, engine: Engine, report: FollowupReport, platform: DataPlatform | None) -> None:
        self._engine = engine
        self._report = report
        self._platform = platform
        self._deliveries = FIRST_DELIVERIES

    def work_on(self, kind: FollowupKind) -> bool:
        """Work off one batch; whether to look for more of this kind in this run. Never raises an EngineError."""
        try:
            if kind in LEDGER_EFFECTS:
                return self._commit_with_effect(kind, None) > 0
            if kind is FollowupKind.RETURN_STOCK:
                return self._claim_and_do(kind, RETURNS_LIMIT, self._return_stock)
            return self._claim_and_do(kind, self._deliveries, lambda rows, _: self._deliver(DELIVERIES[kind], rows))
        except EngineError as error:
            self._report.unavailable[kind] = str(error)
            return False

    # -- effects in the ledger

    def _commit_with_effect(self, kind: FollowupKind, among: Sequence[int] | None) -> int:
        """The effect and its rows in one transaction, halved around what the ledger refuses until that is alone.

        How many were done: a batch of failures alone is no reason to look for more in this run.
        """
        rows: list[Followup] = []

        def work(connection: Connection) -> None:
            rows[:] = ledger_followups.lock_due(connection, kind, BATCH_LIMIT, among)
            if rows:
                LEDGER_EFFECTS[kind](connection, [row.order_id for row in rows])
                ledger_followups.finish(connection, rows)
                reach("followups.before_commit")

        try:
            self._engine.ledger.run(work)
        except DBAPIError as error:
            if not rows:
                raise
            if len(rows) == 1:
                # The driver's first line: the rest is the statement and its values.
                self._set_aside(kind, [_failure(rows[0], rows[0].attempts + 1, str(error.orig))], claimed=False)
                return 0
            ids = [row.id for row in rows]
            halves = (ids[: len(ids) // 2], ids[len(ids) // 2 :])
            return sum(self._commit_with_effect(kind, half) for half in halves)
        self._count_done(kind, rows)
        return len(rows)

    # -- effects elsewhere

    def _claim_and_do(self, kind: FollowupKind, limit: int, do: _Effect) -> bool:
        """Claim, do, mark. Dying in between leaves rows that are due again when the lease is over."""
        engine = self._engine

        def claim(connection: Connection) -> tuple[list[Followup], dict[int, int]]:
            # Together: what is still to be done, and of which rebuilds of the gate that was said.
            return ledger_followups.claim_due(connection, kind, limit, LEASE_SECONDS), built_epochs(connection)

        rows, epochs = engine.ledger.run(claim)
        if not rows:
            return False
        reach("followups.claimed")
        # Taken that often and never brought back: whatever it is that ends the worker must not do so for ever.
        lost = [row for row in rows if row.attempts > MOST_ATTEMPTS]
        taken = do([row for row in rows if row.attempts <= MOST_ATTEMPTS], epochs)
        taken.failures += [_failure(row, row.attempts, "no attempt ever came to an end") for row in lost]

        reach("followups.unmarked")

        def mark(connection: Connection) -> list[Followup]:
            answers = [taken.returned.get(row.id, []) for row in taken.done]
            stand = confirm_returns(connection, answers) if taken.returned else [True] * len(taken.done)
            done = [row for row, stands in zip(taken.done, stand, strict=True) if stands]
            anew = [row for row, stands in zip(taken.done, stand, strict=True) if not stands]
            ledger_followups.finish(connection, done)
            ledger_followups.give_up_claims(connection, [*taken.untried, *anew], taken.untried_delay_seconds)
            return done

        done = engine.ledger.run(mark)
        self._set_aside(kind, taken.failures, claimed=True)
        self._count_done(kind, done)
        if taken.unavailable:
            self._report.unavailable[kind] = taken.unavailable
        return bool(done)

    def _return_stock(self, rows: Sequence[Followup], epochs: Mapping[int, int]) -> _Taken:
        taken = _Taken()
        with self._engine.ledger.read() as connection:
            orders = {row.order_id: order_by_id(connection, row.order_id) for row in rows}
        for place, row in enumerate(rows):
            order = orders[row.order_id]
            try:
                if order is None or order.status != "CANCELLED":
                    raise BrokenContract("the order is not cancelled")
                taken.returned[row.id] = return_stock(self._engine, order, epochs)
            except GateUnavailable as error:
                # The gate is being rebuilt or away: no fault of the order's, so it costs none of its attempts.
                taken.untried = list(rows[place:])
                taken.untried_delay_seconds = GATE_DELAY_SECONDS
                taken.unavailable = str(error)
                break
            except EngineError as error:
                taken.failures.append(_failure(row, row.attempts, str(error)))
            else:
                taken.done.append(row)
        return taken

    def _deliver(self, name: OrderEventName, rows: Sequence[Followup]) -> _Taken:
        if self._platform is None:
            return _Taken(untried=list(rows))
        with self._engine.ledger.read() as connection:
            events = read_events(connection, name, [row.order_id for row in rows])
        last_start = time.monotonic() + DELIVERY_SECONDS
        results = self._platform.deliver_all(list(events.values()), lambda: time.monotonic() < last_start)
        taken = _Taken()
        for row in rows:
            event_id = events[row.order_id].event_id
            error = results.get(event_id)
            if event_id not in results:
                taken.untried.append(row)
            elif error is None:
                taken.done.append(row)
            else:
                taken.failures.append(_failure(row, row.attempts, error))
        if taken.failures or taken.untried:
            self._deliveries = FIRST_DELIVERIES
        else:
            self._deliveries = min(2 * self._deliveries, MOST_DELIVERIES)
        return taken

    def _count_done(self, kind: FollowupKind, rows: Sequence[Followup]) -> None:
        if rows:
            self._report.done[kind] += len(rows)
            metrics.FOLLOWUPS_WORKED.labels(kind, "done").inc(len(rows))
            if logger.isEnabledFor(logging.DEBUG):
                request_ids = sorted(self._requests_of(rows).values())
                logger.debug("%s of %d orders is done", kind, len(rows), extra={"request_ids": request_ids})

    def _set_aside(self, kind: FollowupKind, failures: Sequence[Failure], *, claimed: bool) -> None:
        if not failures:
            return
        self._engine.ledger.run(
            lambda connection: ledger_followups.record_failures(connection, failures, claimed=claimed)
        )
        self._report.failed += len(failures)
        parked = [failure.followup for failure in failures if failure.delay_seconds is None]
        requests = self._requests_of(parked) if parked else {}
        for failure in failures:
            metrics.FOLLOWUPS_WORKED.labels(kind, "parked" if failure.delay_seconds is None else "failed").inc()
            if failure.delay_seconds is None:
                self._report.parked += 1
                with about(request_id=requests.get(failure.followup.order_id, "")):
                    logger.error("ALARM: %s of order %d is parked: %s", kind, failure.followup.order_id, failure.error)

    def _requests_of(self, rows: Sequence[Followup]) -> dict[int, str]:
        """The requests that the orders were submitted with; nothing when the ledger does not say: it is for the log."""
        try:
            with self._engine.ledger.read() as connection:
                return request_ids_of(connection, [row.order_id for row in rows])
        except EngineError:
            return {}


def _failure(row: Followup, attempts: int, error: str) -> Failure:
    first_line = (error.strip().splitlines() or ["?"])[0]
    return Failure(row, first_line, retry_delay_seconds(attempts))
