"""A crowd for the console's demo: ``python -m ops demo rush``.

It knows what a client knows, and asks as a client does (``client/``): the address, and what the answers say. Everybody
asks once before anybody asks again, a busy gate is asked again with the same idempotency key, a winner follows their
request until it is durable, and asks anew if it was lost. Bounded in number and time; one at a time in a data folder;
ends by itself. What it has come to is in ``DATA_DIR/demo-rush.json``, a few times a second.
"""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from client import IssuedCoupon, Lost, Refused, Shop, ShopError, Submitted
from ops.console import complain
from ops.readiness import host_in_url, reachable_host
from ops.rush_progress import RushProgress

LOCK_FILE = "demo-rush.lock"
SHOPPERS = 24
"""Connections that ask side by side."""
FIRST_USER = 1_000_000
"""So that nobody of the shop to play with is in the crowd."""
ASKING_SECONDS = 120.0
SETTLING_SECONDS = 60.0
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

    def __init__(self, shop: Shop, progress: RushProgress) -> None:
        self._shop = shop
        self._progress = progress
        self._accepted: list[tuple[int, str]] = []
        self._winners: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def run(self) -> bool:
        """Ask, follow, judge; whether everything held."""
        progress = self._progress
        try:
            coupon_id = self._offer()
        except ShopError:
            progress.enter("failed")
            return False
        progress.coupon_id = coupon_id
        progress.enter("asking")
        queue = _Queue(_order_of_asking(progress.users, progress.requests))
        self._side_by_side(lambda deadline: self._ask_all(coupon_id, queue, deadline), ASKING_SECONDS)
        progress.enter("settling")
        waiting = _Queue(range(len(self._accepted)))
        self._side_by_side(lambda deadline: self._follow_all(coupon_id, waiting, deadline), SETTLING_SECONDS)
        self._judge(coupon_id)
        held = all(progress.checks.values())
        progress.enter("done")
        return held

    def _offer(self) -> int:
        name = f"데모 러시 {time.strftime('%H:%M:%S')}"
        return self._shop.offer_coupon(name, 1_000, self._progress.coupons, key=self._progress.rush_id).id

    def _side_by_side(self, work: Callable[[float], None], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with ThreadPoolExecutor(SHOPPERS) as shoppers:
            for done in [shoppers.submit(work, deadline) for _ in range(SHOPPERS)]:
                done.result()

    def _ask_all(self, coupon_id: int, queue: _Queue, deadline: float) -> None:
        while (turn := queue.take()) is not None and time.monotonic() < deadline:
            number, user_id = turn
            try:
                submitted = self._ask(coupon_id, user_id, str(number), deadline)
            except Refused:
                self._progress.count("asked", "refused")
            except ShopError:
                return
            else:
                with self._lock:
                    self._accepted.append((user_id, submitted.request_id))
                self._progress.count("asked", "accepted")

    def _ask(self, coupon_id: int, user_id: int, attempt: str, deadline: float) -> Submitted:
        key = f"{self._progress.rush_id}-{attempt}"
        return self._shop.submit_coupon(coupon_id, user_id, key=key, patience_seconds=deadline - time.monotonic())

    def _follow_all(self, coupon_id: int, waiting: _Queue, deadline: float) -> None:
        while (turn := waiting.take()) is not None:
            user_id, request_id = self._accepted[turn[1]]
            with suppress(ShopError):
                sequence = self._follow(coupon_id, user_id, request_id, str(turn[0]), deadline)
                with self._lock:
                    self._winners.append((user_id, sequence))
                self._progress.count("confirmed")

    def _follow(self, coupon_id: int, user_id: int, request_id: str, turn: str, deadline: float) -> int:
        """The winner's place in line, once it is durable. What Redis forgot before that is lost, and asked for anew."""
        attempt = 0
        while True:
            try:
                won = self._shop.wait_for(request_id, patience_seconds=deadline - time.monotonic())
            except Refused as error:
                if not (isinstance(error, Lost) or error.code == "REQUEST_NOT_FOUND"):
                    raise
                self._progress.count("lost")
                attempt += 1
                request_id = self._ask(coupon_id, user_id, f"{turn}-again-{attempt}", deadline).request_id
            else:
                assert isinstance(won, IssuedCoupon)  # noqa: S101 - nothing else was asked for
                return won.sequence

    def _judge(self, coupon_id: int) -> None:
        """What has to hold, from what clients were told and from what the shop says of the coupon."""
        progress = self._progress
        due = min(progress.coupons, progress.users)
        deadline = time.monotonic() + SETTLING_SECONDS
        issued, pending = self._numbers(coupon_id, deadline)
        while pending and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_SECONDS)
            issued, pending = self._numbers(coupon_id, deadline)
        places = sorted(sequence for _, sequence in self._winners)
        progress.checks = {
            "everybody_asked": progress.asked == progress.requests,
            "all_given": issued == due,
            "all_durable": pending == 0 and len(self._winners) == due,
            "one_each": len({user_id for user_id, _ in self._winners}) == len(self._winners),
            "places_in_order": places == list(range(1, due + 1)),
        }

    def _numbers(self, coupon_id: int, deadline: float) -> tuple[int | None, int | None]:
        """How many were issued, and how many of them are pending; None when the shop does not say."""
        try:
            coupon = self._shop.offered_coupon(coupon_id, patience_seconds=deadline - time.monotonic())
        except ShopError:
            return None, None
        return coupon.issued, coupon.pending


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
        address = f"http://{host_in_url(host)}:{port}"
        shop = Shop(address, patience_seconds=SETTLING_SECONDS, told_to_wait=lambda _reason: progress.count("busy"))
        with progress.published(), shop:
            return HELD if DemoRush(shop, progress).run() else OFF
