"""Processor time by process, as the benchmark tells it."""

from __future__ import annotations

import os
from pathlib import Path

from loadtests.benchmark.markdown import render_markdown
from loadtests.benchmark.processor_time import medians, microseconds_each, processor_seconds
from loadtests.benchmark.results import Results, Row

TICKS = os.sysconf("SC_CLK_TCK")


def add_process(proc: Path, pid: int, parent: int, *, user: float, system: float, name: str = "python") -> None:
    """A process as ``/proc`` shows it; times in seconds."""
    fields = ["S", str(parent), *["0"] * 9, str(round(user * TICKS)), str(round(system * TICKS)), *["0"] * 30]
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")


def test_time_of_a_process_is_its_own_and_that_of_all_it_started(tmp_path: Path) -> None:
    add_process(tmp_path, 10, 1, user=1.0, system=0.5)
    add_process(tmp_path, 11, 10, user=2.0, system=0.0, name="a (strange) name 9 9")
    add_process(tmp_path, 12, 11, user=4.0, system=0.0)
    add_process(tmp_path, 20, 1, user=8.0, system=0.0)
    assert processor_seconds({"web": 10}, tmp_path) == {"web": 7.5}


def test_who_has_a_name_is_not_counted_with_who_started_them(tmp_path: Path) -> None:
    add_process(tmp_path, 10, 1, user=1.0, system=0.0)
    add_process(tmp_path, 11, 10, user=2.0, system=0.0)
    assert processor_seconds({"supervisor": 10, "web": 11}, tmp_path) == {"supervisor": 1.0, "web": 2.0}


def test_processes_of_one_kind_are_told_together_and_one_that_is_gone_counts_nothing(tmp_path: Path) -> None:
    add_process(tmp_path, 10, 1, user=1.0, system=0.0)
    add_process(tmp_path, 20, 1, user=2.0, system=0.0)
    told = processor_seconds({"worker.1": 10, "worker.2": 20, "web": 30}, tmp_path)
    assert told == {"worker": 3.0, "web": 0.0}


def test_work_of_this_very_process_is_seen() -> None:
    before = processor_seconds({"me": os.getpid()})
    while processor_seconds({"me": os.getpid()})["me"] < before["me"] + 0.05:
        sum(range(10_000))


def test_an_answer_costs_its_share_and_who_did_nothing_is_left_out() -> None:
    assert microseconds_each({"web": 1.0, "worker": 2.0}, {"web": 3.0, "worker": 2.0}, 1000) == {"web": 2000.0}
    assert microseconds_each({"web": 1.0}, {"web": 3.0}, 0) == {}


def test_a_round_without_a_process_counts_as_nothing() -> None:
    assert medians([{"web": 10.0}, {"web": 30.0, "worker": 4.0}, {"web": 20.0}]) == {"web": 20.0, "worker": 0.0}


def test_the_page_shows_it_by_process_and_its_sum() -> None:
    row = Row("issue", "issue, accepted", (1.0,), (1.0,), (1.0,), 0.1, {"web": 100.4, "redis": 20.0})
    page = render_markdown(Results(rows=[row]))
    assert "| µs an answer | web | redis | sum |" in page
    assert "| issue, accepted | 100 | 20 | 120 |" in page
    row = Row("issue", "issue, accepted", (1.0,), (1.0,), (1.0,), 0.1)
    assert "processor time" not in render_markdown(Results(rows=[row]))
