"""``--help`` tells of every command, and every command of itself."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from ops.commands.program import program

NAMES = program.list_commands(click.Context(program))
EXPECTED = {"up", "migrate", "audit", "drain", "rebuild", "relane", "quarantine", "deliveries", "coupon", "restart"}


def help_of(*words: str) -> str:
    asked = CliRunner().invoke(program, [*words, "--help"], prog_name="python -m ops")
    assert asked.exit_code == 0, asked.output
    return asked.output


def test_help_lists_every_command() -> None:
    assert set(NAMES) >= EXPECTED
    told = help_of()
    assert [name for name in NAMES if f"\n  {name} " not in told] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_command_tells_how_it_is_used(name: str) -> None:
    assert f"Usage: python -m ops {name} " in help_of(name)
