"""The whole stack in the foreground: ``python -m ops up``, what `make run` does.

Exit codes: 0 after an orderly stop, 1 when something kept dying, 2 when it could not start for a reason that the
message names.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.config import Settings
from engine.errors import InvalidSettings
from engine.telemetry.logs import HUMAN, JSON
from ops.console import complain
from ops.external_stores import database_problem, redis_problem
from ops.hints import hints
from ops.problems import StackProblem
from ops.processes import free_port, port_is_free
from ops.procfile import parse_procfile
from ops.readiness import host_in_url, reachable_host
from ops.restarts import RestartPolicy
from ops.stack import locked, secret_path
from ops.stop_requests import StopRequests
from ops.stores import remembered_password, write_private
from ops.supervisor import Plan, Supervisor
from ops.valkey import FSYNC_CHOICES

MOST_WORKERS = 64
_PLACEHOLDERS = {"REDIS_URL": "redis://127.0.0.1:1", "DATABASE_URL": "postgresql://127.0.0.1:1/seonchak"}


@dataclass(frozen=True)
class RunOptions:
    """What to run (a Procfile), and with how much patience."""

    procfile: Path
    restarts: int
    restart_window: float
    readiness_patience: float


def run_stack(options: RunOptions) -> int:
    """Run the stack; returns the exit code."""
    _open_closed_descriptors()
    requests = StopRequests()
    try:
        if sys.platform != "linux":
            raise StackProblem("the local stack needs Linux: use a container or a virtual machine")
        return _run(options, os.environ, requests)
    except (StackProblem, InvalidSettings) as problem:
        complain(str(problem))
    except OSError as error:  # a file of another user in the data folder, a full disk
        complain(f"{error.filename or 'a file'} cannot be used: {error.strerror}. Is it yours, and is there room?")
    return 2


def _run(options: RunOptions, environ: Mapping[str, str], requests: StopRequests) -> int:
    given = {name: value for name, value in environ.items() if value.strip()}
    settings, workers = _settings(given)
    commands = _read_procfile(options.procfile)
    data_dir = Path(given.get("DATA_DIR", "var")).expanduser().resolve()
    with locked(data_dir) as lock:
        if "web" in commands:
            _refuse_a_taken_port(settings.host, settings.port)
        _refuse_unreachable_stores(given)
        ports = remembered_ports(data_dir / "ports.json")
        address = f"http://{host_in_url(reachable_host(settings.host))}:{settings.port}/"
        plan = Plan(
            data_dir=data_dir,
            mark=hashlib.sha256(str(data_dir).encode()).hexdigest()[:16],
            host=settings.host,
            port=settings.port,
            address=address,
            redis_url=given.get("REDIS_URL"),
            queue_redis_url=given.get("QUEUE_REDIS_URL"),
            database_url=given.get("DATABASE_URL"),
            valkey_port=ports["valkey"],
            valkey_fsync=given.get("APPENDFSYNC", FSYNC_CHOICES[0]),
            postgres_port=ports["postgres"],
            commands=commands,
            formation={"worker": workers},
            environ={
                **environ,
                "DEMO_DATA": given.get("DEMO_DATA", "1"),
                "PATH": _path(given),
                **_data_platform(given, ports["platform"]),
                **_token_secret(given, data_dir),
            },
            log_format=JSON if settings.log_format == JSON else HUMAN,
            hints=hints(address, settings, given, data_dir),
            policy=RestartPolicy(options.restarts, options.restart_window),
            readiness_patience_seconds=options.readiness_patience,
        )
        return Supervisor(plan, lock, requests).run()


def _open_closed_descriptors() -> None:
    """Started with a closed stdout, the next file we open would become stdout and be written full of log lines."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _settings(given: Mapping[str, str]) -> tuple[Settings, int]:
    """The settings and the number of workers; every problem of both is named at once."""
    problems: list[str] = []
    workers = given.get("WORKERS", "1").strip()
    if not (workers.isascii() and workers.isdigit()) or not 1 <= int(workers) <= MOST_WORKERS:
        problems.append(f"WORKERS={workers}: must be a whole number from 1 to {MOST_WORKERS}")
    fsync = given.get("APPENDFSYNC", FSYNC_CHOICES[0])
    if fsync not in FSYNC_CHOICES:
        problems.append(f"APPENDFSYNC={fsync}: must be one of {', '.join(FSYNC_CHOICES)}")
    placeholders = {**_PLACEHOLDERS, **({"JWT_SECRET": "x" * 32} if _needs_token_secret(given) else {})}
    # What is blank is not given, and must not take a placeholder away.
    said = {name: value for name, value in given.items() if value.strip()}
    try:
        settings = Settings.from_environment({**placeholders, **said})
    except InvalidSettings as invalid:
        raise InvalidSettings([*invalid.problems, *problems]) from None
    if problems:
        raise InvalidSettings(problems)
    return settings, int(workers)


def _read_procfile(path: Path) -> dict[str, str]:
    try:
        return parse_procfile(path.read_text())
    except OSError as error:
        raise StackProblem(f"{path} cannot be read: {error.strerror}") from error


def _refuse_a_taken_port(host: str, port: int) -> None:
    try:
        free = port_is_free(host, port)
    except OSError as error:
        raise StackProblem(f"HOST={host} is not an address of this machine: {error.strerror}") from error
    if not free:
        other = next((number for number in range(port + 1, min(port + 100, 65536)) if port_is_free(host, number)), 0)
        raise StackProblem(
            f"port {port} on {host} is taken by another program or may not be used. "
            f"Choose another one: PORT={other or 18000} make run"
        )


def _refuse_unreachable_stores(given: Mapping[str, str]) -> None:
    found = [redis_problem(name, given[name]) for name in ("REDIS_URL", "QUEUE_REDIS_URL") if name in given]
    found += [database_problem(name, given[name]) for name in ("DATABASE_URL",) if name in given]
    if problems := [problem for problem in found if problem is not None]:
        raise StackProblem("\n".join(problems))


def remembered_ports(path: Path) -> dict[str, int]:
    """The ports of what we bring along: as last time while they are free, so that notes and open tools stay right."""
    try:
        remembered = json.loads(path.read_text())
    except (OSError, ValueError):
        remembered = {}
    ports: dict[str, int] = {}
    for name in ("valkey", "postgres", "platform"):
        port = remembered.get(name) if isinstance(remembered, dict) else None
        if not isinstance(port, int) or not 1024 <= port <= 65535 or not port_is_free("127.0.0.1", port):
            port = free_port()
        ports[name] = port
    write_private(path, json.dumps(ports) + "\n")
    return ports


def _data_platform(given: Mapping[str, str], port: int) -> dict[str, str]:
    """Where order events go: to the given address, or to our stand-in, on a port and under a secret of its own."""
    found = {"PLATFORM_PORT": given.get("PLATFORM_PORT", str(port))}
    if "DATA_PLATFORM_URL" not in given:
        found["DATA_PLATFORM_URL"] = f"http://127.0.0.1:{found['PLATFORM_PORT']}/events"
    if "DATA_PLATFORM_SECRET" not in given:
        found["DATA_PLATFORM_SECRET"] = secrets.token_hex(16)
    return found


def _token_secret(given: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    """With AUTH=jwt and no keys of somebody else's: a secret of our own, kept so that tokens outlive a restart."""
    if not _needs_token_secret(given):
        return {}
    return {"JWT_SECRET": remembered_password(secret_path(data_dir), lambda: secrets.token_urlsafe(48))}


def _needs_token_secret(given: Mapping[str, str]) -> bool:
    sources = ("JWT_SECRET", "JWT_SECRET_FILE", "JWT_PUBLIC_KEY", "JWT_JWKS")
    return given.get("AUTH", "").strip() == "jwt" and not any(given.get(name, "").strip() for name in sources)


def _path(given: Mapping[str, str]) -> str:
    """The Procfile's `python` and `granian` are those of the environment that runs us."""
    return os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", os.defpath)])
