"""The routes that are measured over HTTP: what is sent, what has to come back, and how to see that it was real."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from engine.shop import popularity
from loadtests.benchmark.loads import Load
from loadtests.benchmark.plans import Cycle, Plan, get, post, post_counting
from loadtests.benchmark.servers.empty import PATH as EMPTY_PATH
from loadtests.benchmark.shop import Shop, issue_coupons, offer_coupon, open_shop, place_orders
from loadtests.benchmark.soundness import CouponCounts, Tally, count_coupon, judge_coupon, judge_orders
from loadtests.benchmark.stage import Stage
from loadtests.verdict import Check

API = "/api/v1"
BIG_QUANTITY = 100_000_000
POLLED_REQUESTS = 500
ORDERS_BEFORE = 200
REST_SECONDS = 0.5
"""So long nobody in the queue for a lock gets it only when nobody is in it any more."""


class Route(ABC):
    """One row. ``statuses`` are the answers it is measured by; ``server`` names the port of the stage."""

    key: str
    title: str
    statuses: tuple[int, ...] = (200,)
    server = "web"

    def __init__(self, stage: Stage, shop: Shop) -> None:
        """Set up what is asked for."""
        self.stage = stage
        self.shop = shop
        self.checks: list[Check] = []
        """What was seen on the way."""

    @abstractmethod
    def plan(self) -> Plan:
        """What the next slice sends."""

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """The state in which a slice is measured, for as long as it lasts."""
        yield

    def add(self, load: Load, connections: int) -> None:  # noqa: B027 - most have nothing to note
        """Take note of what a slice was told."""

    def await_rest(self) -> None:  # noqa: B027 - for most that takes no time worth waiting for
        """Wait until the server works no more on what it was sent last."""

    def judge(self) -> list[Check]:
        """At the end, when all is quiet: whether the route did its work."""
        return self.checks

    def look(self, path: str) -> httpx.Response:
        """One request of ours, to see what the crowd sees."""
        return httpx.get(f"http://127.0.0.1:{self.stage.ports[self.server]}{path}", timeout=30)


class Empty(Route):
    """What every ratio is over."""

    key, title, server = "empty", "empty Flask route", "empty"

    def plan(self) -> Plan:
        return post_counting(EMPTY_PATH, "userId")


class Health(Route):
    key, title = "healthz", "/healthz"

    def plan(self) -> Plan:
        return Cycle((get("/healthz"),))


class Products(Route):
    key, title = "products", "products"

    def plan(self) -> Plan:
        return Cycle((get(f"{API}/products"),))

    def judge(self) -> list[Check]:
        listed = len(self.look(f"{API}/products").json()["products"])
        return [Check("products: all of them are listed", listed == len(self.shop.product_ids), f"{listed} products")]


class Popular(Route):
    key, title = "popular", "popular products"

    def __init__(self, stage: Stage, shop: Shop) -> None:
        super().__init__(stage, shop)
        popularity.rebuild_ranking(stage.engine)

    def plan(self) -> Plan:
        return Cycle((get(f"{API}/products/popular"),))

    def judge(self) -> list[Check]:
        listed = len(self.look(f"{API}/products/popular").json()["popularProducts"])
        return [Check("popular: five are listed", listed == popularity.SHOWN, f"{listed} products")]


class PendingPoll(Route):
    """Polls of requests that are decided and not yet in the ledger: the drain is kept from them meanwhile."""

    key, title = "poll-pending", "poll of a pending request"

    def __init__(self, stage: Stage, shop: Shop) -> None:
        super().__init__(stage, shop)
        self._coupon_id = offer_coupon(stage.engine, BIG_QUANTITY)
        self._next_user = 1
        self._request_ids: list[str] = []

    @contextmanager
    def loaded(self) -> Iterator[None]:
        with self.stage.nothing_drained():
            users = range(self._next_user, self._next_user + POLLED_REQUESTS)
            self._next_user += POLLED_REQUESTS
            self._request_ids = issue_coupons(self.stage.engine, self._coupon_id, users)
            yield
            self.checks.append(self._still("PENDING"))

    def plan(self) -> Plan:
        return Cycle(tuple(get(f"{API}/requests/{request_id}") for request_id in self._request_ids))

    def judge(self) -> list[Check]:
        return [*self.checks, self._still("COMPLETED")]

    def _still(self, status: str) -> Check:
        seen = {self.look(f"{API}/requests/{each}").json().get("status") for each in self._request_ids[::50]}
        return Check(f"{self.key}: the requests are {status}", seen == {status}, f"seen {seen}")


class CompletedPoll(Route):
    """Polls of requests that are in the ledger."""

    key, title = "poll-completed", "poll of a completed request"

    def __init__(self, stage: Stage, shop: Shop) -> None:
        super().__init__(stage, shop)
        coupon_id = offer_coupon(stage.engine, BIG_QUANTITY)
        self._request_ids = issue_coupons(stage.engine, coupon_id, range(1, POLLED_REQUESTS + 1))

    def requests(self) -> tuple[bytes, ...]:
        """A poll of each."""
        return tuple(get(f"{API}/requests/{request_id}") for request_id in self._request_ids)

    def plan(self) -> Plan:
        return Cycle(self.requests())

    def judge(self) -> list[Check]:
        seen = {self.look(f"{API}/requests/{each}").json().get("status") for each in self._request_ids[::50]}
        return [Check(f"{self.key}: the requests are COMPLETED", seen == {"COMPLETED"}, f"seen {seen}")]


class Issue(Route):
    """A coupon that is never sold out, asked for by somebody else each time."""

    key, title, statuses = "issue", "issue, accepted", (202,)

    def __init__(self, stage: Stage, shop: Shop) -> None:
        super().__init__(stage, shop)
        self.coupon_id = offer_coupon(stage.engine, BIG_QUANTITY)
        self._tally = Tally()

    def plan(self) -> Plan:
        return post_counting(f"{API}/coupons/{self.coupon_id}/issue", "userId")

    def add(self, load: Load, connections: int) -> None:
        self._tally.add(load, 202, connections=connections)

    def judge(self) -> list[Check]:
        return judge_coupon(self.key, count_coupon(self.stage.engine, self.coupon_id), self._tally)


class SoldOut(Route):
    """A coupon that is gone, asked for by somebody else each time."""

    key, title, statuses = "sold-out", "issue, sold out", (409,)

    def __init__(self, stage: Stage, shop: Shop) -> None:
        super().__init__(stage, shop)
        self._coupon_id = offer_coupon(stage.engine, 1)
        issue_coupons(stage.engine, self._coupon_id, [1])

    def plan(self) -> Plan:
        return post_counting(f"{API}/coupons/{self._coupon_id}/issue", "userId")

    def judge(self) -> list[Check]:
        return judge_coupon(self.key, count_coupon(self.stage.engine, self._coupon_id), Tally(accepted=1))


class Orders(Route):
    """Orders of two products, by buyers who can pay."""

    key, title, statuses = "orders", "order submission", (202,)

    def __init__(self, stage: Stage, shop: Shop) -> None:
        super().__init__(stage, shop)
        self._tally = Tally()
        bodies = []
        for number in range(1000):
            user_id, quantities = shop.order(number)
            items = [{"productId": product, "quantity": units} for product, units in quantities.items()]
            bodies.append(post(f"{API}/orders", {"userId": user_id, "orderItems": items}))
        self._plan = Cycle(tuple(bodies))

    def plan(self) -> Plan:
        return self._plan

    def add(self, load: Load, connections: int) -> None:
        self._tally.add(load, 202, connections=connections)

    def judge(self) -> list[Check]:
        return judge_orders(self.stage.engine, self._tally, before=ORDERS_BEFORE)


class Lock(Route):
    """The usual way: a lock in Redis, then ``SELECT … FOR UPDATE``."""

    key, title, server, statuses = "lock", "issue by a lock and SELECT … FOR UPDATE", "lock", (201,)

    def __init__(self, stage: Stage, shop: Shop) -> None:
        super().__init__(stage, shop)
        self._coupon_id = offer_coupon(stage.engine, BIG_QUANTITY)
        self._tally = Tally()

    def plan(self) -> Plan:
        return post_counting(f"/coupons/{self._coupon_id}/issue", "userId")

    def add(self, load: Load, connections: int) -> None:
        self._tally.add(load, 201, connections=connections)

    def await_rest(self) -> None:
        before, now = -1, self._counts().rows
        while now != before:
            time.sleep(REST_SECONDS)
            before, now = now, self._counts().rows

    def judge(self) -> list[Check]:
        return judge_coupon(self.key, self._counts(), self._tally)

    def _counts(self) -> CouponCounts:
        return count_coupon(self.stage.engine, self._coupon_id, at_the_gate=False)


ROUTES: tuple[type[Route], ...] = (
    Health, Products, Popular, PendingPoll, CompletedPoll, Issue, SoldOut, Orders, Lock,
)  # fmt: skip


def open_shop_with_sales(stage: Stage) -> Shop:
    """A shop in which something has been sold already, so that there is something popular."""
    shop = open_shop(stage.engine)
    place_orders(stage.engine, shop, ORDERS_BEFORE)
    stage.await_quiet()
    return shop
