"""Replacing the processes of the running stack."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ops.commands.printing import progress
from ops.commands.program import CANNOT, OFF
from ops.console import complain
from ops.problems import StackProblem
from ops.rolling_restart import rolling_restart


@click.command()
def restart() -> None:
    """Replace every process of the running stack, without a failed request.

    Of the stack on DATA_DIR (./var unless it is set). One after the other: the new one starts first and says that
    it is at work, then the old one finishes what it is at and leaves. Settings and code are read anew, but for
    those of the stack itself (PORT, WORKERS, …).

    Exit codes: 0 when everybody was replaced, 1 when a new one did not start (the old one goes on, and nobody
    after it is replaced), 2 when there is no stack that could be restarted.

    \b
    Examples:
      python -m ops restart
      DATA_DIR=./var2 python -m ops restart
    """
    try:
        with progress("replacing one process after the other"):
            stack = rolling_restart(Path(os.environ.get("DATA_DIR", "").strip() or "var"))
    except StackProblem as problem:
        complain(str(problem))
        sys.exit(CANNOT)
    if stack.rolling_problem:
        complain(stack.rolling_problem)
        sys.exit(OFF)
    click.echo("every process has been replaced")
