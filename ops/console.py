"""The one terminal that all processes share."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from zlib import crc32

WAITING_LINES_LIMIT = 10_000

_IMPORTANT = "1;32"
_NAMES = ("36", "35", "34", "33", "32", "96", "95", "94")
"""Terminal colours: one for the line to look for, some for the names of processes; red is for what went wrong."""


class Console:
    """Prints whole lines to stdout without ever making the caller wait.

    Somebody may start the stack with its stdout in a pipe, read the address from it and never read again. Were we to
    write directly, the full pipe would block us, then every process that logs, and nobody would sell anything or stop.
    So a thread writes; lines that nobody takes are dropped, and counted once somebody reads again.
    """

    def __init__(self, width: int, descriptor: int = 1, *, as_json: bool = False, colours: bool = False) -> None:
        """``as_json``: processes write JSON, so ours are JSON as well, and nothing is put in front of theirs."""
        self._width = width
        self._as_json = as_json
        self._colours = colours
        self._descriptor = descriptor
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._busy = False
        self._wake = threading.Condition()
        threading.Thread(target=self._write_lines, name="console", daemon=True).start()

    def say(self, name: str, text: str) -> None:
        """One line of the process ``name``."""
        if self._as_json:
            line = text if text.startswith("{") else json.dumps({"message": text, "process": name}, ensure_ascii=False)
            self._put(f"{line}\n")
            return
        front = f"{name:<{self._width}} |"
        self._put(f"{_coloured(front, _colour_of(name)) if self._colours else front} {text}\n")

    def announce(self, text: str, *, important: bool = True) -> None:
        """A line without a name in front: for the one line that people and scripts look for, and what belongs to it."""
        self._put((_coloured(text, _IMPORTANT) if important and self._colours else text) + "\n")

    def flush(self, patience_seconds: float = 1.0) -> None:
        """Wait until everything is written, or until it is clear that nobody reads."""
        deadline = time.monotonic() + patience_seconds
        with self._wake:
            while (self._lines or self._busy) and time.monotonic() < deadline:
                self._wake.wait(0.05)

    def _put(self, line: str) -> None:
        with self._wake:
            if len(self._lines) >= WAITING_LINES_LIMIT:
                self._lines.popleft()
                self._dropped += 1
            self._lines.append(line)
            self._wake.notify_all()

    def _write_lines(self) -> None:
        while True:
            with self._wake:
                self._busy = False
                self._wake.notify_all()
                while not self._lines:
                    self._wake.wait()
                text = "".join(self._lines)
                if self._dropped:
                    text = f"({self._dropped} lines were dropped: nobody read them)\n" + text
                self._lines.clear()
                self._dropped = 0
                self._busy = True
            data = text.encode(errors="replace")
            with contextlib.suppress(OSError):  # closed: go on without an audience
                while data:
                    data = data[os.write(self._descriptor, data) :]


def wants_colours(environ: Mapping[str, str], descriptor: int = 1) -> bool:
    """Whether there is somebody to see colours, who has not said that they want none (no-color.org)."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or os.isatty(descriptor)


def _coloured(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"


def _colour_of(name: str) -> str:
    """The same for all that are of one kind, in every run."""
    return _NAMES[crc32(name.partition(".")[0].encode()) % len(_NAMES)]


def complain(text: str) -> None:
    """Say on stderr why it cannot go on; a closed stderr is no reason to fail differently."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text.rstrip() + "\n")
        sys.stderr.flush()
