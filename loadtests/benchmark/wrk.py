"""Load from wrk: closed loop, each connection sends its next request when the last one is answered."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests.benchmark.loads import Load
from loadtests.benchmark.plans import Plan, write_plan
from ops.processes import PROJECT_ROOT, spawn

SCRIPT = PROJECT_ROOT / "loadtests" / "benchmark" / "send.lua"
TIMEOUT_SECONDS = 10
"""wrk keeps a counter for each microsecond below this; later answers count as broken."""
GRACE_SECONDS = 30.0


class GeneratorFailed(Exception):
    """The generator did not do its work; the text ends with what it said."""


def version_of_wrk() -> str | None:
    """The version of the installed wrk; None when there is none."""
    program = shutil.which("wrk")
    if program is None:
        return None
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"wrk (\S+)", said)
    return found[1] if found else "unknown"


class Wrk:
    """Sends by wrk, in one thread."""

    name = "wrk"

    def __init__(self, folder: Path) -> None:
        """``folder`` is where plans and output are put."""
        self._folder = folder

    def run(self, port: int, plan: Plan, *, seconds: float, connections: int) -> Load:
        """Load for so many seconds. Raises GeneratorFailed."""
        with self.running(port, plan, seconds=seconds, connections=connections) as running:
            return running.finish()

    @contextmanager
    def running(self, port: int, plan: Plan, *, seconds: float, connections: int) -> Iterator[RunningWrk]:
        """Load beside what the caller does meanwhile; ended with the context."""
        path, log = self._folder / "wrk.plan", self._folder / "wrk.log"
        write_plan(plan, path)
        whole_seconds = max(1, round(seconds))  # wrk takes no parts of seconds
        command = [shutil.which("wrk") or "wrk", "-t1", f"-c{connections}", f"-d{whole_seconds}s"]
        command += ["--timeout", f"{TIMEOUT_SECONDS}s", "-s", str(SCRIPT), f"http://127.0.0.1:{port}/", "--", str(path)]
        with open(log, "wb") as output:
            process = spawn(command, environ=dict(os.environ), output=output)
        try:
            yield RunningWrk(process, log, whole_seconds)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()


class RunningWrk:
    """One run of wrk on its way."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, seconds: int) -> None:
        self._process = process
        self._log = log
        self._deadline = time.monotonic() + seconds + GRACE_SECONDS

    def finish(self) -> Load:
        """Wait for the end. Raises GeneratorFailed."""
        process = self._process
        while True:
            # Waited for by hand, because only so the kernel tells how much processor time this one child has used.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > self._deadline:
                raise GeneratorFailed(f"wrk does not come to an end. It said:\n{self._said()}")
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise GeneratorFailed(f"wrk ended with exit code {process.returncode}. It said:\n{self._said()}")
        return parse_result(self._said(), usage.ru_utime + usage.ru_stime)

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


def parse_result(output: str, cpu_seconds: float) -> Load:
    """The load from the line that ``send.lua`` ends with. Raises GeneratorFailed when there is none."""
    lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
    try:
        found = json.loads(lines[-1].removeprefix("RESULT "))
        return Load(
            seconds=found["seconds"],
            answers={int(status): times for status, times in found["answers"].items()},
            p50_ms=found["p50_us"] / 1000,
            p99_ms=found["p99_us"] / 1000,
            longest_ms=found["longest_us"] / 1000,
            cpu_share=cpu_seconds / found["seconds"],
            broken=found["broken"],
        )
    except (IndexError, KeyError, ValueError, ZeroDivisionError) as error:
        raise GeneratorFailed(f"wrk told no result. It said:\n{output[-3000:]}") from error
