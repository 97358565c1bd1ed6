"""Heartbeats: who is alive, for people. Losing them means nothing."""

from __future__ import annotations

import os
import socket
import threading
import time

from engine.errors import EngineError
from engine.gate import keys
from engine.gate.gate import Gate, unavailability_translated

PULSE_SECONDS = 1.0
FORGOTTEN_SECONDS = 60
"""How long a process that fell silent is still told of: long enough to be seen, short enough not to pile up."""


class Pulse:
    """Tells every second that this process is there, from a thread of its own: a busy process is no dead one.

    The time is that of the process' own host: hosts whose clocks differ are shown as late by that much.
    """

    def __init__(self, gate: Gate, kind: str) -> None:
        """``kind`` is what the process does: ``web``, ``drain``, ``scheduler``, …"""
        self._gate = gate
        self._name = f"{kind} {socket.gethostname()}:{os.getpid()}"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> Pulse:
        """Begin; to be called in the process that is meant, not in a parent that forks it."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Fall silent and be forgotten at once: a process that left in order is not missed."""
        self._stopped.set()
        self._thread.join(PULSE_SECONDS)
        try:
            with unavailability_translated():
                self._gate.client.zrem(keys.processes(), self._name)
        except EngineError:
            return

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._beat()
            self._stopped.wait(PULSE_SECONDS)

    def _beat(self) -> None:
        now = time.time()
        try:
            with unavailability_translated(), self._gate.client.pipeline(transaction=False) as pipeline:
                pipeline.zadd(keys.processes(), {self._name: now})
                pipeline.zremrangebyscore(keys.processes(), "-inf", now - FORGOTTEN_SECONDS)
                pipeline.execute()
        except EngineError:
            return
