"""The machine's stack: stores of its own, a proxy before them, and the real processes under the real supervisor."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import httpx
from sqlalchemy import text

from engine.config import Settings
from engine.context import Engine
from engine.fault_points import CONTROL_VARIABLE
from engine.gate.scripts import LUA_DIRECTORY
from loadtests.private_stack import STOP_PATIENCE_SECONDS, inherited_environ, private_folder
from ops import valkey as ops_valkey
from ops.postgres import start_postgres
from ops.processes import free_port, spawn
from ops.stack import read_stack
from ops.stores import STORE_ENVIRONMENT, RunningStore
from scheduler.main import SCHEDULER_LOCK
from tests.faults.machine.breaks import BREAK_VARIABLE, LUA_VARIABLE, Break
from tests.faults.machine.clock import SettableClock, settable_clock
from tests.faults.machine.process import VARIABLES
from tests.faults.tcp_proxy import Mode, Proxy, Route

PROCFILE = Path(__file__).with_name("Procfile")
KINDS = ("web", "worker", "followups", "scheduler")
STORES = ("redis", "postgres")
READY_PATIENCE_SECONDS = 60.0
LANES = 2
"""One lane decides in one step what several decide one after the other: with two, both happen."""
WORKERS = 4
SCHEDULERS = 3
"""Enough that some go on while others are stopped."""


class MachineStack:
    """A running stack whose every part can be taken away. Stores are started by the main thread only: they die with
    the thread that started them."""

    def __init__(
        self,
        folder: Path,
        clock: SettableClock | None,
        valkey: RunningStore,
        postgres: RunningStore,
        proxy: Proxy,
        lanes: int,
        broken: Break | None,
    ) -> None:
        self.folder = folder
        self.broken = broken
        self.clock = clock
        self.valkey = valkey
        self.postgres = postgres
        self.proxy = proxy
        self.points = folder / "points"
        for kind in KINDS:
            (self.points / kind).mkdir(parents=True)
        self.web_ports = tuple(free_port() for _ in range(3))
        settings = Settings(valkey.url, valkey.url, _with_driver(postgres.url), lanes=lanes)
        self.engine = Engine.connect(settings, patient=True)
        """On the stores themselves, past the proxy: what the machine itself looks at and changes."""
        self._alarms_told = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        environ = {
            **inherited_environ(),
            "DATA_DIR": str(self.folder / "var"),
            "DEMO_DATA": "0",
            "LANES": str(self.engine.gate.lanes),
            "WORKERS": str(WORKERS),
            "REDIS_URL": self.valkey.url,
            "DATABASE_URL": self.postgres.url,
            VARIABLES: json.dumps({kind: self._variables(kind) for kind in KINDS}),
        }
        if self.broken is not None:
            self.broken.write_scripts(LUA_DIRECTORY, self.folder / "lua")
            environ |= {BREAK_VARIABLE: self.broken.name, LUA_VARIABLE: str(self.folder / "lua")}
        environ |= zip(("PORT", "PORT2", "PORT3"), map(str, self.web_ports), strict=True)
        # A death is forgiven after a second: here processes are killed far more often than a broken one would die.
        options = ["--restarts", "1000", "--restart-window", "1"]
        command = [sys.executable, "-m", "ops", "up", "--procfile", str(self._procfile()), *options]
        with open(self.folder / "output", "wb") as output:
            return spawn(command, environ=environ, output=output, death_signal=signal.SIGTERM)

    def _procfile(self) -> Path:
        """The machine's Procfile, with standbys beside the scheduler."""
        path = self.folder / "Procfile"
        lines = PROCFILE.read_text().splitlines()
        [scheduler] = [line.partition(": ")[2] for line in lines if line.startswith("scheduler: ")]
        lines += [f"scheduler{number}: {scheduler}" for number in range(2, SCHEDULERS + 1)]
        path.write_text("\n".join(lines) + "\n")
        return path

    def _variables(self, kind: str) -> dict[str, str]:
        """What processes of a kind find in their environment: their own ways to the stores, their own orders."""
        redis_port, postgres_port = (self.proxy.routes[route(kind, store)].port for store in STORES)
        redis_url = self.valkey.url.replace(f":{self.valkey.port}/", f":{redis_port}/")
        database_url = self.postgres.url.replace(f":{self.postgres.port}/", f":{postgres_port}/")
        return {
            "REDIS_URL": redis_url,
            "QUEUE_REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            CONTROL_VARIABLE: str(self.points / kind),
        }

    @property
    def output(self) -> str:
        """All that the processes have said."""
        return (self.folder / "output").read_text(errors="replace")

    def new_alarms(self) -> list[str]:
        """What processes called for a person for, since the last time this was asked."""
        lines = [line for line in self.output.splitlines() if "ALARM" in line]
        news, self._alarms_told = lines[self._alarms_told :], len(lines)
        return news

    def pids(self) -> dict[str, int]:
        """The processes that run now, by name; of the web, granian's parents."""
        stack = read_stack(self.folder / "var")
        return {} if stack is None else dict(stack.pids)

    def is_ready(self) -> bool:
        """Whether every web process says that it can take orders, and somebody is the active scheduler."""
        return all(self._web_is_ready(port) for port in self.web_ports) and self.lock_holder() is not None

    def await_ready(self, patience_seconds: float = READY_PATIENCE_SECONDS) -> float:
        """Return when all is ready, with the seconds that took. Raises TimeoutError with the end of the output."""
        started = time.monotonic()
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() - started > patience_seconds:
                raise TimeoutError("the stack is not ready. It said:\n" + "\n".join(self.output.splitlines()[-40:]))
            time.sleep(0.05)
        return time.monotonic() - started

    def lock_holder(self) -> int | None:
        """The Postgres session of the active scheduler; None when nobody is active, or nobody knows."""
        query = text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND granted")
        with suppress(Exception), self.engine.ledger.read() as connection:
            found: int | None = connection.execute(query, {"key": SCHEDULER_LOCK}).scalar()
            return found
        return None

    def unseat_scheduler(self) -> None:
        """End the session of the active scheduler, as a network does that loses a connection."""
        with self.engine.ledger.transaction() as connection:
            query = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = :key"
            connection.execute(text(query), {"key": SCHEDULER_LOCK})

    def restart_valkey(self) -> None:
        """The same Redis again, on the file that it left."""
        self.valkey = start_redis(self.valkey.directory, self.valkey.port, self.clock)

    def restart_postgres(self) -> None:
        """The same Postgres again."""
        self.postgres = start_postgres(self.postgres.directory, self.postgres.port)

    def heal_network(self) -> None:
        """Every route forwards again."""
        self.proxy.put(self.proxy.routes, Mode.PASS)

    def close(self) -> None:
        """Stop everything that this stack started."""
        self.engine.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _web_is_ready(self, port: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


def start_redis(directory: Path, port: int, clock: SettableClock | None) -> RunningStore:
    """Our embedded server, by a clock that can be set where there is one."""
    environ = {**STORE_ENVIRONMENT, **(clock.environ if clock is not None else {})}
    with patch.object(ops_valkey, "STORE_ENVIRONMENT", environ):
        return ops_valkey.start_valkey(directory, port)


def route(kind: str, store: str) -> str:
    """The name of the way from a kind of process to a store."""
    return f"{kind} to {store}"


@contextmanager
def machine_stack(lanes: int = LANES, broken: Break | None = None) -> Iterator[MachineStack]:
    """A ready stack in a folder of its own, gone at the end."""
    with private_folder() as folder:
        clock = settable_clock(folder)
        valkey = start_redis(folder / "valkey", free_port(), clock)
        postgres = start_postgres(folder / "postgres", free_port())
        targets = {"redis": valkey.port, "postgres": postgres.port}
        routes = {route(kind, store): Route(free_port(), targets[store]) for kind in KINDS for store in STORES}
        try:
            with Proxy(routes) as proxy:
                stack = MachineStack(folder, clock, valkey, postgres, proxy, lanes, broken)
                try:
                    stack.await_ready()
                    if broken is not None and broken.sql:
                        with stack.engine.ledger.transaction() as connection:
                            connection.execute(text(broken.sql))
                    yield stack
                finally:
                    stack.close()
                    valkey, postgres = stack.valkey, stack.postgres
        finally:
            valkey.stop()
            postgres.stop()


def _with_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
