"""Counting, and what is told of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from engine.telemetry import metrics
from engine.telemetry.exposition import FRESH_SECONDS, exposition, forget_the_dead
from engine.telemetry.tallied_histogram import LocalTally, TalliedHistogram
from ops.metrics_folder import empty_metrics_folder, metrics_folder
from web.request_times import route_of

GONE = 2**22 + 1
"""No process has this number: it is above the kernel's limit."""


def counted(outcome: str) -> float:
    value = metrics.REGISTRY.get_sample_value("seonchak_decisions_total", {"kind": "order", "outcome": outcome})
    assert value is not None
    return value


def shown() -> set[str]:
    return {family.name for family in text_string_to_metric_families(exposition().decode())}


def run_apart(folder: Path, program: str) -> str:
    """The output of a process that shares the folder."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    return finished.stdout


def test_the_outcomes_of_one_call_are_counted_one_by_one() -> None:
    reserved, short = counted("reserved"), counted("out_of_stock")
    metrics.count_decisions("order", ["reserved", "out_of_stock", "reserved"])
    assert (counted("reserved"), counted("out_of_stock")) == (reserved + 2, short + 1)


def test_an_outcome_that_nobody_thought_of_is_counted_all_the_same() -> None:
    metrics.count_decisions("order", ["new_word"])
    assert counted("new_word") == 1


def test_a_tally_and_single_observations_fill_the_same_buckets() -> None:
    registry = CollectorRegistry()
    tallied = TalliedHistogram("tallied", "as text", ("route",), registry=registry, buckets=(1, 2))
    single = TalliedHistogram("single", "as text", ("route",), registry=registry, buckets=(1, 2))
    tally = LocalTally(tallied)
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        tally.observe(("a",), value)
        single.labels("a").observe(value)
    tally.observe(("b",), 7.0)
    assert registry.get_sample_value("tallied_count", {"route": "a"}) is None
    tally.hand_over()
    tally.hand_over()
    for sample, labels in [
        ("bucket", {"le": "1.0"}),
        ("bucket", {"le": "2.0"}),
        ("bucket", {"le": "+Inf"}),
        ("sum", {}),
    ]:
        expected = registry.get_sample_value(f"single_{sample}", {"route": "a", **labels})
        assert registry.get_sample_value(f"tallied_{sample}", {"route": "a", **labels}) == expected
    assert registry.get_sample_value("tallied_count", {"route": "b"}) == 1


def test_what_nobody_has_observed_lately_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.record_lane(3, ready=True, entries=5, head_age_seconds=0.5, holds=1)
    metrics.record_look(metrics.GATE)
    assert "seonchak_outbox_entries" in shown()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + FRESH_SECONDS + 1)
    assert "seonchak_outbox_entries" not in shown()
    assert "seonchak_decisions" in shown()


def test_a_lane_that_does_not_answer_is_not_ready_and_its_depth_is_unknown() -> None:
    metrics.record_lane(4, ready=True, entries=5, head_age_seconds=0.5, holds=1)
    metrics.record_lane_away(4)
    metrics.record_look(metrics.GATE)
    lines = exposition().decode().splitlines()
    assert 'seonchak_lane_ready{lane="4"} 0.0' in lines
    assert 'seonchak_outbox_entries{lane="4"} NaN' in lines


def test_an_audit_tells_each_check() -> None:
    metrics.record_audit({"winners": True, "stock": False})
    lines = exposition().decode().splitlines()
    assert 'seonchak_audit_check_ok{check="winners"} 1.0' in lines
    assert 'seonchak_audit_check_ok{check="stock"} 0.0' in lines


def test_processes_that_share_a_folder_are_added_up_dead_or_alive(tmp_path: Path) -> None:
    issue = "from engine.telemetry import metrics; metrics.count_decisions('coupon_issue', ['issued'] * 3)"
    run_apart(tmp_path, issue)
    run_apart(tmp_path, issue)
    told = run_apart(tmp_path, "from engine.telemetry.exposition import exposition; print(exposition().decode())")
    assert 'seonchak_decisions_total{kind="coupon_issue",outcome="issued"} 6.0' in told.splitlines()


def test_a_dead_process_is_heard_no_more(tmp_path: Path) -> None:
    beat = "from engine.telemetry import metrics; metrics.beat('web')"
    run_apart(tmp_path, beat)
    told = run_apart(tmp_path, "from engine.telemetry.exposition import exposition; print(exposition().decode())")
    assert "seonchak_heartbeat" not in told
    assert not list(tmp_path.glob("gauge_liveall_*.db"))
    assert "seonchak_heartbeat" in run_apart(
        tmp_path, f"{beat}; from engine.telemetry.exposition import exposition; print(exposition().decode())"
    )


def test_files_of_the_living_and_counters_of_the_dead_stay(tmp_path: Path) -> None:
    stays = [f"gauge_liveall_{os.getpid()}.db", f"counter_{GONE}.db", f"gauge_mostrecent_{GONE}.db"]
    goes = [f"gauge_liveall_{GONE}.db", f"gauge_livemostrecent_{GONE}.db"]
    for name in (*stays, *goes):
        (tmp_path / name).touch()
    forget_the_dead(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(stays)


def test_a_stack_begins_with_an_empty_folder_of_its_owners(tmp_path: Path) -> None:
    empty_metrics_folder(tmp_path)
    (metrics_folder(tmp_path) / "counter_7.db").touch()
    empty_metrics_folder(tmp_path)
    assert list(metrics_folder(tmp_path).iterdir()) == []
    assert metrics_folder(tmp_path).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/v1/coupons/7/issue", "issue"),
        ("/api/v1/requests/0.1.1.c", "requests"),
        ("/api/v1/orders", "orders"),
        ("/api/v1/orders/7/cancel", "orders"),
        ("/api/v1/users/7/coupons", "users"),
        ("/api/v1/products", "products"),
        ("/api/v1/products/popular", "popular"),
        ("/api/v1/admin/coupons/7", "admin"),
        ("/metrics", "operations"),
        ("/", "other"),
        ("/api/v1", "other"),
        ("/api/v1/nobody/knows", "other"),
        ("/x" * 5000, "other"),
    ],
)
def test_a_path_belongs_to_one_of_a_few_routes(path: str, route: str) -> None:
    assert route_of(path) == route
