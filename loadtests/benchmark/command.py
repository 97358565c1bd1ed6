"""The command: measure what the options ask for, show it, say whether it counts.

Exit code 0 when every correctness check holds (with ``--strict``: and every goal is met), 1 when not, 2 when nothing
could be measured. Reports go to REPORTS (default ``reports``).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from engine.errors import EngineError
from loadtests.benchmark import decisions, draining, machine, wording
from loadtests.benchmark.charts import picture
from loadtests.benchmark.durability import measure_fsync, measure_lag
from loadtests.benchmark.generators import calibrate, generator_in, measured_faster
from loadtests.benchmark.holding import LeaseNotHad
from loadtests.benchmark.http_rows import Meter, measure_routes, merged
from loadtests.benchmark.markdown import render_markdown
from loadtests.benchmark.options import ENGINE_TOPICS, ROUTE_TOPICS, STAGE_TOPICS, Options, WrongOptions, read_options
from loadtests.benchmark.overload import measure_mix, measure_overload, measure_peak
from loadtests.benchmark.own_engine import OwnWorkFailed, own_engine
from loadtests.benchmark.page import render_page
from loadtests.benchmark.results import Results
from loadtests.benchmark.routes import ROUTES, Empty, open_shop_with_sales
from loadtests.benchmark.senders import Senders
from loadtests.benchmark.shop import SetupFailed
from loadtests.benchmark.soundness import judge_quarantine
from loadtests.benchmark.stage import StageNotReady, stage
from loadtests.benchmark.wrk import GeneratorFailed
from loadtests.private_stack import StackDidNotStart
from ops.problems import StackProblem
from ops.processes import PROJECT_ROOT

PUBLISHED_PAGE = PROJECT_ROOT / "docs" / "benchmark.md"
PUBLISHED_PICTURE = PROJECT_ROOT / "docs" / "images" / "benchmark.svg"
QUICK_DECISIONS = decisions.Sizes(decisions=960, many_winners=10_000, issued=2_000, refused=4_000)
QUICK_DRAIN = draining.Sizes(outcomes=2_000, jobs=50, orders=400, single_orders=40)

Tell = Callable[[str], None]

COULD_NOT_MEASURE = (
    EngineError,
    GeneratorFailed,
    LeaseNotHad,
    OwnWorkFailed,
    SetupFailed,
    StackDidNotStart,
    StackProblem,
    StageNotReady,
)


def main(arguments: Sequence[str]) -> int:
    """One run; the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    try:
        options = read_options(arguments)
        results = measure(options, lambda line: print(line, flush=True))
    except (WrongOptions, *COULD_NOT_MEASURE) as problem:
        print(f"nothing was measured: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    reports = Path(os.environ.get("REPORTS", "").strip() or "reports")
    write_reports(results, reports)
    if options.publish:
        publish(results)
    show(results, reports)
    return results.exit_code(strict=options.strict)


def measure(options: Options, tell: Tell) -> Results:
    """Everything that is asked for. Raises one of COULD_NOT_MEASURE."""
    results = Results()
    results.settings = {
        "command": options.command,
        "topics": list(options.topics),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "quick": options.quick,
        "environment": {name: os.environ[name] for name in ("LANES", "WORKERS") if os.environ.get(name)},
    }
    with tempfile.TemporaryDirectory(prefix="seonchak-benchmark-") as folder:
        generator = generator_in(Path(folder))
        results.facts = machine.facts_of_this_machine(generator.name)
        results.warnings += machine.busy_warnings("before the run")
        if options.wants(*ROUTE_TOPICS, *STAGE_TOPICS):
            _measure_on_the_stage(options, results, Path(folder), tell)
        if options.wants(*ENGINE_TOPICS):
            _measure_inside(options, results, tell)
    results.facts["load average after"] = machine.load_average()
    results.checks = merged(results.checks)
    return results


def _measure_on_the_stage(options: Options, results: Results, folder: Path, tell: Tell) -> None:
    tell("starting the processes of the Procfile and the servers they are held against")
    seconds, rounds = options.seconds, options.rounds
    with stage(folder) as on_stage:
        shop = open_shop_with_sales(on_stage)
        meter = Meter(on_stage, generator_in(folder), results, tell)
        plain = calibrate(meter, seconds)
        wanted = options.routes()
        if wanted:
            routes = [kind(on_stage, shop) for kind in ROUTES if kind.key in wanted]
            on_stage.await_quiet()
            measure_routes(
                meter, Empty(on_stage, shop), routes, seconds=seconds, rounds=rounds, warm_up=not options.quick
            )
            results.figures.append(measured_faster(plain, results.rows))
        senders = Senders(folder)
        if options.wants("fsync"):
            measure_fsync(meter, shop, seconds=seconds, rounds=rounds)
        if options.wants("lag"):
            measure_lag(meter, shop, senders, seconds=seconds, rounds=rounds)
        peak = 0.0
        if options.wants("overload"):
            peak = measure_overload(meter, shop, senders, seconds=seconds, rounds=rounds)
        if options.wants("mix"):
            peak = peak or measure_peak(meter, shop, senders, seconds=seconds)
            measure_mix(meter, shop, senders, peak, seconds=seconds, rounds=rounds)
        results.checks.append(judge_quarantine(on_stage.engine))


def _measure_inside(options: Options, results: Results, tell: Tell) -> None:
    rounds = options.rounds
    of_decisions = QUICK_DECISIONS if options.quick else decisions.Sizes()
    of_draining = QUICK_DRAIN if options.quick else draining.Sizes()
    tell("in this process, on stores of its own")
    with own_engine() as engine:
        if options.wants("memory"):
            decisions.measure_memory(engine, results, of_decisions, tell)
        if options.wants("drain"):
            draining.measure_drain(engine, results, of_draining, rounds, tell)
        if options.wants("settling"):
            draining.measure_settling(engine, results, of_draining, rounds, tell)
        if options.wants("decisions"):
            decisions.measure_decisions(engine, results, of_decisions, rounds, tell)
        results.checks.append(judge_quarantine(engine))


def write_reports(results: Results, reports: Path) -> None:
    """The results as JSON, Markdown and a page."""
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "benchmark.json").write_text(json.dumps(results.as_json(), indent=2, ensure_ascii=False) + "\n", "utf-8")
    (reports / "benchmark.md").write_text(render_markdown(results), "utf-8")
    (reports / "benchmark.html").write_text(render_page(results), "utf-8")


def publish(results: Results, page: Path = PUBLISHED_PAGE, chart: Path = PUBLISHED_PICTURE) -> None:
    """The results of a whole run, for the documentation."""
    chart.parent.mkdir(parents=True, exist_ok=True)
    chart.write_text(picture(results), "utf-8")
    page.write_text(render_markdown(results, chart=chart.relative_to(page.parent).as_posix()), "utf-8")


def show(results: Results, reports: Path) -> None:
    """The figures and the verdict, for a terminal."""
    console = Console(highlight=False)
    for section, figures in results.sections():
        table = Table(title=section, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for name, justify in (("", "left"), ("median", "right"), ("goal", "right"), ("", "left"), ("", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for figure in figures:
            verdict = wording.verdict_of(figure)
            style = {"met": "green", "missed": "yellow"}.get(verdict, "")
            table.add_row(
                figure.title,
                wording.value_of(figure),
                wording.goal_of(figure.goal, figure.unit),
                f"[{style}]{verdict}[/]" if style else "",
                figure.note,
            )
        console.print()
        console.print(table)
    console.print()
    for warning in results.warnings:
        console.print(f"[yellow]note[/] {warning}")
    for check in results.failed:
        console.print(f"[red]FAILED[/] {check.name}: {check.detail}")
    held = len(results.checks) - len(results.failed)
    console.print(f"{held} of {len(results.checks)} correctness checks hold; {wording.summary(results.figures)}")
    console.print(f"charts in {reports / 'benchmark.html'}")


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)  # through the context managers, which stop what was started
