"""Starting processes that cannot outlive us, and finding those that tried.

Standard library only: the reaper imports this, too, and has to start fast.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROJECT_ROOT = Path(__file__).resolve().parent.parent
MARK_VARIABLE = "SEONCHAK_PROCESS"
"""Every process of a stack, and whatever it starts, carries ``<stack>/<name>`` in this environment variable."""

BARE_ENVIRONMENT = {
    "PATH": os.defpath,
    # Some Pythons find their own library only through this one, and our wrapper is Python.
    **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
}
"""For programs that must not be changed by what happens to be in our environment."""

_WRAPPER = Path(__file__).with_name("die_with_parent.py")
_PROC = Path("/proc")


@dataclass(frozen=True)
class User:
    """The unprivileged user that a program runs as when we are root."""

    uid: int
    gid: int


def dying_with_us(
    command: Sequence[str], death_signal: int = signal.SIGKILL, user: User | None = None, listeners: Sequence[int] = ()
) -> list[str]:
    """``command``, wrapped so that the kernel sends it ``death_signal`` when the thread that starts it ends."""
    drop = user or User(-1, -1)
    wrapped = [sys.executable, "-I", "-S", str(_WRAPPER), str(int(death_signal)), str(os.getpid())]
    return [*wrapped, str(drop.uid), str(drop.gid), ",".join(map(str, listeners)) or "-", "--", *command]


def spawn(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    output: int | IO[bytes],
    cwd: Path = PROJECT_ROOT,
    death_signal: int = signal.SIGKILL,
    user: User | None = None,
    listeners: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own; the kernel sends it ``death_signal`` when the calling *thread* ends.

    Call it from the main thread: the signal is bound to the thread that forked, not to the process. The session keeps
    a Ctrl-C in the terminal away from the child, so that the supervisor can choose the order of the stop.
    The pid stays the same through the exec: it is the pid of the command itself. ``listeners`` are the descriptors
    of listening sockets that the command takes over as systemd's services do.
    """
    return subprocess.Popen(
        dying_with_us(command, death_signal, user, listeners),
        env=dict(environ),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=listeners,
    )


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, below the range for outgoing connections where possible.

    Inside that range a client that keeps trying to reach a stopped server can be given the server's own port as its
    source port, and then holds the port that the restarted server needs.
    """
    lowest_outgoing = 32768
    with contextlib.suppress(OSError, ValueError):
        lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if lowest_outgoing > 16_000:
        for _ in range(200):
            port = random.randrange(10_000, lowest_outgoing)
            if port_is_free("127.0.0.1", port):
                return port
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen on ``port``; connections that are only fading away (TIME_WAIT) do not count."""
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False  # otherwise the address does not exist here, such as localhost's ::1 without IPv6
    return True


def signal_quietly(pid: int, number: int) -> None:
    """Send a signal; a process that is gone already is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def signal_group_quietly(group: int, number: int) -> None:
    """Send a signal to a whole process group; one that is gone already is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is more than a zombie waiting to be collected."""
    try:
        state = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")


def children_of(pid: int) -> list[int]:
    """The direct children of a process."""
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


def kill_marked(mark: str, patience_seconds: float = 2.0) -> int:
    """Kill -9 every process that carries ``mark`` (or, if it ends with a slash, a mark that starts with it).

    Process groups and parents are not enough: RQ's work horse leaves its worker's group, and granian's workers outlive
    a killed parent. The environment is inherited by all of them. Looks again until nothing is left, because a process
    may fork while we look. Returns how many were killed.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + patience_seconds
    while True:
        found = _marked(mark)
        for pid in found:
            if _kill_if_still_marked(pid, mark):
                killed.add(pid)
        if not found or time.monotonic() > deadline:
            return len(killed)
        time.sleep(0.02)


def _marked(mark: str) -> list[int]:
    return [
        int(entry.name)
        for entry in _PROC.iterdir()
        if entry.name.isdigit()
        and int(entry.name) != os.getpid()
        and _carries(int(entry.name), mark)
        and is_alive(int(entry.name))
    ]


def _carries(pid: int, mark: str) -> bool:
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    try:
        variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's: not ours
        return False
    if mark.endswith("/"):
        return any(variable.startswith(wanted) for variable in variables)
    return wanted in variables


def _kill_if_still_marked(pid: int, mark: str) -> bool:
    """A pidfd cannot come to mean another process, so what is checked is what is killed."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _carries(pid, mark):
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
