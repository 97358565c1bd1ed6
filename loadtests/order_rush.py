"""Locust: many users want one hot product; some have no money, some redeem a coupon, some cancel.

Configured by the environment: ``ATTEMPTS`` in all, ``FIRST_USER`` and ``USERS`` who may try, ``HOT_PRODUCT``,
``COLD_PRODUCTS`` (comma-separated), ``COUPON``, and ``OUTCOMES``, the file to which every answer goes, a JSON per line.
Ends by itself when all attempts are made.
"""

from __future__ import annotations

import random
from typing import Any

from locust import task

from loadtests.shoppers import Shopper

REDEEMING_SHARE = 0.1
BASKET_SHARE = 0.3
KEYED_SHARE = 0.3
REPEATED_SHARE = 0.2
FOLLOWED_SHARE = 0.6
CANCELLED_SHARE = 0.2


class Buyer(Shopper):
    """Orders the hot product, again and again, as one user or another."""

    @task
    def attempt(self) -> None:
        """One order, and what some do after it."""
        with self.attempt_in_turn() as number:
            self._order(number)

    def _order(self, number: int) -> None:
        user_id = self.some_user()
        coupon = self.get_coupon(user_id) if random.random() < REDEEMING_SHARE else None
        quantities = {self.settings.hot_product: 1}
        if self.settings.cold_products and random.random() < BASKET_SHARE:
            quantities[random.choice(self.settings.cold_products)] = random.randint(1, 3)
        key = f"rush-{self.settings.first_user}-{number}" if random.random() < KEYED_SHARE else None
        answer = self.order(user_id, quantities, coupon, key)
        if key is not None and (answer is None or random.random() < REPEATED_SHARE):
            answer = self.order(user_id, quantities, coupon, key)
        if answer and "requestId" in answer and random.random() < FOLLOWED_SHARE:
            self._follow(answer["requestId"])

    def _follow(self, request_id: str) -> None:
        """Poll to the end; some cancel what they bought."""
        result: dict[str, Any] | None = self.poll(request_id)
        if result is not None and random.random() < CANCELLED_SHARE:
            self.call("POST", f"/api/v1/orders/{result['orderId']}/cancel", "cancel")
