"""What the ledger holds true about balances whatever happens at once, and who gets which id.

``test_accounts.py`` has what one caller sees of a charge; this is about order, repetition, many callers and outages.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text

from engine.context import Engine
from engine.errors import LedgerUnavailable
from engine.ledger import accounts as ledger_accounts
from engine.ledger.accounts import Account
from engine.outcomes import Refusal, Refused
from engine.shop.accounts import balance_of, charge_balance, open_account, transactions_of
from tests.integration.placed_orders import execute, rows, statements_of, without_ledger
from tests.integration.shop import add_product, add_user, assert_conserved, balance, drain_all, order
from web.app import create_app


@pytest.fixture
def crowd(engine: Engine) -> Iterator[ThreadPoolExecutor]:
    """As many threads as the ledger has connections, so that none of them waits for anything but the others' locks."""
    with ThreadPoolExecutor(engine.settings.ledger_pool_size) as pool:
        yield pool


def opened(engine: Engine, user_id: int | None = None) -> int:
    """A new account with nothing on it; its id."""
    body = open_account(engine, user_id, None, None)
    assert not isinstance(body, Refused)
    return int(body["userId"])


def charged(engine: Engine, user_id: int, amount: int) -> int:
    """The balance after a charge that succeeds."""
    body = charge_balance(engine, user_id, amount, None)
    assert not isinstance(body, Refused)
    return int(body["newBalance"])


def assert_chained(engine: Engine) -> None:
    """Every transaction starts from the balance that the one before it left, and the last one is the balance."""
    chains: dict[int, int] = dict.fromkeys((row[0] for row in rows(engine, "SELECT user_id FROM accounts")), 0)
    for user_id, kind, amount, balance_after, status in rows(
        engine, "SELECT user_id, type, amount, balance_after, status FROM balance_transactions ORDER BY id"
    ):
        assert status == "COMPLETED"
        chains[user_id] += -amount if kind == "PAYMENT" else amount
        assert balance_after == chains[user_id]
    assert chains == dict(rows(engine, "SELECT user_id, balance FROM accounts"))


# -- one charge, step by step


def test_the_record_is_pending_when_the_balance_moves_and_completed_afterwards(engine: Engine) -> None:
    user = opened(engine)
    execute(engine, "CREATE TABLE seen (status text, balance_after bigint)")
    execute(
        engine,
        """
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO seen SELECT status, balance_after FROM balance_transactions WHERE user_id = NEW.user_id;
            RETURN NEW;
        END $$
        """,
    )
    execute(engine, "CREATE TRIGGER look BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION look()")
    charged(engine, user, 1_000)
    assert rows(engine, "SELECT * FROM seen") == [("PENDING", None)]
    assert rows(engine, "SELECT status, balance_after FROM balance_transactions") == [("COMPLETED", 1_000)]


def test_a_charge_that_postgres_wants_repeated_is_booked_once(engine: Engine) -> None:
    user = opened(engine)
    # A sequence survives the rollback, so the third attempt is let through.
    execute(engine, "CREATE SEQUENCE attempts")
    execute(
        engine,
        """
        CREATE FUNCTION fail_twice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('attempts') < 3 THEN RAISE EXCEPTION 'once more' USING ERRCODE = '40001'; END IF;
            RETURN NEW;
        END $$
        """,
    )
    execute(engine, "CREATE TRIGGER fail_twice BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION fail_twice()")
    assert charged(engine, user, 1_000) == 1_000
    assert rows(engine, "SELECT last_value FROM attempts") == [(3,)]
    assert rows(engine, "SELECT amount FROM balance_transactions") == [(1_000,)]


def test_of_two_charges_the_later_one_has_the_later_time_whoever_began_first(engine: Engine) -> None:
    user = opened(engine)
    with engine.ledger.transaction() as began_first:
        began_first.execute(text("SELECT 1"))
        charged(engine, user, 10)
        account = ledger_accounts.account_by_id(began_first, user, for_update=True)
        assert account is not None
        ledger_accounts.charge(began_first, account, 20)
    found = transactions_of(engine, user, None, 10)
    assert not isinstance(found, Refused)
    newest, oldest = found
    assert (newest.amount, oldest.amount) == (20, 10)
    assert newest.created_at > oldest.created_at


# -- many at once


def test_many_charges_on_few_accounts_all_count(engine: Engine, crowd: ThreadPoolExecutor) -> None:
    users = [opened(engine) for _ in range(3)]
    wanted = [(users[number % 3], 1 + number) for number in range(300)]
    list(crowd.map(lambda charge: charged(engine, *charge), wanted))
    expected: Counter[int] = Counter()
    for user, amount in wanted:
        expected[user] += amount
    assert {user: balance(engine, user) for user in users} == expected
    assert rows(engine, "SELECT count(*) FROM balance_transactions") == [(300,)]
    assert_chained(engine)
    assert_conserved(engine)


def test_without_the_lock_a_charge_is_lost_and_both_checks_tell(
    engine: Engine, crowd: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = opened(engine)
    both_have_read = threading.Barrier(2, timeout=10)
    account_by_id = ledger_accounts.account_by_id

    def read_without_lock(connection: Connection, user_id: int, *, for_update: bool = False) -> Account | None:
        account = account_by_id(connection, user_id)
        both_have_read.wait()
        return account

    with monkeypatch.context() as patch:
        patch.setattr(ledger_accounts, "account_by_id", read_without_lock)
        list(crowd.map(lambda amount: charged(engine, user, amount), (10, 20)))
    with pytest.raises(AssertionError):
        assert_chained(engine)
    with pytest.raises(AssertionError):
        assert_conserved(engine)


def test_charges_and_payments_of_one_user_do_not_lose_each_other(engine: Engine, crowd: ThreadPoolExecutor) -> None:
    user, product = add_user(engine, 1, 100_000), add_product(engine, 10, 1_000)

    def buy_and_charge(_: int) -> None:
        order(engine, user, {product: 1})
        charged(engine, user, 7)
        drain_all(engine)

    list(crowd.map(buy_and_charge, range(60)))
    drain_all(engine)
    assert balance(engine, user) == 100_000 + 60 * 7 - 60 * 10
    assert_chained(engine)
    assert_conserved(engine)


# -- who gets which id


def test_generated_ids_step_over_the_ones_that_were_chosen(engine: Engine) -> None:
    for chosen in (1, 2, 3, 5, 6, 9):
        opened(engine, chosen)
    assert [opened(engine) for _ in range(3)] == [10, 11, 12]


def test_the_largest_ids_chosen_leave_the_generated_ones_small(engine: Engine) -> None:
    for chosen in (1, 2**52, 2**53 - 1):
        opened(engine, chosen)
    assert [opened(engine) for _ in range(3)] == [2, 3, 4]


def test_generated_ids_that_reach_the_upper_half_go_on_from_where_they_are(engine: Engine) -> None:
    for chosen in (2**52 - 1, 2**52, 2**52 + 1):
        opened(engine, chosen)
    execute(engine, "SELECT setval('accounts_user_id_seq', :last)", last=2**52 - 2)
    assert [opened(engine) for _ in range(2)] == [2**52 + 2, 2**52 + 3]


def test_a_long_run_of_chosen_ids_is_stepped_over_at_once(engine: Engine) -> None:
    execute(engine, "INSERT INTO accounts (user_id) SELECT generate_series(1, 200000)")
    with statements_of(engine, "INSERT INTO accounts") as attempts:
        assert opened(engine) == 200_001
    assert len(attempts) == 2
    assert opened(engine) == 200_002


def test_generated_and_chosen_ids_asked_for_at_once_never_meet(engine: Engine, crowd: ThreadPoolExecutor) -> None:
    for chosen in range(1, 50):
        opened(engine, chosen)

    def open_one(number: int) -> int | None:
        body = open_account(engine, 50 + number if number % 4 == 0 else None, None, None)
        if isinstance(body, Refused):  # a generated id was quicker, which only a chosen one may find
            assert (body.code, number % 4) == (Refusal.USER_EXISTS, 0)
            return None
        return int(body["userId"])

    ids = [user_id for user_id in crowd.map(open_one, range(200)) if user_id is not None]
    assert len(ids) >= 150
    assert len(set(ids)) == len(ids)
    assert rows(engine, "SELECT count(*) FROM accounts") == [(49 + len(ids),)]


# -- over HTTP


def test_a_list_is_walked_page_by_page_while_new_charges_arrive(engine: Engine) -> None:
    client = create_app(engine).test_client()
    added = client.post("/api/v1/admin/users", json={"name": "하나"})
    assert added.json is not None
    user = added.json["userId"]
    assert (added.status_code, added.json) == (201, {"userId": user, "name": "하나", "balance": 0})
    path = f"/api/v1/users/{user}/balance"
    for amount in range(1, 46):
        assert client.post(f"{path}/charge", json={"amount": amount}).status_code == 200
    pages: list[list[int]] = []
    query: dict[str, str] | None = {}
    while query is not None:
        page = client.get(f"{path}/transactions", query_string=query).json
        assert page is not None
        pages.append([entry["amount"] for entry in page["transactions"]])
        query = {"cursor": page["nextCursor"]} if page["nextCursor"] else None
        client.post(f"{path}/charge", json={"amount": 1_000})
    assert pages == [list(range(45, 25, -1)), list(range(25, 5, -1)), list(range(5, 0, -1))]
    assert client.get(path).json == {"userId": user, "balance": sum(range(46)) + 3 * 1_000}


def test_without_the_ledger_everything_about_balances_is_a_temporary_error(engine: Engine) -> None:
    stranded = without_ledger(engine)
    for ask in (
        lambda: charge_balance(stranded, 1, 10, "k"),
        lambda: balance_of(stranded, 1),
        lambda: transactions_of(stranded, 1, None, 20),
        lambda: open_account(stranded, None, None, None),
    ):
        with pytest.raises(LedgerUnavailable):
            ask()
    client = create_app(stranded).test_client()
    for response in (
        client.post("/api/v1/users/1/balance/charge", json={"amount": 10}),
        client.get("/api/v1/users/1/balance"),
        client.get("/api/v1/users/1/balance/transactions"),
        client.post("/api/v1/admin/users", json={}),
    ):
        assert response.status_code == 503
        assert response.json is not None
        assert (response.json["code"], response.json["message"]) == ("TEMPORARY_ERROR", "일시적인 오류가 발생했습니다")
        assert response.headers["Retry-After"] == "1"
        assert "127.0.0.1" not in response.text
    stranded.close()
