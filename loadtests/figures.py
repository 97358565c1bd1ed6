"""How fast it was: figures from the crowd's own records and from watching the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from loadtests.verdict import NO_ANSWER, Facts


@dataclass(frozen=True)
class Figures:
    """Rates are per second of the time in which the thing happened; ``lag_seconds`` is from the last decision to the
    moment at which a poller saw every row."""

    answered_per_second: float
    accepted_per_second: float
    persisted_per_second: float
    percentiles_ms: tuple[float, float, float]
    lag_seconds: float

    def table(self) -> str:
        """The figures for people."""
        p50, p95, p99 = self.percentiles_ms
        return (
            f"  answered   {self.answered_per_second:>8,.0f} /s\n"
            f"  accepted   {self.accepted_per_second:>8,.0f} /s  until the last one\n"
            f"  persisted  {self.persisted_per_second:>8,.0f} /s  until the last row\n"
            f"  latency    {p50:>8,.0f} ms p50, {p95:,.0f} ms p95, {p99:,.0f} ms p99, waiting ones not counted\n"
            f"  lag        {self.lag_seconds:>8.2f} s from the last decision to its row, as a poller saw it"
        )


def figures_of(facts: Facts, growth: Sequence[tuple[float, int]], last_decision: float) -> Figures:
    """``growth`` is (Unix seconds, rows) as the ledger filled; ``last_decision`` is in Unix seconds."""
    answered = [attempt for attempt in facts.issues if attempt.status != NO_ANSWER]
    started = min((attempt.at - attempt.milliseconds / 1000 for attempt in facts.issues), default=0.0)
    accepted = [attempt.at for attempt in answered if attempt.status == 202] or [
        attempt.at for attempt in answered if attempt.accepted
    ]
    complete = next((at for at, rows in growth if rows == len(facts.rows) and rows), last_decision)
    # A 201 is late because its sender wanted to wait.
    prompt = sorted(attempt.milliseconds for attempt in answered if attempt.status != 201)
    return Figures(
        answered_per_second=_rate(len(answered), started, max((a.at for a in answered), default=started)),
        accepted_per_second=_rate(sum(a.accepted for a in answered), started, max(accepted, default=started)),
        persisted_per_second=_rate(len(facts.rows), started, complete),
        percentiles_ms=(percentile(prompt, 0.50), percentile(prompt, 0.95), percentile(prompt, 0.99)),
        lag_seconds=complete - last_decision,
    )


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed; 0 for no values."""
    return ascending[max(0, ceil(share * len(ascending)) - 1)] if ascending else 0.0


def _rate(count: int, start: float, end: float) -> float:
    return count / (end - start) if end > start else 0.0
