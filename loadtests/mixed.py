"""Locust: a realistic day. Most look around, some charge, take a coupon, order, look at what became of it.

Configured as ``order_rush.py`` is, and ends as it does.
"""

from __future__ import annotations

import random

from locust import task

from loadtests.shoppers import Shopper

LARGEST_CHARGE = 50_000
CANCELLED_SHARE = 0.1


class Visitor(Shopper):
    """One visit after another; each is one attempt."""

    @task(10)
    def browse(self) -> None:
        """Look at what is on sale and at what sells."""
        with self.attempt_in_turn():
            self.call("GET", "/api/v1/products", "products")
            self.call("GET", "/api/v1/products/popular", "popular")

    @task(3)
    def charge(self) -> None:
        """Put money on the balance and look at it."""
        with self.attempt_in_turn():
            user_id = self.some_user()
            amount = random.randint(1, LARGEST_CHARGE)
            self.call("POST", f"/api/v1/users/{user_id}/balance/charge", "charge", json={"amount": amount})
            self.call("GET", f"/api/v1/users/{user_id}/balance", "balance")

    @task(2)
    def take_coupon(self) -> None:
        """Ask for the coupon, look at those one has."""
        with self.attempt_in_turn():
            user_id = self.some_user()
            self.get_coupon(user_id)
            self.call("GET", f"/api/v1/users/{user_id}/coupons", "my coupons")

    @task(4)
    def buy(self) -> None:
        """Order one or two things, follow the order, look at one's orders."""
        with self.attempt_in_turn():
            user_id = self.some_user()
            wanted = random.sample([self.settings.hot_product, *self.settings.cold_products], k=2)
            answer = self.order(user_id, {product: random.randint(1, 2) for product in wanted}, None, None)
            if answer and "requestId" in answer:
                result = self.poll(answer["requestId"])
                self.call("GET", f"/api/v1/users/{user_id}/orders", "my orders")
                if result is not None and random.random() < CANCELLED_SHARE:
                    self.call("POST", f"/api/v1/orders/{result['orderId']}/cancel", "cancel")
