"""The negative control: the same web, whose gate looks first and takes afterwards, in two round trips.

Between the two others look, too, and see the same last coupon. This is what the script of the real gate prevents, so a
rush against this web must end in a verdict that fails; one that passes would prove nothing.
"""

from __future__ import annotations

import time

from engine.gate import coupons as gate_coupons
from engine.gate import keys
from engine.gate.coupons import IssueDecision, lane_of_coupon
from engine.gate.gate import BELL_SECONDS, Gate
from engine.gate.request_ids import new_nonce
from engine.gate.scripts import script_from
from engine.outcomes import IssueStatus, RequestKind

PAUSE_SECONDS = 0.002
"""The way between web and Redis on a real network; on loopback the two round trips nearly touch."""

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


def issue_in_two_steps(gate: Gate, coupon_id: int, user_id: int, idempotency_key: str | None) -> IssueDecision:
    """Check, then write: the mistake on purpose. Nothing is replayed."""
    del idempotency_key
    lane = lane_of_coupon(gate, coupon_id)
    state = gate.known_lane(lane)
    coupon_key, winners_key = keys.coupon(lane, coupon_id), keys.winners(lane, coupon_id)
    looked = gate.client.pipeline(transaction=False)
    looked.hmget(coupon_key, "total", "issued")
    looked.hexists(winners_key, str(user_id))
    (total, issued), has_it = looked.execute()
    if total is None:
        return IssueDecision(IssueStatus.NOT_FOUND, lane)
    if has_it:
        return IssueDecision(IssueStatus.ALREADY_ISSUED, lane)
    if int(issued) >= int(total):
        return IssueDecision(IssueStatus.SOLD_OUT, lane)
    time.sleep(PAUSE_SECONDS)
    nonce = new_nonce(state.request_key, RequestKind.COUPON_ISSUE)
    sequence, request_id, ring = _TAKE.run(
        gate.client,
        [keys.lane(lane), keys.outbox(lane), keys.bell(lane), coupon_key, winners_key],
        [lane, state.epoch or 0, nonce, coupon_id, user_id, BELL_SECONDS * 1000],
    )
    return IssueDecision(IssueStatus.ISSUED, lane, int(sequence), request_id, ring=ring == 1)


gate_coupons.issue = issue_in_two_steps

from web.main import app  # noqa: E402 - the application of this process, made with the mistake in place

__all__ = ["app"]
