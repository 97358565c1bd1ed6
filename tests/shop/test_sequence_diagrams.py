"""Every branch of the seven sequence diagrams, over HTTP; ``tests/BRANCHES.md`` says which test shows which branch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.gate import keys
from tests.e2e.whole_stack import BreakableShop, Shop, assert_problem, created
from tests.shop.told import BUSY, INVALID_REQUEST, TEMPORARY_ERROR
from tests.stack.stack_driver import wait_until

USER_NOT_FOUND = (404, "USER_NOT_FOUND", "사용자를 찾을 수 없습니다")
INVALID_USER_ID = (400, "INVALID_USER_ID", "유효하지 않은 사용자 ID")
COUPON_CLOSED = (409, "COUPON_CLOSED", "쿠폰 발급이 마감되었습니다")
NOBODY = 2**53 - 1
LIST_SECONDS = 300


# 1. 잔액 충전


def test_charge_of_an_invalid_request(shop: Shop) -> None:
    answer = shop.client.post(f"/users/{shop.add_user()}/balance/charge", json={"amount": 0})
    assert [error["field"] for error in assert_problem(answer, *INVALID_REQUEST)["errors"]] == ["amount"]


def test_charge_of_an_unknown_user(shop: Shop) -> None:
    assert_problem(shop.client.post(f"/users/{NOBODY}/balance/charge", json={"amount": 1}), *USER_NOT_FOUND)


def test_charge_succeeds(shop: Shop) -> None:
    user = shop.add_user(balance=500)
    answer = shop.client.post(f"/users/{user}/balance/charge", json={"amount": 1500})
    assert answer.status_code == 200
    body = answer.json()
    assert body == {"userId": user, "newBalance": 2000, "transactionId": body["transactionId"]}
    newest = shop.client.get(f"/users/{user}/balance/transactions").json()["transactions"][0]
    assert newest["transactionId"] == body["transactionId"]
    assert (newest["type"], newest["amount"], newest["balanceAfter"], newest["status"]) == (
        "CHARGE",
        1500,
        2000,
        "COMPLETED",
    )


# 2. 잔액 조회


@pytest.mark.parametrize("user_id", ["0", "-1", "abc", "1.0", "007", str(2**53)])
def test_balance_of_an_invalid_user_id(shop: Shop, user_id: str) -> None:
    assert_problem(shop.client.get(f"/users/{user_id}/balance"), *INVALID_USER_ID)


def test_balance_of_an_unknown_user(shop: Shop) -> None:
    assert_problem(shop.client.get(f"/users/{NOBODY}/balance"), *USER_NOT_FOUND)


def test_balance_is_found(shop: Shop) -> None:
    user = shop.add_user(balance=700)
    answer = shop.client.get(f"/users/{user}/balance")
    assert (answer.status_code, answer.json()) == (200, {"userId": user, "balance": 700})


# 3. 상품 조회


def test_products_from_the_cache(shop: BreakableShop) -> None:
    product = shop.add_product(price=1200, stock=3)
    assert product in listed(shop)
    with shop.without_postgres():
        assert product in listed(shop)


def test_products_when_the_database_fails(shop: BreakableShop) -> None:
    with shop.without_postgres():
        shop.redis().delete(keys.product_list())
        assert_problem(shop.client.get("/products"), *TEMPORARY_ERROR)


def test_products_when_there_are_none(shop: Shop) -> None:
    for product in listed(shop):
        shop.client.patch(f"/admin/products/{product}", json={"status": "INACTIVE"}).raise_for_status()
    answer = shop.client.get("/products")
    assert (answer.status_code, answer.json()) == (200, {"products": [], "message": "등록된 상품이 없습니다"})


def test_products_from_the_database_are_cached_for_five_minutes(shop: Shop) -> None:
    product = shop.add_product(price=1200, stock=3)
    answer = shop.client.get("/products")
    assert answer.status_code == 200
    shown = next(each for each in answer.json()["products"] if each["id"] == product)
    assert shown == {"id": product, "name": shown["name"], "price": 1200, "stock": 3, "status": "ACTIVE"}
    assert "message" not in answer.json()
    assert LIST_SECONDS - 60 < int(str(shop.redis().ttl(keys.product_list()))) <= LIST_SECONDS


# 4. 선착순 쿠폰 발급


@pytest.mark.parametrize("body", ["{}", '{"userId": 0}', '{"userId": "1"}', '{"userId": 1, "userId": 2}', "[", "null"])
def test_issue_of_an_invalid_request(shop: Shop, body: str) -> None:
    answer = shop.client.post(
        f"/coupons/{shop.add_coupon()}/issue", content=body, headers={"Content-Type": "application/json"}
    )
    assert assert_problem(answer, *INVALID_REQUEST)["errors"]


def test_issue_while_the_gate_is_not_to_be_had(shop: BreakableShop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    with shop.without_redis():
        assert_problem(shop.issue(coupon, user), *BUSY)
    assert created(shop.issue(coupon, user, prefer="wait=10"))["sequence"] == 1


def test_issue_of_an_unknown_coupon(shop: Shop) -> None:
    assert_problem(shop.issue(NOBODY, shop.add_user()), 404, "COUPON_NOT_FOUND", "존재하지 않는 쿠폰입니다")


def test_issue_of_a_coupon_one_has(shop: Shop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    assert shop.issue(coupon, user).status_code == 202
    assert_problem(shop.issue(coupon, user), 409, "COUPON_ALREADY_ISSUED", "이미 발급받은 쿠폰입니다")


def test_issue_of_a_sold_out_coupon(shop: Shop) -> None:
    coupon = shop.add_coupon(quantity=1)
    assert shop.issue(coupon, shop.add_user()).status_code == 202
    assert assert_problem(shop.issue(coupon, shop.add_user()), *COUPON_CLOSED)["reason"] == "SOLD_OUT"


def test_issue_of_an_inactive_coupon(shop: Shop) -> None:
    coupon = shop.add_coupon(status="INACTIVE")
    assert assert_problem(shop.issue(coupon, shop.add_user()), *COUPON_CLOSED)["reason"] == "INACTIVE"


def test_issue_that_the_database_refuses(shop: BreakableShop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    with inserts_refused(shop, "user_coupons", f"NEW.user_id = {user} AND NEW.coupon_id = {coupon}"):
        answer = shop.issue(coupon, user, prefer="wait=10")
        assert_problem(answer, *TEMPORARY_ERROR)


def test_issue_succeeds(shop: Shop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    body = created(shop.issue(coupon, user, prefer="wait=10"))
    assert body.keys() == {"userCouponId", "couponId", "userId", "sequence", "issuedAt"}
    assert (body["couponId"], body["userId"], body["sequence"]) == (coupon, user, 1)
    held = shop.scalar("SELECT status FROM user_coupons WHERE id = :id", id=body["userCouponId"])
    assert held == "AVAILABLE"


# 5. 쿠폰 조회


@pytest.mark.parametrize("user_id", ["0", "x"])
def test_coupons_of_an_invalid_user_id(shop: Shop, user_id: str) -> None:
    assert_problem(shop.client.get(f"/users/{user_id}/coupons"), *INVALID_USER_ID)


def test_coupons_when_the_database_fails(shop: BreakableShop) -> None:
    user = shop.add_user()
    with shop.without_postgres():
        assert_problem(shop.client.get(f"/users/{user}/coupons"), *TEMPORARY_ERROR)


def test_coupons_of_who_has_none(shop: Shop) -> None:
    answer = shop.client.get(f"/users/{shop.add_user()}/coupons")
    assert (answer.status_code, answer.json()) == (200, {"userCoupons": [], "message": "보유한 쿠폰이 없습니다"})


def test_coupons_are_found(shop: Shop) -> None:
    coupon, user = shop.add_coupon(discount=2500), shop.add_user()
    issued = created(shop.issue(coupon, user, prefer="wait=10"))
    body = shop.client.get(f"/users/{user}/coupons").json()
    [held] = body["userCoupons"]
    assert held == {
        "id": issued["userCouponId"],
        "couponId": coupon,
        "name": held["name"],
        "discountAmount": 2500,
        "issuedAt": issued["issuedAt"],
    }
    assert "message" not in body


# 6. 주문/결제


def test_order_takes_stock_coupon_and_money(shop: Shop) -> None:
    user, product = shop.add_user(balance=10_000), shop.add_product(price=3000, stock=5)
    coupon = created(shop.issue(shop.add_coupon(discount=1000), user, prefer="wait=10"))["userCouponId"]
    order = created(shop.order(user, {product: 2}, coupon, prefer="wait=10"))
    assert (order["status"], order["totalAmount"], order["discountAmount"], order["paidAmount"]) == (
        "COMPLETED",
        6000,
        1000,
        5000,
    )
    assert stock_of(shop, product) == 3
    assert shop.scalar("SELECT status FROM user_coupons WHERE id = :id", id=coupon) == "USED"
    assert shop.client.get(f"/users/{user}/balance").json()["balance"] == 5000
    newest = shop.client.get(f"/users/{user}/balance/transactions").json()["transactions"][0]
    assert (newest["type"], newest["amount"], newest["status"]) == ("PAYMENT", 5000, "COMPLETED")


def test_order_out_of_stock(shop: Shop) -> None:
    user, product = shop.add_user(balance=10_000), shop.add_product(price=1, stock=1)
    body = assert_problem(shop.order(user, {product: 2}), 409, "OUT_OF_STOCK", "재고가 부족합니다")
    assert body["items"] == [{"productId": product, "requested": 2, "available": 1}]
    assert stock_of(shop, product) == 1


def test_order_with_a_coupon_that_cannot_be_used(shop: Shop) -> None:
    user, product = shop.add_user(balance=10_000), shop.add_product(price=1000, stock=5)
    answer = shop.order(user, {product: 1}, NOBODY, prefer="wait=10")
    assert_problem(answer, 409, "COUPON_NOT_USABLE", "사용할 수 없는 쿠폰입니다")
    assert_given_back(shop, user, 10_000, product, 5)


def test_order_without_enough_money(shop: Shop) -> None:
    user, product = shop.add_user(balance=999), shop.add_product(price=1000, stock=5)
    answer = shop.order(user, {product: 1}, prefer="wait=10")
    assert_problem(answer, 409, "INSUFFICIENT_BALANCE", "잔액이 부족합니다")
    assert_given_back(shop, user, 999, product, 5)


def test_order_is_followed_up(shop: Shop) -> None:
    user, product = shop.add_user(balance=10_000), shop.add_product(price=1000, stock=5)
    order = created(shop.order(user, {product: 3}, prefer="wait=10"))["orderId"]
    await_followups(shop, order)
    assert shop.scalar("SELECT count(*) FROM order_history_events WHERE order_id = :id", id=order) == 1
    delivered = "SELECT status FROM order_followups WHERE order_id = :id AND kind = 'DATA_PLATFORM'"
    assert shop.scalar(delivered, id=order) == "DONE"
    assert shop.scalar("SELECT sum(quantity) FROM product_stats WHERE product_id = :id", id=product) == 3


def test_order_succeeds_although_its_history_fails(shop: BreakableShop) -> None:
    user, product = shop.add_user(balance=10_000), shop.add_product(price=1000, stock=5)
    with inserts_refused(shop, "order_history_events", "true"):
        order = created(shop.order(user, {product: 1}, prefer="wait=10"))
        assert shop.client.get(f"/orders/{order['orderId']}").json() == order
        wait_until(lambda: attempts(shop, order["orderId"]) > 0, "the history was tried")
        assert shop.client.get(f"/orders/{order['orderId']}").json()["status"] == "COMPLETED"
    await_followups(shop, order["orderId"])
    assert shop.scalar("SELECT count(*) FROM order_history_events WHERE order_id = :id", id=order["orderId"]) == 1


# 7. 인기상품 조회


def test_popular_products_from_the_cache(shop: BreakableShop) -> None:
    product = sold_product(shop)
    assert product in popular(shop)
    with shop.without_postgres():
        assert product in popular(shop)


def test_popular_products_when_the_database_fails(shop: BreakableShop) -> None:
    with shop.without_postgres():
        shop.redis().delete(keys.popular())
        assert_problem(shop.client.get("/products/popular"), *TEMPORARY_ERROR)


def test_popular_products_when_nothing_sold(shop: BreakableShop) -> None:
    shop.execute("DELETE FROM product_stats")
    shop.redis().delete(keys.popular())
    answer = shop.client.get("/products/popular")
    assert (answer.status_code, answer.json()) == (
        200,
        {"popularProducts": [], "message": "통계 데이터가 없습니다"},
    )
    assert 540 < int(str(shop.redis().ttl(keys.popular()))) <= 600


def test_popular_products_from_the_database_are_cached_for_an_hour(shop: BreakableShop) -> None:
    product = sold_product(shop)
    answer = shop.client.get("/products/popular")
    assert answer.status_code == 200
    assert "message" not in answer.json()
    shown = next(each for each in answer.json()["popularProducts"] if each["productId"] == product)
    assert shown == {"productId": product, "name": shown["name"], "totalSales": 500}
    assert 3500 < int(str(shop.redis().ttl(keys.popular()))) <= 3600


def listed(shop: Shop) -> list[int]:
    answer = shop.client.get("/products")
    assert answer.status_code == 200, answer.text
    return [product["id"] for product in answer.json()["products"]]


def popular(shop: Shop) -> list[int]:
    answer = shop.client.get("/products/popular")
    assert answer.status_code == 200, answer.text
    return [product["productId"] for product in answer.json()["popularProducts"]]


def stock_of(shop: Shop, product: int) -> int:
    return next(int(each["stock"]) for each in shop.client.get("/products").json()["products"] if each["id"] == product)


def assert_given_back(shop: Shop, user: int, balance: int, product: int, stock: int) -> None:
    wait_until(lambda: stock_of(shop, product) == stock, "the stock is back on sale")
    assert shop.client.get(f"/users/{user}/balance").json()["balance"] == balance


def sold_product(shop: Shop) -> int:
    """A product of which 500 units are sold, more than of most here, with no ranking cached yet."""
    user, product = shop.add_user(balance=500), shop.add_product(price=1, stock=500)
    await_followups(shop, created(shop.order(user, {product: 500}, prefer="wait=10"))["orderId"])
    shop.redis().delete(keys.popular())
    return product


def await_followups(shop: Shop, order: int) -> None:
    unfinished = "SELECT count(*) FROM order_followups WHERE order_id = :id AND status <> 'DONE'"
    wait_until(lambda: shop.scalar(unfinished, id=order) == 0, f"order {order} is followed up")


def attempts(shop: Shop, order: int) -> int:
    return int(shop.scalar("SELECT coalesce(max(attempts), 0) FROM order_followups WHERE order_id = :id", id=order))


@contextmanager
def inserts_refused(shop: Shop, table: str, condition: str) -> Iterator[None]:
    """The database refuses rows like these for a while."""
    shop.execute("""
        CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'refused by a test'; END $$
    """)
    shop.execute(
        f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()"
    )
    try:
        yield
    finally:
        shop.execute(f"DROP TRIGGER refuse ON {table}")
