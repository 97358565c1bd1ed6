"""How long the gate stays closed when Redis forgets a rush that has a hundred thousand winners already."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from engine.outcomes import Issued
from engine.shop.issuance import issue_coupon
from tests.faults.machine.asking import Asker, Exchange
from tests.faults.machine.facts import await_settled
from tests.faults.machine.history import Issue
from tests.faults.machine.machine import Machine

WINNERS = 100_000
LIMIT_SECONDS = 3.0
THREADS = 8
FIRST_WINNER = 2_000_000_000
PROBE_PAUSE_SECONDS = 0.01
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Reopening:
    """What was measured."""

    winners: int
    issuing_seconds: float
    reopened_seconds: float

    @property
    def in_time(self) -> bool:
        return self.reopened_seconds <= LIMIT_SECONDS

    def __str__(self) -> str:
        return (
            f"FLUSHALL in a rush with {self.winners:,} issued: the first promise of the same coupon after "
            f"{self.reopened_seconds:.2f} s (limit {LIMIT_SECONDS:.0f} s)"
        )


def measure_reopening(machine: Machine, winners: int = WINNERS) -> Reopening:
    """Issue that many of one coupon, let the ledger have them, forget, and ask until somebody gets the next one."""
    coupon_id = machine.offers.coupons[0]
    started = time.monotonic()
    _issue(machine, coupon_id, winners)
    machine.crowd.pause()
    unsettled = await_settled(machine.stack.engine, PATIENCE_SECONDS)
    if unsettled:
        raise TimeoutError(f"the winners do not reach the ledger: {unsettled}")
    issuing_seconds = time.monotonic() - started
    machine.crowd.resume()
    time.sleep(1.0)  # so that it is a rush again
    forgotten_at = time.monotonic()
    machine.forget_everything()
    return Reopening(winners, issuing_seconds, _first_promise(machine, coupon_id) - forgotten_at)


def _issue(machine: Machine, coupon_id: int, winners: int) -> None:
    """Straight at the gate, as the web does it; each is a promise like any other, and checked like any other."""
    engine = machine.stack.engine

    def issue(start: int) -> None:
        for user_id in range(FIRST_WINNER + start, FIRST_WINNER + winners, THREADS):
            begin = time.monotonic()
            outcome = issue_coupon(engine, coupon_id=coupon_id, user_id=user_id, idempotency_key=None)
            if not isinstance(outcome, Issued):
                raise RuntimeError(f"user {user_id} was told {outcome}")
            body = {"userId": user_id, "sequence": outcome.sequence}
            told = Exchange(begin, time.monotonic(), 202, body, outcome.request_id)
            machine.crowd.history.issues.append(Issue([told], coupon_id=coupon_id, user_id=user_id))

    machine.offers.enlarge(coupon_id, winners)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(issue, range(THREADS)))


def _first_promise(machine: Machine, coupon_id: int) -> float:
    """When a client that asks all the time got the coupon that was forgotten."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with closing(Asker(machine.stack.web_ports)) as asker:
        while time.monotonic() < deadline:
            user_id = next(machine.crowd.newcomers)
            exchange = asker.ask("POST", f"/coupons/{coupon_id}/issue", {"userId": user_id})
            machine.crowd.history.issues.append(Issue([exchange], coupon_id=coupon_id, user_id=user_id))
            if exchange.accepted:
                return exchange.end
            time.sleep(PROBE_PAUSE_SECONDS)
    raise TimeoutError("the lane did not open again")
