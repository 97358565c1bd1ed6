"""Starting the stack: of the engine, its settings are all that is imported, so that it starts at once."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ops.processes import PROJECT_ROOT
from ops.restarts import RestartPolicy
from ops.run import RunOptions, run_stack
from ops.supervisor import Plan


@click.command()
@click.option(
    "--procfile",
    type=click.Path(path_type=Path),
    default=PROJECT_ROOT / "Procfile",
    show_default="the project's own",
    help="What to run.",
)
@click.option(
    "--restarts", default=RestartPolicy.limit, show_default=True, help="How often one process may be started again …"
)
@click.option("--restart-window", default=RestartPolicy.window_seconds, show_default=True, help="… in so many seconds.")
@click.option(
    "--readiness-patience",
    default=Plan.readiness_patience_seconds,
    show_default=True,
    help="Seconds after which it says what is missing.",
)
def up(procfile: Path, restarts: int, restart_window: float, readiness_patience: float) -> None:
    """Start everything, in the foreground.

    What `make run` does. Prints one line with the address when it can take orders. Ctrl-C or SIGTERM stops
    everything within 10 seconds and leaves no process behind; starting again finds all data as it was.

    PORT, HOST, DATA_DIR, LANES, WORKERS, AUTH and the other settings come from the environment: see the README.

    Exit codes: 0 after an orderly stop, 1 when something kept dying, 2 when it could not start.

    \b
    Examples:
      python -m ops up
      PORT=8001 DATA_DIR=./var2 WORKERS=2 python -m ops up
    """
    sys.exit(run_stack(RunOptions(procfile, restarts, restart_window, readiness_patience)))
