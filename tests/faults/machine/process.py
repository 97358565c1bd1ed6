"""Run a part of the stack as the machine needs it: ``python -m tests.faults.machine.process worker workers.main …``.

The same code, on the machine's proxies instead of the stores themselves, and with leases and time-outs short enough
for a test to sleep longer than every one of them.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

from tests.faults.machine.breaks import BREAK_VARIABLE, LUA_VARIABLE, apply

VARIABLES = "SEONCHAK_MACHINE_VARIABLES"
"""JSON: for each kind of process what it finds in its environment."""

SLEEP_SECONDS = 12.0
"""How long a process is stopped: longer than every lease, deadline and time-out below, and Postgres' ten seconds for a
transaction that does nothing."""
HOLD_SECONDS = 6
FOLLOWUP_LEASE_SECONDS = 6.0
JOB_TIMEOUT_SECONDS = 10
SLICE_SECONDS = 4.0


def prepare(kind: str) -> None:
    """Make this process one of the machine's, before the engine is used."""
    os.environ.update(_variables(kind))
    _shorten()
    _break_on_purpose()


def _variables(kind: str) -> Mapping[str, str]:
    found: Mapping[str, str] = json.loads(os.environ[VARIABLES])[kind]
    return found


def _shorten() -> None:
    from engine.flow import bell, drain, followups
    from engine.gate import stock

    _replace(stock, "HOLD_SECONDS", HOLD_SECONDS)
    _replace(followups, "LEASE_SECONDS", FOLLOWUP_LEASE_SECONDS)
    _replace(bell, "JOB_TIMEOUT_SECONDS", JOB_TIMEOUT_SECONDS)
    for function in (drain.drain, followups.work_off):
        defaults: dict[str, object] = function.__kwdefaults__ or {}
        _known(defaults, "slice_seconds", function.__name__)
        defaults["slice_seconds"] = SLICE_SECONDS


def _break_on_purpose() -> None:
    """A guard may be switched off: see ``breaks.py``."""
    if LUA_VARIABLE in os.environ:
        from engine.gate import scripts

        scripts.LUA_DIRECTORY = Path(os.environ[LUA_VARIABLE])
    if BREAK_VARIABLE in os.environ:
        apply(os.environ[BREAK_VARIABLE])


def _replace(module: ModuleType, name: str, value: float) -> None:
    _known(vars(module), name, module.__name__)
    setattr(module, name, value)


def _known(names: Iterable[str], name: str, place: str) -> None:
    """What was renamed must not be missed in silence."""
    if name not in names:
        raise AttributeError(f"{place} has no {name} to shorten")


def main(arguments: list[str]) -> None:
    """Become the named module's program."""
    kind, module, *rest = arguments
    prepare(kind)
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
