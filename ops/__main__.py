"""``python -m ops``: everything that a person runs, one command each (``ops/commands``)."""

from __future__ import annotations

from ops.commands.program import program

if __name__ == "__main__":
    program(prog_name="python -m ops")
