"""Driving a local stack from a test: starting it, waiting for what it says, looking what it left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ops.postgres import discard_postgres
from ops.processes import PROJECT_ROOT, children_of, dying_with_us, free_port, is_alive
from ops.stack import Stack, read_stack
from tests.stack.prepared_postgres import prepare_postgres

WEB = """\
import http.server, os, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = not pathlib.Path(os.environ["DATA_DIR"], "not-ready").exists()
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(b"ok" if ready else b"missing: the gate is not verified")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


PATIENCE_SECONDS = 90.0
"""For what takes a second or five: a machine that others use, too, may be many times slower, and that is no finding."""


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


def family_of(pid: int) -> set[int]:
    """The process and all its descendants."""
    found = {pid}
    for child in children_of(pid):
        found |= family_of(child)
    return found


@dataclass
class StackDriver:
    """One folder with a Procfile and a data folder; at most one stack at a time."""

    folder: Path
    port: int = field(default_factory=free_port)
    prepared: bool = True
    """Whether Postgres finds its data made, on the first start, which saves a second or two."""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        (self.folder / "web.py").write_text(WEB)
        self.procfile(release="true", web=f"python {self.folder / 'web.py'}", worker="sleep 1000")

    @property
    def data_dir(self) -> Path:
        return self.folder / "var"

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    @property
    def complaint(self) -> str:
        return (self.folder / "complaint").read_text()

    @property
    def stack(self) -> Stack:
        stack = read_stack(self.data_dir)
        assert stack is not None
        return stack

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    def procfile(self, **commands: str) -> None:
        (self.folder / "Procfile").write_text("".join(f"{name}: {command}\n" for name, command in commands.items()))

    def start(self, *options: str, stdout: int | None = None, **environ: str) -> None:
        ours = {"REDIS_URL", "QUEUE_REDIS_URL", "DATABASE_URL", "HOST", "LANES", "AUTH", "WORKERS"}
        ours |= {"JWT_SECRET", "JWT_SECRET_FILE", "JWT_PUBLIC_KEY", "JWT_JWKS", "JWT_AUDIENCE", "JWT_ISSUER"}
        ours |= {"LIMIT_PER_USER", "LIMIT_PER_ADDRESS", "PROXIES"}
        ours |= {"PLATFORM_PORT", "DATA_PLATFORM_URL", "DATA_PLATFORM_SECRET"}
        ours |= {"LOG_FORMAT", "LOG_LEVEL", "FORCE_COLOR", "NO_COLOR"}
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        if self.prepared and "DATABASE_URL" not in environ and not self.data_dir.exists():
            prepare_postgres(self.data_dir / "postgres")
        command = [sys.executable, "-m", "ops", "up", "--procfile", str(self.folder / "Procfile"), *options]
        with open(self.folder / "output", "wb") as output, open(self.folder / "complaint", "wb") as complaint:
            self.process = subprocess.Popen(
                dying_with_us(command, signal.SIGTERM),
                cwd=PROJECT_ROOT,
                env={**inherited, "PORT": str(self.port), "DATA_DIR": str(self.data_dir), **environ},
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=complaint,
                start_new_session=True,
            )

    def await_ready(self) -> None:
        def ready() -> bool:
            assert self.supervisor.poll() is None, self.output + self.complaint
            stack = read_stack(self.data_dir)
            return stack is not None and stack.ready

        wait_until(ready, "the stack is ready")

    def start_and_await_ready(self, *options: str, **environ: str) -> None:
        self.start(*options, **environ)
        try:
            self.await_ready()
        except BaseException:
            self.clean_up()  # whoever asked has nothing yet that could be closed
            raise

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.supervisor.send_signal(number)
        return self.supervisor.wait(15)

    def refused(self, *options: str, **environ: str) -> str:
        """Start what must not start; returns the message, which comes with exit code 2 and without a traceback."""
        self.start(*options, **environ)
        assert self.supervisor.wait(30) == 2, self.output + self.complaint
        assert "Traceback" not in self.output + self.complaint
        return self.complaint

    def family(self) -> set[int]:
        return family_of(self.supervisor.pid)

    def clean_up(self) -> None:
        """Leave nothing behind. In a hurry: an orderly stop takes seconds, and its tests ask for one."""
        if self.process is not None and self.process.poll() is None:
            family = self.family()
            self.process.kill()
            self.process.wait()
            await_gone(family, PATIENCE_SECONDS)  # the reaper sees to it
        discard_postgres(self.data_dir / "postgres")
        shutil.rmtree(self.folder, ignore_errors=True)


def await_gone(pids: set[int], seconds: float = 10.0) -> None:
    wait_until(lambda: not any(is_alive(pid) for pid in pids), f"all of {sorted(pids)} are gone", seconds)
