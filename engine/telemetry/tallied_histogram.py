"""A histogram that is cheap to fill: a process counts for itself, in plain lists, and hands its counts over at times.

Every increment of a metric that several processes share takes a lock, a system call and a write into a mapped file, and
a histogram does that twice. That is nothing once per batch; once per request of a rush it would cost several per cent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import Histogram


class TalliedHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add observations: for each bucket how many fell into it and not into a smaller one, and their sum."""
        self._raise_if_not_observable()  # type: ignore[no-untyped-call]
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)

    @property
    def bounds(self) -> list[float]:
        """The buckets' upper bounds, the infinite one included."""
        return list(self._upper_bounds)


class LocalTally:
    """One process' observations that were not handed over yet. Not thread-safe: one thread or loop fills it."""

    def __init__(self, histogram: TalliedHistogram) -> None:
        self._histogram = histogram
        self._bounds = histogram.bounds[:-1]
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._totals: dict[tuple[str, ...], float] = {}

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        """Count one observation under these labels."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
            self._totals[labels] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._totals[labels] += value

    def hand_over(self) -> None:
        """Add to the histogram what was counted since the last time."""
        counts, totals = self._counts, self._totals
        self._counts, self._totals = {}, {}
        for labels, each in counts.items():
            self._histogram.labels(*labels).add(each, totals[labels])
