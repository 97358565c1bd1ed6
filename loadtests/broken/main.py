"""The negative control: the same web, whose gate looks first and takes afterwards, in two round trips.

Between the two others look, too, and see the same last coupon. This is what the script of the real gate prevents, so a
rush against this web must end in a verdict that fails; one that passes would prove nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.gate import coupons as gate_coupons
from engine.gate import keys
from engine.gate.coupons import IssueAsk, IssueDecision, IssueRound
from engine.gate.gate import BELL_SECONDS, Gate
from engine.gate.request_ids import new_nonce
from engine.gate.scripts import script_from
from engine.outcomes import IssueStatus, RequestKind

PAUSE_SECONDS = 0.05
"""What a busy web may take from one round trip to the next. On loopback they nearly touch, and a small crowd may just
pass unharmed: the verdict is under trial here, not its luck."""

# What issue_coupon.lua writes, without a look at what it checks.
# KEYS lane, outbox, bell, coupon, winners; ARGV lane, epoch, nonce, coupon id, user id, bell milliseconds
_TAKE = script_from(
    """
    local number = redis.call('HINCRBY', KEYS[1], 'last_number', 1)
    local sequence = redis.call('HINCRBY', KEYS[4], 'issued', 1)
    local request_id = ARGV[1] .. '.' .. ARGV[2] .. '.' .. number .. '.' .. ARGV[3]
    local time = redis.call('TIME')
    local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
    redis.call('XADD', KEYS[2], ARGV[2] .. '-' .. number, 'kind', 'coupon_issue', 'request_id', request_id,
        'coupon_id', ARGV[4], 'user_id', ARGV[5], 'sequence', sequence, 'decided_at_ms', now_ms)
    redis.call('HSET', KEYS[5], ARGV[5], sequence .. ' ' .. request_id)
    local ring = redis.call('SET', KEYS[3], '1', 'NX', 'PX', ARGV[6]) and 1 or 0
    return {sequence, request_id, ring}
    """,
    "take_coupon_unchecked",
)


def issue_in_two_steps(gate: Gate, lane: int, asks: Sequence[IssueAsk]) -> IssueRound:
    """Look for all, then take for all: the mistake on purpose. Nothing is replayed, and no two asks see each other."""
    state = gate.known_lane(lane)
    looks = [_look(gate, lane, ask) for ask in asks]
    time.sleep(PAUSE_SECONDS)
    decisions, ring = [], False
    for ask, refusal in zip(asks, looks, strict=True):
        if refusal is not None:
            decisions.append(IssueDecision(refusal))
            continue
        coupon_key = keys.coupon(lane, ask.coupon_id)
        nonce = new_nonce(state.request_key, RequestKind.COUPON_ISSUE)
        sequence, request_id, rings = _TAKE.run(
            gate.client,
            [keys.lane(lane), keys.outbox(lane), keys.bell(lane), coupon_key, keys.winners_of(coupon_key)],
            [lane, state.epoch or 0, nonce, ask.coupon_id, ask.user_id, BELL_SECONDS * 1000],
        )
        decisions.append(IssueDecision(IssueStatus.ISSUED, int(sequence), request_id))
        ring = ring or rings == 1
    return IssueRound(decisions, ring)


def _look(gate: Gate, lane: int, ask: IssueAsk) -> IssueStatus | None:
    """Why the ask has to be refused, as far as one can see from here."""
    coupon_key = keys.coupon(lane, ask.coupon_id)
    looked = gate.client.pipeline(transaction=False)
    looked.hmget(coupon_key, "total", "issued")
    looked.hexists(keys.winners_of(coupon_key), str(ask.user_id))
    (total, issued), has_it = looked.execute()
    if total is None:
        return IssueStatus.NOT_FOUND
    if has_it:
        return IssueStatus.ALREADY_ISSUED
    return IssueStatus.SOLD_OUT if int(issued) >= int(total) else None


gate_coupons.issue = issue_in_two_steps

from web.main import app  # noqa: E402 - the application of this process, made with the mistake in place

__all__ = ["app"]
