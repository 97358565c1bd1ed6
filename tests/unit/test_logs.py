"""Lines of the log, for people and for machines."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from engine.telemetry.logs import about, formatter

NOTICE = logging.LogRecord("engine.flow.drain", logging.WARNING, __file__, 1, "lane %d: %s", (3, "쿠폰"), None)


def as_json(record: logging.LogRecord) -> dict[str, object]:
    line = formatter("drain", as_json=True).format(record)
    assert "\n" not in line
    found: dict[str, object] = json.loads(line)
    return found


def for_people(record: logging.LogRecord, *, colours: bool = False) -> str:
    return formatter("drain", as_json=False, colours=colours).format(record)


def written(program: str, *, code: int = 0, **environ: str) -> str:
    """What a process whose stderr is a pipe writes there."""
    start = "import logging; from engine.telemetry.logs import configure_logs; "
    finished = subprocess.run(
        [sys.executable, "-c", start + program],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert finished.returncode == code, finished.stderr
    return finished.stderr


def test_a_line_for_machines_says_who_wrote_it_and_when_and_what_it_is_about() -> None:
    with about(lane=3, request_id="3.1.1.c"):
        line = as_json(NOTICE)
    assert line["message"] == "lane 3: 쿠폰"
    assert (line["level"], line["logger"], line["process"]) == ("warning", "engine.flow.drain", "drain")
    assert (line["lane"], line["request_id"]) == (3, "3.1.1.c")
    assert str(line["timestamp"]).endswith("Z")
    assert "lane" not in as_json(NOTICE)


def test_a_line_for_people_is_a_sentence_and_what_it_does_not_say_itself() -> None:
    with about(lane=3, request_id="3.1.1.c"):
        line = for_people(NOTICE)
    assert "lane 3: 쿠폰" in line
    assert "request_id=3.1.1.c" in line
    assert "lane=3" not in line
    assert "\x1b" not in line
    assert "\x1b" in for_people(NOTICE, colours=True)


def test_an_error_is_one_line_for_machines_and_a_traceback_for_people() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("web", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    assert "ValueError: broken" in str(as_json(record)["exception"])
    assert "Traceback (most recent call last)" in for_people(record)


@pytest.mark.parametrize(("log_format", "is_json"), [("auto", True), ("json", True), ("human", False)])
def test_where_no_terminal_is_machines_read_unless_told_otherwise(log_format: str, is_json: bool) -> None:
    line = written(f"configure_logs('web', '{log_format}'); logging.getLogger('web').info('here')")
    assert line.startswith("{") is is_json
    assert "here" in line


def test_colours_are_for_those_who_want_them() -> None:
    program = "configure_logs('web', 'human'); logging.getLogger('web').info('here')"
    assert "\x1b" not in written(program)
    assert "\x1b" in written(program, FORCE_COLOR="1")
    assert "\x1b" not in written(program, FORCE_COLOR="1", NO_COLOR="1")


def test_debugging_is_for_our_own_code() -> None:
    program = (
        "configure_logs('web', 'json', 'debug'); [logging.getLogger(name).debug('hi') for name in ('engine', 'redis')]"
    )
    assert [json.loads(line)["logger"] for line in written(program).splitlines()] == ["engine"]


def test_a_process_that_crashes_says_so_in_the_form_of_all_others() -> None:
    (line,) = written("configure_logs('web', 'json'); 1 / 0", code=1).splitlines()
    assert json.loads(line)["level"] == "critical"
    assert "ZeroDivisionError" in json.loads(line)["exception"]
