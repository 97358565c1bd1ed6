"""The listening socket as one of the web processes sees it. Knows nothing of granian."""

from __future__ import annotations

import os
import signal
import socket

GOODBYE = signal.SIGUSR1
"""What tells a process to take nobody new and to say goodbye to those it has; SIGTERM follows."""

_VARIABLE = "SEONCHAK_LISTENER"


def share_listener(listener: socket.socket) -> None:
    """Let the processes that we start know which descriptor it is: some are forked from us, some not."""
    os.environ[_VARIABLE] = str(listener.fileno())


def take_nobody_new() -> None:
    """From now on whoever connects is served by the other processes that have this socket; without one: no change.

    The server takes connections in native code that has no way to be told to pause. So its descriptor is made to mean
    another socket, which nobody can connect to: it goes on asking, and nobody comes. The shared socket itself stays as
    it is, and so does the queue of those who wait for the other processes.
    """
    descriptor = os.environ.get(_VARIABLE)
    if descriptor is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as deserted:
        deserted.bind("")  # at an address that the kernel picks
        deserted.listen(1)
        os.dup2(deserted.fileno(), int(descriptor))
