"""``python -m ops restart`` as somebody types it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.commands.program import program
from tests.stack.stack_driver import StackDriver


def test_without_a_stack_there_is_nothing_to_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    result = CliRunner().invoke(program, ["restart"])
    assert result.exit_code == 2
    assert f"no stack runs on DATA_DIR={tmp_path}" in result.stderr


def test_a_stack_is_restarted_and_a_new_process_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp(prefix="seonchak-test-"))
    folder.chmod(0o711)
    driver = StackDriver(folder)
    try:
        driver.procfile(release="true", web=f"python {driver.folder / 'web.py'}", sleeper="sleep 1000")
        driver.start_and_await_ready()
        monkeypatch.setenv("DATA_DIR", str(driver.data_dir))
        before = driver.stack.pids
        result = CliRunner().invoke(program, ["restart"])
        # This web says nothing of itself: it opens the port, which is taken, and ends.
        assert result.exit_code == 1
        assert "the new web ended with exit code 1: the old one stays" in result.stderr
        assert driver.stack.pids["web"] == before["web"]
    finally:
        driver.clean_up()
