"""What the console shows of the gate: everything in two round trips, however many coupons and products there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.gate import keys
from engine.gate.coupons import lane_of_coupon
from engine.gate.gate import Gate, LaneState, unavailability_translated
from engine.gate.popularity import EMPTY_MARKER, PopularProduct, parse_ranked
from engine.gate.stock import lane_of_product
from engine.outcomes import RequestKind


@dataclass(frozen=True)
class WinnerSeen:
    """Somebody who got a coupon, decided and not yet recorded."""

    request_id: str
    coupon_id: int
    user_id: int
    sequence: int


@dataclass(frozen=True)
class GateLook:
    """The gate as it was found. Counts are by id, of those that the gate knows; times are Unix seconds."""

    lanes: Sequence[LaneState]
    issued: Mapping[int, int]
    available: Mapping[int, int]
    winners: Sequence[WinnerSeen]
    """The newest ones still in an outbox, newest first within their lane."""
    refusals: Mapping[str, int]
    heard_at: Mapping[str, float]
    """When each process was heard last, by ``<kind> <host>:<pid>``."""
    popular: Sequence[PopularProduct]


def look(gate: Gate, coupon_ids: Sequence[int], product_ids: Sequence[int], winners: int) -> GateLook:
    """Look at the gate; ``winners`` is how many of the newest to read per lane. Raises GateUnavailable."""
    lanes = gate.inspect_all()
    with unavailability_translated(), gate.client.pipeline(transaction=False) as pipeline:
        for coupon_id in coupon_ids:
            pipeline.hget(keys.coupon(lane_of_coupon(gate, coupon_id), coupon_id), "issued")
        for product_id in product_ids:
            pipeline.hget(keys.sku(lane_of_product(gate, product_id), product_id), "available")
        for lane in range(gate.lanes):
            pipeline.xrevrange(keys.outbox(lane), count=winners)
        pipeline.hgetall(keys.refusals())
        pipeline.zrange(keys.processes(), 0, -1, withscores=True)
        pipeline.zrange(keys.popular(), 0, -1, withscores=True)
        replies: list[Any] = pipeline.execute()
    counts, rest = replies[: len(coupon_ids) + len(product_ids)], replies[len(coupon_ids) + len(product_ids) :]
    outboxes, (refusals, heard, popular) = rest[: gate.lanes], rest[gate.lanes :]
    return GateLook(
        lanes=lanes,
        issued=_known(coupon_ids, counts[: len(coupon_ids)]),
        available=_known(product_ids, counts[len(coupon_ids) :]),
        winners=[winner for rows in outboxes for winner in _winners_in(rows)],
        refusals={name: int(count) for name, count in refusals.items()},
        heard_at=dict(heard),
        popular=[parse_ranked(member, score) for member, score in popular if member != EMPTY_MARKER],
    )


def _known(ids: Sequence[int], counts: Sequence[str | None]) -> dict[int, int]:
    return {each: max(0, int(count)) for each, count in zip(ids, counts, strict=True) if count is not None}


def _winners_in(rows: Sequence[tuple[str, Mapping[str, str]]]) -> list[WinnerSeen]:
    """The issuances among outbox entries. One that is spoilt is the drain's to put aside, not ours to stumble over."""
    found = []
    for _, fields in rows:
        if fields.get("kind") == RequestKind.COUPON_ISSUE:
            try:
                numbers = [int(fields[name]) for name in ("coupon_id", "user_id", "sequence")]
                found.append(WinnerSeen(fields["request_id"], *numbers))
            except (KeyError, ValueError):
                continue
    return found
