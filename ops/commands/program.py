"""The one command line, and what all its commands have in common: how they are found and how they fail."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from engine.errors import EngineError
from ops.console import complain

OFF = 1
"""The exit code for: done, but something is not as it should be, and named."""
CANNOT = 2
"""The exit code for a wrong call and for what could not be done: then nothing was changed, unless it says so."""


class LazyGroup(click.Group):
    """Commands that are imported when they are wanted: nobody waits for Alembic to have a token printed."""

    def __init__(self, *arguments: Any, commands_in: Mapping[str, str] | None = None, **named: Any) -> None:
        """``commands_in`` are ``module:attribute`` by the command's name, in the order in which help lists them."""
        super().__init__(*arguments, **named)
        self._commands_in = commands_in or {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self._commands_in)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        place = self._commands_in.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


class Program(LazyGroup):
    """The outermost group: what the engine raises is told in a sentence, never as a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EngineError as error:
            complain(str(error))
            ctx.exit(CANNOT)


@click.group(
    cls=Program,
    commands_in={
        "up": "ops.commands.stack:up",
        "restart": "ops.commands.restarting:restart",
        "migrate": "ops.commands.migrating:migrate",
        "audit": "ops.commands.audit:audit",
        "coupon": "ops.commands.coupon:coupon",
        "quarantine": "ops.commands.quarantine:quarantine",
        "deliveries": "ops.commands.deliveries:deliveries",
        "import": "ops.commands.importing:import_",
        "export": "ops.commands.exporting:export",
        "drain": "ops.commands.upkeep:drain",
        "rebuild": "ops.commands.upkeep:rebuild",
        "relane": "ops.commands.upkeep:relane",
        "demo": "ops.commands.demo:demo",
        "token": "ops.commands.token:token",
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`python -m ops COMMAND --help` tells more of each, with examples.",
)
def program() -> None:
    """Run Seonchak and look after it.

    A command works on the servers that REDIS_URL and DATABASE_URL name; without them, on those of the stack that runs
    on DATA_DIR (./var unless it is set). What a program may want to read is printed as JSON with --json. Progress is
    shown on stderr, where there is a terminal.

    Exit codes: 0 done; 1 something is off, and named; 2 a wrong call, or it could not be done: the reason is on
    stderr, and nothing was changed unless it says so.
    """
