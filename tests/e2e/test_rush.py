"""Small rushes through the real processes, with a verdict at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.private_stack import private_stack
from ops.processes import PROJECT_ROOT
from ops.stack import Stack

PATIENCE_SECONDS = 250


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One stack for the rushes of this module: each has a coupon of its own."""
    with private_stack() as stack:
        yield stack


def rush(reports: Path, **environ: str) -> tuple[int, str]:
    """Exit code and output of a rush of 2,000 attempts by 1,000 users for 100 coupons."""
    ours = {"USERS": "1000", "REQUESTS": "2000", "COUPONS": "100", "REPORTS": str(reports)}
    inherited = {name: value for name, value in os.environ.items() if name not in ("CHAOS", "BROKEN", "DATA_DIR")}
    finished = subprocess.run(
        [sys.executable, "-m", "loadtests.rush"],
        cwd=PROJECT_ROOT,
        env={**inherited, **ours, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    return finished.returncode, finished.stdout


def failed_checks(output: str) -> set[str]:
    return {line.split("FAIL  ")[1].split(":")[0] for line in output.splitlines() if line.startswith("  FAIL")}


def test_a_rush_ends_in_a_verdict_that_holds(stack: Stack, tmp_path: Path) -> None:
    code, output = rush(tmp_path, DATA_DIR=stack.data_dir)
    assert code == 0, output
    assert failed_checks(output) == set()
    assert f"using the stack that runs at {stack.address}" in output
    assert "100 rows, 100 expected" in output
    assert "PASSED" in output
    assert "<html" in (tmp_path / "coupon_rush.html").read_text()


def test_a_rush_survives_a_killed_worker_and_a_killed_web(stack: Stack, tmp_path: Path) -> None:
    code, output = rush(tmp_path, DATA_DIR=stack.data_dir, CHAOS="worker,web")
    assert code == 0, output
    assert "killed worker.1" in output
    assert "killed web" in output
    assert "100 rows, 100 expected" in output


def test_a_gate_that_checks_and_takes_in_two_steps_is_found_out(tmp_path: Path) -> None:
    code, output = rush(tmp_path, BROKEN="1")
    assert code == 1, output
    # Who asked twice at once may have got two of the last ones, so that they were just enough.
    assert failed_checks(output) & {"not more given than there are", "at most one for each user"}, output
    assert "every acceptance has its row" in failed_checks(output), output


def test_wrong_settings_are_named_together_and_nothing_starts(tmp_path: Path) -> None:
    code, output = rush(tmp_path, USERS="0", COUPONS="many", CHAOS="valkey")
    assert code == 2
    assert {"USERS=0", "COUPONS=many", "CHAOS=valkey"} <= {line.split(":")[0] for line in output.splitlines()}
    assert "starting" not in output
