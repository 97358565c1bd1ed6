"""Every check of the order verdict notices what it is there for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.order_verdict import OrderFacts, ProductFacts, judge

GOOD_PRODUCT = ProductFacts(supplied=10, stock=6, sold=4, available=6, counted=4)
GOOD = OrderFacts(
    products={1: GOOD_PRODUCT},
    balances=60,
    lowest_balance=0,
    charged=100,
    paid=50,
    refunded=10,
    paid_by_orders=40,
    coupons_used=1,
    coupons_redeemed=1,
    orders_by_status={"COMPLETED": 4},
    orders_without_history=0,
    followups_open=0,
    holds=0,
    backlog=0,
    quarantined=0,
    planned=5,
    recorded=5,
    accepted=["r1", "r2"],
    states={"r1": "COMPLETED", "r2": "FAILED"},
    unexpected={},
)


def failed(facts: OrderFacts) -> set[str]:
    return {check.name for check in judge(facts) if not check.ok}


def test_a_shop_in_order_passes_every_check() -> None:
    assert failed(GOOD) == set()


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("no unit is made or lost", replace(GOOD, products={1: replace(GOOD_PRODUCT, supplied=9)})),
        ("the gate agrees with the ledger", replace(GOOD, products={1: replace(GOOD_PRODUCT, available=5)})),
        ("nothing is negative", replace(GOOD, products={1: ProductFacts(4, -1, 5, -1, 5)})),
        ("statistics equal completed orders", replace(GOOD, products={1: replace(GOOD_PRODUCT, counted=3)})),
        ("no balance is negative", replace(GOOD, lowest_balance=-1)),
        ("no money is made or lost", replace(GOOD, balances=61)),
        ("completed orders are paid, once", replace(GOOD, paid_by_orders=50)),
        ("a used coupon is one order's", replace(GOOD, coupons_used=2)),
        ("the crowd was there", replace(GOOD, recorded=4)),
        ("the crowd was there", replace(GOOD, accepted=[])),
        ("every accepted order ended", replace(GOOD, states={"r1": "COMPLETED", "r2": "PENDING"})),
        ("every accepted order ended", replace(GOOD, states={"r1": "COMPLETED"})),
        ("no hold is left", replace(GOOD, holds=1)),
        ("the outbox is empty", replace(GOOD, backlog=1)),
        ("nothing is in quarantine", replace(GOOD, quarantined=1)),
        ("follow-ups are done", replace(GOOD, followups_open=1)),
        ("every order has its history", replace(GOOD, orders_without_history=1)),
        ("no unexpected answer", replace(GOOD, unexpected={"order 500": 1})),
    ],
)
def test_what_is_wrong_fails_its_check_and_no_other(name: str, broken: OrderFacts) -> None:
    assert failed(broken) == {name}


def test_no_check_is_without_a_facts_that_break_it() -> None:
    parameters = test_what_is_wrong_fails_its_check_and_no_other.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {name for name, _ in parameters} == {check.name for check in judge(GOOD)}
