"""The life of coupons, orders and balances as a client sees it, on the processes that ``make run`` starts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.e2e.whole_stack import Shop, assert_problem, created
from tests.shop.told import INVALID_REQUEST
from tests.stack.stack_driver import wait_until

KEY_REUSED = (422, "IDEMPOTENCY_KEY_REUSED", "같은 멱등키로 다른 요청을 보낼 수 없습니다")
CLOSED = (409, "COUPON_CLOSED", "쿠폰 발급이 마감되었습니다")
NOT_CANCELLABLE = (409, "ORDER_NOT_CANCELLABLE", "취소할 수 없는 주문입니다")
LARGEST = 2**53 - 1
MOST_CHARGED = 100_000_000
CALLS = 50


def charge(shop: Shop, user: int, amount: object, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return shop.client.post(f"/users/{user}/balance/charge", json={"amount": amount}, headers=headers)


def balance(shop: Shop, user: int) -> int:
    return int(shop.client.get(f"/users/{user}/balance").json()["balance"])


def change(shop: Shop, coupon: int, **members: object) -> httpx.Response:
    return shop.client.patch(f"/admin/coupons/{coupon}", json=members)


def reason(answer: httpx.Response) -> str:
    return str(assert_problem(answer, *CLOSED)["reason"])


def moment(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


# Coupons


def test_a_coupon_is_granted_at_once_and_durable_soon(shop: Shop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    answer = shop.issue(coupon, user)
    assert answer.status_code == 202
    body = answer.json()
    request_id = body["requestId"]
    assert body == {
        "requestId": request_id,
        "kind": "coupon_issue",
        "status": "PENDING",
        "couponId": coupon,
        "userId": user,
        "sequence": 1,
    }
    assert answer.headers["Location"] == f"/api/v1/requests/{request_id}"
    state = shop.final_state(request_id)
    assert (state["requestId"], state["kind"], state["status"]) == (request_id, "coupon_issue", "COMPLETED")
    assert state["error"] is None
    [held] = shop.client.get(f"/users/{user}/coupons").json()["userCoupons"]
    assert (held["id"], held["couponId"]) == (state["result"]["userCouponId"], coupon)


def test_a_request_is_pending_until_the_commit(shop: Shop) -> None:
    """The coupon's row is locked, so that no drain can commit: nobody may be told COMPLETED."""
    coupon, user = shop.add_coupon(), shop.add_user()
    with shop.coupon_locked(coupon):
        request_id = shop.issue(coupon, user).json()["requestId"]
        answer = shop.client.get(f"/requests/{request_id}", headers={"Prefer": "wait=1"})
        assert (answer.status_code, answer.json()["status"], answer.json()["result"]) == (200, "PENDING", None)
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["Preference-Applied"] == "wait=1"
        assert shop.client.get(f"/admin/coupons/{coupon}").json()["pending"] == 1
    assert shop.final_state(request_id)["status"] == "COMPLETED"
    overview = shop.client.get(f"/admin/coupons/{coupon}").json()
    assert (overview["issued"], overview["remaining"], overview["pending"]) == (1, 99, 0)


def test_who_prefers_to_wait_gets_the_durable_coupon(shop: Shop) -> None:
    answer = shop.issue(shop.add_coupon(), shop.add_user(), prefer="wait=10")
    assert created(answer)["sequence"] == 1
    assert answer.headers["Preference-Applied"] == "wait=10"
    state = shop.client.get(answer.headers["Location"].removeprefix("/api/v1")).json()
    assert (state["status"], state["result"]) == ("COMPLETED", answer.json())


def test_the_same_key_replays_the_grant_and_another_key_does_not(shop: Shop) -> None:
    coupon, user = shop.add_coupon(), shop.add_user()
    first = shop.issue(coupon, user, idempotency_key="k1")
    again = shop.issue(coupon, user, idempotency_key="k1")
    assert (again.status_code, again.json()) == (202, first.json())
    assert shop.final_state(first.json()["requestId"])["status"] == "COMPLETED"
    durable = shop.issue(coupon, user, idempotency_key="k1", prefer="wait=10")
    assert created(durable)["sequence"] == 1
    for other in (shop.issue(coupon, user, idempotency_key="k2"), shop.issue(coupon, user)):
        assert_problem(other, 409, "COUPON_ALREADY_ISSUED", "이미 발급받은 쿠폰입니다")
    assert shop.client.get(f"/admin/coupons/{coupon}").json()["issued"] == 1


def test_sequences_have_no_gaps_and_the_last_coupon_goes_to_exactly_one_user(shop: Shop) -> None:
    coupon = shop.add_coupon(quantity=10)
    users = [shop.add_user() for _ in range(20)]
    with ThreadPoolExecutor(20) as crowd:
        answers = list(crowd.map(lambda user: shop.issue(coupon, user), users))
    won = [answer.json() for answer in answers if answer.status_code == 202]
    assert sorted(each["sequence"] for each in won) == list(range(1, 11))
    assert {reason(answer) for answer in answers if answer.status_code != 202} == {"SOLD_OUT"}
    assert all(shop.final_state(each["requestId"])["status"] == "COMPLETED" for each in won)
    assert shop.scalar("SELECT count(*) FROM user_coupons WHERE coupon_id = :id", id=coupon) == 10


def test_pausing_resuming_and_extending_are_live_at_once(shop: Shop) -> None:
    coupon = shop.add_coupon(quantity=1)
    assert change(shop, coupon, status="INACTIVE").json()["status"] == "INACTIVE"
    assert reason(shop.issue(coupon, shop.add_user())) == "INACTIVE"
    assert change(shop, coupon, status="ACTIVE").status_code == 200
    assert shop.issue(coupon, shop.add_user()).json()["sequence"] == 1
    assert reason(shop.issue(coupon, shop.add_user())) == "SOLD_OUT"
    assert change(shop, coupon, addQuantity=1).json()["totalQuantity"] == 2
    assert shop.issue(coupon, shop.add_user()).json()["sequence"] == 2
    assert reason(shop.issue(coupon, shop.add_user())) == "SOLD_OUT"


def test_the_window_is_live_at_once(shop: Shop) -> None:
    coupon = shop.add_coupon(startsAt=moment(1), endsAt=moment(2))
    assert reason(shop.issue(coupon, shop.add_user())) == "NOT_STARTED"
    assert change(shop, coupon, startsAt=moment(-1)).status_code == 200
    assert shop.issue(coupon, shop.add_user()).status_code == 202
    assert change(shop, coupon, endsAt=moment(-0.5)).status_code == 200
    assert reason(shop.issue(coupon, shop.add_user())) == "ENDED"
    assert change(shop, coupon, endsAt=None).status_code == 200
    assert shop.issue(coupon, shop.add_user()).json()["sequence"] == 2
    assert assert_problem(change(shop, coupon, endsAt=moment(-2)), *INVALID_REQUEST)["errors"][0]["field"] == "endsAt"


def test_a_request_that_was_never_made_is_not_found(shop: Shop) -> None:
    answer = shop.client.get("/requests/0.1.1.c" + "0" * 44)
    assert_problem(answer, 404, "REQUEST_NOT_FOUND", "존재하지 않는 요청입니다")


# Keys with other bodies


def test_a_key_is_not_taken_for_another_charge(shop: Shop) -> None:
    user = shop.add_user()
    assert charge(shop, user, 100, "k").status_code == 200
    assert_problem(charge(shop, user, 101, "k"), *KEY_REUSED)
    assert charge(shop, shop.add_user(), 101, "k").status_code == 200
    assert balance(shop, user) == 100


def test_a_key_is_not_taken_for_another_order(shop: Shop) -> None:
    user, product = shop.add_user(balance=100), shop.add_product(price=1)
    first = shop.order(user, {product: 1}, idempotency_key="k")
    assert first.status_code == 202
    assert_problem(shop.order(user, {product: 2}, idempotency_key="k"), *KEY_REUSED)
    assert shop.order(user, {product: 1}, idempotency_key="k").json() == first.json()
    assert shop.final_state(first.json()["requestId"])["status"] == "COMPLETED"
    assert balance(shop, user) == 99


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/admin/users", {"name": "가"}, {"name": "나"}),
        (
            "/admin/products",
            {"name": "상품", "price": 1, "stock": 1, "status": "INACTIVE"},
            {"name": "상품", "price": 2, "stock": 1, "status": "INACTIVE"},
        ),
        (
            "/admin/coupons",
            {"name": "쿠폰", "discountAmount": 1, "totalQuantity": 1},
            {"name": "쿠폰", "discountAmount": 1, "totalQuantity": 2},
        ),
    ],
)
def test_a_key_makes_one_thing_and_is_not_taken_for_another(
    shop: Shop, path: str, body: dict[str, object], other: dict[str, object]
) -> None:
    headers = {"Idempotency-Key": f"one-{path}"}
    first = shop.client.post(path, json=body, headers=headers)
    again = shop.client.post(path, json=body, headers=headers)
    assert created(first) == created(again)
    assert_problem(shop.client.post(path, json=other, headers=headers), *KEY_REUSED)


# Orders


def test_a_cancelled_order_gives_everything_back_once(shop: Shop) -> None:
    user, product = shop.add_user(balance=10_000), shop.add_product(price=3000, stock=5)
    coupon = created(shop.issue(shop.add_coupon(discount=1000), user, prefer="wait=10"))["userCouponId"]
    order = created(shop.order(user, {product: 2}, coupon, prefer="wait=10"))
    cancel = f"/orders/{order['orderId']}/cancel"
    cancelled = shop.client.post(cancel, headers={"Idempotency-Key": "c"})
    assert (cancelled.status_code, cancelled.json()) == (200, {**order, "status": "CANCELLED"})
    assert shop.client.post(cancel, headers={"Idempotency-Key": "c"}).json() == cancelled.json()
    assert_problem(shop.client.post(cancel), *NOT_CANCELLABLE)
    assert_problem(shop.client.post(cancel, json={"userId": user}, headers={"Idempotency-Key": "c"}), *KEY_REUSED)
    assert balance(shop, user) == 10_000
    assert [held["id"] for held in shop.client.get(f"/users/{user}/coupons").json()["userCoupons"]] == [coupon]
    sold = "SELECT coalesce(sum(quantity), 0) FROM product_stats WHERE product_id = :id"
    unfinished = "SELECT count(*) FROM order_followups WHERE order_id = :id AND status <> 'DONE'"
    wait_until(lambda: shop.scalar(unfinished, id=order["orderId"]) == 0, "what follows from the cancellation is done")
    assert shop.scalar(sold, id=product) == 0
    shown = shop.client.get("/products").json()["products"]
    assert next(each["stock"] for each in shown if each["id"] == product) == 5


def test_nobody_elses_order_is_cancelled_and_no_unknown_one(shop: Shop) -> None:
    user, product = shop.add_user(balance=1), shop.add_product(price=1)
    order = created(shop.order(user, {product: 1}, prefer="wait=10"))["orderId"]
    not_found = (404, "ORDER_NOT_FOUND", "존재하지 않는 주문입니다")
    assert_problem(shop.client.post(f"/orders/{order}/cancel", json={"userId": shop.add_user()}), *not_found)
    assert_problem(shop.client.post(f"/orders/{LARGEST}/cancel"), *not_found)
    assert_problem(shop.client.get(f"/orders/{LARGEST}"), *not_found)
    assert shop.client.get(f"/orders/{order}").json()["status"] == "COMPLETED"


def pages(shop: Shop, path: str, member: str, limit: int) -> list[list[int]]:
    """The ids on each page, from the first to the last."""
    id_name = {"orders": "orderId", "transactions": "transactionId"}[member]
    found, cursor = [], None
    while True:
        parameters = {"limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
        body = shop.client.get(path, params=parameters).raise_for_status().json()
        found.append([each[id_name] for each in body[member]])
        cursor = body["nextCursor"]
        if cursor is None:
            return found


def test_orders_are_paged_newest_first(shop: Shop) -> None:
    user, product = shop.add_user(balance=5), shop.add_product(price=1)
    ids = [created(shop.order(user, {product: 1}, prefer="wait=10"))["orderId"] for _ in range(5)]
    newest = sorted(ids, reverse=True)
    assert pages(shop, f"/users/{user}/orders", "orders", 2) == [newest[:2], newest[2:4], newest[4:]]
    assert pages(shop, f"/users/{user}/orders", "orders", 5) == [newest]


def test_transactions_are_paged_newest_first(shop: Shop) -> None:
    user = shop.add_user()
    newest = [charge(shop, user, amount).json()["transactionId"] for amount in range(1, 5)][::-1]
    assert pages(shop, f"/users/{user}/balance/transactions", "transactions", 3) == [newest[:3], newest[3:]]


@pytest.mark.parametrize("parameters", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"cursor": "x"}])
def test_a_page_that_cannot_be_is_refused(shop: Shop, parameters: dict[str, str]) -> None:
    for path in ("orders", "balance/transactions"):
        answer = shop.client.get(f"/users/{shop.add_user()}/{path}", params=parameters)
        assert_problem(answer, *INVALID_REQUEST)


# Charges


def test_fifty_identical_charges_at_once_are_one(shop: Shop) -> None:
    user = shop.add_user()
    with ThreadPoolExecutor(CALLS) as crowd:
        answers = list(crowd.map(lambda _: charge(shop, user, 1000, "once"), range(CALLS)))
    answered = [answer for answer in answers if answer.status_code == 200]
    # A crowd that waits for one row may use up the connections; those are told so, and the same call gets the answer.
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert len({answer.text for answer in [*answered, charge(shop, user, 1000, "once")]}) == 1
    assert balance(shop, user) == 1000
    assert len(shop.client.get(f"/users/{user}/balance/transactions").json()["transactions"]) == 1


@pytest.mark.parametrize("amount", [1, MOST_CHARGED])
def test_a_charge_within_its_bounds_is_booked(shop: Shop, amount: int) -> None:
    user = shop.add_user()
    assert charge(shop, user, amount).json()["newBalance"] == amount


@pytest.mark.parametrize(
    "amount", [0, -1, MOST_CHARGED + 1, LARGEST, LARGEST + 1, 1.0, 0.5, True, "1", None, [1], {}, 10**400]
)
def test_a_charge_out_of_its_bounds_changes_nothing(shop: Shop, amount: object) -> None:
    user = shop.add_user(balance=7)
    assert assert_problem(charge(shop, user, amount), *INVALID_REQUEST)["errors"]
    assert balance(shop, user) == 7


@pytest.mark.parametrize(
    "body", ['{"amount":NaN}', '{"amount":1,"amount":1}', '{"amount":1,"note":""}', "", "{", '{"amount":1e0}']
)
def test_a_body_that_is_not_as_agreed_changes_nothing(shop: Shop, body: str) -> None:
    user = shop.add_user()
    answer = shop.client.post(
        f"/users/{user}/balance/charge", content=body, headers={"Content-Type": "application/json"}
    )
    assert_problem(answer, *INVALID_REQUEST)
    assert balance(shop, user) == 0


def test_the_largest_exact_numbers_are_accepted_and_no_larger_one(shop: Shop) -> None:
    path = f"/users/{LARGEST}/balance"
    assert_problem(shop.client.get(path), 404, "USER_NOT_FOUND", "사용자를 찾을 수 없습니다")
    assert_problem(shop.client.get(f"/users/{LARGEST + 1}/balance"), 400, "INVALID_USER_ID", "유효하지 않은 사용자 ID")
    coupon = shop.add_coupon()
    assert shop.issue(coupon, LARGEST).json()["userId"] == LARGEST
    assert_problem(shop.issue(coupon, LARGEST + 1), *INVALID_REQUEST)


def test_a_balance_never_becomes_larger_than_can_be_told_exactly(shop: Shop) -> None:
    user = shop.add_user()
    shop.execute(f"UPDATE accounts SET balance = {LARGEST - 10} WHERE user_id = {user}")
    assert charge(shop, user, 10).json()["newBalance"] == LARGEST
    assert shop.client.get(f"/users/{user}/balance").json()["balance"] == LARGEST
    assert_problem(charge(shop, user, 1), *INVALID_REQUEST)
    assert balance(shop, user) == LARGEST
    shop.execute(f"UPDATE accounts SET balance = 10 WHERE user_id = {user}")
