"""``python -m web.serve``: granian on listening sockets that outlive every web process.

What granian's own command line does, and two things more, without which a restart under load fails some requests
(``docs/decisions/0017-leaving-without-a-failed-request.md``):

- The sockets come from whoever started us, or are opened once, here. Granian's processes would each open one of their
  own, and whoever waits in the queue of a process that leaves would be cut off.
- A process that is to leave says goodbye first (:meth:`web.door.Door.say_goodbye`): it takes nobody new, and whoever
  still sends on a connection is answered and told to open another one next time. Closed at once, a connection might
  just be carrying the next request.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from multiprocessing import get_start_method
from typing import Any

from granian._granian import SocketHolder
from granian.constants import Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer, WorkerProcess

from engine.config import Settings
from engine.errors import InvalidSettings
from engine.service_manager import BACKLOG, given_listeners, open_listeners
from web.listening import GOODBYE, share_listeners

DEFAULT_TARGET = "web.main:app"
CONNECTIONS = 8192
"""How many each process serves at a time; those beyond wait in the socket's queue, neither refused nor answered."""
MOST_BYTES_READ = 65536
"""Of one connection at a time: room for the longest request line and headers that we take."""
GOODBYE_SECONDS = 0.5
"""How long a connection has to send once more and be told that it ends. One that is silent for longer is closed."""


class Server(MPServer):
    """Granian's server of processes, on sockets that are there already: each process takes from one of them."""

    def __init__(self, target: str, listeners: Sequence[socket.socket], workers: int, goodbye_seconds: float) -> None:
        host, port = listeners[0].getsockname()[:2]
        super().__init__(
            target,
            address=host,
            port=port,
            interface=Interfaces.ASGI,
            loop=Loops.uvloop,
            workers=workers,
            websockets=False,
            backlog=BACKLOG,
            backpressure=CONNECTIONS,
            http1_settings=HTTP1Settings(max_buffer_size=MOST_BYTES_READ),
            log_level=LogLevels.error,
        )
        self._listeners = listeners
        self._goodbye_seconds = goodbye_seconds

    def _init_shared_socket(self) -> None:
        for listener in self._listeners:
            listener.setblocking(False)
            listener.set_inheritable(True)

    def _spawn_worker(  # type: ignore[override] # as MPServer has it, and not its base
        self, idx: int, target: Any, callback_loader: Any
    ) -> WorkerProcess:
        self._sso = self._listeners[idx % len(self._listeners)]
        # Granian's stub knows neither the arguments nor that there may be a holder.
        self._shd = SocketHolder(self._sso.fileno(), False, BACKLOG)  # type: ignore[call-arg,assignment]
        return super()._spawn_worker(idx, target, callback_loader)

    def _stop_workers(self) -> None:
        for worker in self.wrks:
            if worker.is_alive():
                os.kill(worker.inner.pid, GOODBYE)
        time.sleep(self._goodbye_seconds)
        super()._stop_workers()  # type: ignore[no-untyped-call]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code."""
    options = _options(arguments)
    try:
        settings = Settings.from_environment()
    except InvalidSettings as error:
        print(error, file=sys.stderr)
        return 2
    try:
        listeners = given_listeners(os.environ) or open_listeners(settings.host, settings.port, options.workers)
    except OSError as error:
        print(
            f"port {settings.port} on {settings.host} cannot be listened on: {os.strerror(error.errno or 0)}",
            file=sys.stderr,
        )
        return 2
    if len(listeners) > options.workers:
        print(f"{len(listeners)} sockets, and --workers {options.workers}: nobody would take from one", file=sys.stderr)
        return 2
    share_listeners(listeners)
    if options.target == DEFAULT_TARGET:
        import_application()
    # Of a process that is just starting: what it has not learned to hear yet must not end it.
    signal.signal(GOODBYE, signal.SIG_IGN)
    Server(options.target, listeners, options.workers, options.goodbye_seconds).serve()
    return 0


def import_application() -> None:
    """Import here what every web process would import for itself. They are forked off, and then start in a fraction of
    the time and share the memory. Modules only: what connects is made by the process that uses it (``web/main.py``)."""
    if get_start_method() == "fork":
        import_module("web.app")
        gc.freeze()  # what is never collected is never written to either, and stays shared


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m web.serve", description="Serve HTTP on HOST and PORT.")
    parser.add_argument("target", nargs="?", default=DEFAULT_TARGET, help="the ASGI application (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="how many processes (%(default)s)")
    parser.add_argument("--goodbye-seconds", type=float, default=GOODBYE_SECONDS,
                        help="how long before the end everybody is told to go (%(default)s)")  # fmt: skip
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
