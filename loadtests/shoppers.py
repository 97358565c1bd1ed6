"""What the scenarios of the shop have in common: one call, one order, one coupon, one end."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import IO, Any

import gevent
from locust import FastHttpUser, constant, events
from locust.env import Environment
from locust.exception import StopUser

from loadtests.outcomes import ATTEMPT

POLLS = 100
POLL_SECONDS = 0.05
OUTAGE_SECONDS = 0.5
"""What somebody does who gets no answer, or BUSY: look away for a moment, instead of spending all attempts on a closed
door."""
UNANSWERED = (0, 503)
ANSWERS = (200, 201, 202, 404, 409)


@dataclass(frozen=True)
class ScenarioSettings:
    """Who may try what, how often in all, and where the answers go."""

    attempts: int
    first_user: int
    users: int
    hot_product: int
    cold_products: tuple[int, ...]
    coupon: int
    outcomes: str

    @classmethod
    def from_environment(cls) -> ScenarioSettings:
        """Read what the runner has set; nothing here has a default, because a runner that forgets is wrong."""
        environ = os.environ
        return cls(
            attempts=int(environ["ATTEMPTS"]),
            first_user=int(environ["FIRST_USER"]),
            users=int(environ["USERS"]),
            hot_product=int(environ["HOT_PRODUCT"]),
            cold_products=tuple(int(number) for number in environ["COLD_PRODUCTS"].split(",")),
            coupon=int(environ["COUPON"]),
            outcomes=environ["OUTCOMES"],
        )


class _Run:
    """What the greenlets of one run share."""

    def __init__(self, settings: ScenarioSettings) -> None:
        self.settings = settings
        self.numbers = count(1)
        self.remaining = settings.attempts
        self.outcomes: IO[str] = open(settings.outcomes, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - as long as the run


_run: _Run


@events.init.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    global _run
    _run = _Run(ScenarioSettings.from_environment())
    environment.process_exit_code = 0  # whether all is well is for the verdict to say


def _record(name: str, status: int, request_id: str | None = None) -> None:
    """Write one line for the verdict; a reader sees whole lines."""
    line = {"name": name, "status": status, "requestId": request_id, "at": time.time()}
    _run.outcomes.write(json.dumps(line) + "\n")


class Shopper(FastHttpUser):
    """Somebody at the shop. Every answer is written down; a 503 or a broken connection counts as none."""

    abstract = True
    wait_time = constant(0)
    connection_timeout = 5.0
    network_timeout = 15.0

    @property
    def settings(self) -> ScenarioSettings:
        """The settings of this run."""
        return _run.settings

    @contextmanager
    def attempt_in_turn(self) -> Iterator[int]:
        """The number of the next attempt, while it is made; the last ends the run. Raises StopUser when all are made.

        An attempt is on record only when it came to its end: Locust survives an error in a scenario, and what it lost
        is no proof of anything.
        """
        number = next(_run.numbers)
        if number > _run.settings.attempts:
            raise StopUser
        try:
            yield number
            _record(ATTEMPT, 200)
        finally:
            _run.remaining -= 1
            if _run.remaining == 0:
                _run.outcomes.flush()
                gevent.spawn(self.environment.runner.quit)

    def some_user(self) -> int:
        """One of the users, by chance."""
        return self.settings.first_user + random.randrange(self.settings.users)

    def order(
        self, user_id: int, quantities: Mapping[int, int], coupon: int | None, key: str | None
    ) -> dict[str, Any] | None:
        """Place an order; the answer, a refusal included."""
        items = [{"productId": product, "quantity": quantity} for product, quantity in quantities.items()]
        body = {"userId": user_id, "orderItems": items, **({} if coupon is None else {"userCouponId": coupon})}
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.call("POST", "/api/v1/orders", "order", json=body, headers=headers)

    def poll(self, request_id: str) -> dict[str, Any] | None:
        """Ask until the request has ended; its result if it was COMPLETED."""
        for _ in range(POLLS):
            state = self.call("GET", f"/api/v1/requests/{request_id}", "poll")
            if state and state.get("status") in ("COMPLETED", "FAILED"):
                result: dict[str, Any] | None = state["result"]
                return result
            gevent.sleep(POLL_SECONDS)
        return None

    def get_coupon(self, user_id: int) -> int | None:
        """The id of this user's coupon, if they get one now."""
        path = f"/api/v1/coupons/{self.settings.coupon}/issue"
        answer = self.call("POST", path, "issue", json={"userId": user_id}, headers={"Prefer": "wait=2"})
        return None if answer is None else answer.get("userCouponId")

    def call(self, method: str, path: str, name: str, **options: Any) -> dict[str, Any] | None:
        """The JSON answer, a refusal included; None when there was none."""
        with self.client.request(method, path, name=name, catch_response=True, **options) as response:
            status = response.status_code or 0
            answer: dict[str, Any] | None = json.loads(response.text) if status in ANSWERS else None
            if answer is not None:
                response.success()
            request_id = answer.get("requestId") if answer and name == "order" else None
            _record(name, status, request_id)
        if status in UNANSWERED:
            gevent.sleep(OUTAGE_SECONDS)
        return answer
