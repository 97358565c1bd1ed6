"""``python -m ops migrate`` and ``demo``: what they do on real stores, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.context import Engine
from engine.upkeep.auditing.findings import CheckName
from ops import migrate
from tests.audit.audited_shop import found_off
from tests.integration.command_line import done, ops, refused
from tests.integration.offers import offer, win_all
from tests.integration.placed_orders import rows, without_ledger, without_redis
from tests.integration.test_migrations import downgrade


@pytest.fixture(autouse=True)
def _safe_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of an old Redis is told by tests of its own; these may run on one."""
    monkeypatch.setattr(migrate, "security_warning", lambda _gate: None)


def test_migrating_is_told_as_json_and_safe_to_repeat(engine: Engine) -> None:
    for _ in range(2):
        told = json.loads(done(ops(engine, "migrate", "--json")))
        assert told == {"lanes": 1, "demoDataLoaded": False, "warnings": []}
    assert done(ops(engine, "migrate")) == ""


def test_migrating_brings_an_older_schema_up_to_date(engine: Engine) -> None:
    newest = rows(engine, "SELECT version_num FROM alembic_version")
    downgrade(engine.ledger, "0004")
    assert rows(engine, "SELECT version_num FROM alembic_version") == [("0004",)]
    done(ops(engine, "migrate"))
    assert rows(engine, "SELECT version_num FROM alembic_version") == newest
    assert done(ops(engine, "quarantine", "list")) == "nothing is in quarantine\n"


def test_another_number_of_lanes_is_refused_unless_it_is_wanted(engine: Engine) -> None:
    win_all(engine, offer(engine), [1, 2])
    complaint = refused(ops(engine, "migrate", LANES="3"))
    assert "the data was built with LANES=1" in complaint
    assert "python -m ops relane 3" in complaint
    assert rows(engine, "SELECT value FROM engine_settings WHERE name = 'lanes'") == [("1",)]
    done(ops(engine, "migrate", LANES="3", RELANE="1"))
    assert rows(engine, "SELECT value FROM engine_settings WHERE name = 'lanes'") == [("3",)]
    assert rows(engine, "SELECT count(*) FROM user_coupons") == [(2,)]


@pytest.mark.parametrize("command", ["migrate", "audit", "drain"])
def test_stores_that_do_not_answer_are_told_without_a_traceback(engine: Engine, command: str) -> None:
    for away in (without_redis(engine), without_ledger(engine)):
        complaint = refused(ops(away, command))
        away.close()
        assert "unavailable" in complaint
        assert "Traceback" not in complaint


@pytest.mark.parametrize(
    "words",
    [
        ["migrate"],
        ["audit"],
        ["drain"],
        ["rebuild", "--yes"],
        ["quarantine", "list"],
        ["deliveries", "list"],
        ["deliveries", "requeue"],
        ["coupon", "show", "1"],
        ["export", "winners", "1"],
        ["demo", "data"],
    ],
    ids=" ".join,
)
def test_without_a_stack_it_is_told_how_to_start_or_to_name_one(tmp_path: Path, words: list[str]) -> None:
    complaint = refused(ops(None, *words, DATA_DIR=str(tmp_path)))
    assert f"no stack runs on DATA_DIR={tmp_path}" in complaint
    assert "make run" in complaint


def test_lanes_of_nothing_cannot_be_changed(tmp_path: Path) -> None:
    assert "holds no data" in refused(ops(None, "relane", 2, DATA_DIR=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_is_named(engine: Engine) -> None:
    complaint = refused(ops(None, "coupon", "show", 1, REDIS_URL="http://x", DATABASE_URL=engine.settings.database_url))
    assert "REDIS_URL: the scheme must be one of" in complaint


# -- demo


def test_the_small_shop_is_loaded_into_an_empty_database_and_never_into_another(engine: Engine) -> None:
    assert done(ops(engine, "demo", "data")) == "loaded a small shop to play with\n"
    tables = ("products", "accounts", "coupons")
    before = [rows(engine, f"SELECT count(*) FROM {table}") for table in tables]
    assert before == [[(10,)], [(10,)], [(1,)]]
    assert "nothing was changed" in refused(ops(engine, "demo", "data"))
    assert [rows(engine, f"SELECT count(*) FROM {table}") for table in tables] == before
    again = ops(engine, "demo", "data", "--json")
    assert (again.exit_code, json.loads(again.stdout)) == (2, {"loaded": False})
    assert CheckName.BALANCES not in found_off(engine)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["break", "everything"], "is not one of 'forget', 'kill_worker'"),
        (["break"], "Missing argument"),
        (["rush", "--id", "x", "--users", "0", "--requests", "1", "--coupons", "1"], "--users"),
        (["rush", "--users", "1", "--requests", "1", "--coupons", "1"], "--id"),
        (["rush", "--id", "x", "--users", "5", "--requests", "4", "--coupons", "1"], "at least as often"),
    ],
)
def test_a_wrong_call_of_the_demo_is_told(tmp_path: Path, words: list[str], complaint: str) -> None:
    assert complaint in refused(ops(None, "demo", *words, DATA_DIR=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_of_ours_runs_there_is_nothing_to_break(tmp_path: Path) -> None:
    assert ops(None, "demo", "break", "forget", DATA_DIR=str(tmp_path)).exit_code == 3
