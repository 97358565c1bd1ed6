"""Numbers and goals in words, the same in every form of the report."""

from __future__ import annotations

from loadtests.benchmark.results import Figure, Goal, Row

BOUNDS = {"at least": "≥", "at most": "≤"}


def number(value: float) -> str:
    """Three digits or so: what is smaller is noise."""
    if value != 0 and abs(value) < 0.1:
        return f"{value:.3f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def amount(value: float, unit: str) -> str:
    """A value with its unit."""
    if unit == "":
        return f"{value:,.0f}"
    return f"{number(value)}{unit}" if unit == "×" else f"{number(value)} {unit}"


def value_of(figure: Figure) -> str:
    """The median."""
    return amount(figure.value, figure.unit)


def range_of(figure: Figure) -> str:
    """From the lowest round to the highest; empty for a single one."""
    if len(figure.rounds) < 2:
        return ""
    return f"{number(min(figure.rounds))} – {number(max(figure.rounds))}"


def goal_of(goal: Goal | None, unit: str) -> str:
    """``≥ 1.0×``; a dash where there is none."""
    if goal is None:
        return "–"
    exact = f"{goal.value:,.1f}" if goal.value < 10 else f"{goal.value:,.0f}"
    if unit == "":
        exact = f"{goal.value:,.0f}"
    return f"{BOUNDS[goal.bound]} {exact}{'' if unit in ('', '×') else ' '}{unit}"


def verdict_of(figure: Figure) -> str:
    """Whether the goal is met, in words and not by a colour alone."""
    return {True: "met", False: "missed", None: ""}[figure.met]


def rate_range(row: Row) -> str:
    """From the slowest round to the fastest; empty for a single one."""
    if len(row.per_second) < 2:
        return ""
    return f"{min(row.per_second):,.0f} – {max(row.per_second):,.0f}"


def summary(figures: list[Figure]) -> str:
    """How many of the goals are met."""
    with_goals = [figure for figure in figures if figure.goal is not None]
    return f"{sum(bool(figure.met) for figure in with_goals)} of {len(with_goals)} goals met"
