"""The fault machine in its short form: real processes that die and sleep under load, and nobody was told an untruth."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from engine.gate import keys
from tests.faults.machine.faults import signal_process
from tests.faults.machine.machine import Machine, running_machine
from tests.faults.machine.runs import Run, short
from tests.faults.machine.stack import LANES
from tests.faults.machine.verdict import Kind
from tests.stack.stack_driver import wait_until

pytestmark = pytest.mark.long


def test_whatever_dies_sleeps_or_goes_deaf_every_word_to_a_client_was_true(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_machine() as machine:
        run = Run(machine, tmp_path, "short")
        short(run)
        assert run.conclude() == 0, capsys.readouterr().out
        assert run.outcomes.total.counts["completed"] > 100
        break_a_promise(machine)
        rest = machine.rest()
    assert Kind.TAKEN_BACK in {violation.kind for violation in rest.violations}, "a loss that nobody declared"
    table = (tmp_path / "short.md").read_text()
    assert "| drain.before_commit | 1 |" in table
    assert "| all together |" in table


def break_a_promise(machine: Machine) -> None:
    """The negative control: drop from an outbox what somebody was promised, as no fault may. The workers sleep
    meanwhile: an entry that they have committed already would be no loss."""
    client, outboxes = machine.stack.engine.gate.client, [keys.outbox(lane) for lane in range(LANES)]
    workers = [name for name in machine.stack.pids() if name.startswith("worker")]
    for name in workers:
        signal_process(signal.SIGSTOP, name, machine)
    before = sum(client.xlen(outbox) for outbox in outboxes)
    wait_until(lambda: sum(client.xlen(outbox) for outbox in outboxes) > before, "somebody is promised something")
    for outbox in outboxes:
        client.xtrim(outbox, maxlen=0, approximate=False)
    for name in workers:
        signal_process(signal.SIGCONT, name, machine)
