"""The whole stack with AUTH=jwt: two users and an administrator, with tokens as ``make token`` prints them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext

import httpx
import pytest

from loadtests import private_stack
from ops.processes import PROJECT_ROOT
from ops.stack import secret_path
from tests.e2e.whole_stack import Shop, assert_problem, open_shop

UNAUTHENTICATED = (401, "UNAUTHENTICATED", "인증이 필요합니다")
LIMIT = 40
FORBIDDEN = (403, "FORBIDDEN", "권한이 없습니다")


@pytest.fixture(scope="module")
def guarded_shop() -> Iterator[Shop]:
    """A shop that asks who calls; its own client is an administrator."""
    shop = open_shop(AUTH="jwt", LIMIT_PER_USER=str(LIMIT))
    shop.client.headers["Authorization"] = bearer(shop, 1, "--admin")
    yield shop
    shop.close()


def bearer(shop: Shop, user_id: int, *options: str) -> str:
    """An ``Authorization`` header with the token that the command prints."""
    command = [sys.executable, "-m", "ops", "token", "--user", str(user_id), *options]
    environ = {"DATA_DIR": str(shop.driver.data_dir)}
    printed = subprocess.run(command, cwd=PROJECT_ROOT, env=environ, check=True, capture_output=True, text=True)
    return f"Bearer {printed.stdout.strip()}"


def client_of(shop: Shop, user_id: int) -> httpx.Client:
    """The user's own client."""
    headers = {"Authorization": bearer(shop, user_id)}
    return httpx.Client(base_url=shop.client.base_url, headers=headers, timeout=15)


def test_users_shop_for_themselves_and_nobody_sees_what_others_have(guarded_shop: Shop) -> None:
    shop = guarded_shop
    me, other = shop.add_user(balance=10_000), shop.add_user(balance=10_000)
    coupon, product = shop.add_coupon(), shop.add_product(price=2_000)
    with client_of(shop, me) as mine, client_of(shop, other) as theirs:
        issued = mine.post(f"/coupons/{coupon}/issue", json={"userId": me})
        assert issued.status_code == 202, issued.text
        request_id = issued.json()["requestId"]
        assert mine.get(f"/requests/{request_id}", headers={"Prefer": "wait=5"}).json()["status"] == "COMPLETED"
        assert theirs.get(f"/requests/{request_id}").status_code == 404
        assert shop.final_state(request_id)["result"]["userId"] == me  # the administrator sees everything

        body = {"userId": me, "orderItems": [{"productId": product, "quantity": 1}]}
        ordered = mine.post("/orders", json=body, headers={"Prefer": "wait=5"})
        assert ordered.status_code == 201, ordered.text
        order_id = ordered.json()["orderId"]
        assert mine.get(f"/orders/{order_id}").json()["paidAmount"] == 2_000
        missing = (404, "ORDER_NOT_FOUND", "존재하지 않는 주문입니다")
        assert_problem(theirs.get(f"/orders/{order_id}"), *missing)
        assert_problem(theirs.post(f"/orders/{order_id}/cancel"), *missing)
        assert mine.get(f"/users/{me}/balance").json()["balance"] == 8_000

        for answer in (
            theirs.post(f"/coupons/{coupon}/issue", json={"userId": me}),
            theirs.post("/orders", json=body),
            theirs.get(f"/users/{me}/balance"),
            theirs.get(f"/users/{me}/coupons"),
            theirs.get(f"/users/{me}/orders"),
            theirs.post(f"/users/{me}/balance/charge", json={"amount": 1}),
            theirs.post("/admin/users", json={}),
        ):
            assert_problem(answer, *FORBIDDEN)
        assert mine.post(f"/orders/{order_id}/cancel").status_code == 200


def test_somebody_elses_pending_request_does_not_exist_either(guarded_shop: Shop) -> None:
    shop = guarded_shop
    me, other, coupon = shop.add_user(), shop.add_user(), shop.add_coupon()
    with client_of(shop, me) as mine, client_of(shop, other) as theirs, shop.coupon_locked(coupon):
        request_id = mine.post(f"/coupons/{coupon}/issue", json={"userId": me}).json()["requestId"]
        assert mine.get(f"/requests/{request_id}").json()["status"] == "PENDING"
        assert theirs.get(f"/requests/{request_id}", headers={"Prefer": "wait=5"}).status_code == 404
    assert shop.final_state(request_id)["status"] == "COMPLETED"


def test_without_a_token_there_is_the_shop_window_and_nothing_else(guarded_shop: Shop) -> None:
    shop = guarded_shop
    with httpx.Client(base_url=shop.client.base_url, timeout=15) as nobody:
        assert nobody.get("/products").status_code == 200
        assert nobody.get("/products/popular").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{shop.driver.port}/openapi.json").json()["components"]["securitySchemes"]
        answer = nobody.post("/coupons/1/issue", json={"userId": 1})
        assert_problem(answer, *UNAUTHENTICATED)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        forged = nobody.get("/users/1/balance", headers={"Authorization": "Bearer a.b.c"})
        assert_problem(forged, *UNAUTHENTICATED)


def test_one_users_calls_are_limited_in_all_processes_together_and_only_theirs(guarded_shop: Shop) -> None:
    shop = guarded_shop
    me, other = shop.add_user(), shop.add_user()
    with client_of(shop, me) as mine, client_of(shop, other) as theirs:
        granted = 0
        while (answer := mine.get(f"/users/{me}/balance")).status_code == 200:
            granted += 1
            assert granted <= 2 * LIMIT
        assert granted >= LIMIT
        assert_problem(answer, 429, "TOO_MANY_REQUESTS", "요청이 너무 많습니다")
        assert int(answer.headers["Retry-After"]) >= 1
        assert theirs.get(f"/users/{other}/balance").status_code == 200
        assert shop.client.get(f"/users/{me}/balance").status_code == 200  # an administrator


def test_neither_the_secret_nor_a_token_is_ever_printed(guarded_shop: Shop) -> None:
    shop = guarded_shop
    secret = secret_path(shop.driver.data_dir).read_text().strip()
    token = str(shop.client.headers["Authorization"]).removeprefix("Bearer ")
    printed = shop.driver.output + shop.driver.complaint
    assert secret not in printed
    assert token.rpartition(".")[2] not in printed


def test_a_crowd_has_no_tokens_and_takes_a_stack_of_its_own(
    guarded_shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(private_stack, "private_stack", lambda: nullcontext("a private stack"))
    with private_stack.running_or_private_stack(guarded_shop.driver.data_dir) as stack:
        assert stack == "a private stack"
    assert "has AUTH=jwt, and a crowd has no tokens" in capsys.readouterr().out
