"""What a run found: rows in answers per second, figures with their goals, and checks.

A missed goal is shown; a failed check makes the whole run worthless, because what was measured did not do its work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from loadtests.verdict import Check

Bound = Literal["at least", "at most"]


@dataclass(frozen=True)
class Goal:
    """What a figure should be."""

    bound: Bound
    value: float

    def is_met_by(self, value: float) -> bool:
        """Whether the value is on the right side of the goal; exactly on it counts."""
        return value >= self.value if self.bound == "at least" else value <= self.value

    def reached_by(self, value: float) -> float:
        """How much of the goal is reached: 1 is all of it, more is better, whichever side the goal is on."""
        if self.bound == "at least":
            return value / self.value
        if value <= 0:
            return 1.0 if self.value <= 0 else float("inf")
        return self.value / value


def at_least(value: float) -> Goal:
    """A goal that is met by this much or more."""
    return Goal("at least", value)


def at_most(value: float) -> Goal:
    """A goal that is met by this much or less."""
    return Goal("at most", value)


@dataclass(frozen=True)
class Figure:
    """One number: the median of its rounds, in ``unit`` (``×`` for a ratio), and what it should be."""

    key: str
    section: str
    title: str
    rounds: tuple[float, ...]
    unit: str
    goal: Goal | None = None
    note: str = ""

    @property
    def value(self) -> float:
        """The median; one bad round does not decide."""
        return median(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        return None if self.goal is None else self.goal.is_met_by(self.value)


@dataclass(frozen=True)
class Row:
    """One route under load, round by round. ``generator_share`` is the sender's use of the cores it has threads for;
    ``processor_us`` is what an answer cost each process, in microseconds of processor time."""

    key: str
    title: str
    per_second: tuple[float, ...]
    p50_ms: tuple[float, ...]
    p99_ms: tuple[float, ...]
    generator_share: float
    processor_us: Mapping[str, float] = field(default_factory=dict)

    @property
    def median_per_second(self) -> float:
        """Answers per second."""
        return median(self.per_second)


@dataclass(frozen=True)
class Arrivals:
    """What became of open-loop arrivals, per second: accepted in time, accepted too late, refused, never answered."""

    name: str
    in_time: float
    late: float
    refused: float
    unanswered: float


@dataclass
class Results:
    """Everything that one run found, in the order in which it was found."""

    facts: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    arrivals: list[Arrivals] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Check]:
        """The checks that do not hold."""
        return [check for check in self.checks if not check.ok]

    @property
    def missed(self) -> list[Figure]:
        """The figures whose goals are not met."""
        return [figure for figure in self.figures if figure.met is False]

    def sections(self) -> Iterator[tuple[str, list[Figure]]]:
        """The figures by section, in the order in which each section first came."""
        for section in dict.fromkeys(figure.section for figure in self.figures):
            yield section, [figure for figure in self.figures if figure.section == section]

    def exit_code(self, *, strict: bool) -> int:
        """0 when the run counts, 1 when a check fails; ``strict`` wants the goals met, too."""
        return 1 if self.failed or (strict and self.missed) else 0

    def as_json(self) -> dict[str, Any]:
        """The results for machines; numbers as they are, without rounding."""
        return {
            "facts": self.facts,
            "settings": self.settings,
            "rows": [_row_as_json(row) for row in self.rows],
            "figures": [_figure_as_json(figure) for figure in self.figures],
            "arrivals": [asdict(each) for each in self.arrivals],
            "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks],
            "warnings": self.warnings,
        }


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Round by round, one thing divided by the other: what slows a whole round down weighs on both.

    Raises ValueError when there are not as many of one as of the other: they were not measured in turns.
    """
    return tuple(over / under for over, under in zip(above, below, strict=True))


def _row_as_json(row: Row) -> Mapping[str, Any]:
    return {
        "key": row.key,
        "title": row.title,
        "perSecond": {"median": row.median_per_second, "rounds": row.per_second},
        "p50Ms": {"median": median(row.p50_ms), "rounds": row.p50_ms},
        "p99Ms": {"median": median(row.p99_ms), "rounds": row.p99_ms},
        "generatorShare": row.generator_share,
        "processorUs": row.processor_us,
    }


def _figure_as_json(figure: Figure) -> Mapping[str, Any]:
    goal = figure.goal
    return {
        "key": figure.key,
        "section": figure.section,
        "title": figure.title,
        "value": figure.value,
        "rounds": figure.rounds,
        "unit": figure.unit,
        "goal": None if goal is None else {"bound": goal.bound, "value": goal.value},
        "met": figure.met,
        "note": figure.note,
    }
