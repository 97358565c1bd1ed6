"""Every metric there is: name, meaning, unit. Whatever counts imports this; nothing else may make a metric.

Several processes count side by side. With ``PROMETHEUS_MULTIPROC_DIR`` set before this is imported each of them writes
into files of its own there, and ``exposition.py`` adds them up: counters and histograms over all processes that ever
wrote since the folder was emptied, so that a killed process takes nothing away from a sum. Without it a process knows
only its own numbers, which is enough for a test.

What is true of a store and not of a process (how long an outbox is) is observed by the active scheduler alone.
"""

from __future__ import annotations

import math
import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from engine.outcomes import IssueStatus, ReserveStatus
from engine.telemetry.tallied_histogram import TalliedHistogram

disable_created_metrics()

REGISTRY = CollectorRegistry(auto_describe=True)
PREFIX = "seonchak"

GATE, LEDGER, QUEUE = "gate", "ledger", "queue"
"""The stores that are observed."""

_CALL_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""A healthy call takes one or two milliseconds; half a second is the time-out of a decision."""
_ANSWER_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_REBUILD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_ASKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1000)
_ENTRIES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

UNAVAILABLE = "unavailable"
KEY_REUSED = "key_reused"

# -- what clients meet

HTTP_SECONDS = TalliedHistogram(
    "http_request_seconds",
    "From a request's last byte to its answer. way=short: answered on the event loop; way=views: by Flask, "
    "where clients may have asked to wait.",
    ("route", "way", "status"),
    namespace=PREFIX,
    registry=REGISTRY,
    buckets=_ANSWER_SECONDS,
)
HTTP_FAULTS = Counter(
    "http_faults",
    "Requests that ended in an error nobody expected (status 500).",
    namespace=PREFIX,
    registry=REGISTRY,
)
TURNED_AWAY = Counter(
    "turned_away",
    "Asks that were told to come again because all places were taken or the wait was too long.",
    namespace=PREFIX,
    registry=REGISTRY,
)

# -- the gate

DECISIONS = Counter(
    "decisions",
    "Asks decided, by the script's answer. outcome=unavailable: nothing was decided, or the answer did not arrive.",
    ("kind", "outcome"),
    namespace=PREFIX,
    registry=REGISTRY,
)
CALL_ASKS = Histogram(
    "gate_call_asks",
    "Asks that went together in one call to a store.",
    ("kind",),
    namespace=PREFIX,
    registry=REGISTRY,
    buckets=_ASKS,
)
CALL_SECONDS = Histogram(
    "gate_call_seconds",
    "How long one call took, for all asks that went in it.",
    ("kind",),
    namespace=PREFIX,
    registry=REGISTRY,
    buckets=_CALL_SECONDS,
)
OUTBOX_ENTRIES = Gauge(
    "outbox_entries",
    "Decisions that wait for the ledger.",
    ("lane",),
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
OUTBOX_HEAD_AGE_SECONDS = Gauge(
    "outbox_head_age_seconds",
    "How long the oldest decision has waited for the ledger; 0 when none waits.",
    ("lane",),
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
LANE_READY = Gauge(
    "lane_ready",
    "1 while the lane decides: open, and approved on the server that it is on.",
    ("lane",),
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
HOLDS = Gauge(
    "holds",
    "Orders whose units are held and neither sold nor given back.",
    ("lane",),
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
HOLDS_CLAIMED = Counter(
    "holds_claimed",
    "Overdue holds that the sweeper set aside to ask the ledger about.",
    namespace=PREFIX,
    registry=REGISTRY,
)
HOLDS_ENDED = Counter(
    "holds_ended",
    "Overdue holds that ended, by what the ledger says became of the order.",
    ("status",),
    namespace=PREFIX,
    registry=REGISTRY,
)
LATE_PUBLICATIONS = Counter(
    "late_publications",
    "Offers that the scheduler made live because whoever recorded them had not; after a start, those of the ledger.",
    ("offer",),
    namespace=PREFIX,
    registry=REGISTRY,
)

# -- from the gate to the ledger

DRAIN_BATCH_SECONDS = Histogram(
    "drain_batch_seconds",
    "From reading the head of an outbox to its removal after the commit.",
    namespace=PREFIX,
    registry=REGISTRY,
    buckets=_BATCH_SECONDS,
)
DRAIN_BATCH_ENTRIES = Histogram(
    "drain_batch_entries",
    "Entries that one batch took from an outbox.",
    namespace=PREFIX,
    registry=REGISTRY,
    buckets=_ENTRIES,
)
DRAIN_ENTRIES = Counter(
    "drain_entries",
    "Entries that left an outbox: recorded in the ledger, quarantined, or forgotten because the lane was opened anew "
    "without them. One that a crash let two drains record counts twice.",
    ("result",),
    namespace=PREFIX,
    registry=REGISTRY,
)
SETTLED_ORDERS = Counter(
    "settled_orders",
    "Orders that the ledger decided.",
    ("status",),
    namespace=PREFIX,
    registry=REGISTRY,
)
BELL_RINGS = Counter(
    "bell_rings",
    "Rings for a queue: rung, spared (somebody had rung already) or failed (the scheduler rings again).",
    ("queue", "result"),
    namespace=PREFIX,
    registry=REGISTRY,
)
QUARANTINED_OUTCOMES = Gauge(
    "quarantined_outcomes",
    "Decisions that the ledger refused to record and that wait for a person.",
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
QUEUE_JOBS = Gauge(
    "queue_jobs",
    "Jobs in RQ: state=queued waits for a worker, state=failed ended in an error or with its worker in the last hour.",
    ("queue", "state"),
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
JOB_FAILURES = Counter(
    "job_failures",
    "Jobs that ended in an error nobody expected.",
    ("queue",),
    namespace=PREFIX,
    registry=REGISTRY,
)

# -- what follows from orders

FOLLOWUPS = Gauge(
    "followups",
    "What is still to be done because of orders; state=parked waits for a person.",
    ("kind", "state"),
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
FOLLOWUPS_DUE_AGE_SECONDS = Gauge(
    "followups_due_age_seconds",
    "For how long the longest overdue follow-up has been due; 0 when none is.",
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
FOLLOWUPS_WORKED = Counter(
    "followups_worked",
    "Attempts at follow-ups: done, failed (comes again) or parked.",
    ("kind", "result"),
    namespace=PREFIX,
    registry=REGISTRY,
)

# -- upkeep

GUARD_VERDICTS = Counter(
    "guard_verdicts",
    "What the guard found about lanes: ready, approve (another server that lost nothing), rebuild.",
    ("verdict",),
    namespace=PREFIX,
    registry=REGISTRY,
)
REBUILD_SECONDS = Histogram(
    "rebuild_seconds",
    "How long it took to build a lane from the ledger; it decides nothing meanwhile.",
    ("result",),
    namespace=PREFIX,
    registry=REGISTRY,
    buckets=_REBUILD_SECONDS,
)
AUDIT_CHECK_OK = Gauge(
    "audit_check_ok",
    "1 when the check held at its last audit.",
    ("check",),
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
AUDIT_TIMESTAMP_SECONDS = Gauge(
    "audit_timestamp_seconds",
    "When the last audit ended (Unix time).",
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
OBSERVED_TIMESTAMP_SECONDS = Gauge(
    "observed_timestamp_seconds",
    "When the active scheduler last looked at the store (Unix time).",
    ("store",),
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
HEARTBEAT_TIMESTAMP_SECONDS = Gauge(
    "heartbeat_timestamp_seconds",
    "When a process was last heard (Unix time); one series for each living process.",
    ("process",),
    namespace=PREFIX,
    registry=REGISTRY,
    multiprocess_mode="liveall",
)

OBSERVED: Mapping[str, str] = {
    "seonchak_outbox_entries": GATE,
    "seonchak_outbox_head_age_seconds": GATE,
    "seonchak_lane_ready": GATE,
    "seonchak_holds": GATE,
    "seonchak_quarantined_outcomes": LEDGER,
    "seonchak_followups": LEDGER,
    "seonchak_followups_due_age_seconds": LEDGER,
    "seonchak_queue_jobs": QUEUE,
}
"""Which store the metric is an observation of: without a fresh look at that store there is no such metric."""


def count_decisions(kind: str, outcomes: Iterable[str]) -> None:
    """Count the outcomes of the asks of one call: one increment for each different outcome, not for each ask."""
    for outcome, count in Tally(outcomes).items():
        counter = _DECISIONS.get((kind, outcome)) or DECISIONS.labels(kind, outcome)
        counter.inc(count)


@contextmanager
def timed_call(kind: str, asks: int) -> Iterator[None]:
    """Measure one call to a store that this many asks went in."""
    asks_histogram, seconds_histogram = _CALLS[kind]
    asks_histogram.observe(asks)
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds_histogram.observe(time.perf_counter() - started)


def record_lane(lane: int, *, ready: bool, entries: int, head_age_seconds: float, holds: int) -> None:
    """What the active scheduler saw of a lane."""
    LANE_READY.labels(lane).set(int(ready))
    OUTBOX_ENTRIES.labels(lane).set(entries)
    OUTBOX_HEAD_AGE_SECONDS.labels(lane).set(head_age_seconds)
    HOLDS.labels(lane).set(holds)


def record_lane_away(lane: int) -> None:
    """The lane's server does not answer: it decides nothing, and nobody knows what waits in it."""
    LANE_READY.labels(lane).set(0)
    for gauge in (OUTBOX_ENTRIES, OUTBOX_HEAD_AGE_SECONDS, HOLDS):
        gauge.labels(lane).set(math.nan)


def record_look(store: str) -> None:
    """The active scheduler has looked at this store just now."""
    OBSERVED_TIMESTAMP_SECONDS.labels(store).set_to_current_time()


def record_audit(checks: Mapping[str, bool]) -> None:
    """The result of an audit that has just ended: for each of its checks, whether it held."""
    for name, ok in checks.items():
        AUDIT_CHECK_OK.labels(name).set(int(ok))
    AUDIT_TIMESTAMP_SECONDS.set_to_current_time()


def beat(process: str) -> None:
    """Tell that this process is alive; ``process`` is what it is: web, drain, followups, scheduler."""
    HEARTBEAT_TIMESTAMP_SECONDS.labels(process).set_to_current_time()


_ISSUE_OUTCOMES = (*IssueStatus, UNAVAILABLE)
_ORDER_OUTCOMES = (*ReserveStatus, UNAVAILABLE)
# Made once, because finding a metric by its labels costs more than the increment, and so that a rate has a zero to
# begin at: Prometheus does not see the first increment of a series that appears with it.
_DECISIONS: dict[tuple[str, str], Counter] = {
    (kind, str(outcome)): DECISIONS.labels(kind, str(outcome))
    for kind, outcomes in (("coupon_issue", _ISSUE_OUTCOMES), ("order", _ORDER_OUTCOMES))
    for outcome in outcomes
    if outcome not in (IssueStatus.LANE_NOT_READY, IssueStatus.STALE_EPOCH)
}
_CALLS = {kind: (CALL_ASKS.labels(kind), CALL_SECONDS.labels(kind)) for kind in ("issue", "order", "look", "shared")}
for _result in ("recorded", "quarantined", "forgotten"):
    DRAIN_ENTRIES.labels(_result)
for _queue in ("drain", "followups"):
    JOB_FAILURES.labels(_queue)
    for _result in ("rung", "spared", "failed"):
        BELL_RINGS.labels(_queue, _result)
for _verdict in ("ready", "approve", "rebuild"):
    GUARD_VERDICTS.labels(_verdict)
for _status in ("COMPLETED", "FAILED", "EXPIRED", "CANCELLED"):
    HOLDS_ENDED.labels(_status)
for _status in ("COMPLETED", "FAILED"):
    SETTLED_ORDERS.labels(_status)
for _result in ("opened", "given_up"):
    REBUILD_SECONDS.labels(_result)
