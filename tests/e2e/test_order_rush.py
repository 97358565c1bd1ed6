"""A small order rush through the real processes, with all of them killed on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.processes import PROJECT_ROOT


@pytest.mark.parametrize("lanes", ["1", "4"])
def test_units_money_and_coupons_are_conserved_though_everything_is_killed(tmp_path: Path, lanes: str) -> None:
    sizes = {"ORDERS": "800", "USERS": "200", "UNITS": "100", "CHAOS": "worker,web,scheduler", "LANES": lanes}
    places = {"DATA_DIR": str(tmp_path / "no stack runs here"), "REPORTS": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-m", "loadtests.shop_run", "order_rush"],
        cwd=PROJECT_ROOT,
        env={**os.environ, **sizes, **places},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "PASSED: all" in run.stdout
    assert run.stdout.count("kill -9 of") == 3
