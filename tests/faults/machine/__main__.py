"""``python -m tests.faults.machine faults|soak|short|controls``: run the fault machine; the table ends the output.

faults   every point KILLS times killed and SLEEPS times put to sleep, every other fault once, the reopening measured
soak     whatever chance brings, for MINUTES; SEED= repeats the choices of an earlier run
short    a minute of it, as `make test-long` does
controls each guard switched off once, and what of the verdict notices it

The table is written to REPORTS (default ``reports``), too. Exit code 1 when anything is wrong or was not injected, 2
when the machine could not run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from loadtests.private_stack import StackDidNotStart
from ops.problems import StackProblem
from tests.faults.machine.controls import run_controls, table
from tests.faults.machine.machine import running_machine
from tests.faults.machine.offers import ShopClosed
from tests.faults.machine.plans import reachable_points
from tests.faults.machine.runs import Run, disturbances, points, reopening, short, soak


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """One run; the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    if len(arguments) != 1 or arguments[0] not in ("faults", "soak", "short", "controls"):
        print(__doc__, file=sys.stderr)
        return 2
    [name] = arguments
    reports = Path(environ.get("REPORTS", "").strip() or "reports")
    try:
        if name == "controls":
            return _controls(reports)
        numbers = {key: _number(environ, key, default) for key, default in _DEFAULTS.items()}
        with running_machine(lanes=numbers["LANES"]) as machine:
            run = Run(machine, reports, name)
            if name == "faults":
                reopening(run)
            elif name == "soak":
                soak(run, minutes=numbers["MINUTES"], seed=numbers["SEED"])
            else:
                short(run)
        if name == "faults":
            # On stacks of their own: a hundred thousand winners would make every rebuild a long one.
            _faults(run, lanes=numbers["LANES"], kills=numbers["KILLS"], sleeps=numbers["SLEEPS"])
        return run.conclude()
    except (StackDidNotStart, StackProblem, ShopClosed, TimeoutError, ValueError) as problem:
        print(problem, file=sys.stderr)
        return 2


def _faults(run: Run, *, lanes: int, kills: int, sleeps: int) -> None:
    """Everything that can happen with so many lanes; then what cannot, with one instead of several or the reverse."""
    here = reachable_points(lanes)
    with running_machine(lanes=lanes) as machine:
        run.move_to(machine)
        if not points(run, here, kills=kills, sleeps=sleeps):
            return
        disturbances(run)
    others = 2 if lanes == 1 else 1
    with running_machine(lanes=others) as machine:
        run.move_to(machine)
        points(run, reachable_points(others) - here, kills=kills, sleeps=sleeps)


def _controls(reports: Path) -> int:
    found = run_controls()
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "controls.md").write_text(table(found) + "\n", encoding="utf-8")
    wrong = [control.broken.name for control in found if not control.as_expected]
    print(table(found))
    print(f"FAILED: not as expected: {', '.join(wrong)}" if wrong else f"PASSED: all {len(found)} are as expected")
    return 1 if wrong else 0


_DEFAULTS = {"KILLS": 20, "SLEEPS": 10, "MINUTES": 30, "SEED": 0, "LANES": 2}


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{name}={text}: must be a whole number")
    return int(text)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)  # through the context managers, which stop what was started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
