"""The first minute with a fresh stack: nothing to worry about, and what to do next."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.whole_stack import PROCFILE, new_folder
from tests.stack.stack_driver import StackDriver, wait_until

WORRYING = re.compile(r"warn|error|alarm|traceback|critical", re.IGNORECASE)
PUBLISHED = "made 1 coupons and 10 products live"


@pytest.fixture
def driver() -> Iterator[StackDriver]:
    driver = StackDriver(new_folder(), prepared=False)
    yield driver
    driver.clean_up()


def worrying_lines(driver: StackDriver) -> list[str]:
    return [line for line in (driver.output + driver.complaint).splitlines() if WORRYING.search(line)]


def test_a_fresh_stack_and_the_same_one_again_say_nothing_worrying_and_what_to_do_next(driver: StackDriver) -> None:
    driver.start_and_await_ready(*PROCFILE, DEMO_DATA="1")
    wait_until(lambda: PUBLISHED in driver.output, "the scheduler has made the demo shop live")
    wait_until(lambda: "\n  stop   Ctrl-C" in driver.output, "it says what to do next")
    address = f"http://127.0.0.1:{driver.port}/"
    after = driver.output.split(f"Seonchak is ready: {address}\n")[1]
    assert after.startswith(f"  open   {address} in a browser: the console, where a rush can be started\n")
    assert f"\n  rush   DATA_DIR={driver.data_dir} make rush, " in after
    assert worrying_lines(driver) == []
    assert driver.stop() == 0
    driver.start_and_await_ready(*PROCFILE, DEMO_DATA="1")
    wait_until(lambda: "goes on under epoch 2" in driver.output, "the guard has approved the server that was started")
    assert worrying_lines(driver) == []
    # The negative control: with a store taken away the same look finds something.
    os.kill(driver.stack.pids["postgres"], signal.SIGKILL)
    wait_until(lambda: worrying_lines(driver), "somebody warns")
