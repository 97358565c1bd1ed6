"""Clients that send half a request hold up nobody else, and are sent away when their time is over."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.whole_stack import Shop
from web.bodies import BODY_SECONDS, LOOK_SECONDS

HALF = (
    b"POST /api/v1/coupons/%d/issue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 50\r\n\r\n{"userId"'
)
CROWD = 500


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
    body = b'{"userId": 7}'
    head = HALF[: HALF.index(b"Content-Length")] % coupon + b"Content-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", shop.driver.port), timeout=30) as connection:
        connection.sendall(head)
        for part in (body[:5], body[5:]):
            time.sleep(0.2)  # the slowness of this client
            connection.sendall(part)
        assert connection.recv(4096).startswith(b"HTTP/1.1 202")
    assert BODY_SECONDS > LOOK_SECONDS
