"""``python -m ops``: everything that a person runs, one command each (``ops/commands``)."""

from __future__ import annotations

import os
import sys

from engine.telemetry.logs import AUTO, FORMATS, LEVELS, configure_logs
from ops.commands.program import program


def main() -> None:
    """Run the command, its log written as any other process' is; what is wrong with a setting, a command tells."""
    log_format, level = os.environ.get("LOG_FORMAT", ""), os.environ.get("LOG_LEVEL", "")
    configure_logs(
        "release" if sys.argv[1:2] == ["migrate"] else "ops",
        log_format if log_format in FORMATS else AUTO,
        level if level in LEVELS else "info",
    )
    program(prog_name="python -m ops")


if __name__ == "__main__":
    main()
