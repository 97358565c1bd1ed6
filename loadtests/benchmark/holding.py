"""Holding the drain's leases, so that pending requests stay pending while they are polled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.errors import GateUnavailable
from engine.gate.outbox import LEASE_SECONDS, Lease

PATIENCE_SECONDS = 60.0
"""A drain at work keeps its lease for as long as its slice lasts."""


class LeaseNotHad(Exception):
    """A lease could not be taken, or was lost while it was needed."""


@contextmanager
def held(leases: Sequence[Lease]) -> Iterator[None]:
    """Take leases and keep them. Raises LeaseNotHad, at the end also when one was lost on the way."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for lease in leases:
        while not lease.take():
            if time.monotonic() > deadline:
                raise LeaseNotHad("a drain does not give its lease up")
            time.sleep(0.01)
    done, lost = threading.Event(), threading.Event()

    def keep() -> None:
        while not done.wait(LEASE_SECONDS / 4):
            try:
                kept = [lease.take() for lease in leases].count(False) == 0  # every one, also after a lost one
            except GateUnavailable:
                kept = False
            if not kept:
                lost.set()

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        for lease in leases:
            lease.release()
    if lost.is_set():
        raise LeaseNotHad("a lease was lost while it was needed")
