"""Fault points: off unless a test asks, one order for one process, and a table that tells of all of them."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import fault_points
from ops.processes import PROJECT_ROOT
from tests.stack.stack_driver import wait_until

REACHES = "from engine.fault_points import reach\nreach('here')\nprint('came through', flush=True)\n"


def points_in_the_table() -> list[str]:
    return re.findall(r"^([a-z]+\.[a-z_]+) {2,}", str(fault_points.__doc__), re.MULTILINE)


def points_in_the_code(root: Path) -> Iterator[str]:
    """Every text within the argument of a call of ``reach``."""
    for path in sorted((root / "engine").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
                texts = (each for argument in node.args for each in ast.walk(argument))
                yield from (
                    each.value for each in texts if isinstance(each, ast.Constant) and isinstance(each.value, str)
                )


def start(folder: Path, code: str = REACHES) -> subprocess.Popen[str]:
    environ = {**os.environ, fault_points.CONTROL_VARIABLE: str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, env=environ, stdout=subprocess.PIPE, text=True
    )


def test_the_table_has_every_point_of_the_code_and_no_other() -> None:
    assert len(set(points_in_the_table())) == len(points_in_the_table()) > 10
    assert set(points_in_the_table()) == set(points_in_the_code(PROJECT_ROOT))


def test_a_call_that_the_table_does_not_have_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "some.py").write_text('reach("some.where" if last else "else.where")\n')
    assert set(points_in_the_code(tmp_path)) == {"some.where", "else.where"}


def test_without_the_variable_a_point_is_a_function_that_does_nothing() -> None:
    assert fault_points.CONTROL_VARIABLE not in os.environ
    assert fault_points.reach is fault_points._pass


def test_one_order_kills_one_process_of_those_that_reach_the_point(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("kill")
    started = [start(tmp_path) for _ in range(3)]
    said = {process.pid: process.communicate(timeout=20)[0] for process in started}
    killed = [process.pid for process in started if process.returncode == -signal.SIGKILL]
    assert len(killed) == 1
    assert said.pop(killed[0]) == ""
    assert set(said.values()) == {"came through\n"}
    assert [path.name for path in tmp_path.iterdir()] == [f"here.{killed[0]}"]


def test_an_order_for_another_point_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("kill")
    process = start(tmp_path)
    assert process.communicate(timeout=20)[0] == "came through\n"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_an_order_that_is_withdrawn_while_it_is_taken_is_not_carried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").write_text("kill")
    monkeypatch.setattr(os, "rename", lambda order, _taken: os.unlink(order))
    fault_points._take_orders(tmp_path)("here")  # and we live
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_was_put_to_sleep_goes_on_when_it_is_woken(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("stop")
    process = start(tmp_path)
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it sleeps")
    os.kill(process.pid, signal.SIGCONT)
    assert process.communicate(timeout=20)[0] == "came through\n"
