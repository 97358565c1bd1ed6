"""What a process and whoever started it tell each other, in systemd's words (sd_listen_fds(3), sd_notify(3)).

The listening socket comes from outside, so that it outlives the web process: while one is replaced by the next, those
who connect wait in its queue, and nobody finds the door shut. And a process says when it is at work, so that its
predecessor is stopped no sooner. The local supervisor speaks this as systemd does; started without either, a process
opens its socket itself and tells nobody.
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


def given_listener(environ: Mapping[str, str]) -> socket.socket | None:
    """The listening socket that we were started with; None when there is none that is meant for this process."""
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=FIRST_DESCRIPTOR)


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket of our own, at the first address of that name. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)


def tell_ready() -> None:
    """Say that this process is at work, if somebody wants to know. A listener that is gone is no reason to stop."""
    address = os.environ.get(NOTIFY_VARIABLE, "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.connect("\0" + address[1:] if address.startswith("@") else address)
        told.send(READY)
