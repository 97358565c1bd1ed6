"""What a decision costs the server: its time, by its own count, and the memory that stays.

The time is what ``INFO commandstats`` says the script calls took, over the decisions that were taken: no client,
network or waiting is in it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from sqlalchemy import text

from engine.config import MOST_CALLS
from engine.context import Engine
from engine.gate import coupons as gate_coupons
from engine.gate import keys
from engine.gate.coupons import IssueAsk, IssueDecision
from engine.gate.turns import TurnLimits
from engine.ledger.progress import progress_of_lane
from engine.outcomes import IssueStatus
from engine.upkeep.rebuild import rebuild_lane
from loadtests.benchmark.own_engine import drain_all, insist
from loadtests.benchmark.results import Figure, Results, at_most, ratios
from loadtests.benchmark.shop import offer_coupon

SECTION = "The gate"
MOST_MICROSECONDS = at_most(12.0)
MOST_GROWTH = at_most(1.1)
MOST_BYTES_ISSUED = at_most(100.0)
MOST_BYTES_REFUSED = at_most(0.5)
"""None; half a byte is what the server's own buffers may move over that many refusals."""
TOGETHER = 32
FEW_WINNERS = 1_000
SCRIPT_COMMANDS = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_fcall")
STEADY_SECONDS = 0.2
STEADY_PATIENCE_SECONDS = 10.0

_MANY_WINNERS = text("""
    INSERT INTO user_coupons (request_id, coupon_id, user_id, sequence, issued_at)
    SELECT '0.1.' || (:first_number + place) || '.c' || lpad(to_hex(place), 44, '0'), :coupon_id, place, place, now()
    FROM generate_series(CAST(1 AS bigint), CAST(:winners AS bigint)) AS place
""")
_LOOK_UP = """
local found = 0
for i = 1, #ARGV do
  if redis.call('HGET', KEYS[1], ARGV[i]) then found = found + 1 end
end
return found
"""
_COUNT_WINNERS = text("UPDATE coupons SET issued = :winners WHERE id = :coupon_id")


@dataclass(frozen=True)
class Sizes:
    """How much is done for each figure."""

    decisions: int = 9_600
    many_winners: int = 1_000_000
    issued: int = 50_000
    refused: int = 100_000


@dataclass(frozen=True)
class ServerTime:
    """What some decisions took of the server, by its own count."""

    microseconds: int
    calls: int
    decisions: int

    @property
    def per_decision(self) -> float:
        """Microseconds."""
        return self.microseconds / self.decisions

    @property
    def decisions_per_call(self) -> float:
        """How many were really decided in one call."""
        return self.decisions / self.calls


def decide(engine: Engine, coupon_id: int, user_ids: Sequence[int], *, limited: bool = False) -> list[IssueDecision]:
    """Decide for these users, who all wait for an answer: in as few calls as the gate can. ``limited``: each ask is
    counted, against its user and their address."""
    lane = gate_coupons.lane_of_coupon(engine.gate, coupon_id)
    asks = [IssueAsk(coupon_id, user_id, None, _limits_of(user_id) if limited else ()) for user_id in user_ids]
    return gate_coupons.issue(engine.gate, lane, asks).decisions


def measure_decisions(engine: Engine, results: Results, sizes: Sizes, rounds: int, tell: Callable[[str], None]) -> None:
    """Server time alone and together, and whether it grows with the winners that there are."""
    alone, with_few, limited, with_many, dearer = [], [], [], [], []
    many = _coupon_with_many_winners(engine, sizes, rounds)
    newcomers = count(sizes.many_winners + 1)
    for number in range(1, rounds + 1):
        fresh = _coupon_with(engine, FEW_WINNERS, sizes.decisions)
        alone.append(_decide_all(engine, fresh, sizes.decisions, 1, count(FEW_WINNERS + 1)))
        fresh = _coupon_with(engine, FEW_WINNERS, sizes.decisions)
        with_few.append(_decide_all(engine, fresh, sizes.decisions, TOGETHER, count(FEW_WINNERS + 1)))
        fresh = _coupon_with(engine, FEW_WINNERS, sizes.decisions)
        limited.append(_decide_all(engine, fresh, sizes.decisions, TOGETHER, count(FEW_WINNERS + 1), limited=True))
        with_many.append(_decide_all(engine, many, sizes.decisions, TOGETHER, newcomers))
        dearer.append(
            _look_up_all(engine, many, sizes.many_winners, sizes.decisions)
            - _look_up_all(engine, fresh, FEW_WINNERS, sizes.decisions)
        )
        tell(
            f"decisions {number}/{rounds}: {alone[-1].per_decision:.1f} µs alone, {with_few[-1].per_decision:.1f} µs in"
            f" calls of {TOGETHER}, {limited[-1].per_decision:.1f} µs with limits,"
            f" {with_many[-1].per_decision:.1f} µs with {sizes.many_winners:,} winners"
        )
    growth = ratios([each.per_decision for each in with_many], [each.per_decision for each in with_few])
    results.figures += [
        _time("decision-1", "server time per decision, one in a call", alone, None),
        _time("decision-32", f"server time per decision, {TOGETHER} at once", with_few, MOST_MICROSECONDS.value),
        _time("decision-limited", "… each counted against a limit by user and one by address", limited, None),
        Figure("winners-growth", SECTION, f"… with {sizes.many_winners:,} winners ÷ with {FEW_WINNERS:,}", growth, "×",
               MOST_GROWTH, f"in calls of {with_many[-1].decisions_per_call:.0f}"),
        Figure("lookup-growth", SECTION, "… a bare look-up among so many, dearer by", tuple(dearer), "µs",
               note="anybody's place; a decision looks up one and adds one"),
    ]  # fmt: skip


def measure_memory(engine: Engine, results: Results, sizes: Sizes, tell: Callable[[str], None]) -> None:
    """What stays in the server of a coupon that is issued and in the ledger, and of a request that is refused."""
    warm_up = offer_coupon(engine, sizes.issued)
    _issue(engine, warm_up, range(1, 1001), IssueStatus.ISSUED)
    drain_all(engine)
    coupon_id = offer_coupon(engine, sizes.issued)
    before = _memory(engine)
    _issue(engine, coupon_id, range(1, sizes.issued + 1), IssueStatus.ISSUED)
    drain_all(engine)
    issued = (_memory(engine) - before) / sizes.issued
    latecomers = range(sizes.issued + 1, sizes.issued + 1 + sizes.refused // 2)
    again = range(1, min(sizes.issued, sizes.refused // 2) + 1)
    _issue(engine, coupon_id, latecomers[:1000], IssueStatus.SOLD_OUT)
    before = _memory(engine)
    _issue(engine, coupon_id, latecomers, IssueStatus.SOLD_OUT)
    _issue(engine, coupon_id, again, IssueStatus.ALREADY_ISSUED)
    refused = max(0.0, _memory(engine) - before) / (len(latecomers) + len(again))
    tell(f"memory: {issued:.1f} bytes for each coupon issued, {refused:.3f} for each request refused")
    results.figures += [
        Figure("bytes-issued", SECTION, "Redis bytes per issued coupon", (issued,), "bytes", MOST_BYTES_ISSUED,
               f"{sizes.issued:,} coupons, after the drain"),
        Figure("bytes-refused", SECTION, "Redis bytes per refused request", (refused,), "bytes", MOST_BYTES_REFUSED,
               f"{len(latecomers):,} sold out, {len(again):,} again"),
    ]  # fmt: skip


def script_time(statistics: dict[str, dict[str, int]]) -> tuple[int, int]:
    """Microseconds and calls of scripts, from ``INFO commandstats``.

    What a script calls is counted under its own name, too; it is in the script's time already.
    """
    found = [statistics[name] for name in SCRIPT_COMMANDS if name in statistics]
    return sum(int(each["usec"]) for each in found), sum(int(each["calls"]) for each in found)


def _limits_of(user_id: int) -> TurnLimits:
    """Never reached: what is measured is the counting."""
    return ((f"user:{user_id}", MOST_CALLS), (f"address:10.0.{user_id // 256 % 256}.{user_id % 256}", MOST_CALLS))


def _decide_all(
    engine: Engine,
    coupon_id: int,
    decisions: int,
    at_once: int,
    user_ids: Iterable[int],
    *,
    limited: bool = False,
) -> ServerTime:
    users = iter(user_ids)
    groups = [[next(users) for _ in range(at_once)] for _ in range(max(1, decisions // at_once))]
    client = engine.gate.client
    client.config_resetstat()
    for group in groups:
        answers = decide(engine, coupon_id, group, limited=limited)
        insist(all(answer.status is IssueStatus.ISSUED for answer in answers), "a coupon was refused")
    microseconds, calls = script_time(client.info("commandstats"))
    drain_all(engine)
    return ServerTime(microseconds, calls, len(groups) * at_once)


def _look_up_all(engine: Engine, coupon_id: int, winners: int, lookups: int) -> float:
    """Microseconds of server time for finding one winner among so many, nothing else done."""
    lane, chance = gate_coupons.lane_of_coupon(engine.gate, coupon_id), random.Random(winners)
    client = engine.gate.client
    script = client.register_script(_LOOK_UP)
    client.config_resetstat()
    for _ in range(lookups // TOGETHER):
        users = [chance.randint(1, winners) for _ in range(TOGETHER)]
        found = script(keys=[keys.winners(lane, coupon_id)], args=users)
        insist(found == TOGETHER, "a winner was not found")
    microseconds, calls = script_time(client.info("commandstats"))
    return microseconds / (calls * TOGETHER)


def _issue(engine: Engine, coupon_id: int, user_ids: Sequence[int], expected: IssueStatus) -> None:
    for start in range(0, len(user_ids), TOGETHER):
        answers = decide(engine, coupon_id, user_ids[start : start + TOGETHER])
        insist(all(answer.status is expected for answer in answers), f"an answer was not {expected}")


def _coupon_with(engine: Engine, winners: int, more: int) -> int:
    coupon_id = offer_coupon(engine, winners + more)
    _issue(engine, coupon_id, range(1, winners + 1), IssueStatus.ISSUED)
    drain_all(engine)
    return coupon_id


def _coupon_with_many_winners(engine: Engine, sizes: Sizes, rounds: int) -> int:
    """Written into the ledger at once; the gate takes them over by a rebuild, in whatever form it keeps them."""
    winners = sizes.many_winners
    coupon_id = offer_coupon(engine, winners + (rounds + 1) * sizes.decisions)
    with engine.ledger.engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        values = {"coupon_id": coupon_id, "winners": winners, "first_number": 10**9}
        connection.execute(_MANY_WINNERS, values)
        connection.execute(_COUNT_WINNERS, {"coupon_id": coupon_id, "winners": winners})
    with engine.ledger.read() as connection:
        recorded = progress_of_lane(connection, 0)
    rebuild_lane(engine, engine.gate.inspect(0), recorded)
    insist(gate_coupons.issued_count(engine.gate, coupon_id) == winners, "the winners did not arrive at the gate")
    return coupon_id


def _memory(engine: Engine) -> float:
    """Bytes in use once they do not change any more: tables are enlarged and freed in the background."""
    deadline = time.monotonic() + STEADY_PATIENCE_SECONDS
    before, now = -1, int(engine.gate.client.info("memory")["used_memory"])
    while now != before and time.monotonic() < deadline:
        time.sleep(STEADY_SECONDS)
        before, now = now, int(engine.gate.client.info("memory")["used_memory"])
    return now


def _time(key: str, title: str, times: Sequence[ServerTime], most: float | None) -> Figure:
    note = f"{times[-1].decisions_per_call:.0f} decided in a call"
    rounds = tuple(each.per_decision for each in times)
    return Figure(key, SECTION, title, rounds, "µs", None if most is None else at_most(most), note)
