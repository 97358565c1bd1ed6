"""The demo is there where the settings say so and nowhere else; one crowd at a time."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.config import Settings
from ops.rush_progress import RUSH_FILE, RushProgress
from web import demo_rush
from web.app import create_app
from web.demo_rush import SILENT_SECONDS, Demo

STORES = {"REDIS_URL": "redis://x", "DATABASE_URL": "postgresql://x"}


@pytest.mark.parametrize(
    ("environ", "is_there"),
    [
        ({"DEMO_DATA": "1", "DATA_DIR": "/var/x"}, True),
        ({"DEMO_DATA": "0", "DATA_DIR": "/var/x"}, False),
        ({"DATA_DIR": "/var/x"}, False),
        ({"DEMO_DATA": "1"}, False),
    ],
)
def test_there_is_a_demo_only_where_make_run_made_one(environ: dict[str, str], is_there: bool) -> None:
    assert (Demo.of(Settings.from_environment({**STORES, **environ})) is not None) is is_there


def test_there_is_none_where_people_have_accounts() -> None:
    settings = Settings("redis://x", "redis://x", "postgresql://x", auth="jwt", demo=True, data_dir="/var/x")
    assert Demo.of(settings) is None


def test_web_and_the_crowds_program_mean_the_same_file_and_the_same_members(tmp_path: Path) -> None:
    assert demo_rush.RUSH_FILE == RUSH_FILE
    progress = RushProgress(tmp_path, "id", users=5, requests=10, coupons=2)
    with progress.published():
        progress.count("asked", "accepted")
        progress.checks = {"all_given": True}
        progress.enter("done")
    told = Demo(tmp_path).rush()
    assert told is not None
    assert told.keys() == demo_rush.RushShown.__annotations__.keys()
    assert (told["asked"], told["accepted"], told["refused"]) == (1, 1, 0)
    assert told["checks"] == [{"name": "all_given", "ok": True}]


def test_a_crowd_that_broke_down_is_told_of_as_failed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RushProgress(tmp_path, "id", 1, 1, 1).published():
        raise KeyError
    told = Demo(tmp_path).rush()
    assert told is not None
    assert told["phase"] == "failed"


def test_a_second_crowd_is_told_to_wait_until_the_first_is_done_or_was_not_heard_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []
    process: Any = SimpleNamespace(wait=lambda *_: 0)
    monkeypatch.setattr(Demo, "_start", lambda _self, *arguments: started.append(arguments) or process)
    engine: Any = SimpleNamespace(ledger=None)
    client = create_app(engine, demo=Demo(tmp_path)).test_client()
    crowd = {"users": 5, "requests": 10, "coupons": 2}

    def start() -> int:
        return client.post("/api/v1/admin/demo/rush", json=crowd).status_code

    assert start() == 202
    assert start() == 503
    told = json.loads((tmp_path / RUSH_FILE).read_text())
    (tmp_path / RUSH_FILE).write_text(json.dumps({**told, "phase": "done"}))
    assert start() == 202
    long_ago = time.time() - SILENT_SECONDS - 1
    os.utime(tmp_path / RUSH_FILE, (long_ago, long_ago))
    assert start() == 202
    assert len(started) == 3


@pytest.mark.parametrize(
    "crowd",
    [
        {"users": 0, "requests": 1, "coupons": 1},
        {"users": 1, "requests": 50_001, "coupons": 1},
        {"users": 5, "requests": 4, "coupons": 1},
        {"users": 5, "requests": 5},
    ],
)
def test_a_crowd_has_its_bounds(tmp_path: Path, crowd: dict[str, int]) -> None:
    engine: Any = SimpleNamespace(ledger=None)
    client = create_app(engine, demo=Demo(tmp_path)).test_client()
    assert client.post("/api/v1/admin/demo/rush", json=crowd).status_code == 400
