"""Sessions with Postgres: bounded in time, repeated as a whole after a deadlock, unavailability told apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from engine.errors import LedgerUnavailable
from engine.ledger.session import ATTEMPTS, Ledger, RepeatTransaction
from ops.processes import free_port


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = Ledger(database_url)
    with ledger.transaction() as connection:
        connection.execute(text("INSERT INTO engine_settings (name, value) VALUES ('a', '0'), ('b', '0')"))
    yield ledger
    ledger.close()


def increment(connection: Connection, name: str) -> None:
    connection.execute(
        text("UPDATE engine_settings SET value = (value::bigint + 1)::text WHERE name = :name"), {"name": name}
    )


def value_of(ledger: Ledger, name: str) -> str:
    with ledger.read() as connection:
        query = text("SELECT value FROM engine_settings WHERE name = :name")
        return str(connection.execute(query, {"name": name}).scalar_one())


def test_every_session_has_its_time_limits_and_its_name(database_url: str) -> None:
    ledger = Ledger(database_url, statement_timeout_seconds=3.0)
    with ledger.read() as connection:
        shown = {
            name: connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in (
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "timezone",
                "application_name",
            )
        }
    ledger.close()
    assert shown == {
        "statement_timeout": "3s",
        "lock_timeout": "3s",
        "idle_in_transaction_session_timeout": "6s",
        "timezone": "UTC",
        "application_name": "seonchak",
    }


def test_a_statement_that_takes_too_long_is_an_unavailable_ledger(database_url: str) -> None:
    ledger = Ledger(database_url, statement_timeout_seconds=0.1)
    with pytest.raises(LedgerUnavailable, match="statement timeout"), ledger.read() as connection:
        connection.execute(text("SELECT pg_sleep(30)"))
    ledger.close()


def test_waiting_for_a_lock_ends_as_an_unavailable_ledger(ledger: Ledger, database_url: str) -> None:
    hasty = Ledger(database_url, statement_timeout_seconds=0.2)
    with ledger.transaction() as holder:
        increment(holder, "a")
        with pytest.raises(LedgerUnavailable), hasty.transaction() as connection:
            increment(connection, "a")
    hasty.close()
    assert value_of(ledger, "a") == "1"


def test_of_two_sessions_in_a_deadlock_one_repeats_and_both_succeed(ledger: Ledger) -> None:
    """Both take their first row, and only then reach for the other's: without a repetition one of them is lost."""
    both_hold_one = threading.Barrier(2)
    attempts = {"ab": 0, "ba": 0}

    def update_in_order(order: str) -> None:
        def work(connection: Connection) -> None:
            attempts[order] += 1
            increment(connection, order[0])
            if attempts[order] == 1:
                both_hold_one.wait(10)
            increment(connection, order[1])

        ledger.run(work)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(update_in_order, order) for order in ("ab", "ba")]:
            future.result()
    # On a busy machine the one that repeats may be quicker than the other wakes up, and they meet again.
    assert max(attempts.values()) >= 2
    assert (value_of(ledger, "a"), value_of(ledger, "b")) == ("2", "2")


def test_without_a_repetition_the_same_deadlock_costs_one_session_its_work(ledger: Ledger) -> None:
    both_hold_one = threading.Barrier(2)

    def update_in_order(order: str) -> str:
        try:
            with ledger.transaction() as connection:
                increment(connection, order[0])
                both_hold_one.wait(10)
                increment(connection, order[1])
        except LedgerUnavailable as error:
            return error.reason.partition(":")[0]
        return "committed"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(update_in_order, ("ab", "ba"))) == ["DeadlockDetected", "committed"]
    assert (value_of(ledger, "a"), value_of(ledger, "b")) == ("1", "1")


def test_a_serialization_failure_is_repeated_until_the_work_fits(ledger: Ledger) -> None:
    seen = []

    def work(connection: Connection) -> None:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        seen.append(connection.execute(text("SELECT value FROM engine_settings WHERE name = 'a'")).scalar_one())
        if len(seen) == 1:
            with ledger.transaction() as other:
                increment(other, "a")
        increment(connection, "a")

    ledger.run(work)
    assert seen == ["0", "1"]
    assert value_of(ledger, "a") == "2"


def test_work_that_always_has_to_be_repeated_is_given_up_after_a_bounded_number_of_attempts(ledger: Ledger) -> None:
    attempts = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        increment(connection, "a")
        raise RepeatTransaction

    with pytest.raises(LedgerUnavailable, match="too often"):
        ledger.run(work)
    assert len(attempts) == ATTEMPTS
    assert value_of(ledger, "a") == "0"


def test_a_broken_constraint_is_not_taken_for_an_outage_and_not_repeated(ledger: Ledger) -> None:
    attempts = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        connection.execute(text("INSERT INTO engine_settings (name, value) VALUES ('a', 'twice')"))

    with pytest.raises(IntegrityError):
        ledger.run(work)
    assert len(attempts) == 1


def test_an_exception_takes_the_whole_transaction_back(ledger: Ledger) -> None:
    def fail() -> None:
        with ledger.transaction() as connection:
            increment(connection, "a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert value_of(ledger, "a") == "0"


def test_a_snapshot_does_not_see_what_is_committed_after_it_began(ledger: Ledger) -> None:
    query = text("SELECT value FROM engine_settings WHERE name = 'a'")
    with ledger.snapshot() as connection:
        assert connection.execute(query).scalar_one() == "0"
        with ledger.transaction() as other:
            increment(other, "a")
        assert connection.execute(query).scalar_one() == "0"
    assert value_of(ledger, "a") == "1"


def test_a_snapshot_plans_for_the_tables_as_they_are(ledger: Ledger) -> None:
    query = text("SELECT value FROM engine_settings WHERE name = :name")
    kept = text("SELECT sum(generic_plans) FROM pg_prepared_statements")
    with ledger.snapshot() as connection:
        for _ in range(20):  # psycopg and Postgres each want to see a statement five times before they keep it
            connection.execute(query, {"name": "a"})
        assert connection.execute(kept).scalar_one() == 0


def test_a_port_where_nobody_listens_is_an_unavailable_ledger() -> None:
    ledger = Ledger(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing")
    with pytest.raises(LedgerUnavailable), ledger.read():
        pass
    ledger.close()


def test_a_pool_with_no_free_connection_is_an_unavailable_ledger(database_url: str) -> None:
    ledger = Ledger(database_url, pool_size=1)
    with ledger.read(), pytest.raises(LedgerUnavailable, match="no free connection"), ledger.read():
        pass
    ledger.close()


def test_a_session_that_is_ended_from_outside_is_an_unavailable_ledger_and_the_next_one_works(ledger: Ledger) -> None:
    def be_ended() -> None:
        with ledger.transaction() as connection:
            victim = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            increment(connection, "a")
            with ledger.transaction() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": victim})
            increment(connection, "a")

    with pytest.raises(LedgerUnavailable):
        be_ended()
    assert value_of(ledger, "a") == "0"


def test_sessions_that_were_ended_while_nobody_used_them_are_not_noticed(ledger: Ledger, database_url: str) -> None:
    with ledger.read() as one, ledger.read() as two:
        ended = [connection.execute(text("SELECT pg_backend_pid()")).scalar_one() for connection in (one, two)]
    other = Ledger(database_url)
    with other.transaction() as connection:
        for pid in ended:
            assert connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid}).scalar_one()
    other.close()
    increment_both(ledger)
    assert (value_of(ledger, "a"), value_of(ledger, "b")) == ("1", "1")


def increment_both(ledger: Ledger) -> None:
    """In two transactions at the same time, each on a connection of its own."""
    with ledger.transaction() as one, ledger.transaction() as two:
        increment(one, "a")
        increment(two, "b")


def test_a_connection_that_was_closed_here_is_not_noticed_either(ledger: Ledger) -> None:
    with ledger.read() as connection:
        driver = connection.connection.driver_connection
    assert driver is not None
    driver.close()
    assert value_of(ledger, "a") == "0"


def test_a_session_that_is_only_told_something_is_used_on(ledger: Ledger, database_url: str) -> None:
    """Notifications and changed settings come on idle connections, too."""
    with ledger.read() as connection:
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        connection.execute(text("LISTEN news"))
        connection.commit()
    other = Ledger(database_url)
    with other.transaction() as connection:
        connection.execute(text("NOTIFY news"))
    other.close()
    with ledger.read() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == before
