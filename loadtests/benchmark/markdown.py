"""The results as a Markdown page: for the README's neighbours and for whoever reads a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from loadtests.benchmark import wording
from loadtests.benchmark.results import Results

INTRODUCTION = """\
Speeds depend on the machine; the ratios are what is promised. Routes are measured in turns with an empty Flask route (a
`POST` with a constant answer, on the same server command), one server loaded at a time, through the processes of the
Procfile; each value is the median of its rounds.
"""


PROCESSOR_TIME = """\
Microseconds of processor time for each answer, by process, everything that the answer sets off included (the drain
writes what was issued while the next ones are issued). The generator takes its share of the same cores.
"""


def render_markdown(results: Results, *, chart: str | None = None) -> str:
    """The page. ``chart`` is the path of a picture to show, as seen from the page."""
    parts = ["# Benchmark", INTRODUCTION, f"`{results.settings.get('command', 'make benchmark')}`"]
    if results.settings.get("quick"):
        parts.append("**A quick run: it shows that everything works, its figures mean nothing.**")
    if chart is not None:
        parts.append(f"![Answers per second by route]({chart})")
    parts.append(_table(("", "this run"), results.facts.items()))
    if results.rows:
        parts += ["## Routes", _routes(results)]
    if any(row.processor_us for row in results.rows):
        parts += ["## Where the processor time goes", PROCESSOR_TIME, _processor_time(results)]
    for section, figures in results.sections():
        lines = [
            (
                figure.title,
                wording.value_of(figure),
                wording.goal_of(figure.goal, figure.unit),
                wording.verdict_of(figure),
                wording.range_of(figure),
                figure.note,
            )
            for figure in figures
        ]
        parts += [f"## {section}", _table(("", "median", "goal", "", "rounds", ""), lines)]
    if results.arrivals:
        lines_of_arrivals = [
            (each.name, *(f"{value:,.0f}" for value in (each.in_time, each.late, each.refused, each.unanswered)))
            for each in results.arrivals
        ]
        header = ("arrivals, per second", "accepted in time", "accepted late", "503 BUSY", "no answer")
        parts += ["## What became of arrivals", _table(header, lines_of_arrivals)]
    parts += ["## Whether it counts", _checks(results)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _routes(results: Results) -> str:
    lines = [
        (
            row.title,
            f"{row.median_per_second:,.0f}",
            wording.rate_range(row),
            f"{median(row.p50_ms):,.1f}",
            f"{median(row.p99_ms):,.1f}",
            f"{row.generator_share:.0%}",
        )
        for row in results.rows
    ]
    return _table(("route", "answers/s", "rounds", "p50 ms", "p99 ms", "generator busy"), lines)


def _processor_time(results: Results) -> str:
    names = list(dict.fromkeys(name for row in results.rows for name in row.processor_us))
    lines = [
        (
            row.title,
            *(f"{row.processor_us[name]:,.0f}" if name in row.processor_us else "" for name in names),
            f"{sum(row.processor_us.values()):,.0f}",
        )
        for row in results.rows
    ]
    return _table(("µs an answer", *names, "sum"), lines)


def _checks(results: Results) -> str:
    held = len(results.checks) - len(results.failed)
    lines = [f"{held} of {len(results.checks)} correctness checks hold; {wording.summary(results.figures)}."]
    lines += [f"- **FAILED** {check.name}: {check.detail}" for check in results.failed]
    lines += [f"- {warning}" for warning in results.warnings]
    return "\n".join(lines)


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
