"""A quick benchmark through the real processes: everything works and all checks hold. Nothing here asks how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ops.processes import PROJECT_ROOT

PATIENCE_SECONDS = 280
ROUTES = {"empty", "poll-pending", "issue", "sold-out", "orders"}
FIGURES = {"issue/empty", "orders/empty", "lag-p99", "persisted/accepted", "goodput-3x", "drain/floor", "drain-writes"}


def run_benchmark(reports: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("LANES", "WORKERS")}
    return subprocess.run(
        [sys.executable, "-m", "loadtests.benchmark", *arguments],
        cwd=PROJECT_ROOT,
        env={**inherited, "REPORTS": str(reports)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_what_is_measured_does_its_work_and_is_told_in_every_report(tmp_path: Path) -> None:
    topics = "poll-pending,issue,sold-out,orders,lag,overload,drain"
    run = run_benchmark(tmp_path, "--quick", "--only", topics)
    assert run.returncode == 0, run.stdout
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert {row["key"] for row in found["rows"]} == ROUTES
    assert {figure["key"] for figure in found["figures"]} >= FIGURES
    assert all(check["ok"] for check in found["checks"])
    checks = {check["name"] for check in found["checks"]}
    assert "issue: every acceptance is persisted, and nothing else" in checks
    assert "sold-out: never more than there are" in checks
    assert "orders: no unit is made or lost" in checks
    assert "lag: persisted = accepted" in checks
    assert "poll-pending: the requests are PENDING" in checks
    assert f"{len(checks)} of {len(checks)} correctness checks hold" in (tmp_path / "benchmark.md").read_text()
    assert "<svg" in (tmp_path / "benchmark.html").read_text()


def test_wrong_options_are_named_and_nothing_starts(tmp_path: Path) -> None:
    run = run_benchmark(tmp_path, "--only", "isue")
    assert run.returncode == 2
    assert "nothing is called isue" in run.stdout
    assert "starting" not in run.stdout
    assert list(tmp_path.iterdir()) == []
