"""A rolling restart: every process is replaced by a new one, one after the other, while the others work on.

A replacement starts beside its predecessor, which is told to leave once the replacement says that it is at work
(``engine.service_manager.tell_ready``). A replacement that does not get so far ends the restart: the predecessor was
never touched, so a broken version takes nothing down.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from engine.service_manager import READY
from ops.problems import StackProblem
from ops.slot import Slot

SIDE_BY_SIDE = ("web", "worker", "followups", "scheduler")
"""Kinds of processes that say when they are ready, and of which two of one name may be at work: web processes share a
socket, workers a queue, and of schedulers one is active. Any other is stopped before it is started again."""
READY_SECONDS = 30.0
LEAVING_SECONDS = 20.0
"""Longer than the longest wait that a client may wish for, which a web process answers before it goes."""

Make = Callable[[Slot, Mapping[str, str]], Slot]
"""A slot for the replacement of this one, not started, whose process gets these variables on top."""


@dataclass
class _Replacement:
    old: Slot
    new: Slot
    ready: ReadySignal
    side_by_side: bool
    deadline: float
    leaving: bool = False


class ReadySignal:
    """Hears one process say that it is at work. Its address is a secret, so nobody else's word is taken for it."""

    def __init__(self) -> None:
        self.address = f"@seonchak-{secrets.token_hex(16)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + self.address[1:])

    def has_come(self) -> bool:
        """Whether it was said since this was asked before."""
        try:
            return READY in self._socket.recv(1024).splitlines()
        except BlockingIOError:
            return False

    def close(self) -> None:
        self._socket.close()


class RollingRestart:
    """One rolling restart of ``slots``, a list that it changes. Call :meth:`step` often; it never waits."""

    def __init__(self, slots: list[Slot], kind_of: Callable[[Slot], str], make: Make) -> None:
        self._slots = slots
        self._kind_of = kind_of
        self._make = make
        self._left = list(slots)
        self._replacing: _Replacement | None = None

    def step(self, now: float) -> str | None:
        """Go on as far as it goes at this time (monotonic seconds): what was done, for people; None for nothing.

        Raises StackProblem when a replacement does not start; nothing is left of it.
        """
        if self._replacing is None:
            return self._begin(self._left.pop(0), now)
        replacing = self._replacing
        return self._leave(replacing, now) if replacing.leaving else self._await_ready(replacing, now)

    @property
    def done(self) -> bool:
        """Whether everybody has been replaced."""
        return self._replacing is None and not self._left

    def _begin(self, old: Slot, now: float) -> str:
        ready = ReadySignal()
        new = self._make(old, {"NOTIFY_SOCKET": ready.address})
        new.kept_up = False
        side_by_side = self._kind_of(old) in SIDE_BY_SIDE
        self._replacing = replacing = _Replacement(old, new, ready, side_by_side, now + READY_SECONDS)
        if not side_by_side:
            return self._tell_to_leave(replacing, now)
        self._slots.insert(self._slots.index(old) + 1, new)
        try:
            new.start()
        except OSError as error:
            raise self._failure(replacing, str(error)) from error
        return f"a new {old.name} starts"

    def _await_ready(self, replacing: _Replacement, now: float) -> str | None:
        if replacing.ready.has_come():
            return self._tell_to_leave(replacing, now)
        if not replacing.new.running:
            raise self._failure(replacing, replacing.new.clear())
        if now >= replacing.deadline:
            raise self._failure(replacing, f"was not at work within {READY_SECONDS:.0f} s")
        return None

    def _tell_to_leave(self, replacing: _Replacement, now: float) -> str:
        replacing.leaving = True
        replacing.deadline = now + LEAVING_SECONDS
        replacing.old.kept_up = False
        replacing.old.ask_to_stop()
        return f"the old {replacing.old.name} is told to leave"

    def _leave(self, replacing: _Replacement, now: float) -> str | None:
        old, new = replacing.old, replacing.new
        if old.running and now < replacing.deadline:
            return None
        how = "had to be killed" if old.running else "is gone"
        old.finish()
        if not replacing.side_by_side:
            self._slots.insert(self._slots.index(old) + 1, new)
            with suppress(OSError):  # then it counts as one that died, and is started again like any other
                new.start()
        self._slots.remove(old)
        new.kept_up = True
        replacing.ready.close()
        self._replacing = None
        return f"the old {old.name} {how}"

    def _failure(self, replacing: _Replacement, how: str) -> StackProblem:
        """Clear the replacement away; its predecessor goes on."""
        replacing.new.finish()
        self._slots.remove(replacing.new)
        replacing.ready.close()
        self._replacing = None
        name = replacing.old.name
        return StackProblem(f"the new {name} {how}: the old one stays, and nobody else is replaced")
