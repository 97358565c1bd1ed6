"""Reading what a Lua script says about itself, and asking its guard whether that is true."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from lupa.lua51 import LuaError, LuaRuntime

SECTIONS = ("purpose", "Invariant:", "KEYS", "ARGV", "RETURNS", "COST")

STUB = """
KEYS, ARGV = {}, {}
redis = {
  error_reply = function(text) return {err = text} end,
  call = function() error('past the guard') end,
}
"""


class WrongHeader(ValueError):
    """The header does not keep to the agreed form, or not to the body's truth."""


@dataclass(frozen=True)
class Inputs:
    """What a header says of KEYS or ARGV: how many come always, and how many more with each further entity."""

    fixed: int
    repeated: int = 0


@dataclass(frozen=True)
class Header:
    """The sections of a script's header as lists of lines without the comment marks."""

    sections: dict[str, list[str]]

    @property
    def keys(self) -> Inputs:
        return _inputs(self.sections["KEYS"])

    @property
    def arguments(self) -> Inputs:
        return _inputs(self.sections["ARGV"])

    @property
    def statuses(self) -> list[str]:
        """The status words of RETURNS in the order in which they stand there."""
        return re.findall(r"\{'([a-z_]+)'", "\n".join(self.sections["RETURNS"]))


def read_header(source: str) -> Header:
    """The header of a script. Raises WrongHeader when a section is missing, empty or out of order."""
    lines = [line.removeprefix("--") for line in takewhile(lambda line: line.startswith("--"), source.splitlines())]
    if not lines or not lines[0].strip():
        raise WrongHeader("a script begins with its purpose")
    sections: dict[str, list[str]] = {"purpose": []}
    current = "purpose"
    for line in lines:
        word = next((name for name in SECTIONS[1:] if re.match(rf" {name}(?!\S)", line)), None)
        if word is not None:
            if word in sections:
                raise WrongHeader(f"{word} stands there twice")
            current = word
            sections[current] = [line.strip().removeprefix(word).strip()]
        else:
            sections[current].append(line.strip())
    if tuple(sections) != SECTIONS:
        raise WrongHeader(f"the sections are {list(sections)} instead of {list(SECTIONS)}")
    for name, content in sections.items():
        if not any(content):
            raise WrongHeader(f"{name} says nothing")
    return Header(sections)


def check_guard(source: str) -> None:
    """Raise WrongHeader unless the guard lets through exactly the numbers of keys and arguments that the header names.

    The guard is asked, not read: the script runs with a Redis that answers nothing.
    """
    header = read_header(source)
    keys, arguments = header.keys, header.arguments
    few = {(k, a) for k in range(keys.fixed + 3) for a in range(arguments.fixed + 3)}
    right = {(keys.fixed, arguments.fixed)}
    if keys.repeated or arguments.repeated:
        entities = {n: (keys.fixed + n * keys.repeated, arguments.fixed + n * arguments.repeated) for n in range(1, 20)}
        right = {entities[n] for n in range(1, 5)}
        few = {(k, a) for k in range(keys.fixed + 1) for a in range(arguments.fixed + 9)}
        if keys.repeated and arguments.repeated:
            few |= {(k, a - 1) for k, a in right} | {(k + keys.repeated, a) for k, a in right}
        few -= set(entities.values())
    for k, a in sorted(right | few):
        passed = passes_guard(source, k, a)
        if passed is not ((k, a) in right):
            raise WrongHeader(f"{k} keys and {a} arguments: the header and the guard disagree")


def passes_guard(source: str, key_count: int, argument_count: int) -> bool:
    """Whether the script, called with so many keys and arguments, gets as far as its first command."""
    lua = LuaRuntime()
    lua.execute(STUB)
    for name, count in (("KEYS", key_count), ("ARGV", argument_count)):
        table: Any = lua.globals()[name]
        for position in range(1, count + 1):
            table[position] = "1"
    try:
        answer: Any = lua.execute(source)
    except LuaError as error:
        if "past the guard" not in str(error):
            raise
        return True
    if answer["err"] is None:
        raise WrongHeader("the script answers without having asked Redis anything")
    # What else is wrong with such made-up arguments comes after the guard.
    return " takes " not in str(answer["err"])


def _inputs(lines: list[str]) -> Inputs:
    """Lines ``1 name …``, ``2 name …``; the last may be ``3… name, name  …``: so many per entity."""
    entries = [match.groups() for line in lines if (match := re.match(r"(\d+)(…?)\s+(\S.*)", line))]
    if not entries and lines[0] == "none":
        return Inputs(0)
    if [int(number) for number, _, _ in entries] != list(range(1, len(entries) + 1)):
        raise WrongHeader(f"inputs are numbered {[number for number, _, _ in entries]}")
    if any(more for _, more, _ in entries[:-1]):
        raise WrongHeader("only the last input can be repeated")
    if entries and entries[-1][1]:
        names = re.split(r"\s{2,}|\(|;", entries[-1][2])[0]
        return Inputs(len(entries) - 1, len(names.split(",")))
    return Inputs(len(entries))
