"""What there is to win and to buy: always something plentiful, and always something about to run out."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from tests.faults.machine.asking import Asker

PLENTY = 100_000
SMALL_COUPON = 40
SMALL_PRODUCT = 30
RICH_USERS = 60
POOR_USERS = 10
BALANCE = 50_000_000
PRICES = (1_000, 2_500, 4_000)
DISCOUNT = 500
PLENTIFUL = 3
"""Coupons and products that never run out, so many of each: with two lanes, some in either."""
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.4


class ShopClosed(Exception):
    """The shop did not take an administrator's word in time; the text says what it answered last."""


class Offers:
    """The coupons, products and users of a run. Readers may read from any thread while :meth:`keep_going` adds."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._asker = Asker(ports)
        self._daily_asker = Asker(ports)  # of the thread that keeps going: a connection is one thread's
        self._names = count(1)
        self._random = random.Random()
        self.users: list[int] = []
        self.coupons: list[int] = []
        self.products: list[int] = []
        self.small_coupon = 0
        self.small_product = 0

    def open(self) -> None:
        """Users with and without money, and the first coupons and products."""
        for number in range(RICH_USERS + POOR_USERS):
            user_id = int(self._insist("/admin/users", {})["userId"])
            if number < RICH_USERS:
                self._insist(f"/users/{user_id}/balance/charge", {"amount": BALANCE})
            self.users.append(user_id)
        self.renew()

    def renew(self) -> None:
        """New coupons and products in the place of all there are: what comes is checked apart from what was."""
        self.coupons = [self._coupon(PLENTY) for _ in range(PLENTIFUL)]
        self.products = [self._product(PLENTY, price) for price in PRICES]
        self.small_coupon = self._coupon(SMALL_COUPON)
        self.small_product = self._product(SMALL_PRODUCT, PRICES[0])

    def close(self) -> None:
        """Leave no connection open; the daily one closes with its thread."""
        self._asker.close()

    def enlarge(self, coupon_id: int, quantity: int) -> None:
        """Add to a coupon until the shop has taken it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._asker.ask("PATCH", f"/admin/coupons/{coupon_id}", {"addQuantity": quantity}).status != 200:
            if time.monotonic() > deadline:
                raise ShopClosed(f"coupon {coupon_id} could not be enlarged")
            time.sleep(0.1)

    def keep_going(self, going: threading.Event, leave: threading.Event) -> None:
        """Add and change while ``going``, until told to leave: what administrators do all day."""
        while not leave.wait(PAUSE_SECONDS):
            if going.is_set():
                self._change_something()
        self._daily_asker.close()

    def _change_something(self) -> None:
        """One word that may get lost: the next one will be heard."""
        choice = self._random.randrange(4)
        if choice == 0:
            made = self._daily_asker.ask("POST", "/admin/coupons", self._coupon_body(SMALL_COUPON))
            if made.status == 201:
                self.small_coupon = int(made.body["id"])
        elif choice == 1:
            made = self._daily_asker.ask("POST", "/admin/products", self._product_body(SMALL_PRODUCT, PRICES[0]))
            if made.status == 201:
                self.small_product = int(made.body["id"])
        elif choice == 2:
            self._daily_asker.ask("PATCH", f"/admin/coupons/{self._random.choice(self.coupons)}", {"addQuantity": 5})
        else:
            self._daily_asker.ask("PATCH", f"/admin/products/{self._random.choice(self.products)}", {"addStock": 5})

    def _coupon(self, quantity: int) -> int:
        return int(self._insist("/admin/coupons", self._coupon_body(quantity))["id"])

    def _product(self, stock: int, price: int) -> int:
        return int(self._insist("/admin/products", self._product_body(stock, price))["id"])

    def _coupon_body(self, quantity: int) -> dict[str, object]:
        return {"name": f"쿠폰 {next(self._names)}", "discountAmount": DISCOUNT, "totalQuantity": quantity}

    def _product_body(self, stock: int, price: int) -> dict[str, object]:
        return {"name": f"상품 {next(self._names)}", "price": price, "stock": stock}

    def _insist(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        key, deadline = secrets.token_hex(8), time.monotonic() + PATIENCE_SECONDS
        while True:
            exchange = self._asker.ask("POST", path, body, key=key)
            if exchange.status in (200, 201):
                return exchange.body
            if not exchange.unknown or time.monotonic() > deadline:
                raise ShopClosed(f"POST {path}: {exchange.status} {dict(exchange.body)}")
            time.sleep(0.1)
