"""The fault machine's verdict notices each thing that it is for, and excuses what a loss of Redis' memory excuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from loadtests.verdict import Check, Row
from tests.faults.machine.asking import Exchange
from tests.faults.machine.facts import CouponCounts, Kept, KeptOrder
from tests.faults.machine.history import Cancellation, Charge, Forgetting, History, Issue, Look, Purchase
from tests.faults.machine.verdict import Kind, Violation, judge

COUPON = 5
SECONDS = count(100)


def request_id(number: int, epoch: int = 3, letter: str = "c") -> str:
    return f"0.{epoch}.{number}.{letter}{number:044d}"


def exchange(begin: float, status: int, request: str = "", **body: Any) -> Exchange:
    return Exchange(begin, begin + 0.1, status, body, request)


def issue(user: int, sequence: int, begin: float | None = None, epoch: int = 3) -> Issue:
    """Somebody who was promised the coupon."""
    at = float(next(SECONDS)) if begin is None else begin
    told = exchange(at, 202, request_id(user, epoch), userId=user, sequence=sequence)
    return Issue([told], coupon_id=COUPON, user_id=user)


def refused(user: int, begin: float, code: str = "COUPON_CLOSED", **body: Any) -> Issue:
    return Issue([exchange(begin, 409, code=code, **body)], coupon_id=COUPON, user_id=user)


def purchase(number: int, begin: float, status: int = 202, code: str = "") -> Purchase:
    told = exchange(begin, status, request_id(number, letter="o") if status == 202 else "", code=code)
    return Purchase([told], user_id=number, quantities={1: 1}, key=f"k{number}")


def look(request: str, begin: float, state: str, **result: Any) -> Look:
    return Look(request, begin, begin + 0.1, 404 if state == "REQUEST_NOT_FOUND" else 200, state, result)


def order(number: int, status: str = "COMPLETED", failure: str = "") -> KeptOrder:
    request = request_id(number, letter="o")
    return KeptOrder(number, request, request.rpartition(".")[2], number, status, failure)


def kept(winners: int = 0, **changes: Any) -> Kept:
    """What is kept when the first so many users have their coupons, and nothing is wrong."""
    facts = Kept(
        rows={COUPON: [Row(user, user, request_id(user)) for user in range(1, winners + 1)]},
        coupons={COUPON: CouponCounts(10, winners, winners)},
        orders=(),
        charges={},
        states={},
    )
    return replace(facts, **changes)


def wrong(history: History, facts: Kept) -> list[Violation]:
    return judge(history, facts)


def assert_one(history: History, facts: Kept, kind: Kind, words: str) -> None:
    """That exactly this is found."""
    found = wrong(history, facts)
    assert [violation.kind for violation in found] == [kind], found
    assert words in found[0].text


def forgot(at: float, *waiting: str) -> list[Forgetting]:
    return [Forgetting(at, at + 0.1, frozenset(waiting))]


def test_a_history_that_came_true_is_in_order() -> None:
    history = History(
        issues=[issue(1, 1, 1), issue(2, 2, 2), refused(1, 3, "COUPON_ALREADY_ISSUED")],
        purchases=[purchase(7, 4)],
        charges=[Charge([exchange(5, 200, transactionId=9)], user_id=7, amount=100, key="k")],
        cancellations=[Cancellation([exchange(6, 200)], order_id=7)],
        looks=[look(request_id(1), 2, "PENDING"), look(request_id(1), 3, "COMPLETED", userId=1, sequence=1)],
    )
    assert wrong(history, kept(2, orders=[order(7, "CANCELLED")], charges={9: (7, 100)})) == []


def test_a_completed_request_that_is_not_there_is_lost() -> None:
    history = History(
        issues=[issue(1, 1, 1)],
        looks=[look(request_id(1), 2, "COMPLETED", userId=1, sequence=1)],
        forgettings=forgot(3, request_id(1)),
    )
    assert_one(history, kept(0), Kind.LOST, "was COMPLETED")


def test_a_completed_request_with_another_place_in_line_is_lost() -> None:
    history = History(issues=[issue(1, 1, 1)], looks=[look(request_id(1), 2, "COMPLETED", userId=1, sequence=4)])
    assert_one(history, kept(1), Kind.LOST, "was COMPLETED")


@pytest.mark.parametrize("later", ["PENDING", "FAILED", "REQUEST_NOT_FOUND"])
def test_what_was_completed_may_not_become_anything_else(later: str) -> None:
    told = look(request_id(1), 2, "COMPLETED", userId=1, sequence=1)
    history = History(issues=[issue(1, 1, 1)], looks=[told, look(request_id(1), 3, later)])
    found = wrong(history, kept(1))
    assert {violation.kind for violation in found} == {Kind.LOST}
    assert "later" in found[-1].text


def test_what_failed_may_not_be_completed_later() -> None:
    history = History(
        issues=[issue(1, 1, 1)], looks=[look(request_id(1), 2, "FAILED")], forgettings=forgot(1.5, request_id(1))
    )
    assert_one(history, kept(1, states={request_id(1): "COMPLETED"}), Kind.TWICE, "was FAILED, later ['COMPLETED']")


def test_looks_at_the_same_time_may_differ() -> None:
    looks = [look(request_id(1), 2, "COMPLETED", userId=1, sequence=1), look(request_id(1), 2.05, "PENDING")]
    assert wrong(History(issues=[issue(1, 1, 1)], looks=looks), kept(1)) == []


def test_a_promised_request_is_never_unknown() -> None:
    history = History(issues=[issue(1, 1, 1)], looks=[look(request_id(1), 2, "REQUEST_NOT_FOUND")])
    assert_one(history, kept(1), Kind.LOST, "never to have been")


def test_a_promise_that_redis_did_not_forget_is_taken_back() -> None:
    assert_one(History(issues=[issue(1, 1, 1)]), kept(0), Kind.TAKEN_BACK, "promised to user 1")


def test_a_promise_after_the_reopening_is_not_excused_by_the_loss_before() -> None:
    history = History(issues=[issue(1, 1, 5)], forgettings=forgot(2, request_id(9)))
    assert_one(history, kept(0), Kind.TAKEN_BACK, "promised to user 1")


def test_a_promise_that_was_not_waiting_any_more_is_not_excused_by_a_loss_afterwards() -> None:
    history = History(issues=[issue(1, 1, 1)], forgettings=forgot(2, request_id(9)))
    assert_one(history, kept(0), Kind.TAKEN_BACK, "promised to user 1")


@pytest.mark.parametrize(
    "forgetting",
    [
        Forgetting(2, 2.1, frozenset([request_id(1)])),
        Forgetting(1.05, 1.06, frozenset()),
        Forgetting(2, 2.5, None, seconds=1.5),
    ],
    ids=["it waited in the outbox", "the loss fell into the question", "the file lost its last moments"],
)
def test_a_promise_that_redis_forgot_is_excused(forgetting: Forgetting) -> None:
    history = History(issues=[issue(1, 1, 1)], forgettings=[forgetting])
    assert wrong(history, kept(0, states={request_id(1): "FAILED"})) == []


def test_an_order_that_failed_for_want_of_money_was_no_empty_promise_but_an_error_of_ours_is() -> None:
    history = History(purchases=[purchase(7, 1)])
    assert wrong(history, kept(orders=[order(7, "FAILED", "INSUFFICIENT_BALANCE")])) == []
    assert_one(history, kept(orders=[order(7, "FAILED", "TEMPORARY_ERROR")]), Kind.TAKEN_BACK, "promised to user 7")
    assert_one(history, kept(orders=[order(7, "EXPIRED", "TEMPORARY_ERROR")]), Kind.TAKEN_BACK, "promised to user 7")


def test_two_request_ids_of_one_key_may_stand_for_one_order() -> None:
    """Redis forgot the key in between; the ledger has the order under the nonce that both share."""
    first = exchange(1, 202, request_id(7, 3, "o"))
    again = exchange(3, 202, request_id(7, 4, "o").replace("0.4.7", "0.4.9"))
    history = History(purchases=[Purchase([first, again], user_id=7, key="k")], forgettings=forgot(2))
    assert wrong(history, kept(orders=[order(7)])) == []


def test_a_user_who_has_a_coupon_twice_is_noticed() -> None:
    rows = [Row(1, 1, request_id(1)), Row(1, 2, request_id(2))]
    history = History(issues=[issue(1, 1, 1), Issue([exchange(2, 0)], coupon_id=COUPON, user_id=1)])
    facts = kept(0, rows={COUPON: rows}, coupons={COUPON: CouponCounts(10, 2, 2)})
    assert_one(history, facts, Kind.TWICE, "has coupon 5 2 times")


def test_one_wish_that_became_two_orders_is_noticed() -> None:
    told = [exchange(1, 202, request_id(7, letter="o")), exchange(3, 202, request_id(8, letter="o"))]
    history = History(purchases=[Purchase(told, user_id=7, key="k")], forgettings=forgot(2))
    assert_one(history, kept(orders=[order(7), order(8)]), Kind.TWICE, "became the orders [7, 8]")


def test_one_key_with_two_answers_is_noticed_unless_redis_forgot_in_between() -> None:
    wish = issue(1, 1, 1)
    wish.exchanges.append(exchange(3, 409, code="COUPON_ALREADY_ISSUED"))
    assert_one(History(issues=[wish]), kept(1), Kind.TWICE, "one key of user 1")
    assert wrong(History(issues=[wish], forgettings=forgot(2)), kept(1)) == []


def test_a_charge_that_was_confirmed_and_is_not_there_is_lost() -> None:
    history = History(charges=[Charge([exchange(1, 200, transactionId=9)], user_id=7, amount=100, key="k")])
    assert_one(history, kept(), Kind.LOST, "charge 9 was confirmed")


def test_a_charge_that_is_booked_twice_is_noticed() -> None:
    told = [exchange(1, 0), exchange(2, 200, transactionId=9)]
    history = History(charges=[Charge(told, user_id=7, amount=100, key="k")])
    found = wrong(history, kept(charges={8: (7, 100), 9: (7, 100)}))
    assert {violation.kind for violation in found} == {Kind.TWICE}


def test_a_charge_that_nobody_heard_of_may_be_booked_once_or_not() -> None:
    history = History(charges=[Charge([exchange(1, 0)], user_id=7, amount=100, key="k")])
    assert wrong(history, kept()) == []
    assert wrong(history, kept(charges={9: (7, 100)})) == []


def test_a_cancellation_that_did_not_stay_is_lost() -> None:
    history = History(purchases=[purchase(7, 1)], cancellations=[Cancellation([exchange(2, 200)], order_id=7)])
    assert_one(history, kept(orders=[order(7)]), Kind.LOST, "order 7 was said to be cancelled")


def test_a_refusal_that_was_recorded_is_noticed() -> None:
    assert_one(History(issues=[refused(1, 1)]), kept(1), Kind.OTHER, "somebody who was refused")


def test_an_unheard_answer_allows_a_row_and_requires_none() -> None:
    history = History(issues=[Issue([exchange(1, 0)], coupon_id=COUPON, user_id=1)])
    assert wrong(history, kept(1)) == []
    assert wrong(history, kept(0)) == []


def test_an_order_that_was_refused_and_is_recorded_is_noticed() -> None:
    history = History(purchases=[purchase(7, 1, 409, "OUT_OF_STOCK")])
    facts = kept(orders=[order(7)], refused_nonces=frozenset([order(7).nonce]))
    assert {violation.text.partition(":")[0] for violation in wrong(history, facts)} == {
        "an order that was refused is recorded",
        "an order that nobody was promised is recorded",
    }


def test_who_waited_and_heard_that_the_money_is_short_was_not_told_the_request_id() -> None:
    history = History(purchases=[purchase(7, 1, 409, "INSUFFICIENT_BALANCE")])
    assert wrong(history, kept(orders=[order(7, "FAILED", "INSUFFICIENT_BALANCE")])) == []


def test_sold_out_while_something_is_left_is_noticed_unless_redis_forgot_since() -> None:
    history = History(issues=[issue(1, 1, 1), refused(2, 2, reason="SOLD_OUT")])
    assert_one(history, kept(1), Kind.OTHER, "sold out at 1 of 10")
    assert wrong(replace(history, forgettings=forgot(3)), kept(1)) == []
    assert wrong(history, kept(1, coupons={COUPON: CouponCounts(1, 1, 1)})) == []


def test_who_is_told_to_have_a_coupon_and_has_none_is_noticed() -> None:
    assert_one(History(issues=[refused(1, 1, "COUPON_ALREADY_ISSUED")]), kept(), Kind.OTHER, "was told to have coupon")


def test_an_answer_that_makes_no_sense_is_noticed() -> None:
    history = History(issues=[Issue([exchange(1, 404, code="COUPON_NOT_FOUND")], coupon_id=COUPON, user_id=1)])
    assert_one(history, kept(), Kind.OTHER, "issues: 404")
    history = History(charges=[Charge([exchange(1, 500)], user_id=1, amount=1, key="k")])
    assert_one(history, kept(), Kind.OTHER, "charges: 500")


def test_a_gap_in_the_line_is_noticed() -> None:
    rows = [Row(1, 1, request_id(1)), Row(2, 3, request_id(2))]
    history = History(issues=[issue(1, 1, 1), issue(2, 3, 2)])
    facts = kept(0, rows={COUPON: rows}, coupons={COUPON: CouponCounts(10, 2, 2)})
    assert_one(history, facts, Kind.DISORDER, "place 2 is missing")


def test_who_was_answered_before_another_asked_stands_before_them() -> None:
    history = History(issues=[issue(1, 1, 5), issue(2, 2, 1)])
    assert_one(history, kept(2), Kind.DISORDER, "was answered before")


def test_those_who_asked_at_the_same_time_may_stand_either_way() -> None:
    assert wrong(History(issues=[issue(1, 1, 1.05), issue(2, 2, 1)]), kept(2)) == []


def test_the_order_of_arrival_is_kept_within_one_epoch_only() -> None:
    history = History(issues=[issue(1, 1, 5, epoch=4), issue(2, 2, 1, epoch=3)], forgettings=forgot(3))
    rows = [Row(1, 1, request_id(1, 4)), Row(2, 2, request_id(2, 3))]
    assert wrong(history, kept(2, rows={COUPON: rows})) == []


def counts(total: int, issued: int, gate: int) -> Mapping[int, CouponCounts]:
    return {COUPON: CouponCounts(total, issued, gate)}


def test_more_given_than_there_are_is_oversold() -> None:
    history = History(issues=[issue(1, 1, 1), issue(2, 2, 2)])
    assert_one(history, kept(2, coupons=counts(1, 2, 2)), Kind.OVERSOLD, "2 given of 1")


def test_a_gate_that_counts_otherwise_than_the_ledger_is_noticed() -> None:
    assert_one(History(issues=[issue(1, 1, 1)]), kept(1, coupons=counts(10, 1, 2)), Kind.OTHER, "(2, 1, 1)")


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"shop": [Check("no unit is made or lost", False, "1 not")]}, Kind.OTHER, "no unit is made or lost: 1 not"),
        ({"shop": [Check("nothing is negative", False, "1 not")]}, Kind.OVERSOLD, "nothing is negative"),
        ({"quarantined": ["0.1.2.c: IntegrityError"]}, Kind.TAKEN_BACK, "in quarantine: 0.1.2.c"),
        ({"audit": ["coupon 5 has 3 winners and 2 rows"]}, Kind.OTHER, "the audit: coupon 5"),
        ({"unsettled": "holds"}, Kind.OTHER, "does not come to rest: holds"),
    ],
)
def test_what_others_found_is_told(changes: dict[str, Any], kind: Kind, words: str) -> None:
    assert_one(History(), kept(**changes), kind, words)
