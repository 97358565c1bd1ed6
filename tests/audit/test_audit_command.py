"""``python -m ops audit``: which servers it looks at, what it prints, how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.context import Engine
from engine.upkeep.auditing.findings import CheckName
from ops.processes import PROJECT_ROOT, free_port
from tests.audit.audited_shop import Shop, leave_under_way, open_shop
from tests.integration.placed_orders import execute, rows

NAMED = ("REDIS_URL", "QUEUE_REDIS_URL", "DATABASE_URL", "DATA_DIR", "LANES")


def audit(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in NAMED}
    return subprocess.run(
        [sys.executable, "-m", "ops", "audit", *options],
        cwd=PROJECT_ROOT,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def servers_of(engine: Engine) -> dict[str, str]:
    return {"REDIS_URL": engine.settings.redis_url, "DATABASE_URL": engine.settings.database_url}


@pytest.mark.parametrize("lanes", [4], ids=["four lanes"])
def test_it_exits_with_0_when_all_is_in_order_with_as_many_lanes_as_the_data_has(engine: Engine) -> None:
    leave_under_way(open_shop(engine))
    ended = audit(**servers_of(engine))
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert len(lines) == len(CheckName) + 1
    assert all(line.startswith("  ok   ") for line in lines[:-1])
    assert lines[0].endswith("4 lanes looked at")
    assert lines[-1].startswith(f"OK: all {len(CheckName)} checks hold (")


def test_it_exits_with_1_and_names_what_is_off(engine: Engine) -> None:
    shop = open_shop(engine)
    shop.gate.hincrby(shop.sku_key(), "available", 1)
    ended = audit(**servers_of(engine))
    assert ended.returncode == 1
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("  OFF  ")]
    assert CheckName.STOCK in line
    assert f"product {shop.products[0]}: 97 free at the gate, 96 expected" in line
    assert ended.stdout.splitlines()[-1].startswith(f"OFF: 1 of {len(CheckName)} checks")


def test_as_json_it_prints_what_the_contract_says(engine: Engine) -> None:
    execute(engine, "INSERT INTO accounts (user_id, balance) VALUES (7, 5)")
    ended = audit("--json", **servers_of(engine))
    assert ended.returncode == 1
    body = json.loads(ended.stdout)
    assert body.keys() == {"ok", "checkedAt", "checks"}
    assert body["ok"] is False
    assert body["checkedAt"].endswith("Z")
    assert [check["name"] for check in body["checks"]] == [name.value for name in CheckName]
    assert [check["name"] for check in body["checks"] if not check["ok"]] == [CheckName.BALANCES]


def test_what_it_costs_is_measured(engine: Engine) -> None:
    ended = audit("--cost", **servers_of(engine))
    assert (ended.returncode, ended.stderr) == (0, "")
    first, second = ended.stdout.splitlines()
    assert "every minute that is at most" in first
    assert second.startswith("everything, books included: ")


@pytest.mark.parametrize("missing", ["REDIS_URL", "DATABASE_URL"])
def test_it_exits_with_2_when_a_store_is_away(engine: Engine, missing: str) -> None:
    away = {
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{free_port()}/nobody",
    }
    ended = audit(**{**servers_of(engine), missing: away[missing]})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("could not look: ")
    assert "Traceback" not in ended.stderr


def test_it_exits_with_2_when_one_of_the_servers_is_not_named(engine: Engine) -> None:
    ended = audit(REDIS_URL=engine.settings.redis_url)
    assert ended.returncode == 2
    assert "DATABASE_URL is not set" in ended.stderr


def test_it_exits_with_2_when_no_stack_runs(tmp_path: Path) -> None:
    ended = audit(DATA_DIR=str(tmp_path))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"no stack runs on DATA_DIR={tmp_path}" in ended.stderr
    assert "make run" in ended.stderr


def test_it_exits_with_2_when_the_schema_is_an_older_one(engine: Engine) -> None:
    (newest,) = rows(engine, "SELECT version_num FROM alembic_version")[0]
    execute(engine, "UPDATE alembic_version SET version_num = '0001'")
    try:
        ended = audit(**servers_of(engine))
    finally:
        execute(engine, "UPDATE alembic_version SET version_num = :newest", newest=newest)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "the schema is at 0001" in ended.stderr
    assert "make migrate" in ended.stderr


def test_it_exits_with_2_when_not_everything_could_be_compared(shop_with_many_holds: Shop) -> None:
    ended = audit(**servers_of(shop_with_many_holds.engine))
    assert ended.returncode == 2
    assert ended.stdout.splitlines()[-1].startswith("INCOMPLETE: ")
    assert "1001 holds are under way in lane 0" in ended.stdout


@pytest.fixture
def shop_with_many_holds(engine: Engine) -> Shop:
    shop = open_shop(engine)
    shop.gate.zadd("sc:{0}:holds", {f"o{number}": 9e15 for number in range(1001)})
    return shop
