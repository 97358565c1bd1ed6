"""Follow-ups: planned with the order, worked off exactly once, whatever crashes, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
from sqlalchemy import Connection

from engine.context import Engine
from engine.flow import followups
from engine.flow.bell import FOLLOWUPS_QUEUE
from engine.flow.followups import LEDGER_EFFECTS, MOST_ATTEMPTS, any_due, requeue_parked, retry_delay_seconds, work_off
from engine.gate.clients import connect_queue
from engine.ledger import followups as ledger_followups
from engine.ledger.followups import FollowupKind, plan
from scheduler import jobs
from tests.integration.placed_orders import (
    CANCELLED_AT,
    ORDERED_AT,
    add_order,
    add_product,
    execute,
    killed_at,
    make_due,
    rows,
    stats,
    statuses,
    with_settings,
    without_ledger,
    without_redis,
)
from workers import followups as worker_job

pytestmark = pytest.mark.usefixtures("longest_delays")

COMPLETION = (FollowupKind.HISTORY, FollowupKind.STATISTICS)
CANCELLATION = (FollowupKind.CANCEL_HISTORY, FollowupKind.CANCEL_STATISTICS)
BUCKET = datetime(2030, 5, 1, 12, tzinfo=UTC)


class Worker(SimpleWorker):
    """Leaves the signal handlers of whoever runs the tests alone."""

    def _install_signal_handlers(self) -> None:
        pass


@contextmanager
def refused_by_the_ledger(engine: Engine, order_id: int) -> Iterator[None]:
    """While it lasts, nobody can write this order's history."""
    constraint = f"CHECK (order_id <> {order_id}) NOT VALID"
    execute(engine, f"ALTER TABLE order_history_events ADD CONSTRAINT poison {constraint}")
    try:
        yield
    finally:
        execute(engine, "ALTER TABLE order_history_events DROP CONSTRAINT poison")


# -- planning


def test_follow_ups_are_planned_with_the_order_or_not_at_all(engine: Engine) -> None:
    order = add_order(engine, {add_product(engine): 1})

    def give_up(connection: Connection) -> None:
        plan(connection, [order], COMPLETION)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        engine.ledger.run(give_up)
    assert statuses(engine) == {}
    engine.ledger.run(lambda connection: plan(connection, [order], COMPLETION))
    assert statuses(engine) == {(order, "HISTORY"): "PENDING", (order, "STATISTICS"): "PENDING"}


def test_planning_twice_does_not_bring_back_what_is_done(engine: Engine) -> None:
    order = add_order(engine, {add_product(engine): 1}, COMPLETION)
    work_off(engine)
    engine.ledger.run(lambda connection: plan(connection, [order, order], tuple(FollowupKind)))
    assert len(statuses(engine)) == len(FollowupKind)
    assert statuses(engine)[order, "HISTORY"] == "DONE"


# -- history and statistics


def test_an_order_leaves_a_history_event_and_counts_in_its_hour(engine: Engine) -> None:
    apple, pear = add_product(engine, "사과"), add_product(engine, "배")
    order = add_order(engine, {apple: 2, pear: 3}, COMPLETION)
    report = work_off(engine)
    assert report.done == {FollowupKind.HISTORY: 1, FollowupKind.STATISTICS: 1}
    assert stats(engine) == {(apple, BUCKET): 2, (pear, BUCKET): 3}
    [(event, occurred_at, payload)] = rows(engine, "SELECT event, occurred_at, payload FROM order_history_events")
    assert (event, occurred_at) == ("ORDER_COMPLETED", ORDERED_AT)
    assert payload == {
        "event": "ORDER_COMPLETED",
        "orderId": order,
        "userId": 7,
        "orderItems": [
            {"productId": apple, "name": "사과", "unitPrice": 1000, "quantity": 2},
            {"productId": pear, "name": "배", "unitPrice": 1000, "quantity": 3},
        ],
        "totalAmount": 5000,
        "discountAmount": 100,
        "paidAmount": 4900,
        "userCouponId": None,
        "occurredAt": "2030-05-01T12:34:56.789000Z",
    }


def test_the_hour_is_the_one_of_the_order_in_utc(engine: Engine) -> None:
    product = add_product(engine)
    for moment in (BUCKET - timedelta(microseconds=1), BUCKET, BUCKET + timedelta(hours=1, microseconds=-1)):
        add_order(engine, {product: 1}, COMPLETION, ordered_at=moment)
    work_off(engine)
    assert stats(engine) == {(product, BUCKET - timedelta(hours=1)): 1, (product, BUCKET): 2}


def test_a_cancellation_leaves_an_event_of_its_own_and_takes_the_units_from_the_orders_hour(engine: Engine) -> None:
    product = add_product(engine)
    add_order(engine, {product: 2}, (*COMPLETION, *CANCELLATION), cancelled=True)
    add_order(engine, {product: 5}, COMPLETION)
    work_off(engine)
    assert stats(engine) == {(product, BUCKET): 5}
    events = rows(engine, "SELECT event, occurred_at FROM order_history_events WHERE order_id = 1 ORDER BY event")
    assert events == [("ORDER_CANCELLED", CANCELLED_AT), ("ORDER_COMPLETED", ORDERED_AT)]


def test_statistics_are_right_whichever_of_order_and_cancellation_is_counted_first(engine: Engine) -> None:
    product = add_product(engine)
    order = add_order(engine, {product: 2}, (FollowupKind.CANCEL_STATISTICS,), cancelled=True)
    work_off(engine)
    assert stats(engine) == {(product, BUCKET): -2}
    engine.ledger.run(lambda connection: plan(connection, [order], (FollowupKind.STATISTICS,)))
    work_off(engine)
    assert stats(engine) == {(product, BUCKET): 0}


def test_a_late_completion_is_told_as_it_was_although_the_order_is_cancelled(engine: Engine) -> None:
    add_order(engine, {add_product(engine): 1}, (FollowupKind.HISTORY,), cancelled=True)
    work_off(engine)
    assert rows(engine, "SELECT event, occurred_at FROM order_history_events") == [("ORDER_COMPLETED", ORDERED_AT)]


def test_working_off_again_changes_nothing(engine: Engine) -> None:
    product = add_product(engine)
    add_order(engine, {product: 2}, COMPLETION)
    work_off(engine)
    make_due(engine)
    assert work_off(engine).done == {}
    assert stats(engine) == {(product, BUCKET): 2}


def test_more_than_a_batch_is_worked_off_in_one_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followups, "BATCH_LIMIT", 7)
    product = add_product(engine)
    for _ in range(30):
        add_order(engine, {product: 1}, COMPLETION)
    report = work_off(engine)
    assert report.done == {FollowupKind.HISTORY: 30, FollowupKind.STATISTICS: 30}
    assert not report.more
    assert stats(engine) == {(product, BUCKET): 30}


# -- crashes and workers side by side


@pytest.mark.parametrize("kind", list(LEDGER_EFFECTS))
def test_a_worker_killed_between_effect_and_mark_has_done_neither(engine: Engine, kind: FollowupKind) -> None:
    product = add_product(engine)
    order = add_order(engine, {product: 2}, (kind,), cancelled=True)
    killed_at(engine, "finish")
    assert stats(engine) == {}
    assert rows(engine, "SELECT event FROM order_history_events") == []
    assert statuses(engine) == {(order, kind.value): "PENDING"}

    def worked_off() -> None:
        # The dead worker's locks last until Postgres has noticed; until then its rows are left out.
        while not work_off(engine).done:
            assert any_due(engine)

    worked_off()
    effects = len(stats(engine)) + len(rows(engine, "SELECT event FROM order_history_events"))
    assert effects == 1
    assert all(abs(quantity) == 2 for quantity in stats(engine).values())


def test_an_effect_that_were_committed_on_its_own_would_be_counted_twice(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the tests above: take the effect out of the transaction, and a crash shows."""
    product = add_product(engine)
    add_order(engine, {product: 2}, (FollowupKind.STATISTICS,))
    add = LEDGER_EFFECTS[FollowupKind.STATISTICS]

    def add_alone(_connection: Connection, order_ids: list[int]) -> None:
        with engine.ledger.transaction() as own:
            add(own, order_ids)

    monkeypatch.setitem(followups.LEDGER_EFFECTS, FollowupKind.STATISTICS, add_alone)  # type: ignore[arg-type]
    finish = ledger_followups.finish
    monkeypatch.setattr(ledger_followups, "finish", lambda *_: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(RuntimeError):
        work_off(engine)
    monkeypatch.setattr(ledger_followups, "finish", finish)
    work_off(engine)
    assert stats(engine) == {(product, BUCKET): 4}


def test_workers_side_by_side_count_everything_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followups, "BATCH_LIMIT", 5)
    products = [add_product(engine) for _ in range(4)]
    for number in range(60):
        add_order(
            engine,
            {products[number % 4]: 1, products[(number + 1) % 4]: 1},
            (*COMPLETION, FollowupKind.CANCEL_STATISTICS) if number % 3 == 0 else COMPLETION,
            cancelled=number % 3 == 0,
        )
    workers = [with_settings(engine) for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            reports = list(pool.map(work_off, workers))
    finally:
        for worker in workers:
            worker.close()
    # What one worker held was left out by the others, so a little may be left to the last.
    done = sum((report.done for report in reports), work_off(engine).done)
    assert done == {FollowupKind.HISTORY: 60, FollowupKind.STATISTICS: 60, FollowupKind.CANCEL_STATISTICS: 20}
    assert set(statuses(engine).values()) == {"DONE"}
    assert sum(stats(engine).values()) == 2 * 60 - 2 * 20
    assert all(not report.unavailable and not report.failed for report in reports)
    assert rows(engine, "SELECT count(*) FROM order_history_events") == [(60,)]


# -- failures


def test_a_row_that_the_ledger_refuses_does_not_hold_up_the_others(engine: Engine) -> None:
    product = add_product(engine)
    orders = [add_order(engine, {product: 1}, COMPLETION) for _ in range(20)]
    poison = orders[6]
    with refused_by_the_ledger(engine, poison):
        report = work_off(engine)
    assert report.done == {FollowupKind.HISTORY: 19, FollowupKind.STATISTICS: 20}
    assert (report.failed, report.parked) == (1, 0)
    [(attempts, error)] = rows(engine, "SELECT attempts, last_error FROM order_followups WHERE status = 'PENDING'")
    assert attempts == 1
    assert "poison" in error
    assert "\n" not in error
    make_due(engine)
    assert work_off(engine).done == {FollowupKind.HISTORY: 1}


def test_a_row_that_is_refused_for_ever_is_parked_and_the_order_stays_as_it_is(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    order = add_order(engine, {add_product(engine): 1}, COMPLETION)
    before = rows(engine, "SELECT * FROM orders")
    with refused_by_the_ledger(engine, order):
        parked = 0
        for attempt in range(1, MOST_ATTEMPTS + 1):
            parked += work_off(engine).parked
            assert parked == (attempt == MOST_ATTEMPTS)
            make_due(engine)
    assert statuses(engine)[order, "HISTORY"] == "PARKED"
    assert f"ALARM: HISTORY of order {order} is parked" in caplog.text
    assert rows(engine, "SELECT * FROM orders") == before
    assert requeue_parked(engine) == 1
    assert work_off(engine).done == {FollowupKind.HISTORY: 1}
    assert set(statuses(engine).values()) == {"DONE"}


def test_a_kind_that_fails_altogether_does_not_hold_up_the_others(engine: Engine) -> None:
    product = add_product(engine)
    for _ in range(3):
        add_order(engine, {product: 1}, COMPLETION)
    execute(engine, "ALTER TABLE order_history_events ADD CONSTRAINT poison CHECK (false) NOT VALID")
    try:
        report = work_off(engine)
    finally:
        execute(engine, "ALTER TABLE order_history_events DROP CONSTRAINT poison")
    assert report.done == {FollowupKind.STATISTICS: 3}
    assert report.failed == 3


def test_without_the_ledger_nothing_counts_as_failed(engine: Engine) -> None:
    order = add_order(engine, {add_product(engine): 1}, COMPLETION)
    cut_off = without_ledger(engine)
    report = work_off(cut_off)
    cut_off.close()
    assert set(report.unavailable) == {FollowupKind.RETURN_STOCK, *LEDGER_EFFECTS}
    assert (report.done, report.failed) == ({}, 0)
    assert statuses(engine)[order, "HISTORY"] == "PENDING"


def test_the_delay_doubles_up_to_a_bound_and_is_spread_over_all_of_it() -> None:
    longest = [retry_delay_seconds(attempts, lambda: 1.0) for attempts in range(1, MOST_ATTEMPTS + 1)]
    assert longest == [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, None]
    assert retry_delay_seconds(5, lambda: 0.0) == 0
    assert retry_delay_seconds(5, lambda: 0.25) == 8
    drawn = {retry_delay_seconds(9) for _ in range(50)}
    assert len(drawn) > 1
    assert all(0 <= seconds <= 512 for seconds in drawn if seconds is not None)


# -- leaving, bells and the sweep


def test_every_kind_has_its_turn_even_if_somebody_always_waits(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followups, "BATCH_LIMIT", 2)
    product = add_product(engine)
    for _ in range(5):
        add_order(engine, {product: 1}, COMPLETION)
    report = work_off(engine, leave_early=lambda: True)
    assert report.done == {FollowupKind.HISTORY: 2, FollowupKind.STATISTICS: 2}
    assert report.more


def test_a_worker_that_stops_begins_nothing_and_says_that_more_is_left(engine: Engine) -> None:
    add_order(engine, {add_product(engine): 1}, COMPLETION)
    report = work_off(engine, stopping=lambda: True)
    assert (report.done, report.more) == ({}, True)
    assert any_due(engine)


def test_rings_are_coalesced_while_one_waits(engine: Engine) -> None:
    assert engine.bell.followups_waiting() == 0
    for _ in range(50):
        assert engine.bell.ring_for_followups()
    assert engine.bell.followups_waiting() == 1


def test_the_scheduler_rings_when_something_is_due_and_only_then(engine: Engine) -> None:
    assert not jobs.sweep_followups(engine)
    add_order(engine, {add_product(engine): 1}, COMPLETION)
    execute(engine, "UPDATE order_followups SET due_at = now() + interval '1 hour'")
    assert not jobs.sweep_followups(engine)
    assert engine.bell.followups_waiting() == 0
    make_due(engine)
    assert jobs.sweep_followups(engine)
    assert engine.bell.followups_waiting() == 1


def test_a_ring_that_redis_does_not_take_is_no_error(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    cut_off = without_redis(engine)
    assert not cut_off.bell.ring_for_followups()
    cut_off.close()
    assert "could not be rung" in caplog.text


def test_a_worker_answers_the_ring(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    product = add_product(engine)
    add_order(engine, {product: 2}, COMPLETION)
    monkeypatch.setattr(worker_job, "engine_of_this_process", lambda: engine)
    engine.bell.ring_for_followups()
    connection = connect_queue(engine.settings.queue_redis_url)
    try:
        queue = Queue(FOLLOWUPS_QUEUE, connection=connection, serializer=JSONSerializer)
        worker = Worker([queue], connection=connection, serializer=JSONSerializer)
        worker.work(burst=True, logging_level="ERROR")
    finally:
        connection.close()
    assert set(statuses(engine).values()) == {"DONE"}
    assert stats(engine) == {(product, BUCKET): 2}
