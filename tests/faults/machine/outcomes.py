"""Outcomes by fault: who was injected how often, what was told meanwhile, and what of it was wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.faults.machine.history import Forgetting, History
from tests.faults.machine.machine import Rest
from tests.faults.machine.verdict import Kind, Violation, has_come_true, is_excused, promises

COLUMNS = (
    "kills", "sleeps", "others", "accepted", "completed", "forgotten",
    Kind.LOST, Kind.TWICE, Kind.OVERSOLD, Kind.TAKEN_BACK, Kind.DISORDER, Kind.OTHER,
)  # fmt: skip
"""``others`` are injections that are neither a kill nor a sleep at a point; ``forgotten`` promises were still waiting
when Redis lost its memory, which the promise of a 202 allows."""


@dataclass(frozen=True)
class Round:
    """What was injected, by name and what it was ("kills", "sleeps", "others"), and when."""

    begin: float
    end: float
    injected: tuple[tuple[str, str], ...]

    @property
    def names(self) -> list[str]:
        """Each fault once."""
        return list(dict.fromkeys(name for name, _ in self.injected))


@dataclass
class Outcome:
    """One line of the table."""

    counts: Counter[str] = field(default_factory=Counter)
    reopened_seconds: float = 0.0
    """The longest time from a loss of memory to the first promise after it."""


@dataclass
class Outcomes:
    """The whole table, filled rest by rest."""

    by_fault: dict[str, Outcome] = field(default_factory=dict)
    total: Outcome = field(default_factory=Outcome)
    violations: list[tuple[str, Violation]] = field(default_factory=list)
    """With the faults that were at work."""

    def add(self, rounds: Sequence[Round], rest: Rest) -> None:
        """Account for everything between two rests."""
        for each in rounds:
            self._add_round(each, rest)
        for outcome_of_promise, at in _promises_by_time(rest):
            self.total.counts[outcome_of_promise] += 1
            for each in _rounds_at(rounds, at):
                self._count(each, outcome_of_promise)
        for violation in rest.violations:
            blamed = list(_rounds_at(rounds, violation.at)) if violation.at is not None else list(rounds)
            names = dict.fromkeys(name for each in blamed for name in each.names)
            self.violations.append((", ".join(names) or "nothing", violation))
            self.total.counts[violation.kind] += 1
            for name in names:
                self._line(name).counts[violation.kind] += 1

    def _add_round(self, each: Round, rest: Rest) -> None:
        for name, what in each.injected:
            self._line(name).counts[what] += 1
            self.total.counts[what] += 1
        for forgetting in rest.history.forgettings:
            if each.begin <= forgetting.at <= each.end:
                seconds = reopened_after(rest.history, forgetting)
                for line in (self.total, *(self._line(name) for name in each.names)):
                    line.reopened_seconds = max(line.reopened_seconds, seconds)

    def _count(self, each: Round, column: str) -> None:
        for name in each.names:
            self._line(name).counts[column] += 1

    def _line(self, name: str) -> Outcome:
        return self.by_fault.setdefault(name, Outcome())

    # -- for people

    def table(self) -> str:
        """The table as plain text."""
        head, *lines = self._cells()
        widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]

        def row(cells: Sequence[str]) -> str:
            first, *others = zip(cells, widths, strict=True)
            return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])

        return "\n".join([row(head), "  ".join("-" * width for width in widths), *map(row, lines)])

    def markdown(self) -> str:
        """The table for the documentation."""
        head, *lines = self._cells()
        rule = ["---", *("---:" for _ in head[1:])]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *lines])

    def _cells(self) -> Iterable[list[str]]:
        yield ["fault", *COLUMNS, "reopened s"]
        for name, outcome in [*self.by_fault.items(), ("all together", self.total)]:
            counts = [f"{outcome.counts[column]:,}" for column in COLUMNS]
            yield [name, *counts, f"{outcome.reopened_seconds:.1f}" if outcome.reopened_seconds else "–"]


def reopened_after(history: History, forgetting: Forgetting) -> float:
    """Seconds from a loss of memory to the first promise that was asked for after it; 0 when none was."""
    later = [exchange.end for wish, exchange in promises(history) if wish.exchanges[0].begin > forgetting.until]
    return min(later, default=forgetting.at) - forgetting.at


def _promises_by_time(rest: Rest) -> Iterable[tuple[str, float]]:
    for wish, exchange in promises(rest.history):
        yield "accepted", wish.begin
        if has_come_true(rest.kept, exchange.request_id):
            yield "completed", wish.begin
        elif is_excused(rest.history, wish, exchange):
            yield "forgotten", wish.begin


def _rounds_at(rounds: Sequence[Round], at: float) -> Iterable[Round]:
    return (each for each in rounds if each.begin <= at < each.end)
