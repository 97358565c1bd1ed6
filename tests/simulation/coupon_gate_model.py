"""The coupon gate in plain Python: what ``open_lane``, ``publish_coupon`` and ``issue_coupon`` answer and leave behind.

Written from the scripts' headers, not from their bodies; one lane, no server, no time but "before" and "after".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Answer = list[Any]
Ask = tuple[int, int, str]
"""Coupon, user, nonce."""


@dataclass
class Coupon:
    """Terms and what was given."""

    version: int
    status: str
    total: int
    starts_at_ms: str
    ends_at_ms: str
    issued: int = 0
    winners: dict[int, tuple[int, str]] = field(default_factory=dict)
    """By user: place in line, request id."""


@dataclass
class CouponGate:
    """One lane with its coupons."""

    lane: int
    open: bool = False
    approved: bool = True
    epoch: int = 0
    last_number: int = 0
    coupons: dict[int, Coupon] = field(default_factory=dict)
    outbox: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Entry ids and what they say, but for the time."""
    bell: bool = False

    def build_and_open(self, epoch: int, last_number: int) -> Answer:
        """A rebuild that builds nothing."""
        if self.epoch and epoch <= self.epoch:
            return ["epoch_not_newer", str(self.epoch)]
        self.epoch, self.open, self.approved = epoch, True, True
        self.last_number = max(self.last_number, last_number)
        return ["opened"]

    def publish(self, coupon_id: int, terms: Coupon, epoch: int) -> Answer:
        """Newer terms replace older ones; what was given stays given."""
        refusal = self._refusal(epoch)
        if refusal:
            return refusal
        known = self.coupons.get(coupon_id)
        if known and known.version >= terms.version:
            return ["unchanged", str(known.issued), str(epoch)]
        if known:
            terms.issued, terms.winners = known.issued, known.winners
        self.coupons[coupon_id] = terms
        return ["published", str(terms.issued), str(epoch)]

    def issue(self, asks: Sequence[Ask], epoch: int, backlog_limit: int, now_ms: int) -> Answer:
        """Each ask is answered as if it had come alone."""
        refusal = self._refusal(epoch)
        if refusal:
            return refusal
        before = len(self.outbox)
        answers = [self._decided(ask, backlog_limit, now_ms) for ask in asks]
        ring = len(self.outbox) > before and not self.bell
        self.bell = self.bell or ring
        return [int(ring), *answers]

    def _refusal(self, epoch: int) -> Answer | None:
        if not (self.open and self.approved):
            return ["lane_not_ready"]
        return None if epoch == self.epoch else ["stale_epoch", str(self.epoch)]

    def _decided(self, ask: Ask, backlog_limit: int, now_ms: int) -> Answer:
        coupon_id, user_id, nonce = ask
        coupon = self.coupons.get(coupon_id)
        if coupon is None:
            return ["not_found"]
        if user_id in coupon.winners:
            sequence, request_id = coupon.winners[user_id]
            if request_id.endswith(f".{nonce}"):
                return ["replayed", str(sequence), request_id]
            return ["already_issued", str(sequence)]
        if coupon.status != "ACTIVE":
            return ["inactive"]
        if coupon.starts_at_ms and now_ms < int(coupon.starts_at_ms):
            return ["not_started"]
        if coupon.ends_at_ms and now_ms >= int(coupon.ends_at_ms):
            return ["ended"]
        if coupon.issued >= coupon.total:
            return ["sold_out"]
        if len(self.outbox) >= backlog_limit:
            return ["backlogged"]
        return self._granted(coupon, coupon_id, user_id, nonce)

    def _granted(self, coupon: Coupon, coupon_id: int, user_id: int, nonce: str) -> Answer:
        coupon.issued += 1
        self.last_number += 1
        request_id = f"{self.lane}.{self.epoch}.{self.last_number}.{nonce}"
        coupon.winners[user_id] = (coupon.issued, request_id)
        entry = {
            "kind": "coupon_issue",
            "request_id": request_id,
            "coupon_id": str(coupon_id),
            "user_id": str(user_id),
            "sequence": str(coupon.issued),
        }
        self.outbox.append((f"{self.epoch}-{self.last_number}", entry))
        return ["issued", str(coupon.issued), request_id]
