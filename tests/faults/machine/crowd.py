"""The crowd: clients that want coupons and goods, ask again when nobody answers, and write down every word."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from itertools import count
from typing import Any

from tests.faults.machine.asking import Asker, Exchange
from tests.faults.machine.history import Cancellation, Charge, History, Issue, Look, Purchase, Wish
from tests.faults.machine.offers import Offers

CUSTOMERS = 12
LONGEST_PAUSE_SECONDS = 0.08
INSISTENCE_SECONDS = 25.0
"""Longer than a stopped process sleeps."""
LOOKS = 6
LOOK_PAUSE_SECONDS = 0.05
REMEMBERED = 300
IDLE_PATIENCE_SECONDS = 60.0


class Crowd:
    """Threads that shop until told to pause. :attr:`history` is what they wrote down since it was last taken."""

    def __init__(self, ports: tuple[int, ...], offers: Offers, customers: int = CUSTOMERS) -> None:
        self.offers = offers
        self.history = History()
        self.going = threading.Event()
        self._leave = threading.Event()
        self.newcomers = count(1_000_000_000)
        """Users without an account: a coupon needs none."""
        self.askers: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self.pending: deque[str] = deque(maxlen=REMEMBERED)
        self.ended: deque[str] = deque(maxlen=REMEMBERED)
        self.held_coupons: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self.completed_orders: deque[int] = deque(maxlen=REMEMBERED)
        self._customers = [_Customer(self, ports, number) for number in range(customers)]
        self._threads = [
            threading.Thread(target=offers.keep_going, args=(self.going, self._leave), daemon=True),
            *(threading.Thread(target=each.shop, args=(self._leave,), daemon=True) for each in self._customers),
        ]
        for thread in self._threads:
            thread.start()

    def resume(self) -> None:
        """Go on shopping."""
        self.going.set()

    def pause(self) -> None:
        """Return when everybody has come to an end of what they were at. Raises TimeoutError."""
        self.going.clear()
        deadline = time.monotonic() + IDLE_PATIENCE_SECONDS
        while not all(customer.idle.is_set() for customer in self._customers):
            if time.monotonic() > deadline:
                raise TimeoutError("a client does not come to an end")
            time.sleep(0.02)

    def take_history(self) -> History:
        """What was written down, and a fresh page. Only while paused."""
        taken, self.history = self.history, History(forgettings=[])
        for remembered in (self.askers, self.pending, self.ended, self.held_coupons, self.completed_orders):
            remembered.clear()
        return taken

    def leave(self) -> None:
        """Everybody goes home."""
        self._leave.set()
        self.going.clear()
        for thread in self._threads:
            thread.join(IDLE_PATIENCE_SECONDS)


class _Customer:
    """One client and its ways."""

    def __init__(self, crowd: Crowd, ports: tuple[int, ...], number: int) -> None:
        self._crowd = crowd
        self._asker = Asker(ports, number)
        self._random = random.Random(number)
        self._keys = (f"{number}-{key}" for key in count(1))
        self.idle = threading.Event()

    def shop(self, leave: threading.Event) -> None:
        """Until told to leave: one wish after another."""
        ways = (self._want_coupon, self._want_goods, self._charge, self._cancel, self._look_again)
        while not leave.is_set():
            if self._crowd.going.wait(0.05):
                self.idle.clear()
                if self._crowd.going.is_set():
                    [way] = self._random.choices(ways, weights=(50, 30, 5, 5, 10))
                    way()
                    time.sleep(self._random.random() * LONGEST_PAUSE_SECONDS)
            self.idle.set()
        self._asker.close()

    def _want_coupon(self) -> None:
        crowd, offers = self._crowd, self._crowd.offers
        coupon_id = offers.small_coupon if self._happens(0.5) else self._random.choice(offers.coupons)
        user_id = self._random.choice(offers.users) if self._happens(0.2) else next(crowd.newcomers)
        if crowd.askers and self._happens(0.1):
            coupon_id, user_id = self._random.choice(list(crowd.askers))  # somebody tries a second time
        crowd.askers.append((coupon_id, user_id))
        wish = Issue(coupon_id=coupon_id, user_id=user_id, key=self._key(0.7))
        self._insist(wish, f"/coupons/{coupon_id}/issue", {"userId": user_id}, wish.key)
        crowd.history.issues.append(wish)
        self._follow(wish)

    def _want_goods(self) -> None:
        crowd, offers = self._crowd, self._crowd.offers
        choice = [*offers.products, offers.small_product]
        products = self._random.sample(choice, self._random.randint(1, 3))
        quantities = {product: self._random.randint(1, 3) for product in products}
        user_id, user_coupon_id = self._random.choice(offers.users), None
        if crowd.held_coupons and self._happens(0.3):
            user_id, user_coupon_id = self._random.choice(list(crowd.held_coupons))
        lines = [{"productId": product, "quantity": units} for product, units in quantities.items()]
        body: dict[str, Any] = {"userId": user_id, "orderItems": lines}
        if user_coupon_id is not None:
            body["userCouponId"] = user_coupon_id
        wish = Purchase(user_id=user_id, quantities=quantities, user_coupon_id=user_coupon_id, key=self._key(0.7))
        self._insist(wish, "/orders", body, wish.key)
        crowd.history.purchases.append(wish)
        self._follow(wish)

    def _charge(self) -> None:
        user_id, amount = self._random.choice(self._crowd.offers.users), self._random.randint(1, 10_000)
        wish = Charge(user_id=user_id, amount=amount, key=next(self._keys))
        self._insist(wish, f"/users/{user_id}/balance/charge", {"amount": amount}, wish.key)
        self._crowd.history.charges.append(wish)

    def _cancel(self) -> None:
        try:
            order_id = self._crowd.completed_orders.popleft()
        except IndexError:
            return
        wish = Cancellation(order_id=order_id)
        self._insist(wish, f"/orders/{order_id}/cancel", {}, next(self._keys))
        self._crowd.history.cancellations.append(wish)

    def _look_again(self) -> None:
        """Whether an end is still that end, and whether what waited has ended."""
        for remembered in (self._crowd.ended, self._crowd.pending):
            if remembered:
                self._look(self._random.choice(list(remembered)))

    def _insist(self, wish: Wish, path: str, body: dict[str, Any], key: str | None) -> None:
        """Ask until there is an answer; without a key once, because then asking again would be another wish."""
        wait_seconds = 1 if self._happens(0.2) else 0
        deadline = time.monotonic() + INSISTENCE_SECONDS
        while True:
            exchange = self._asker.ask("POST", path, body, key=key, wait_seconds=wait_seconds)
            wish.exchanges.append(exchange)
            if not exchange.unknown:
                break
            if key is None or time.monotonic() > deadline:
                return
            time.sleep(0.05 + self._random.random() * 0.2)
        if key is not None and self._happens(0.1):
            # The answer got lost on the way home, as far as the shop can know.
            wish.exchanges.append(self._asker.ask("POST", path, body, key=key))

    def _follow(self, wish: Issue | Purchase) -> None:
        promised = wish.promised()
        if not promised:
            return
        if promised[-1].status == 201:
            self._note_completed(promised[-1])
            self._crowd.ended.append(promised[-1].request_id)
            return
        for _ in range(LOOKS if self._happens(0.6) else 0):
            if self._look(promised[-1].request_id):
                return
            time.sleep(LOOK_PAUSE_SECONDS)
        self._crowd.pending.append(promised[-1].request_id)

    def _look(self, request_id: str) -> bool:
        """Ask where the request stands; whether it has come to an end."""
        exchange = self._asker.ask("GET", f"/requests/{request_id}")
        state = str(exchange.body.get("status", "")) if exchange.status == 200 else exchange.code
        result = exchange.body.get("result") or {}
        look = Look(request_id, exchange.begin, exchange.end, exchange.status, state, result)
        self._crowd.history.looks.append(look)
        if state == "COMPLETED":
            self._note_completed(Exchange(look.begin, look.end, 200, result))
        if state in ("COMPLETED", "FAILED"):
            self._crowd.ended.append(request_id)
        return state in ("COMPLETED", "FAILED")

    def _note_completed(self, exchange: Exchange) -> None:
        result = exchange.body
        if "orderId" in result:
            self._crowd.completed_orders.append(int(result["orderId"]))
        elif result.get("userId") in self._crowd.offers.users:
            self._crowd.held_coupons.append((int(result["userId"]), int(result["userCouponId"])))

    def _key(self, probability: float) -> str | None:
        return next(self._keys) if self._happens(probability) else None

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability
