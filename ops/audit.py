"""Audit the running stack: ``python -m ops.audit``, what `make audit` does.

Exit code 0: everything is as it should be. 1: something is off, and named. 2: it could not be looked at, all or some of
it. ``--json`` prints what ``GET /api/v1/admin/audit`` answers; ``--cost`` measures what auditing every minute costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.config import Settings
from engine.context import Engine
from engine.errors import EngineError, LedgerUnavailable
from engine.ledger.audit_queries import recorded_lanes
from engine.ledger.schema import missing_migrations
from engine.upkeep.audit import Report, audit
from ops.problems import StackProblem
from ops.stack import read_stack

OK, OFF, UNSEEN = 0, 1, 2
TIMES_MEASURED = 5
MINUTE_SECONDS = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit, print, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ops.audit", description="Audit gate and ledger in full traffic.")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--cost", action="store_true", help="measure what it costs to audit every minute")
    options = parser.parse_args(arguments)
    try:
        engine = connect(os.environ)
        try:
            if options.cost:
                print(_cost(engine))
                return OK
            report = audit(engine)
        finally:
            engine.close()
    except EngineError as error:
        print(f"could not look: {error}", file=sys.stderr)
        return UNSEEN
    print(_as_json(report) if options.json else _as_table(report))
    if report.off:
        return OFF
    return OK if report.complete else UNSEEN


def connect(environ: Mapping[str, str]) -> Engine:
    """An engine on the servers that the environment names, else on those of the stack that runs on DATA_DIR.

    It has as many lanes as the data. Raises StackProblem, InvalidSettings, LedgerUnavailable.
    """
    settings = _settings(environ)
    engine = Engine.connect(settings, patient=True)
    try:
        behind = missing_migrations(engine.ledger)
        if behind:
            raise LedgerUnavailable(behind)
        with engine.ledger.read() as connection:
            lanes = recorded_lanes(connection) or settings.lanes
    except EngineError:
        engine.close()
        raise
    if lanes == settings.lanes:
        return engine
    engine.close()
    return Engine.connect(replace(settings, lanes=lanes), patient=True)


def _settings(environ: Mapping[str, str]) -> Settings:
    if environ.get("REDIS_URL") or environ.get("DATABASE_URL"):
        return Settings.from_environment(environ)
    data_dir = Path(environ.get("DATA_DIR", "").strip() or "var")
    stack = read_stack(data_dir)
    if stack is None:
        raise StackProblem(
            f"no stack runs on DATA_DIR={data_dir}. Start one with `make run`, or name the servers: "
            "REDIS_URL=… DATABASE_URL=… make audit"
        )
    urls = {"REDIS_URL": stack.redis_url, "QUEUE_REDIS_URL": stack.queue_redis_url, "DATABASE_URL": stack.database_url}
    return Settings.from_environment(urls)


def _as_json(report: Report) -> str:
    def moment(value: Any) -> str:
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        raise TypeError(f"{value!r} has no place in a report")

    return json.dumps(report.body(), ensure_ascii=False, indent=2, default=moment)


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
    """Nothing of an audit runs side by side with another part of it, so its time is the most it can have used of one
    core, in all processes and stores together."""
    lines = []
    for name, books in (("gate against ledger", False), ("everything, books included", True)):
        started = time.process_time()
        reports = [audit(engine, books=books) for _ in range(TIMES_MEASURED)]
        ours = (time.process_time() - started) / TIMES_MEASURED
        seconds = statistics.median(report.seconds for report in reports)
        share = 100 * seconds / MINUTE_SECONDS
        lines.append(
            f"{name}: {1000 * seconds:.0f} ms (of it {1000 * ours:.0f} ms in this process); "
            f"every minute that is at most {share:.2f} % of one core"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
