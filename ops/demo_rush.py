"""A crowd for the console's demo: ``python -m ops demo rush``.

It knows what a client knows: the address, and what the answers say. Everybody asks once before anybody asks again, a
busy gate is asked again with the same idempotency key, a winner follows their request until it is durable, and asks
anew if it was lost. Bounded in number and time; one at a time in a data folder; ends by itself. What it has come to is
in ``DATA_DIR/demo-rush.json``, a few times a second.
"""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ops.console import complain
from ops.demo_shopper import Answer, Shopper
from ops.readiness import reachable_host
from ops.rush_progress import RushProgress

LOCK_FILE = "demo-rush.lock"
SHOPPERS = 24
"""Connections that ask side by side."""
FIRST_USER = 1_000_000
"""So that nobody of the shop to play with is in the crowd."""
ASKING_SECONDS = 120.0
SETTLING_SECONDS = 60.0
BUSY_SECONDS = (0.1, 0.5)
LOOK_AGAIN_SECONDS = 0.05


@dataclass
class _Queue:
    """Who asks next. Thread-safe."""

    users: Sequence[int]
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> tuple[int, int] | None:
        """A number of its own and the user who asks, or None when everybody has asked."""
        with self._lock:
            if self._next >= len(self.users):
                return None
            self._next += 1
            return self._next, self.users[self._next - 1]


class DemoRush:
    """One crowd and one coupon."""

    def __init__(self, make_shopper: Callable[[], Shopper], progress: RushProgress) -> None:
        self._make_shopper = make_shopper
        self._progress = progress
        self._accepted: list[tuple[int, str]] = []
        self._winners: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def run(self) -> bool:
        """Ask, follow, judge; whether everything held."""
        progress = self._progress
        coupon_id = self._offer()
        if coupon_id is None:
            progress.enter("failed")
            return False
        progress.coupon_id = coupon_id
        progress.enter("asking")
        queue = _Queue(_order_of_asking(progress.users, progress.requests))
        self._side_by_side(lambda shopper, deadline: self._ask_all(shopper, coupon_id, queue, deadline), ASKING_SECONDS)
        progress.enter("settling")
        waiting = _Queue(range(len(self._accepted)))
        self._side_by_side(lambda shopper, deadline: self._follow(shopper, coupon_id, waiting, deadline),
                           SETTLING_SECONDS)  # fmt: skip
        self._judge(coupon_id)
        held = all(progress.checks.values())
        progress.enter("done")
        return held

    def _offer(self) -> int | None:
        progress = self._progress
        name = f"데모 러시 {time.strftime('%H:%M:%S')}"
        body = {"name": name, "discountAmount": 1_000, "totalQuantity": progress.coupons}
        shopper = self._make_shopper()
        deadline = time.monotonic() + SETTLING_SECONDS
        while time.monotonic() < deadline:
            answer = shopper.post("/api/v1/admin/coupons", body, key=progress.rush_id)
            if answer.status == 201:
                return int(answer.body["id"])
            time.sleep(random.uniform(*BUSY_SECONDS))
        return None

    def _side_by_side(self, work: Callable[[Shopper, float], None], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with ThreadPoolExecutor(SHOPPERS) as shoppers:
            for done in [shoppers.submit(work, self._make_shopper(), deadline) for _ in range(SHOPPERS)]:
                done.result()

    def _ask_all(self, shopper: Shopper, coupon_id: int, queue: _Queue, deadline: float) -> None:
        while (turn := queue.take()) is not None and time.monotonic() < deadline:
            number, user_id = turn
            answer = self._ask(shopper, coupon_id, user_id, str(number), deadline)
            if not answer.is_final:
                return
            if answer.status == 202:
                with self._lock:
                    self._accepted.append((user_id, str(answer.body["requestId"])))
            self._progress.count("asked", "accepted" if answer.status == 202 else "refused")

    def _ask(self, shopper: Shopper, coupon_id: int, user_id: int, attempt: str, deadline: float) -> Answer:
        """The final answer; whoever is told to come again comes again, as the same request."""
        key = f"{self._progress.rush_id}-{attempt}"
        while True:
            answer = shopper.post(f"/api/v1/coupons/{coupon_id}/issue", {"userId": user_id}, key)
            if answer.is_final or time.monotonic() >= deadline:
                return answer
            self._progress.count("busy")
            time.sleep(random.uniform(*BUSY_SECONDS))

    def _follow(self, shopper: Shopper, coupon_id: int, waiting: _Queue, deadline: float) -> None:
        """Until a winner's coupon is durable. What Redis forgot before it was recorded is lost, and asked for anew."""
        while (turn := waiting.take()) is not None:
            user_id, request_id = self._accepted[turn[1]]
            attempt = 0
            while time.monotonic() < deadline:
                answer = shopper.get(f"/api/v1/requests/{request_id}")
                status = answer.body.get("status")
                if answer.status == 200 and status == "COMPLETED":
                    with self._lock:
                        self._winners.append((user_id, int(answer.body["result"]["sequence"])))
                    self._progress.count("confirmed")
                    break
                if answer.status == 404 or status == "FAILED":
                    self._progress.count("lost")
                    attempt += 1
                    again = self._ask(shopper, coupon_id, user_id, f"{turn[0]}-again-{attempt}", deadline)
                    if again.status != 202:
                        break
                    request_id = str(again.body["requestId"])
                    continue
                time.sleep(LOOK_AGAIN_SECONDS)

    def _judge(self, coupon_id: int) -> None:
        """What has to hold, from what clients were told and from what the shop says of the coupon."""
        progress = self._progress
        due = min(progress.coupons, progress.users)
        shopper = self._make_shopper()
        deadline = time.monotonic() + SETTLING_SECONDS
        coupon = shopper.get(f"/api/v1/admin/coupons/{coupon_id}")
        while (coupon.status != 200 or coupon.body["pending"]) and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_SECONDS)
            coupon = shopper.get(f"/api/v1/admin/coupons/{coupon_id}")
        places = sorted(sequence for _, sequence in self._winners)
        progress.checks = {
            "everybody_asked": progress.asked == progress.requests,
            "all_given": coupon.body.get("issued") == due,
            "all_durable": coupon.body.get("pending") == 0 and len(self._winners) == due,
            "one_each": len({user_id for user_id, _ in self._winners}) == len(self._winners),
            "places_in_order": places == list(range(1, due + 1)),
        }


def _order_of_asking(users: int, requests: int) -> list[int]:
    """Everybody once in random order, then whoever is impatient again."""
    everybody = list(range(FIRST_USER, FIRST_USER + users))
    random.shuffle(everybody)
    return everybody + random.choices(everybody, k=requests - users)


HELD, OFF, ANOTHER_CROWD = 0, 1, 3


def let_loose(rush_id: str, users: int, requests: int, coupons: int) -> int:
    """Let the crowd loose; the exit code."""
    data_dir = Path(os.environ.get("DATA_DIR", "var"))
    with open(data_dir / LOCK_FILE, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            complain("a crowd is at it already")
            return ANOTHER_CROWD
        host = reachable_host(os.environ.get("HOST", "127.0.0.1"))
        port = int(os.environ.get("PORT", "8000"))
        progress = RushProgress(data_dir, rush_id, users, requests, coupons)
        with progress.published():
            return HELD if DemoRush(lambda: Shopper(host, port), progress).run() else OFF
