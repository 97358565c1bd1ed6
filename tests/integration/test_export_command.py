"""``python -m ops export winners``: everybody whose coupon is recorded, in line; the file is whole or not there."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from engine.context import Engine
from engine.shop import winners as shop_winners
from ops.commands import exporting
from tests.integration.command_line import done, ops, refused
from tests.integration.offers import offer, win_all
from tests.integration.placed_orders import without_ledger
from tests.integration.shop import drain_all


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_winners_come_in_the_order_of_their_places(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop_winners, "WINNERS_AT_ONCE", 7)
    coupon, other = offer(engine), offer(engine)
    wins = win_all(engine, coupon, range(50, 20, -1))
    win_all(engine, other, [1])
    drain_all(engine)
    found = table(done(ops(engine, "export", "winners", coupon)))
    assert [(int(each["sequence"]), int(each["userId"]), each["requestId"]) for each in found] == [
        (win.sequence, win.user_id, win.request_id) for win in wins
    ]
    assert {each["status"] for each in found} == {"AVAILABLE"}
    assert all(each["issuedAt"].endswith("Z") for each in found)


def test_what_is_not_yet_recorded_is_told(engine: Engine, tmp_path: Path) -> None:
    coupon = offer(engine)
    win_all(engine, coupon, [1, 2])
    drain_all(engine)
    win_all(engine, coupon, [3])
    out = tmp_path / "winners.csv"
    result = ops(engine, "export", "winners", coupon, "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 more are decided and not yet recorded" in result.stderr
    assert [each["userId"] for each in table(out.read_text())] == ["1", "2"]
    done(ops(engine, "drain"))
    done(ops(engine, "export", "winners", coupon, "--out", out))
    assert [each["userId"] for each in table(out.read_text())] == ["1", "2", "3"]
    assert list(tmp_path.iterdir()) == [out]


def test_an_export_that_breaks_down_leaves_the_file_of_before(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "winners.csv"
    out.write_text("of before")

    def broken(*_: object) -> object:
        yield []
        raise exporting.CannotExport("the database went away")

    monkeypatch.setattr(exporting, "recorded_winners", broken)
    assert "the database went away" in refused(ops(engine, "export", "winners", offer(engine), "--out", out))
    assert out.read_text() == "of before"
    assert list(tmp_path.iterdir()) == [out]


def test_a_wrong_call_is_told_and_writes_nothing(engine: Engine, tmp_path: Path) -> None:
    out = tmp_path / "winners.csv"
    assert "there is no coupon 77" in refused(ops(engine, "export", "winners", 77, "--out", out))
    assert "is no id" in refused(ops(engine, "export", "winners", "all", "--out", out))
    assert "cannot be written" in refused(
        ops(engine, "export", "winners", offer(engine), "--out", tmp_path / "x" / "y")
    )
    assert list(tmp_path.iterdir()) == []
    away = without_ledger(engine)
    assert "ledger unavailable" in refused(ops(away, "export", "winners", 1, "--out", out))
    away.close()
