"""The listening sockets as one of the web processes sees them. Knows nothing of granian."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence

GOODBYE = signal.SIGUSR1
"""What tells a process to take nobody new and to say goodbye to those it has; SIGTERM follows."""

_VARIABLE = "SEONCHAK_LISTENERS"


def share_listeners(listeners: Sequence[socket.socket]) -> None:
    """Let the processes that we start know which descriptors they are: some are forked from us, some not."""
    os.environ[_VARIABLE] = ",".join(str(listener.fileno()) for listener in listeners)


def take_nobody_new() -> None:
    """From now on whoever connects is served by the other processes that have these sockets; without any: no change.

    The server takes connections in native code that has no way to be told to pause. So its descriptors are made to mean
    another socket, which nobody can connect to: it goes on asking, and nobody comes. The shared sockets themselves stay
    as they are, and so do the queues of those who wait for the other processes.
    """
    descriptors = os.environ.get(_VARIABLE)
    if descriptors is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as deserted:
        deserted.bind("")  # at an address that the kernel picks
        deserted.listen(1)
        for descriptor in descriptors.split(","):
            os.dup2(deserted.fileno(), int(descriptor))
