"""What a process and whoever started it tell each other, in systemd's words (sd_listen_fds(3), sd_notify(3)).

The listening sockets come from outside, so that they outlive the web process: while one is replaced by the next, those
who connect wait in their queues, and nobody finds the door shut. And a process says when it is at work, so that its
predecessor is stopped no sooner. The local supervisor speaks this as systemd does; started without either, a process
opens its sockets itself and tells nobody.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

FIRST_DESCRIPTOR = 3
BACKLOG = 4096
"""How many may wait to be let in. The kernel cuts it to net.core.somaxconn."""
NOTIFY_VARIABLE = "NOTIFY_SOCKET"
LISTEN_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
READY = b"READY=1"


def given_listeners(environ: Mapping[str, str]) -> list[socket.socket]:
    """The listening sockets that we were started with; none when there are none that are meant for this process."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        return []
    return [socket.socket(fileno=FIRST_DESCRIPTOR + place) for place in range(int(count))]


def open_listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """Listening sockets of our own, all at the first address of that name. Raises OSError.

    Each has a queue, and the kernel gives every new connection to one of them: from a single queue, the process that
    happens to look takes nearly all of those who come at once.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.create_server(address[:2], family=family):  # alone, so that nobody else's port is shared unnoticed
        pass
    return [socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=True) for _ in range(count)]


def tell_ready() -> None:
    """Say that this process is at work, if somebody wants to know. A listener that is gone is no reason to stop."""
    address = os.environ.get(NOTIFY_VARIABLE, "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.connect("\0" + address[1:] if address.startswith("@") else address)
        told.send(READY)
