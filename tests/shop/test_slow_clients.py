"""Clients that send half a request, or nothing, hold up nobody else, and are sent away when their time is over."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.e2e.whole_stack import Shop
from web.bodies import BODY_SECONDS, LOOK_SECONDS

HALF = (
    b"POST /api/v1/coupons/%d/issue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 50\r\n\r\n{"userId"'
)
HALF_HEADERS = HALF[: HALF.index(b"Content-Type")]
CROWD = 500
OF_EACH_KIND = 600


@pytest.fixture
def half_open(shop: Shop) -> Iterator[list[socket.socket]]:
    """Connections that have sent their headers and half of a body."""
    coupon = shop.add_coupon()
    with ExitStack() as connections:
        opened = []
        for _ in range(CROWD):
            connection = connections.enter_context(
                socket.create_connection(("127.0.0.1", shop.driver.port), timeout=30)
            )
            connection.sendall(HALF % coupon)
            opened.append(connection)
        yield opened


def test_five_hundred_half_sent_bodies_do_not_stop_the_service(shop: Shop, half_open: list[socket.socket]) -> None:
    coupon, user = shop.add_coupon(), shop.add_user(1000)
    for _ in range(20):
        assert shop.issue(coupon, shop.add_user()).status_code == 202
        assert shop.client.get("/products").status_code == 200
        assert shop.client.get(f"/users/{user}/balance").json()["balance"] == 1000
    told = half_open[0].recv(4096)
    assert told.startswith(b"HTTP/1.1 408")
    assert b'"code":"INVALID_REQUEST"' in told


def test_a_body_that_comes_slowly_but_in_time_is_answered(shop: Shop) -> None:
    coupon = shop.add_coupon()
    body = b'{"userId": %d}' % shop.add_user()
    head = HALF[: HALF.index(b"Content-Length")] % coupon + b"Content-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", shop.driver.port), timeout=30) as connection:
        connection.sendall(head)
        for part in (body[:5], body[5:]):
            time.sleep(0.2)  # the slowness of this client
            connection.sendall(part)
        assert connection.recv(4096).startswith(b"HTTP/1.1 202")
    assert BODY_SECONDS > LOOK_SECONDS


@pytest.fixture
def enough_files() -> Iterator[None]:
    """As many open files as this test needs in its own process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("enough_files")
def test_connections_by_the_thousand_that_want_nothing_yet_do_not_stop_the_service(shop: Shop) -> None:
    """More than granian would accept by default (1,024): those beyond that, it leaves in the kernel for ever."""
    coupon, user = shop.add_coupon(), shop.add_user(1000)
    with ExitStack() as connections:
        for sent in (b"", HALF_HEADERS, HALF % coupon):
            for _ in range(OF_EACH_KIND):
                address = ("127.0.0.1", shop.driver.port)
                connections.enter_context(socket.create_connection(address, timeout=30)).sendall(sent)
        with httpx.Client(base_url=shop.client.base_url, timeout=5) as newcomer:
            for _ in range(20):
                body = {"userId": shop.add_user()}
                assert newcomer.post(f"/coupons/{coupon}/issue", json=body).status_code == 202
                assert newcomer.get("/products").status_code == 200
                balance = newcomer.get(f"/users/{user}/balance")
                assert balance.status_code == 200, balance.text
                assert balance.json()["balance"] == 1000
