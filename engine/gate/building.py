"""Building a lane from the ledger: every write carries the build's token, and the gate refuses one that is stale.

The token is the epoch that the ledger gave this rebuild. It holds until somebody else closes the lane to build it; from
then on all that an earlier rebuild still writes, however long it slept, is refused (:class:`Superseded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import GateUnavailable
from engine.gate import keys
from engine.gate.coupons import CouponTerms
from engine.gate.gate import Gate, LaneState, unavailability_translated
from engine.gate.products import ProductTerms
from engine.gate.scripts import Argument
from engine.gate.stock import RETURN_MARKER_SECONDS

KEYS_PER_CALL = 500
WINNERS_PER_CALL = 2000
"""A call of so many keeps the server for about two milliseconds: lanes beside this one go on deciding."""


class Superseded(GateUnavailable):
    """Another rebuild came, or the server forgot this one: what it writes is refused. Whoever guards looks again."""


class LaneBuild:
    """One rebuild of one lane, from its beginning to its opening."""

    def __init__(self, gate: Gate, state: LaneState, epoch: int, claim: str) -> None:
        """``state`` is the lane as it was examined, ``claim`` what it was closed with; ``epoch`` was taken from the
        ledger for this rebuild, after that."""
        self._gate = gate
        self._lane = state.lane
        self._replid = state.replid
        self._epoch = epoch
        self._claim = claim

    def begin(self) -> None:
        """From now on the lane takes what this build writes. Raises Superseded, GateUnavailable."""
        self._run("begin_build", [], [self._epoch, self._replid, self._claim])

    def forget_holds(self) -> int:
        """Drop every hold; how many there were."""
        holds_key = keys.holds(self._lane)
        dropped = 0
        while True:
            with unavailability_translated():
                rows: Any = self._gate.client.zrange(holds_key, 0, KEYS_PER_CALL - 1)
            if not rows:
                return dropped
            nonces = [str(nonce) for nonce in rows]
            hold_keys = [keys.hold(self._lane, nonce) for nonce in nonces]
            self._run("forget_holds", [holds_key, *hold_keys], [self._epoch, *nonces])
            dropped += len(nonces)

    def forget_entities(self, entity_keys: Sequence[str]) -> None:
        """Drop coupons with their winners, and products: the lane will not be their home any more."""
        for start in range(0, len(entity_keys), KEYS_PER_CALL):
            self._run("forget_entities", entity_keys[start : start + KEYS_PER_CALL], [self._epoch])

    def add_coupon(self, terms: CouponTerms, issued: int) -> None:
        """Write a coupon, without winners."""
        fields = terms.fields()
        self._run(
            "build_coupon",
            [keys.coupon(self._lane, terms.coupon_id), keys.winners(self._lane, terms.coupon_id)],
            [
                self._epoch,
                fields["version"],
                fields["status"],
                fields["total"],
                fields["starts_at_ms"],
                fields["ends_at_ms"],
                issued,
            ],
        )

    def add_winners(self, coupon_id: int, lines: str) -> None:
        """Write winners of a coupon: at most WINNERS_PER_CALL lines of ``<user id> <sequence> <request id>``."""
        self._run("build_winners", [keys.winners(self._lane, coupon_id)], [self._epoch, lines])

    def add_product(self, terms: ProductTerms, available: int) -> None:
        """Write a product with the units that are free to take."""
        self._run(
            "build_product",
            [keys.sku(self._lane, terms.product_id)],
            [self._epoch, terms.version, terms.name, terms.price, terms.status, terms.supplied, available],
        )

    def mark_returned(self, nonces: Sequence[str]) -> None:
        """Say that the units of these cancelled orders are in the stock that was written."""
        for start in range(0, len(nonces), KEYS_PER_CALL):
            markers = [keys.returned(self._lane, nonce) for nonce in nonces[start : start + KEYS_PER_CALL]]
            self._run("mark_returned", markers, [self._epoch, RETURN_MARKER_SECONDS * 1000])

    def open(self, *, last_number: int, request_key: str) -> None:
        """Let the lane decide. Raises Superseded, or GateUnavailable when another server answers."""
        self._run("open_lane", [], [self._epoch, self._replid, last_number, self._gate.lanes, request_key])

    def _run(self, name: str, further_keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        reply = self._gate.run(name, [keys.lane(self._lane), *further_keys], arguments)
        if reply[0] == "server_changed":
            raise GateUnavailable(f"the server of lane {self._lane} changed while the lane was being rebuilt")
        if reply[0] in ("superseded", "epoch_not_newer"):
            raise Superseded(f"the rebuild of lane {self._lane} under epoch {self._epoch} was overtaken")
