"""What a disk costs: how long a decision waits for its commit, and what ``appendfsync always`` takes from issuing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median

from sqlalchemy import text

from engine.context import Engine
from engine.errors import LedgerUnavailable
from loadtests.benchmark.http_rows import CONNECTIONS, Meter, per_second_note
from loadtests.benchmark.loads import Load
from loadtests.benchmark.results import Figure, at_least, at_most, ratios
from loadtests.benchmark.routes import Issue
from loadtests.benchmark.senders import Senders, Sending, Volley
from loadtests.benchmark.shop import Shop
from loadtests.benchmark.soundness import judge_answers, judge_persistence, persisted_request_ids
from loadtests.figures import percentile

SECTION = "Durability"
LONGEST_LAG_MS = at_most(250.0)
ALL_PERSISTED = at_least(1.0)
DEAREST_ALWAYS = at_most(1.5)
LOOK_PAUSE_SECONDS = 0.01
"""Between two looks at the ledger: a lag is seen late by at most so much, and the looks themselves cost little."""

_LAST_SEQUENCE = text("SELECT coalesce(max(sequence), 0) FROM user_coupons WHERE coupon_id = :coupon_id")
_DECIDED_AT = text("""
    SELECT sequence, extract(epoch FROM issued_at) AS decided_at FROM user_coupons
    WHERE coupon_id = :coupon_id ORDER BY sequence
""")


@dataclass(frozen=True)
class Look:
    """The last place of a coupon that was in the ledger at this moment (Unix seconds)."""

    at: float
    last_sequence: int


class CommitWatch:
    """Looks at the ledger all the time: how far it has come with one coupon. A context."""

    def __init__(self, engine: Engine, coupon_id: int) -> None:
        self._engine = engine
        self._coupon_id = coupon_id
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.looks: list[Look] = []

    def __enter__(self) -> CommitWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(LOOK_PAUSE_SECONDS):
            with suppress(LedgerUnavailable), self._engine.ledger.read() as connection:
                last = connection.execute(_LAST_SEQUENCE, {"coupon_id": self._coupon_id}).scalar_one()
                # After the answer: what is in it was committed before this.
                self.looks.append(Look(time.time(), last))


def lags_ms(decided_at: Sequence[tuple[int, float]], looks: Sequence[Look]) -> list[float]:
    """How long after its decision each place was seen in the ledger, ascending.

    ``decided_at`` are (sequence, Unix seconds), ascending; a lane's drain commits in this order. Raises ValueError when
    a place was never seen: then the watch ended too early.
    """
    found = []
    ahead = iter(looks)
    look = next(ahead, None)
    for sequence, decided in decided_at:
        while look is not None and look.last_sequence < sequence:
            look = next(ahead, None)
        if look is None:
            raise ValueError(f"place {sequence} was never seen")
        found.append((look.at - decided) * 1000)
    return sorted(found)


def measure_lag(meter: Meter, shop: Shop, senders: Senders, *, seconds: float, rounds: int) -> None:
    """The lag of commits behind decisions, and whether all that was accepted is persisted, under saturating load."""
    p50, p99, kept, volleys = [], [], [], []
    engine, results = meter.stage.engine, meter.results
    for number in range(1, rounds + 1):
        issue = Issue(meter.stage, shop)
        sending = Sending(meter.stage.ports["web"], issue.plan(), seconds, CONNECTIONS, keep_bodies=True)
        with CommitWatch(engine, issue.coupon_id) as watch:
            volley = senders.send(sending)
            meter.stage.await_quiet()
            _await_look(watch, volley)
        with engine.ledger.read() as connection:
            rows = connection.execute(_DECIDED_AT, {"coupon_id": issue.coupon_id}).all()
        lags = lags_ms([(row.sequence, float(row.decided_at)) for row in rows], watch.looks)
        p50.append(percentile(lags, 0.50))
        p99.append(percentile(lags, 0.99))
        accepted = [json.loads(body)["requestId"] for body in volley.bodies]
        persisted = persisted_request_ids(engine, issue.coupon_id)
        kept.append(len(persisted & set(accepted)) / max(1, len(accepted)))
        unheard = volley.load.unanswered + volley.load.broken
        name = f"lag, round {number}/{rounds}"
        results.checks.append(judge_answers(name, volley.load, 202))
        results.checks.append(judge_persistence(name, accepted, persisted, unheard))
        volleys.append(volley)
        rate = f"{volley.load.per_second:,.0f}/s"
        meter.tell(f"lag {number}/{rounds}: p50 {p50[-1]:.0f} ms, p99 {p99[-1]:.0f} ms at {rate}")
    note = f"p50 {median(p50):,.0f} ms, at {median(volley.load.per_second for volley in volleys):,.0f} issues/s"
    results.figures += [
        Figure("lag-p99", SECTION, "lag p99, decision to commit, under load", tuple(p99), "ms", LONGEST_LAG_MS, note),
        Figure("persisted/accepted", SECTION, "persisted ÷ accepted", tuple(kept), "×", ALL_PERSISTED),
    ]


def measure_fsync(meter: Meter, shop: Shop, *, seconds: float, rounds: int) -> None:
    """Issuing with ``appendfsync everysec`` and ``always``, in turns, on one server."""
    issue = Issue(meter.stage, shop)
    loads: dict[str, list[Load]] = {"everysec": [], "always": []}
    for number in range(1, rounds + 1):
        for policy, found in loads.items():
            with _appendfsync(meter.stage.engine, policy):
                found.append(meter.slice(issue, seconds, f"{policy} {number}/{rounds}"))
    meter.results.checks += issue.judge()
    everysec, always = ([load.per_second for load in found] for found in loads.values())
    note = per_second_note(loads["everysec"], loads["always"])
    meter.results.figures.append(
        Figure(
            "everysec/always", SECTION, "issue with appendfsync everysec ÷ always", ratios(everysec, always), "×",
            DEAREST_ALWAYS, note,
        )
    )  # fmt: skip


@contextmanager
def _appendfsync(engine: Engine, policy: str) -> Iterator[None]:
    client = engine.gate.client
    before = str(client.config_get("appendfsync")["appendfsync"])
    client.config_set("appendfsync", policy)
    try:
        yield
    finally:
        client.config_set("appendfsync", before)


def _await_look(watch: CommitWatch, volley: Volley) -> None:
    """Until the watch has seen the rows of all that was accepted; what it misses, ``lags_ms`` complains of."""
    deadline = time.monotonic() + 10
    last = volley.load.count(202)
    while (not watch.looks or watch.looks[-1].last_sequence < last) and time.monotonic() < deadline:
        time.sleep(LOOK_PAUSE_SECONDS)
