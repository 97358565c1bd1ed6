"""``python -m ops import``: a file is loaded as a whole or not at all, and what is wrong with it is told by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.context import Engine
from engine.gate import keys
from engine.outcomes import Issued, RequestStatus
from engine.shop import loading
from engine.shop.issuance import issue_coupon
from engine.shop.loading import Line, LinesRefused, UserLine, load_users
from engine.shop.product_offers import list_products, publish_product_changes
from ops.csv_lines import PROBLEMS_SHOWN, CsvLines
from tests.audit.audited_shop import found_off
from tests.integration.command_line import done, ops, refused
from tests.integration.placed_orders import execute, rows, without_redis
from tests.integration.shop import drain_all, order, state_of

KINDS = ("users", "products", "coupons")
HEADS = {"users": "userId,name", "products": "name,price,stock", "coupons": "name,discountAmount,totalQuantity"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lines.csv"


def counts(engine: Engine) -> dict[str, int]:
    tables = ("accounts", "products", "coupons", "balance_transactions", "idempotency_keys")
    return {table: rows(engine, f"SELECT count(*) FROM {table}")[0][0] for table in tables}


NOTHING = {"accounts": 0, "products": 0, "coupons": 0, "balance_transactions": 0, "idempotency_keys": 0}


def test_users_come_with_their_names_and_money(engine: Engine, file: Path) -> None:
    file.write_text("userId,name,balance\n7,김민준,50000\n9,,\n,이서연,1\n")
    assert done(ops(engine, "import", "users", file)) == "3 lines were loaded\n"
    found = rows(engine, "SELECT user_id, name, balance FROM accounts ORDER BY name NULLS FIRST")
    assert found[0] == (9, None, 0)
    assert found[1] == (7, "김민준", 50000)
    assert found[2][1:] == ("이서연", 1)
    assert counts(engine)["balance_transactions"] == 2
    assert found_off(engine) == {}


def test_users_without_an_id_step_over_those_that_were_chosen(engine: Engine, file: Path) -> None:
    file.write_text("userId\n" + "".join(f"{number}\n" for number in range(1, 51)))
    done(ops(engine, "import", "users", file))
    file.write_text("name\n" + "".join(f"사람 {number}\n" for number in range(100)))
    done(ops(engine, "import", "users", file))
    assert rows(engine, "SELECT count(*), min(user_id), max(user_id) FROM accounts") == [(150, 1, 150)]


def test_products_are_on_sale_when_the_command_returns(engine: Engine, file: Path) -> None:
    file.write_text('name,price,stock,status\n"제주 감귤, 5kg",18900,300,\n라면,1000,0,INACTIVE\n물,500,7,ACTIVE\n')
    answer = json.loads(done(ops(engine, "import", "products", file, "--json")))
    assert answer == {"loaded": 3, "before": False, "live": True}
    assert [(each.name, each.price, each.stock) for each in list_products(engine)] == [
        ("제주 감귤, 5kg", 18900, 300),
        ("물", 500, 7),
    ]
    file.write_text("userId,balance\n1,10000\n")
    done(ops(engine, "import", "users", file))
    placed = order(engine, 1, {3: 7})
    drain_all(engine)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert found_off(engine) == {}


def test_coupons_can_be_had_when_the_command_returns(engine: Engine, file: Path) -> None:
    file.write_text(
        "\ufeffname,discountAmount,totalQuantity,startsAt,endsAt\r\n"
        "지금,1000,5,,\r\n"
        "나중,1000,5,2999-01-01T09:00:00+09:00,2999-01-02T00:00:00Z\r\n"
    )
    assert done(ops(engine, "import", "coupons", file)) == "2 lines were loaded\n"
    assert isinstance(issue_coupon(engine, coupon_id=1, user_id=1, idempotency_key=None), Issued)
    assert not isinstance(issue_coupon(engine, coupon_id=2, user_id=1, idempotency_key=None), Issued)
    found = rows(engine, "SELECT starts_at, published_version FROM coupons ORDER BY id")
    assert (found[0][0], found[1][0].isoformat()) == (None, "2999-01-01T00:00:00+00:00")
    assert [version for _, version in found] == [1, 1]


def test_a_large_file_comes_through_a_pipe(engine: Engine) -> None:
    lines = "name,price,stock\n" + "".join(f"상품 {number},100,5\n" for number in range(4_500))
    away = without_redis(engine)  # publishing so many one by one is not what this is about
    result = ops(away, "import", "products", "-", stdin=lines)
    away.close()
    assert (result.exit_code, result.stdout) == (1, "4500 lines were loaded\n")
    assert rows(engine, "SELECT count(*), min(id), max(id) FROM products") == [(4_500, 1, 4_500)]
    assert rows(engine, "SELECT name FROM products WHERE id = 4000") == [("상품 3999",)]


def test_without_the_gate_it_is_loaded_and_goes_live_later(engine: Engine, file: Path) -> None:
    file.write_text("name,price,stock\n물,500,7\n")
    away = without_redis(engine)
    result = ops(away, "import", "products", file)
    away.close()
    assert (result.exit_code, result.stdout) == (1, "1 lines were loaded\n")
    assert "not all of it is live yet" in result.stderr
    assert engine.gate.client.exists(keys.sku(0, 1)) == 0
    assert publish_product_changes(engine) == 1
    assert engine.gate.client.exists(keys.sku(0, 1)) == 1


# -- the same file again


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_file_again_changes_nothing_unless_somebody_insists(engine: Engine, file: Path, kind: str) -> None:
    cells = {"users": ",김민준", "products": "물,500,7", "coupons": "할인,1000,5"}[kind]
    file.write_text(f"{HEADS[kind]}\n{cells}\n{cells}\n")
    done(ops(engine, "import", kind, file))
    before = counts(engine)
    assert "imported already, 2 lines" in done(ops(engine, "import", kind, file))
    assert json.loads(done(ops(engine, "import", kind, file, "--json")))["before"] is True
    assert counts(engine) == before
    done(ops(engine, "import", kind, file, "--again"))
    table = "accounts" if kind == "users" else kind
    assert counts(engine)[table] == 4


def test_an_import_that_died_before_publishing_is_made_live_by_its_repetition(engine: Engine, file: Path) -> None:
    file.write_text("name,price,stock\n물,500,7\n")
    away = without_redis(engine)
    assert ops(away, "import", "products", file).exit_code == 1
    away.close()
    assert "imported already" in done(ops(engine, "import", "products", file))
    assert engine.gate.client.exists(keys.sku(0, 1)) == 1


# -- bad files


@pytest.mark.parametrize(
    ("kind", "text", "complaints"),
    [
        ("users", "", ["line 1: the first line has to name the columns: userId, name, balance"]),
        ("users", "\n\n", ["the first line has to name the columns"]),
        ("users", "userId,age\n1,2\n", ["line 1: there is no column 'age'; there are userId, name, balance"]),
        ("users", "userId,userId\n1,2\n", ["line 1: the column userId is there twice"]),
        ("products", "name,price\n물,5\n", ["line 1: the column stock is missing"]),
        ("users", "userId,name\n1\n2,a,b\n", ["line 2: 1 cells where the first line names 2", "line 3: 3 cells"]),
        ("users", "userId\n0\n", ["line 2: userId: Input should be greater than or equal to 1"]),
        ("users", "userId\n007\n1.0\n1e3\n٣\n 1\n", ["line 2: userId", "line 3", "line 4", "line 5", "line 6"]),
        ("users", f"userId\n{2**53}\n{10**30}\n", ["line 2: userId", "line 3: userId"]),
        ("users", "balance\n-1\n100000001\n", ["line 2: balance", "line 3: balance"]),
        ("users", f"name\n{'n' * 101}\n   \n", ["line 2: name", "line 3: name"]),
        ("users", "name\na\0b\n", ["line 2: a cell contains NUL"]),
        ("users", "userId\n5\n6\n5\n", ["line 4: userId 5 is taken"]),
        ("users", "userId\n6\n1\n", ["line 3: userId 1 is taken"]),
        ("products", "name,price,stock\n물,0,5\n물,5,-1\n,5,5\n", ["line 2: price", "line 3: stock", "line 4: name"]),
        ("products", "name,price,stock,status\n물,1,5,active\n", ["line 2: status"]),
        ("products", 'name,price,stock\n"a\nb",1,5\nc,0,5\n', ["line 4: price"]),
        ("products", 'name,price,stock\nc,1,5\n"a,1,5\n', ["line 3: unexpected end of data"]),
        ("products", 'name,price,stock\n"a"b,1,5\n', ["line 2: ',' expected after '\"'"]),
        ("coupons", f"{HEADS['coupons']},startsAt\na,1,1,yesterday\n", ["line 2: startsAt: must be an RFC 3339"]),
        (
            "coupons",
            f"{HEADS['coupons']},startsAt,endsAt\na,1,1,2030-01-02T00:00:00Z,2030-01-01T00:00:00Z\n",
            ["line 2: endsAt: must be after startsAt"],
        ),
        ("coupons", f"{HEADS['coupons']}\na,100000001,10000001\n", ["line 2: discountAmount", "totalQuantity"]),
    ],
)
def test_what_is_wrong_is_told_by_line_and_nothing_is_changed(
    engine: Engine, file: Path, kind: str, text: str, complaints: list[str]
) -> None:
    execute(engine, "INSERT INTO accounts (user_id) VALUES (1)")
    before = counts(engine)
    file.write_text(text)
    told = refused(ops(engine, "import", kind, file))
    for complaint in complaints:
        assert complaint in told
    assert "nothing was changed" in told
    assert counts(engine) == before


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"name\n\xea\xb9\x80\nkim\xff\n", "line 3: not UTF-8"),
        ("name\n김\n".encode("utf-16"), "line 1: not UTF-8"),
        (b"name\n" + b"x" * 1_000_001, "line 2: longer than any line can be"),
        (b"name\n" + b"x" * 200_000, "line 2: field larger than field limit"),
    ],
)
def test_what_is_no_text_is_told_by_line(engine: Engine, file: Path, data: bytes, complaint: str) -> None:
    file.write_bytes(data)
    assert complaint in refused(ops(engine, "import", "users", file))
    assert counts(engine) == NOTHING


def test_only_so_many_problems_are_told(engine: Engine, file: Path) -> None:
    file.write_text("userId\n" + "0\n" * 1_000)
    told = refused(ops(engine, "import", "users", file)).splitlines()
    assert len(told) == PROBLEMS_SHOWN + 2
    assert told[-2:] == ["…", "nothing was changed"]


def test_a_file_that_is_none_is_told(engine: Engine, tmp_path: Path) -> None:
    assert "No such file" in refused(ops(engine, "import", "users", tmp_path / "missing.csv"))
    assert "Missing argument" in refused(ops(engine, "import", "users"))
    assert "No such command" in refused(ops(engine, "import", "orders", "-"))


def test_a_line_far_behind_that_is_taken_takes_all_before_it_back(
    engine: Engine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "LINES_AT_ONCE", 10)
    execute(engine, "INSERT INTO accounts (user_id) VALUES (95)")
    file.write_text("userId,balance\n" + "".join(f"{number},5\n" for number in range(1, 101)))
    assert "line 96: userId 95 is taken" in refused(ops(engine, "import", "users", file))
    assert counts(engine) == {**NOTHING, "accounts": 1}
    # Without the account that was in the way, the same file is loaded.
    execute(engine, "DELETE FROM accounts")
    done(ops(engine, "import", "users", file))
    assert counts(engine)["accounts"] == 100


def test_a_file_that_changes_between_the_look_and_the_load_is_refused(
    engine: Engine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("userId\n1\n2\n")
    check = CsvLines.check

    def then_changed(lines: Any) -> Any:
        checked = check(lines)
        file.write_text("userId\n1\n3\n")
        return checked

    monkeypatch.setattr(CsvLines, "check", then_changed)
    assert "was changed while it was read" in refused(ops(engine, "import", "users", file))
    assert counts(engine) == NOTHING


def test_who_sleeps_between_two_sets_has_changed_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database ends a transaction that stands still; here as if it had."""
    monkeypatch.setattr(loading, "LINES_AT_ONCE", 1)

    def lines() -> Iterator[Line[UserLine]]:
        yield Line(2, UserLine(userId=1))
        execute(
            engine,
            """
            SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE state = 'idle in transaction' AND application_name = 'seonchak' AND pid <> pg_backend_pid()
            """,
        )
        yield Line(3, UserLine(userId=2))

    with pytest.raises(Exception, match="ledger unavailable"):
        load_users(engine, lines, "digest")
    assert counts(engine) == NOTHING
    with pytest.raises(LinesRefused):
        load_users(engine, lambda: [Line(2, UserLine(userId=1)), Line(3, UserLine(userId=1))], "digest")
    assert counts(engine) == NOTHING
