"""Balances and first answers in the ledger: what is charged at once adds up, and what is repeated happens once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import text

from engine.context import Engine
from engine.ledger import accounts as ledger_accounts
from engine.ledger import idempotency
from engine.ledger.accounts import Account, BalanceTransaction
from engine.ledger.idempotency import Answer, Claim, answer_once, forget_old_keys
from engine.outcomes import Refusal, Refused
from engine.shop import accounts
from engine.shop.accounts import balance_of, charge_balance, open_account, transactions_of
from tests.conftest import EngineMaker
from tests.integration.shop import add_user

LARGEST = 2**53 - 1
CHARGERS = 8
CHARGES_EACH = 25
NO_USER = Refused(Refusal.USER_NOT_FOUND)
OTHER_BODY = Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
TAKEN = Refused(Refusal.USER_EXISTS)


def balance(engine: Engine, user_id: int) -> int:
    account = balance_of(engine, user_id)
    assert isinstance(account, Account)
    return account.balance


def transactions(engine: Engine, user_id: int, limit: int = 1000) -> list[BalanceTransaction]:
    """All transactions, oldest first."""
    found = transactions_of(engine, user_id, None, limit)
    assert not isinstance(found, Refused)
    return list(reversed(found))


def discrepancies(engine: Engine, user_id: int) -> list[str]:
    """What does not add up in the history of a balance."""
    running, found = 0, []
    for transaction in transactions(engine, user_id):
        running += transaction.amount
        if transaction.status != "COMPLETED":
            found.append(f"{transaction.id} is {transaction.status}")
        elif transaction.balance_after != running:
            found.append(f"{transaction.id} says {transaction.balance_after}, {running} is right")
    if balance(engine, user_id) != running:
        found.append(f"the balance is {balance(engine, user_id)}, {running} is right")
    return found


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Let so many threads do it at the same moment."""
    barrier = Barrier(count)

    def one(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as crowd:
        return list(crowd.map(one, range(count)))


def charge_in_parallel(engine: Engine, user_id: int) -> None:
    def charge(number: int) -> None:
        for amount in range(1, CHARGES_EACH + 1):
            charge_balance(engine, user_id, 1000 * number + amount, None)

    together(CHARGERS, charge)


# Charging


def test_a_charge_is_booked_with_its_transaction(engine: Engine) -> None:
    user = add_user(engine, 7, 100)
    answer = charge_balance(engine, user, 50, None)
    newest = transactions(engine, user)[-1]
    assert answer == {"userId": user, "newBalance": 150, "transactionId": newest.id}
    assert (newest.type, newest.amount, newest.balance_after, newest.status) == ("CHARGE", 50, 150, "COMPLETED")


def test_who_does_not_exist_is_neither_charged_nor_shown(engine: Engine) -> None:
    assert charge_balance(engine, 7, 1, None) == NO_USER
    assert charge_balance(engine, 7, 1, "key") == NO_USER
    assert balance_of(engine, 7) == NO_USER
    assert transactions_of(engine, 7, None, 10) == NO_USER


def test_charges_at_once_add_up(make_engine: EngineMaker) -> None:
    engine = make_engine(ledger_pool_size=CHARGERS)
    user = add_user(engine, 7, 100)
    charge_in_parallel(engine, user)
    expected = sum(1000 * number + amount for number in range(CHARGERS) for amount in range(1, CHARGES_EACH + 1))
    assert balance(engine, user) == 100 + expected
    assert len(transactions(engine, user)) == 1 + CHARGERS * CHARGES_EACH
    assert discrepancies(engine, user) == []


def test_without_the_lock_on_the_account_a_lost_charge_would_be_noticed(
    make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(ledger_pool_size=2)
    user = add_user(engine, 7, 100)
    both_have_read = Barrier(2)
    read = ledger_accounts.account_by_id

    def read_without_lock(connection: Any, user_id: int, *, for_update: bool = False) -> Account | None:
        account = read(connection, user_id)
        if for_update:
            both_have_read.wait(10)
        return account

    with monkeypatch.context() as patch:
        patch.setattr(ledger_accounts, "account_by_id", read_without_lock)
        together(2, lambda _: charge_balance(engine, user, 50, None))
    assert balance(engine, user) == 150
    assert discrepancies(engine, user) != []


@pytest.mark.parametrize("key", [None, "key"])
def test_a_balance_takes_what_can_be_told_exactly_and_not_one_more(engine: Engine, key: str | None) -> None:
    user = add_user(engine, 7, LARGEST - 10)
    refused = charge_balance(engine, user, 11, key)
    assert isinstance(refused, Refused)
    assert refused.code is Refusal.INVALID_REQUEST
    assert (balance(engine, user), len(transactions(engine, user))) == (LARGEST - 10, 1)
    answer = charge_balance(engine, user, 10, None)
    assert not isinstance(answer, Refused)
    assert answer["newBalance"] == LARGEST


def test_transactions_are_listed_newest_first_in_pages(engine: Engine) -> None:
    user = add_user(engine, 7, 1)
    add_user(engine, 8, 1)
    for amount in (2, 3, 4):
        charge_balance(engine, user, amount, None)
    first = transactions_of(engine, user, None, 3)
    assert not isinstance(first, Refused)
    assert [each.amount for each in first] == [4, 3, 2]
    second = transactions_of(engine, user, first[-1].id, 3)
    assert not isinstance(second, Refused)
    assert [each.amount for each in second] == [1]


# First answers


def test_the_same_key_is_charged_once_however_many_ask_at_once(make_engine: EngineMaker) -> None:
    engine = make_engine(ledger_pool_size=CHARGERS)
    user = add_user(engine, 7, 1)
    answers = together(CHARGERS, lambda _: charge_balance(engine, user, 50, "once"))
    assert all(answer == answers[0] for answer in answers)
    assert balance(engine, user) == 51
    assert len(transactions(engine, user)) == 2


def test_without_waiting_for_each_other_a_repeated_charge_would_be_noticed(
    make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(ledger_pool_size=2)
    user = add_user(engine, 7, 1)

    def forgetful(_connection: Any, _claim: Claim | None, work: Callable[[], Answer]) -> Answer:
        return work()

    with monkeypatch.context() as patch:
        patch.setattr(accounts, "answer_once", forgetful)
        together(2, lambda _: charge_balance(engine, user, 50, "once"))
    assert balance(engine, user) == 101


def test_a_key_belongs_to_its_user_and_operation_and_body(engine: Engine) -> None:
    add_user(engine, 7, 1)
    add_user(engine, 8, 1)
    first = charge_balance(engine, 7, 50, "key")
    assert charge_balance(engine, 7, 50, "key") == first
    assert charge_balance(engine, 7, 51, "key") == OTHER_BODY
    assert charge_balance(engine, 7, 50, "key") == first
    charge_balance(engine, 8, 51, "key")
    assert (balance(engine, 7), balance(engine, 8)) == (51, 52)
    with engine.ledger.transaction() as connection:
        other = answer_once(connection, Claim(7, "another operation", "key", {"amount": 51}), lambda: {"ok": True})
    assert other == {"ok": True}


def test_a_refusal_is_the_answer_for_ever(engine: Engine) -> None:
    assert charge_balance(engine, 7, 50, "key") == NO_USER
    add_user(engine, 7, 1)
    assert charge_balance(engine, 7, 50, "key") == NO_USER
    assert charge_balance(engine, 7, 50, "another key") != NO_USER


def test_a_refusal_comes_back_with_its_detail(engine: Engine) -> None:
    refused = Refused(Refusal.OUT_OF_STOCK, {"items": [{"productId": 1, "requested": 2, "available": 0}]})
    claim = Claim(7, "order", "key", {})
    for _ in range(2):
        with engine.ledger.transaction() as connection:
            assert answer_once(connection, claim, lambda: refused) == refused


def test_the_order_of_members_does_not_make_another_body() -> None:
    assert Claim(1, "o", "k", {"a": 1, "b": 2}).fingerprint == Claim(1, "o", "k", {"b": 2, "a": 1}).fingerprint
    assert Claim(1, "o", "k", {"a": 1}).fingerprint != Claim(1, "o", "k", {"a": "1"}).fingerprint


def test_a_key_and_its_effect_exist_together_or_not_at_all(engine: Engine) -> None:
    user = add_user(engine, 7, 1)

    class Crash(Exception):
        pass

    def crash_before_the_commit() -> None:
        with engine.ledger.transaction() as connection:
            answer_once(connection, Claim(user, "charge", "key", {"amount": 50}), lambda: {"lost": True})
            raise Crash

    with pytest.raises(Crash):
        crash_before_the_commit()
    answer = charge_balance(engine, user, 50, "key")
    assert not isinstance(answer, Refused)
    assert answer["newBalance"] == 51


def test_keys_are_forgotten_only_when_they_are_old(engine: Engine) -> None:
    user = add_user(engine, 7, 1)
    first = charge_balance(engine, user, 50, "key")
    with engine.ledger.transaction() as connection:
        assert forget_old_keys(connection, datetime.now(UTC) - timedelta(hours=24)) == 0
    assert charge_balance(engine, user, 50, "key") == first
    with engine.ledger.transaction() as connection:
        connection.execute(text("UPDATE idempotency_keys SET created_at = now() - interval '26 hours'"))
        assert forget_old_keys(connection, datetime.now(UTC) - timedelta(hours=25)) == 1
    assert charge_balance(engine, user, 50, "key") != first
    assert balance(engine, user) == 101


# Opening accounts


def test_an_account_is_opened_with_the_id_asked_for_or_the_next_free_one(engine: Engine) -> None:
    assert open_account(engine, 3, "가", None) == {"userId": 3, "name": "가", "balance": 0}
    ids = set()
    for _ in range(3):
        opened = open_account(engine, None, None, None)
        assert not isinstance(opened, Refused)
        ids.add(opened["userId"])
    assert len(ids | {3}) == 4
    assert open_account(engine, 3, "나", None) == TAKEN
    account = balance_of(engine, 3)
    assert isinstance(account, Account)
    assert account.name == "가"


def test_accounts_opened_at_once_have_different_ids(make_engine: EngineMaker) -> None:
    engine = make_engine(ledger_pool_size=CHARGERS)
    opened = together(CHARGERS, lambda _: open_account(engine, None, None, None))
    assert len({answer["userId"] for answer in opened}) == CHARGERS


def test_an_id_goes_to_exactly_one_of_those_who_ask_at_once(make_engine: EngineMaker) -> None:
    engine = make_engine(ledger_pool_size=CHARGERS)

    def attempt(number: int) -> bool:
        return open_account(engine, 5, str(number), None) != TAKEN

    assert together(CHARGERS, attempt).count(True) == 1


def test_an_account_is_opened_once_per_key(engine: Engine) -> None:
    first = open_account(engine, None, "가", "key")
    assert open_account(engine, None, "가", "key") == first
    assert open_account(engine, None, "나", "key") == OTHER_BODY
    with engine.ledger.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM accounts")).scalar_one() == 1


def test_who_gives_no_key_claims_nothing() -> None:
    assert idempotency.administration_claim("open_account", None, {}) is None
