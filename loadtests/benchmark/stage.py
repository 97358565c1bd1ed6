"""The stack that is measured: the Procfile's own processes, and beside them the servers it is held against."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from engine.context import Engine
from engine.gate import outbox
from engine.gate.outbox import Lease
from loadtests.benchmark.holding import held
from loadtests.facts import await_drained, connect
from loadtests.private_stack import private_stack
from ops.processes import PROJECT_ROOT, free_port
from ops.stack import Stack, read_stack

SERVER = "python -m granian --interface wsgi --workers 2 --blocking-threads 16 --no-ws --log-level error"
"""How the servers beside ours are started: always WSGI, whatever the Procfile's web becomes."""
APPLICATIONS = {"empty": "empty:app", "plain": "plain:app", "lock": "lock:app"}
START_PATIENCE_SECONDS = 30.0
QUIET_PATIENCE_SECONDS = 60.0

# Telling the data platform of each order takes longer than anything that is measured, and would go on beside it.
_SET_DELIVERIES_ASIDE = text("""
    UPDATE order_followups SET status = 'DONE' WHERE status = 'PENDING' AND kind = 'DATA_PLATFORM'
""")
_OPEN_FOLLOWUPS = text("SELECT count(*) FROM order_followups WHERE status = 'PENDING'")


class StageNotReady(Exception):
    """Something that was to be measured did not start, or does not come to rest."""


@dataclass(frozen=True)
class Stage:
    """A running stack and its engine; ports by name: ``web``, ``empty``, ``plain``, ``lock``."""

    stack: Stack
    engine: Engine
    ports: dict[str, int]

    def await_quiet(self) -> None:
        """Wait until nothing works any more on what was submitted. Raises StageNotReady."""
        if waiting := await_drained(self.engine):
            raise StageNotReady(f"{waiting:,} outcomes are still in the outbox")
        deadline = time.monotonic() + QUIET_PATIENCE_SECONDS
        while True:
            with self.engine.ledger.transaction() as connection:
                connection.execute(_SET_DELIVERIES_ASIDE)
                still_open = connection.execute(_OPEN_FOLLOWUPS).scalar_one()
            if not still_open:
                return
            if time.monotonic() > deadline:
                raise StageNotReady(f"{still_open:,} follow-ups are still open")
            time.sleep(0.1)

    @contextmanager
    def nothing_drained(self) -> Iterator[None]:
        """While this lasts, what is decided stays in the outbox: the drain's lease is ours."""
        leases = [Lease(self.engine.gate, lane) for lane in range(self.engine.gate.lanes)]
        with held(leases):
            yield
        for lane in range(self.engine.gate.lanes):
            self.engine.bell.ring(lane)

    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        present = read_stack(Path(self.stack.data_dir))
        return {} if present is None else dict(present.pids)

    def waiting(self) -> int:
        """Outcomes in the outbox."""
        return outbox.backlog(self.engine.gate)


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """A stack of its own with all servers ready, gone at the end. Raises StackDidNotStart, StageNotReady."""
    ports = {name: free_port() for name in APPLICATIONS}
    procfile = folder / "Procfile"
    procfile.write_text(procfile_with((PROJECT_ROOT / "Procfile").read_text(), ports))
    with private_stack(procfile) as stack:
        for name, port in ports.items():
            _await_listening(name, port)
        engine = connect(stack)
        try:
            yield Stage(stack, engine, {"web": stack.port, **ports})
        finally:
            engine.close()


def procfile_with(procfile: str, ports: dict[str, int]) -> str:
    """The Procfile as it is, and a line for each of the servers beside it."""
    lines = [
        f"{name}: {SERVER} --host 127.0.0.1 --port {ports[name]} loadtests.benchmark.servers.{application}"
        for name, application in APPLICATIONS.items()
    ]
    return "\n".join([procfile.rstrip("\n"), *lines, ""])


def _await_listening(name: str, port: int) -> None:
    deadline = time.monotonic() + START_PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise StageNotReady(f"the server of {name} does not listen: {error}") from error
            time.sleep(0.05)
