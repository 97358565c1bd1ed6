"""Routes in turns with the empty Flask route: A B A C A D …, and that in rounds.

Each slice of a route is held against the slice of the empty route just before it, so that whatever slows the machine
down for a while weighs on both; the ratio shown is the median of the rounds'. Only one server is loaded at a time, and
a slice begins when nothing works any more on what the ones before left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Protocol

from loadtests.benchmark.loads import Load
from loadtests.benchmark.plans import Plan
from loadtests.benchmark.processor_time import medians, microseconds_each, processor_seconds
from loadtests.benchmark.results import Figure, Goal, Results, Row, at_least, at_most, ratios
from loadtests.benchmark.routes import Empty, Route
from loadtests.benchmark.soundness import judge_answers
from loadtests.benchmark.stage import Stage
from loadtests.verdict import Check

CONNECTIONS = 64
WARM_UP_SECONDS = 1.0
GENERATOR_LIMIT = 0.9
"""From this share of its cores on, the generator rather than the server may be what limits a row."""

SECTION = "Over HTTP, against an empty Flask route"
LOCK_SECTION = "Over HTTP, against a lock and SELECT … FOR UPDATE"
GOALS: Mapping[str, Goal] = {
    "products": at_least(1.0),
    "popular": at_least(1.0),
    "poll-pending": at_least(1.0),
    "poll-completed": at_least(1.0),
    "issue": at_least(1.0),
    "sold-out": at_least(1.0),
    "orders": at_least(0.5),
}
"""Answers per second of a route over those of the empty one."""
SLOWEST_ISSUE = at_most(1.5)
FASTER_THAN_THE_LOCK = at_least(40.0)
SLOWEST_AGAINST_THE_LOCK = at_most(0.1)


class Running(Protocol):
    """A load on its way."""

    def finish(self) -> Load:
        """Wait for its end."""


class Generator(Protocol):
    """What sends a load: wrk, or senders of our own."""

    name: str

    def run(self, port: int, plan: Plan, *, seconds: float, connections: int) -> Load:
        """A closed loop: every connection sends its next request when its last one is answered."""

    def running(self, port: int, plan: Plan, *, seconds: float, connections: int) -> AbstractContextManager[Running]:
        """The same, beside what the caller does meanwhile."""


@dataclass
class Slices:
    """The loads of one route, round by round, and those of the empty route that each is held against."""

    route: Route
    loads: list[Load] = field(default_factory=list)
    beside: list[Load] = field(default_factory=list)

    def row(self) -> Row:
        """What the table shows."""
        return row_of(self.route.key, self.route.title, self.loads)

    def of_empty(self, what: Callable[[Load], float]) -> tuple[float, ...]:
        """Round by round, this route's value over the empty route's."""
        return ratios([what(load) for load in self.loads], [what(load) for load in self.beside])


class Meter:
    """Measures slices; ``tell`` is told of each, ``results`` gets the checks."""

    def __init__(self, stage: Stage, generator: Generator, results: Results, tell: Callable[[str], None]) -> None:
        self.stage = stage
        self.generator = generator
        self.results = results
        self.tell = tell

    def slice(self, route: Route, seconds: float, label: str) -> Load:
        """Load one route alone. Whatever it set off has come to rest when this returns."""
        with route.loaded():
            port = self.stage.ports[route.server]
            before = processor_seconds(self.stage.pids())
            load = self.generator.run(port, route.plan(), seconds=seconds, connections=CONNECTIONS)
        route.add(load, CONNECTIONS)
        self.tell(f"{label:<12} {route.title:<40} {load.per_second:>9,.0f} /s   p99 {load.p99_ms:>8,.1f} ms")
        self.results.checks.append(judge_answers(f"{route.key}, {label}", load, *route.statuses))
        route.await_rest()
        self.stage.await_quiet()
        # Only now: what an answer set off belongs to its cost.
        spent = microseconds_each(before, processor_seconds(self.stage.pids()), load.answered)
        return replace(load, processor_us=spent)


def measure_routes(
    meter: Meter, empty: Empty, routes: Sequence[Route], *, seconds: float, rounds: int, warm_up: bool = True
) -> None:
    """All routes, in rounds. Checks, rows and figures are in the meter's results then."""
    for route in (empty, *routes) if warm_up else ():
        meter.slice(route, WARM_UP_SECONDS, "warm-up")
    slices = {route.key: Slices(route) for route in routes}
    for number in range(1, rounds + 1):
        label = f"round {number}/{rounds}"
        for route in routes:
            slices[route.key].beside.append(meter.slice(empty, seconds, label))
            slices[route.key].loads.append(meter.slice(route, seconds, label))
    results = meter.results
    results.rows.append(_row_of_empty(empty, slices.values(), rounds))
    for each in slices.values():
        results.rows.append(each.row())
        results.checks += each.route.judge()
    results.figures += route_figures(slices)
    results.warnings += limits_of_the_generator(results.rows)


def route_figures(slices: Mapping[str, Slices]) -> list[Figure]:
    """The ratios that have goals, of those routes that were measured."""
    figures = [
        Figure(
            f"{key}/empty", SECTION, f"{each.route.title} ÷ empty", each.of_empty(lambda load: load.per_second), "×",
            GOALS.get(key), per_second_note(each.loads, each.beside),
        )
        for key, each in slices.items()
        if key != "lock"
    ]  # fmt: skip
    issue, lock = slices.get("issue"), slices.get("lock")
    if issue is not None:
        slowest = issue.of_empty(lambda load: load.p99_ms)
        figures.append(Figure("issue-p99/empty", SECTION, "p99 of issue ÷ p99 of empty", slowest, "×", SLOWEST_ISSUE))
    if issue is not None and lock is not None:
        faster = ratios([load.per_second for load in issue.loads], [load.per_second for load in lock.loads])
        slowest = ratios([load.p99_ms for load in issue.loads], [load.p99_ms for load in lock.loads])
        note, p99 = per_second_note(issue.loads, lock.loads), "p99 of issue ÷ p99 of lock"
        figures += [
            Figure("issue/lock", LOCK_SECTION, "issue ÷ lock", faster, "×", FASTER_THAN_THE_LOCK, note),
            Figure("issue-p99/lock", LOCK_SECTION, p99, slowest, "×", SLOWEST_AGAINST_THE_LOCK),
        ]
    return figures


def row_of(key: str, title: str, loads: Sequence[Load]) -> Row:
    """The row of some loads, one for each round."""
    return Row(
        key,
        title,
        tuple(load.per_second for load in loads),
        tuple(load.p50_ms for load in loads),
        tuple(load.p99_ms for load in loads),
        median(load.cpu_share for load in loads),
        medians(load.processor_us for load in loads),
    )


def per_second_note(ours: Sequence[Load], others: Sequence[Load]) -> str:
    """The two medians that a ratio is of."""
    above, below = (median(load.per_second for load in loads) for loads in (ours, others))
    return f"{above:,.0f}/s, {below:,.0f}/s"


def limits_of_the_generator(rows: Iterable[Row]) -> list[str]:
    """Which rows may tell of the generator rather than of what it loaded."""
    return [
        f"{row.title}: the generator used {row.generator_share:.0%} of what it can; it may be the limit, not the server"
        for row in rows
        if row.generator_share > GENERATOR_LIMIT
    ]


def merged(checks: Iterable[Check]) -> list[Check]:
    """Checks that hold and were made for every slice, as one for each route; those that fail stay as they are."""
    found: dict[str, list[Check]] = {}
    for check in checks:
        subject, separator, what = check.name.partition(": ")
        name = f"{subject.partition(', ')[0]}{separator}{what}" if check.ok else check.name
        found.setdefault(name, []).append(check)
    return [
        Check(name, each[0].ok, each[0].detail + (f", and in {len(each) - 1} more slices" if len(each) > 1 else ""))
        for name, each in found.items()
    ]


def _row_of_empty(empty: Empty, slices: Iterable[Slices], rounds: int) -> Row:
    """One value for each round, though the empty route was measured once for each of the others."""
    by_round = [[each.beside[number] for each in slices] for number in range(rounds)]
    return Row(
        empty.key,
        empty.title,
        tuple(median(load.per_second for load in loads) for loads in by_round),
        tuple(median(load.p50_ms for load in loads) for loads in by_round),
        tuple(median(load.p99_ms for load in loads) for loads in by_round),
        median(load.cpu_share for loads in by_round for load in loads),
        medians(load.processor_us for loads in by_round for load in loads),
    )
