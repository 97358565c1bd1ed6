"""Auditing the running stack."""

from __future__ import annotations

import statistics
import time

import click

from engine.context import Engine
from engine.errors import EngineError
from engine.upkeep import audit as engine_audit
from engine.upkeep.audit import Report
from ops.commands.printing import json_option, print_json, progress
from ops.commands.program import CANNOT, OFF
from ops.connection import connected
from ops.console import complain

OK = 0
TIMES_MEASURED = 5
MINUTE_SECONDS = 60


@click.command()
@json_option
@click.option("--cost", is_flag=True, help="Measure instead what it costs to audit every minute.")
@click.pass_context
def audit(ctx: click.Context, as_json: bool, cost: bool) -> None:
    """Prove that everything adds up.

    Gate and ledger are compared, and all books, in full traffic. It changes nothing and stops nobody. As JSON
    it is what GET /api/v1/admin/audit answers.

    Exit codes: 0 everything is as it should be; 1 something is off, and named; 2 it could not be looked at,
    all or some of it.

    \b
    Examples:
      python -m ops audit
      DATA_DIR=/srv/shop python -m ops audit --json
    """
    try:
        with connected() as engine:
            if cost:
                click.echo(_cost(engine))
                return
            with progress("looking at gate and ledger"):
                report = engine_audit.audit(engine)
    except EngineError as error:
        complain(f"could not look: {error}")
        ctx.exit(CANNOT)
    if as_json:
        print_json(report.body())
    else:
        click.echo(_as_table(report))
    ctx.exit(_code(report))


def _code(report: Report) -> int:
    if report.off:
        return OFF
    return OK if report.complete else CANNOT


def _as_table(report: Report) -> str:
    lines = [f"  {'ok ' if check.ok else 'OFF'}  {check.name}: {check.detail}" for check in report.checks]
    if report.off:
        end = f"OFF: {len(report.off)} of {len(report.checks)} checks"
    elif report.complete:
        end = f"OK: all {len(report.checks)} checks hold"
    else:
        end = "INCOMPLETE: nothing is off, but not everything could be compared"
    return "\n".join([*lines, f"{end} ({report.seconds:.2f} s)"])


def _cost(engine: Engine) -> str:
    """Nothing of an audit runs side by side with another part of it, so its time is the most it can have used
    of one
    core, in all processes and stores together."""
    lines = []
    for name, books in (("gate against ledger", False), ("everything, books included", True)):
        started = time.process_time()
        reports = [engine_audit.audit(engine, books=books) for _ in range(TIMES_MEASURED)]
        ours = (time.process_time() - started) / TIMES_MEASURED
        seconds = statistics.median(report.seconds for report in reports)
        share = 100 * seconds / MINUTE_SECONDS
        lines.append(
            f"{name}: {1000 * seconds:.0f} ms (of it {1000 * ours:.0f} ms in this process); "
            f"every minute that is at most {share:.2f} % of one core"
        )
    return "\n".join(lines)
