"""Coupons in the ledger: what it refuses to record, what it records once, what a user gets to see."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from engine.ledger import coupons as ledger_coupons
from engine.ledger.coupons import Issuance, available_coupons_of_user, record_issuances
from engine.ledger.progress import Standing, begin_epoch
from engine.ledger.session import Ledger
from tests.integration.offers import WINNERS

NOW_MS = 1_700_000_000_123
LARGEST = 2**53 - 1


def add_coupon(ledger: Ledger, total: int = 100, name: str = "쿠폰") -> int:
    values = {"name": name, "discount_amount": 500, "total_quantity": total, "status": "ACTIVE"}
    with ledger.transaction() as connection:
        return ledger_coupons.insert_coupon(connection, values).id


def issuance(coupon_id: int, number: int) -> Issuance:
    """The ``number``-th winner: user 1000 + number."""
    return Issuance(f"0.1.{number}.c{number:04}", coupon_id, 1000 + number, number, NOW_MS + number)


def record(ledger: Ledger, *issuances: Issuance) -> None:
    with ledger.transaction() as connection:
        record_issuances(connection, issuances)


def recorded(ledger: Ledger, coupon_id: int) -> list[tuple[int, int, str]]:
    with ledger.read() as connection:
        rows = connection.execute(WINNERS, {"coupon_id": coupon_id})
        return [(row.user_id, row.sequence, row.request_id) for row in rows]


def issued(ledger: Ledger, coupon_id: int) -> int:
    with ledger.read() as connection:
        coupon = ledger_coupons.coupon_by_id(connection, coupon_id)
    assert coupon is not None
    return coupon.issued


def assert_refused(ledger: Ledger, constraint: str, *issuances: Issuance) -> None:
    """Postgres names the constraint, and nothing of the batch is there."""
    before = [(id, issued(ledger, id), recorded(ledger, id)) for id in all_ids(ledger)]
    with pytest.raises(IntegrityError) as refusal:
        record(ledger, *issuances)
    assert refusal.value.orig.diag.constraint_name == constraint  # type: ignore[union-attr]
    assert [(id, issued(ledger, id), recorded(ledger, id)) for id in all_ids(ledger)] == before


def all_ids(ledger: Ledger) -> list[int]:
    with ledger.read() as connection:
        return [coupon.id for coupon in ledger_coupons.all_coupons(connection)]


def test_issuances_are_recorded_with_their_sequence_and_their_moment_and_counted(ledger: Ledger) -> None:
    first, second = add_coupon(ledger), add_coupon(ledger)
    record(ledger, issuance(second, 3), issuance(first, 2), issuance(first, 1))
    assert recorded(ledger, first) == [(1001, 1, "0.1.1.c0001"), (1002, 2, "0.1.2.c0002")]
    assert (issued(ledger, first), issued(ledger, second)) == (2, 1)
    with ledger.read() as connection:
        results = ledger_coupons.issuance_results(connection, ["0.1.2.c0002", "0.1.2.c0003"])
        result = results.pop("0.1.2.c0002")
        assert results == {}
    assert result is not None
    assert result.pop("userCouponId") > 0
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=NOW_MS + 2)
    assert result == {"couponId": first, "userId": 1002, "sequence": 2, "issuedAt": moment}


def test_recording_again_changes_nothing_and_counts_only_what_is_new(ledger: Ledger) -> None:
    coupon = add_coupon(ledger)
    batch = [issuance(coupon, number) for number in range(1, 6)]
    record(ledger, *batch[:3])
    before = recorded(ledger, coupon)
    record(ledger, *batch[:3])
    assert (recorded(ledger, coupon), issued(ledger, coupon)) == (before, 3)
    record(ledger, *batch)
    assert [sequence for _, sequence, _ in recorded(ledger, coupon)] == [1, 2, 3, 4, 5]
    assert issued(ledger, coupon) == 5


def test_drains_side_by_side_record_the_same_batches_once_whatever_their_order(ledger: Ledger) -> None:
    coupons = [add_coupon(ledger, 200), add_coupon(ledger, 200)]
    batch = [
        replace(issuance(coupon, number), request_id=f"{coupon}-{number}")
        for number in range(1, 201)
        for coupon in coupons
    ]

    def work(part: int) -> None:
        mine = batch if part % 2 else batch[::-1]
        ledger.run(lambda connection: record_issuances(connection, mine))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    for coupon in coupons:
        assert [sequence for _, sequence, _ in recorded(ledger, coupon)] == list(range(1, 201))
        assert issued(ledger, coupon) == 200


def test_more_than_the_quantity_is_refused(ledger: Ledger) -> None:
    coupon = add_coupon(ledger, total=2)
    record(ledger, issuance(coupon, 1), issuance(coupon, 2))
    assert_refused(ledger, "ck_coupons_issued_within_quantity", issuance(coupon, 3))


def test_two_sessions_cannot_together_record_more_than_the_quantity(ledger: Ledger) -> None:
    """Each stays within the limit by itself; the row's lock makes the second one see the first one's count."""
    coupon = add_coupon(ledger, total=15)

    def work(start: int) -> bool:
        try:
            record(ledger, *(issuance(coupon, number) for number in range(start, start + 10)))
        except IntegrityError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(work, (1, 11))) == [False, True]
    assert issued(ledger, coupon) == len(recorded(ledger, coupon)) == 10


def test_a_second_coupon_for_one_user_is_refused(ledger: Ledger) -> None:
    coupon = add_coupon(ledger)
    record(ledger, issuance(coupon, 1))
    twice = replace(issuance(coupon, 2), user_id=1001)
    assert_refused(ledger, "uq_user_coupons_coupon_id_user_id", issuance(coupon, 3), twice)


def test_one_user_may_have_several_different_coupons(ledger: Ledger) -> None:
    coupons = [add_coupon(ledger, name=name) for name in ("하나", "둘")]
    record(ledger, *(replace(issuance(coupon, 1), request_id=f"r{coupon}") for coupon in coupons))
    assert [coupon.name for coupon in available_coupons_of_user(ledger, 1001)] == ["하나", "둘"]


def test_a_place_in_line_that_is_taken_is_refused(ledger: Ledger) -> None:
    coupon = add_coupon(ledger)
    record(ledger, issuance(coupon, 1))
    assert_refused(ledger, "uq_user_coupons_coupon_id_sequence", replace(issuance(coupon, 2), sequence=1))


def test_a_coupon_that_does_not_exist_is_refused(ledger: Ledger) -> None:
    assert_refused(ledger, "fk_user_coupons_coupon_id", issuance(add_coupon(ledger) + 1, 1))


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"sequence": 0}, "ck_user_coupons_sequence_positive"),
        ({"user_id": 0}, "ck_user_coupons_user_positive"),
        ({"user_id": -1}, "ck_user_coupons_user_positive"),
    ],
)
def test_numbers_that_cannot_be_are_refused(ledger: Ledger, change: dict[str, int], constraint: str) -> None:
    assert_refused(ledger, constraint, replace(issuance(add_coupon(ledger), 1), **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("issued = -1", "ck_coupons_issued_within_quantity"),
        ("total_quantity = 0", "ck_coupons_quantity_positive"),
        ("discount_amount = 0", "ck_coupons_discount_positive"),
        ("status = 'PAUSED'", "ck_coupons_status_known"),
        ("starts_at = now(), ends_at = now()", "ck_coupons_window_forward"),
    ],
)
def test_a_coupon_that_cannot_be_is_refused(ledger: Ledger, change: str, constraint: str) -> None:
    coupon = add_coupon(ledger)
    with pytest.raises(IntegrityError, match=constraint), ledger.transaction() as connection:
        connection.execute(text(f"UPDATE coupons SET {change} WHERE id = {coupon}"))


def test_a_quantity_below_what_was_issued_is_refused(ledger: Ledger) -> None:
    coupon = add_coupon(ledger, total=5)
    record(ledger, issuance(coupon, 1), issuance(coupon, 2))
    with pytest.raises(IntegrityError, match="issued_within_quantity"), ledger.transaction() as connection:
        ledger_coupons.update_coupon(connection, coupon, {}, -4)
    with ledger.transaction() as connection:
        changed = ledger_coupons.update_coupon(connection, coupon, {}, -3)
    assert changed is not None
    assert (changed.total_quantity, changed.version) == (2, 2)


def test_the_largest_numbers_are_recorded_exactly(ledger: Ledger) -> None:
    coupon = add_coupon(ledger, total=LARGEST)
    record(ledger, replace(issuance(coupon, 1), user_id=LARGEST, sequence=LARGEST))
    assert recorded(ledger, coupon) == [(LARGEST, LARGEST, "0.1.1.c0001")]


def test_my_coupons_are_those_i_can_still_use_oldest_first(ledger: Ledger) -> None:
    coupons = [add_coupon(ledger, name=name) for name in ("하나", "둘", "셋")]
    for number, coupon in enumerate(coupons, 1):
        record(ledger, replace(issuance(coupon, 1), request_id=f"r{number}", user_id=7))
    record(ledger, replace(issuance(coupons[0], 2), user_id=8))
    with ledger.transaction() as connection:
        connection.execute(text("UPDATE user_coupons SET status = 'USED' WHERE request_id = 'r2'"))
    mine = available_coupons_of_user(ledger, 7)
    assert [(coupon.coupon_id, coupon.name, coupon.discount_amount) for coupon in mine] == [
        (coupons[0], "하나", 500),
        (coupons[2], "셋", 500),
    ]
    assert available_coupons_of_user(ledger, 9) == []


def test_a_change_has_to_be_published_until_its_own_version_was(ledger: Ledger) -> None:
    coupon = add_coupon(ledger)

    def unpublished() -> list[int]:
        with ledger.read() as connection:
            return [waiting.version for waiting in ledger_coupons.unpublished_coupons(connection)]

    with ledger.transaction() as connection:
        begin_epoch(connection, 3, examined=None, has=Standing(0), rebuilt=True)

    def mark(version: int, epoch: int = 1) -> None:
        with ledger.transaction() as connection:
            ledger_coupons.mark_published(connection, coupon, version, lane=3, epoch=epoch)

    mark(1, epoch=0)  # confirmed by a server that is not the lane's any more
    assert unpublished() == [1]
    mark(1)
    assert unpublished() == []
    with ledger.transaction() as connection:
        ledger_coupons.update_coupon(connection, coupon, {"status": "INACTIVE"}, 0)
    mark(1)
    assert unpublished() == [2]
    mark(2)
    mark(1)
    assert unpublished() == []
