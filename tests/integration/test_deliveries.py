"""Deliveries as follow-ups: tried again, parked, requeued, repeated after a crash, and never in the way of others."""

from __future__ import annotations

import json
import time

import pytest

from engine.context import Engine
from engine.flow import data_platform, followups
from engine.flow.data_platform import DataPlatform
from engine.flow.followups import FIRST_DELIVERIES, MOST_ATTEMPTS, work_off
from engine.ledger.followups import (
    Failure,
    Followup,
    FollowupKind,
    claim_due,
    give_up_claims,
    record_failures,
)
from ops.mock_data_platform import MockDataPlatform, Mode
from tests.integration.command_line import done, ops, refused
from tests.integration.placed_orders import (
    add_order,
    add_product,
    execute,
    killed_at,
    make_due,
    rows,
    statuses,
)
from tests.stack.stack_driver import wait_until

pytestmark = pytest.mark.usefixtures("longest_delays")

DELIVERY = (FollowupKind.DATA_PLATFORM,)
SHORT = 0.5
"""Seconds that an exchange may take in tests of what happens when they are over."""


def attempts(engine: Engine) -> list[tuple[str, int, str | None]]:
    """Status, attempts and last error of every follow-up, by id."""
    return rows(engine, "SELECT status, attempts, last_error FROM order_followups ORDER BY id")


def test_orders_and_cancellations_are_delivered_with_items_and_amounts(
    connected: Engine, platform: MockDataPlatform
) -> None:
    product = add_product(connected, "감귤")
    order = add_order(
        connected, {product: 3}, (FollowupKind.DATA_PLATFORM, FollowupKind.CANCEL_DATA_PLATFORM), cancelled=True
    )
    report = work_off(connected)
    assert report.done == {FollowupKind.DATA_PLATFORM: 1, FollowupKind.CANCEL_DATA_PLATFORM: 1}
    assert set(statuses(connected).values()) == {"DONE"}
    common = {
        "orderId": order,
        "userId": 7,
        "orderItems": [{"productId": product, "name": "감귤", "unitPrice": 1000, "quantity": 3}],
        "totalAmount": 3000,
        "discountAmount": 100,
        "paidAmount": 2900,
        "userCouponId": None,
    }
    assert platform.received()["last"] == [
        {
            "eventId": f"order-{order}-completed",
            "event": "ORDER_COMPLETED",
            "occurredAt": "2030-05-01T12:34:56.789000Z",
            **common,
        },
        {
            "eventId": f"order-{order}-cancelled",
            "event": "ORDER_CANCELLED",
            "occurredAt": "2030-05-03T01:02:03.000000Z",
            **common,
        },
    ]


def test_without_an_address_deliveries_wait_and_cost_no_attempt(engine: Engine) -> None:
    add_order(engine, {add_product(engine): 1}, DELIVERY)
    assert engine.settings.data_platform_url == ""
    assert work_off(engine).done == {}
    assert not followups.any_due(engine)
    assert attempts(engine) == [("PENDING", 0, None)]


def test_deliveries_that_waited_for_an_address_go_out_when_there_is_one(
    engine: Engine, connected: Engine, platform: MockDataPlatform
) -> None:
    add_order(engine, {add_product(engine): 1}, DELIVERY)
    work_off(engine)
    assert followups.any_due(connected)
    work_off(connected)
    assert platform.received()["count"] == 1


def test_hundreds_are_delivered_each_once(connected: Engine, platform: MockDataPlatform) -> None:
    product = add_product(connected)
    for _ in range(300):
        add_order(connected, {product: 1}, DELIVERY)
    assert work_off(connected).done == {FollowupKind.DATA_PLATFORM: 300}
    received = platform.received()
    assert (received["count"], received["repeated"]) == (300, 0)


def test_a_failing_platform_is_tried_again_later_and_parked_in_the_end(
    connected: Engine, platform: MockDataPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    order = add_order(connected, {add_product(connected): 1}, DELIVERY)
    platform.behave(Mode.FAIL)
    for attempt in range(1, MOST_ATTEMPTS):
        assert work_off(connected).failed == 1
        assert attempts(connected) == [("PENDING", attempt, "HTTP 500")]
        assert "ALARM" not in caplog.text
        make_due(connected)
    report = work_off(connected)
    assert (report.failed, report.parked) == (1, 1)
    assert attempts(connected) == [("PARKED", MOST_ATTEMPTS, "HTTP 500")]
    assert f"ALARM: DATA_PLATFORM of order {order} is parked: HTTP 500" in caplog.text
    make_due(connected)
    platform.behave(Mode.OK)
    assert work_off(connected).done == {}  # nobody but a person takes it from there
    assert rows(connected, "SELECT status FROM orders") == [("COMPLETED",)]


def test_a_failed_delivery_is_set_aside_for_a_while(
    connected: Engine, platform: MockDataPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followups, "retry_delay_seconds", lambda _attempts: 100.0)
    add_order(connected, {add_product(connected): 1}, DELIVERY)
    platform.behave(Mode.FAIL)
    work_off(connected)
    [(seconds,)] = rows(connected, "SELECT extract(epoch FROM due_at - now()) FROM order_followups")
    assert 90 < seconds <= 100
    assert not followups.any_due(connected)
    assert work_off(connected).failed == 0


def test_requeueing_gives_parked_deliveries_all_their_attempts_again(
    connected: Engine, platform: MockDataPlatform
) -> None:
    product = add_product(connected)
    for _ in range(2):
        add_order(connected, {product: 1}, DELIVERY)
    add_order(connected, {product: 1}, (FollowupKind.HISTORY,))
    execute(
        connected,
        """
        UPDATE order_followups SET status = 'PARKED', attempts = 12, last_error = 'HTTP 500'
        WHERE kind = 'DATA_PLATFORM'
        """,
    )
    assert done(ops(connected, "deliveries", "requeue")) == "2 parked follow-ups will be tried again\n"
    assert connected.bell.followups_waiting() == 1
    assert attempts(connected) == [("PENDING", 0, "HTTP 500")] * 2 + [("PENDING", 0, None)]
    work_off(connected)
    assert platform.received()["count"] == 2
    assert attempts(connected)[:2] == [("DONE", 1, None)] * 2
    assert done(ops(connected, "deliveries", "requeue")) == "0 parked follow-ups will be tried again\n"


def test_a_flaky_platform_gets_everything_once_in_the_end(connected: Engine, platform: MockDataPlatform) -> None:
    product = add_product(connected)
    for _ in range(40):
        add_order(connected, {product: 1}, DELIVERY)
    platform.behave(Mode.FLAKY)

    def all_done() -> bool:
        make_due(connected)
        work_off(connected)
        return set(statuses(connected).values()) == {"DONE"}

    wait_until(all_done, "everything is delivered")
    received = platform.received()
    assert (received["count"], received["repeated"]) == (40, 0)
    assert platform.requests > 40


@pytest.mark.parametrize("mode", [Mode.HANG, Mode.GARBAGE, Mode.FAIL])
def test_a_bad_platform_holds_nothing_else_up(
    connected: Engine, platform: MockDataPlatform, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_platform, "ANSWER_SECONDS", SHORT)
    monkeypatch.setattr(DataPlatform.__init__, "__kwdefaults__", {"answer_seconds": SHORT})
    product = add_product(connected)
    for _ in range(100):
        add_order(connected, {product: 1}, (*DELIVERY, FollowupKind.HISTORY, FollowupKind.STATISTICS))
    platform.behave(mode)
    started = time.monotonic()
    report = work_off(connected)
    assert time.monotonic() - started < 10
    assert report.done == {FollowupKind.HISTORY: 100, FollowupKind.STATISTICS: 100}
    assert report.failed == FIRST_DELIVERIES  # it was not asked a hundred times what eight had shown
    untouched = rows(connected, "SELECT count(*) FROM order_followups WHERE attempts = 0 AND status = 'PENDING'")
    assert untouched == [(100 - FIRST_DELIVERIES,)]


def test_what_a_batch_has_no_time_for_goes_back_untried(
    connected: Engine, platform: MockDataPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followups, "DELIVERY_SECONDS", 0.0)
    add_order(connected, {add_product(connected): 1}, DELIVERY)
    report = work_off(connected)
    assert (report.done, report.failed, platform.requests) == ({}, 0, 0)
    assert attempts(connected) == [("PENDING", 0, None)]
    assert followups.any_due(connected)


def test_a_worker_killed_after_sending_sends_again_and_the_platform_has_it_once(
    connected: Engine, platform: MockDataPlatform
) -> None:
    add_order(connected, {add_product(connected): 1}, DELIVERY)
    killed_at(connected, "finish")
    assert platform.received()["count"] == 1
    assert attempts(connected) == [("PENDING", 1, None)]
    assert not followups.any_due(connected)  # the lease still holds
    make_due(connected)
    assert work_off(connected).done == {FollowupKind.DATA_PLATFORM: 1}
    received = platform.received()
    assert (received["count"], received["repeated"]) == (1, 1)


def test_a_delivery_that_never_comes_to_an_end_is_parked(connected: Engine, platform: MockDataPlatform) -> None:
    add_order(connected, {add_product(connected): 1}, DELIVERY)
    execute(connected, "UPDATE order_followups SET attempts = :most", most=MOST_ATTEMPTS)
    assert work_off(connected).parked == 1
    assert platform.requests == 0
    assert attempts(connected) == [("PARKED", MOST_ATTEMPTS + 1, "no attempt ever came to an end")]


def test_who_comes_after_the_lease_has_the_say(connected: Engine, platform: MockDataPlatform) -> None:
    """A worker that was slow beyond its lease may not set back what another one has taken or done since."""
    add_order(connected, {add_product(connected): 1}, DELIVERY)
    kind = FollowupKind.DATA_PLATFORM

    def claim() -> Followup:
        [row] = connected.ledger.run(lambda connection: claim_due(connection, kind, 1, 60.0))
        return row

    slow = claim()
    make_due(connected)
    later = claim()
    for too_late in (
        lambda connection: record_failures(connection, [Failure(slow, "too late", None)], claimed=True),
        lambda connection: give_up_claims(connection, [slow]),
    ):
        connected.ledger.run(too_late)
        assert attempts(connected) == [("PENDING", 2, None)]
        assert not followups.any_due(connected)
    connected.ledger.run(lambda connection: give_up_claims(connection, [later]))
    assert attempts(connected) == [("PENDING", 1, None)]
    assert followups.any_due(connected)


def test_what_is_parked_is_listed_and_requeued_by_its_id_all_or_nothing(engine: Engine) -> None:
    assert done(ops(engine, "deliveries", "list")) == "nothing is parked\n"
    product = add_product(engine)
    orders = [add_order(engine, {product: 1}, DELIVERY) for _ in range(3)]
    execute(engine, "UPDATE order_followups SET status = 'PARKED', attempts = 12, last_error = 'HTTP 500'")
    execute(engine, "UPDATE order_followups SET status = 'DONE' WHERE order_id = :done", done=orders[2])
    listed = json.loads(done(ops(engine, "deliveries", "list", "--json")))
    assert [(each["orderId"], each["attempts"], each["lastError"]) for each in listed] == [
        (orders[0], 12, "HTTP 500"),
        (orders[1], 12, "HTTP 500"),
    ]
    assert "HTTP 500" in done(ops(engine, "deliveries", "list", "--limit", 1)).splitlines()[1]
    ids = [each["id"] for each in listed]
    complaint = refused(ops(engine, "deliveries", "requeue", ids[0], ids[1] + 1, 999))
    assert f"nothing was changed: {ids[1] + 1}, 999" in complaint
    assert "is no id" in refused(ops(engine, "deliveries", "requeue", "all"))
    assert set(statuses(engine).values()) == {"PARKED", "DONE"}
    assert json.loads(done(ops(engine, "deliveries", "requeue", ids[0], "--json"))) == {"requeued": 1}
    assert [row[0] for row in attempts(engine)] == ["PENDING", "PARKED", "DONE"]
