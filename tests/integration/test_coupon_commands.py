"""``python -m ops coupon``: opened, paused, added to, live at the gate when the command returns."""

from __future__ import annotations

import json

import pytest

from engine.context import Engine
from engine.outcomes import Issued, Refusal, Refused
from engine.shop.coupon_offers import publish_changes
from engine.shop.issuance import issue_coupon
from tests.integration.command_line import done, ops, refused
from tests.integration.offers import offer, win_all
from tests.integration.placed_orders import execute, rows, without_redis


def ask(engine: Engine, coupon: int, user: int) -> Issued | Refused:
    return issue_coupon(engine, coupon_id=coupon, user_id=user, idempotency_key=None)


def test_a_paused_coupon_is_refused_and_an_opened_one_given(engine: Engine) -> None:
    coupon = offer(engine, total=2)
    assert "INACTIVE, 0 of 2 issued" in done(ops(engine, "coupon", "pause", coupon))
    assert ask(engine, coupon, 1) == Refused(Refusal.COUPON_CLOSED, {"reason": "INACTIVE"})
    assert "INACTIVE" in done(ops(engine, "coupon", "pause", coupon))
    done(ops(engine, "coupon", "open", coupon))
    assert isinstance(ask(engine, coupon, 1), Issued)


def test_what_is_added_can_be_had_at_once(engine: Engine) -> None:
    coupon = offer(engine, total=1)
    win_all(engine, coupon, [1])
    assert ask(engine, coupon, 2) == Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"})
    shown = json.loads(done(ops(engine, "coupon", "add", coupon, 2, "--json")))
    assert (shown["totalQuantity"], shown["issued"], shown["remaining"], shown["pending"]) == (3, 1, 2, 1)
    assert isinstance(ask(engine, coupon, 2), Issued)
    assert json.loads(done(ops(engine, "coupon", "show", coupon, "--json")))["remaining"] == 1


def test_without_the_gate_the_change_is_recorded_and_said_to_be_not_yet_live(engine: Engine) -> None:
    coupon = offer(engine, total=1)
    away = without_redis(engine)
    result = ops(away, "coupon", "add", coupon, 4)
    away.close()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "recorded, and live as soon as the gate is ready" in result.stderr
    win_all(engine, coupon, [1])
    assert isinstance(ask(engine, coupon, 2), Refused)
    assert publish_changes(engine) == 1
    assert isinstance(ask(engine, coupon, 2), Issued)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["add", "1", "0"], "greater than or equal to 1"),
        (["add", "1", "10000001"], "less than or equal to 10000000"),
        (["add", "1", "1e3"], "valid integer"),
        (["add", "1", "٣"], "valid integer"),
        (["add", "1", "01"], "valid integer"),
        (["add", "1", "9" * 40], "valid integer"),
        (["add", "1", "9" * 20], "less than or equal to 10000000"),
        (["add", "1"], "Missing argument"),
        (["pause", "first"], "is no id"),
        (["pause", "77"], "there is no coupon 77"),
        (["show", "77"], "there is no coupon 77"),
        (["open", "1", "2"], "unexpected extra argument"),
    ],
)
def test_a_wrong_call_is_told_and_changes_nothing(engine: Engine, words: list[str], complaint: str) -> None:
    offer(engine, total=1)
    assert complaint in refused(ops(engine, "coupon", *words))
    assert rows(engine, "SELECT version, total_quantity, status FROM coupons") == [(1, 1, "ACTIVE")]


def test_a_store_that_is_not_migrated_is_told(engine: Engine) -> None:
    coupon = offer(engine)
    (newest,) = rows(engine, "SELECT version_num FROM alembic_version")[0]
    execute(engine, "UPDATE alembic_version SET version_num = '0005'")
    try:
        assert "make migrate" in refused(ops(engine, "coupon", "pause", coupon))
    finally:
        execute(engine, "UPDATE alembic_version SET version_num = :newest", newest=newest)
