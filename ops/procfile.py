"""The Procfile: ``name: command`` per line, in the order in which the processes are stopped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ops.problems import StackProblem

RELEASE = "release"
"""Not a process but the one-shot step before the others start (migrations), as on Heroku."""

RESERVED = ("supervisor", "valkey", "postgres", "stack")

_LINE = re.compile(r"^([A-Za-z][A-Za-z0-9_-]*)\s*:\s*(\S.*)$")
_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True)
class Instance:
    """One process to run: ``name`` is ``web``, or ``worker.2`` when the formation asks for several."""

    kind: str
    name: str
    command: str


def parse_procfile(text: str) -> dict[str, str]:
    """Command by name, in the order of the file. Raises :class:`StackProblem` naming every wrong line."""
    commands: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line.strip())
        if match is None:
            problems.append(f"line {number}: must be `name: command`")
        elif match[1] in RESERVED:
            problems.append(f"line {number}: the name {match[1]} is taken by the stack itself")
        elif match[1] in commands:
            problems.append(f"line {number}: {match[1]} is there twice")
        else:
            commands[match[1]] = match[2]
    if problems or not commands:
        raise StackProblem("the Procfile is wrong: " + ("; ".join(problems) or "it names no process"))
    return commands


def instances(commands: Mapping[str, str], formation: Mapping[str, int]) -> list[Instance]:
    """Every process to run, by kind in the Procfile's order; a kind without an entry in ``formation`` runs once.

    Kinds that the formation names are numbered from 1 even when there is one, so that ``worker.1`` never changes its
    name; a count of 0 leaves the kind out.
    """
    found = []
    for kind, command in commands.items():
        if kind == RELEASE:
            continue
        if kind in formation:
            found += [Instance(kind, f"{kind}.{number}", command) for number in range(1, formation[kind] + 1)]
        else:
            found.append(Instance(kind, kind, command))
    return found


def shell_command(command: str) -> list[str]:
    """How to start a Procfile's (simple) command: variables are expanded; ``exec`` makes its pid the one we know."""
    prefix = "exec env" if _ASSIGNMENT.match(command) else "exec"
    return ["/bin/sh", "-c", f"{prefix} {command}"]
