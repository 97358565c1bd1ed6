"""Which generator sends, and whether it is fast enough to say something of others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from loadtests.benchmark.http_rows import CONNECTIONS, Generator, Meter, row_of
from loadtests.benchmark.loads import Load
from loadtests.benchmark.plans import Cycle, get
from loadtests.benchmark.results import Figure, Row, at_least
from loadtests.benchmark.senders import Senders
from loadtests.benchmark.soundness import judge_answers
from loadtests.benchmark.wrk import Wrk, version_of_wrk

SECTION = "The generator"
FASTER_THAN_ALL = at_least(1.0)


def generator_in(folder: Path) -> Generator:
    """wrk where it is installed, otherwise senders of our own; files in ``folder``."""
    return Senders(folder) if version_of_wrk() is None else Wrk(folder)


def calibrate(meter: Meter, seconds: float) -> Load:
    """What the generator gets out of a server that does nothing: the fastest that it can be shown to be."""
    port = meter.stage.ports["plain"]
    load = meter.generator.run(port, Cycle((get("/"),)), seconds=seconds, connections=CONNECTIONS)
    meter.results.checks.append(judge_answers("generator", load, 200))
    meter.tell(f"{meter.generator.name} gets {load.per_second:,.0f}/s out of a server without a framework")
    return load


def measured_faster(plain: Load, rows: Iterable[Row]) -> Figure:
    """The generator's own limit over the fastest row: below 1 it may have been the generator that was measured."""
    fastest = max(rows, key=lambda row: row.median_per_second)
    of_plain = row_of("plain", "plain function", [plain])
    ratio = of_plain.median_per_second / fastest.median_per_second
    note = f"{of_plain.median_per_second:,.0f}/s, {fastest.title} {fastest.median_per_second:,.0f}/s"
    title = "an empty WSGI function ÷ the fastest route"
    return Figure("generator", SECTION, title, (ratio,), "×", FASTER_THAN_ALL, note)
