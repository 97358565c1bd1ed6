"""The crowd: a Locust scenario that sends a fixed number of attempts at one coupon and then stops by itself.

Settings come from the environment: COUPON_ID, USERS, REQUESTS, OUTCOMES (the JSONL file that every answer goes to).
REQUESTS counts attempts; the polls of those who wait for their coupon come on top. Every user attempts at least once
when there are enough requests, the rest are repeated attempts of the same users, unknown coupons and bad input.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import gevent
from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.exception import StopUser

from loadtests.verdict import NO_ANSWER, Attempt, Purpose

UNKNOWN_COUPON_SHARE = 0.02
BAD_INPUT_SHARE = 0.03
WAITING_SHARE = 0.1
POLLING_SHARE = 0.3
POLLS_LIMIT = 200
POLL_PAUSE_SECONDS = 0.1
OUTAGE_PAUSE_SECONDS = 0.5
"""What somebody does who gets no answer, or BUSY: look away for a moment, instead of spending the whole crowd on a
closed door."""

UNKNOWN_COUPON_ID = 9_007_199_254_740_991


@dataclass(frozen=True)
class Plan:
    """One attempt to be made: ``body`` is sent as it is."""

    purpose: Purpose
    user_id: int
    body: str


class Crowd:
    """What the greenlets of one run share."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.coupon_id = int(environ["COUPON_ID"])
        self.plans = iter(plan_attempts(int(environ["USERS"]), int(environ["REQUESTS"])))
        self.outcomes = open(environ["OUTCOMES"], "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - as long as the run
        self.remaining = int(environ["REQUESTS"])

    def record(self, attempt: Attempt) -> None:
        """Append one answer; a reader sees whole lines."""
        self.outcomes.write(json.dumps(asdict(attempt)) + "\n")


def plan_attempts(users: int, requests: int, seed: int = 7) -> Iterator[Plan]:
    """The attempts in their order: the same for the same numbers. Raises ValueError for less than one of either."""
    if users < 1 or requests < 1:
        raise ValueError("USERS and REQUESTS must be at least 1")
    chance = random.Random(seed)
    newcomers = list(range(1, users + 1))
    chance.shuffle(newcomers)
    for left in range(requests, 0, -1):
        share = chance.random()
        room = left > len(newcomers)
        if room and share < BAD_INPUT_SHARE:
            yield Plan(Purpose.BAD_INPUT, chance.randint(1, users), chance.choice(BAD_BODIES))
            continue
        if room and share < BAD_INPUT_SHARE + UNKNOWN_COUPON_SHARE:
            user_id = chance.randint(1, users)
            yield Plan(Purpose.UNKNOWN_COUPON, user_id, json.dumps({"userId": user_id}))
            continue
        # Newcomers and those who try again are mixed, so that there are repeats while there are coupons left.
        comes_again = room and chance.random() < 1 - len(newcomers) / left
        user_id = chance.randint(1, users) if comes_again or not newcomers else newcomers.pop()
        yield Plan(Purpose.ISSUE, user_id, json.dumps({"userId": user_id}))


BAD_BODIES = (
    "",
    "{",
    "[]",
    "null",
    "{}",
    '{"userId": 0}',
    '{"userId": -1}',
    '{"userId": true}',
    '{"userId": 1.0}',
    '{"userId": "1"}',
    '{"userId": NaN}',
    '{"userId": 9007199254740992}',
    '{"userId": 1, "userId": 2}',
    '{"userId": 1, "extra": 1}',
)

_crowd: Crowd


@events.init.add_listener
def _gather(environment: Environment, **_: Any) -> None:
    global _crowd
    _crowd = Crowd(dict(os.environ))
    environment.process_exit_code = 0  # whether all is well is for the verdict to say


class Shopper(FastHttpUser):
    """One of those who attempt, one attempt after the other, as whoever is next in the plan."""

    network_timeout = 15.0
    connection_timeout = 5.0

    @task
    def attempt(self) -> None:
        """Make the next attempt; when there is none left, go home, the last one ends the run."""
        plan = next(_crowd.plans, None)
        if plan is None:
            raise StopUser
        try:
            self._make(plan)
        finally:
            _crowd.remaining -= 1
            if _crowd.remaining == 0:
                _crowd.outcomes.flush()
                gevent.spawn(self.environment.runner.quit)

    def _make(self, plan: Plan) -> None:
        coupon_id = UNKNOWN_COUPON_ID if plan.purpose is Purpose.UNKNOWN_COUPON else _crowd.coupon_id
        headers = {"Content-Type": "application/json"}
        manner = random.random()
        name = plan.purpose.value
        if manner < WAITING_SHARE:
            headers["Prefer"] = "wait=2"
            name += " (waits)"
        answer = self._send("POST", f"/api/v1/coupons/{coupon_id}/issue", name, plan, data=plan.body, headers=headers)
        if answer.status == 202 and manner < WAITING_SHARE + POLLING_SHARE:
            self._poll(plan, answer.request_id)

    def _poll(self, plan: Plan, request_id: str) -> None:
        poll = Plan(Purpose.POLL, plan.user_id, "")
        for _ in range(POLLS_LIMIT):
            answer = self._send("GET", f"/api/v1/requests/{request_id}", "poll", poll)
            if not answer.unknown and answer.state != "PENDING":
                return
            gevent.sleep(POLL_PAUSE_SECONDS)

    def _send(self, method: str, path: str, name: str, plan: Plan, **more: Any) -> Attempt:
        started = time.perf_counter()
        with self.client.request(method, path, name=name, catch_response=True, **more) as response:
            milliseconds = (time.perf_counter() - started) * 1000
            attempt = _attempt(plan, response, milliseconds)
            _crowd.record(attempt)
            if attempt.unknown:
                response.failure(f"{attempt.status} {attempt.code}".strip())
            else:
                response.success()
        if attempt.unknown:
            gevent.sleep(OUTAGE_PAUSE_SECONDS * (1 + random.random()))
        return attempt


def _attempt(plan: Plan, response: Any, milliseconds: float) -> Attempt:
    status = response.status_code or NO_ANSWER
    body: dict[str, Any] = {}
    location = ""
    if status != NO_ANSWER:
        try:
            body = json.loads(response.text or "null") or {}
        except ValueError:
            body = {"code": "NOT_JSON"}
        location = response.headers.get("Location") or ""
    result = body.get("result") or {}
    return Attempt(
        purpose=plan.purpose,
        user_id=plan.user_id,
        status=status,
        code=body.get("code", ""),
        request_id=body.get("requestId") or location.rpartition("/")[2],
        sequence=body.get("sequence") or result.get("sequence", 0),
        state=body.get("status", "") if plan.purpose is Purpose.POLL and status == 200 else "",
        at=time.time(),
        milliseconds=milliseconds,
    )
