"""Pictures of the gate for the audit: what several keys of a lane held at one and the same instant.

Every picture is one read-only script over one lane, so no decision, drain or sweeper comes between its values. What a
key holds is told as it stands there; a number that is none is None: the audit has to survive what it is to find.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.gate import keys
from engine.gate.gate import Gate, unavailability_translated
from engine.gate.outbox import place_of

HOLDING = ("held", "ending")
"""States of a hold in which it has its units."""
_LINE = re.compile(r"([0-9]+):([0-9]+):[0-9]+")

PAGE_OF_OUTBOX = 500
HOLDS_PICTURED = 1000
"""As many as one script may look at without keeping decisions waiting for more than about two milliseconds."""


@dataclass(frozen=True)
class LanePicture:
    """A lane and its outbox; ids of entries are (epoch, number). ``overdue`` are nonces of holds, the oldest first."""

    epoch: int | None
    last_number: int | None
    built_epoch: int | None
    lanes: int | None
    backlog: int
    head: tuple[int, int] | None
    newest: tuple[int, int] | None
    overdue: tuple[str, ...]


@dataclass(frozen=True)
class CouponPicture:
    """A coupon; ``terms`` are the texts of its hash that :class:`engine.gate.coupons.CouponTerms` has, too."""

    terms: Mapping[str, str]
    issued: int | None
    winners: int

    @property
    def version(self) -> int | None:
        """None when the gate has no such coupon."""
        return _number(self.terms["version"])


@dataclass(frozen=True)
class SkuPicture:
    """A product; ``terms`` are the texts of its hash that :class:`engine.gate.products.ProductTerms` has, too."""

    terms: Mapping[str, str]
    available: int | None

    @property
    def version(self) -> int | None:
        """None when the gate has no such product."""
        return _number(self.terms["version"])

    @property
    def supplied(self) -> int | None:
        return _number(self.terms["supplied"])


@dataclass(frozen=True)
class HeldUnits:
    """A hold that had not ended; ``request_id`` is '' in every lane but the order's last."""

    request_id: str
    units: Mapping[int, int]
    deadline_ms: int = 0


@dataclass(frozen=True)
class StockPicture:
    """Products, the holds on them, and of the orders asked after, those whose units were back on sale."""

    epoch: int | None
    skus: Mapping[int, SkuPicture]
    holds: Mapping[str, HeldUnits]
    returned: frozenset[str]


@dataclass(frozen=True)
class CouponsPicture:
    """Coupons of one lane, and the number of the last decision that is in this picture."""

    last_number: int
    coupons: Mapping[int, CouponPicture]


class Blurred(Exception):  # not an EngineError: whoever takes a picture takes it again
    """The picture cannot be had now: too much moved in it, or there was too much for one."""


def picture_lane(gate: Gate, lane: int, overdue_seconds: float, limit: int) -> LanePicture:
    """A lane, its outbox, and at most ``limit`` holds that are overdue by more than that."""
    lane_keys = [keys.lane(lane), keys.outbox(lane), keys.holds(lane)]
    reply = gate.run("picture_lane", lane_keys, [round(overdue_seconds * 1000), limit])
    return LanePicture(
        epoch=_number(reply[0]),
        last_number=_number(reply[1]),
        built_epoch=_number(reply[2]),
        lanes=_number(reply[3]),
        backlog=int(reply[4]),
        head=place_of(reply[5]) if reply[5] else None,
        newest=place_of(reply[6]) if reply[6] else None,
        overdue=tuple(reply[7:]),
    )


def picture_coupons(gate: Gate, lane: int, coupon_ids: Sequence[int]) -> CouponsPicture:
    """These coupons of one lane."""
    pairs = ((keys.coupon(lane, each), keys.winners(lane, each)) for each in coupon_ids)
    reply = gate.run("picture_coupons", [keys.lane(lane), *(key for pair in pairs for key in pair)], list(coupon_ids))
    names = ("version", "status", "total", "issued", "starts_at_ms", "ends_at_ms")
    coupons = {}
    for coupon_id, *values, winners in reply[1:]:
        terms = dict(zip(names, values, strict=True))
        issued = _number(terms.pop("issued"))
        coupons[int(coupon_id)] = CouponPicture(terms, issued, int(winners))
    return CouponsPicture(_number(reply[0]) or 0, coupons)


def picture_stock(gate: Gate, lane: int, product_ids: Sequence[int], nonces_to_return: Sequence[str]) -> StockPicture:
    """These products of one lane, every hold in it, and whether the orders with these nonces have returned theirs.

    Raises Blurred when there are more than :data:`HOLDS_PICTURED` holds, and when one of them came and went while we
    looked.
    """
    with unavailability_translated():
        heard_of: Any = gate.client.zrange(keys.holds(lane), 0, HOLDS_PICTURED)
    wanted = [(keys.sku(lane, each), "sku") for each in product_ids]
    wanted += [(keys.returned(lane, each), "returned") for each in nonces_to_return]
    wanted += [(keys.hold(lane, each), "hold") for each in heard_of]
    reply = gate.run(
        "picture_stock",
        [keys.lane(lane), keys.holds(lane), *(key for key, _ in wanted)],
        [HOLDS_PICTURED + 1, *(what for _, what in wanted)],
    )
    epoch, count, present, tables = reply[0], int(reply[1]), reply[2], reply[3:]
    if count > HOLDS_PICTURED:
        raise Blurred(f"{count} holds are under way in lane {lane}")
    returns_end = len(product_ids) + len(nonces_to_return)
    found = dict(zip(heard_of, tables[returns_end:], strict=True))
    return StockPicture(
        epoch=_number(epoch),
        skus={product_id: _sku(table) for product_id, table in zip(product_ids, tables, strict=False)},
        holds=_holds(gate, lane, present, found),
        returned=frozenset(
            nonce
            for nonce, (marker,) in zip(nonces_to_return, tables[len(product_ids) : returns_end], strict=True)
            if marker == "1"
        ),
    )


def waiting_issuances(gate: Gate, lane: int, upto_number: int) -> dict[int, list[int]]:
    """What waits in the lane's outbox up to that number: by coupon, the places in line. Read page by page.

    What was decided up to that number before the call and is not in the answer has left the outbox: the ledger has
    committed it. Memory is bounded as the outbox is.
    """
    waiting: dict[int, list[int]] = {}
    after = "-"
    while page := gate.run("waiting_issuances", [keys.outbox(lane)], [after, PAGE_OF_OUTBOX]):
        for entry_id, coupon_id, sequence in zip(page[::3], page[1::3], page[2::3], strict=True):
            if place_of(entry_id)[1] > upto_number:
                return waiting  # what came since is in no picture, and in a rush there is always more
            if coupon_id and sequence:
                waiting.setdefault(int(coupon_id), []).append(int(sequence))
        after = page[-3]
    return waiting


def submission_of_hold(gate: Gate, lane: int, nonce: str) -> tuple[int, str] | None:
    """In which lane a hold's order is, or would be, submitted, and the request id if that is this lane; None for a hold
    that is gone."""
    with unavailability_translated():
        fields: Any = gate.client.hmget(keys.hold(lane, nonce), "state", "request_id", "order_lane")
    state, request_id, order_lane = (value or "" for value in fields)
    return (_number(order_lane) or lane, request_id) if state in HOLDING else None


def _holds(gate: Gate, lane: int, present: Iterable[str], found: Mapping[str, Sequence[str]]) -> dict[str, HeldUnits]:
    """The holds of the picture; those that came after we had asked for their names are looked up now."""
    holds = {}
    for nonce in present:
        fields = found.get(nonce)
        if fields is None:
            # What a hold takes never changes, so it may be read later than the picture, as long as it is there.
            with unavailability_translated():
                late: Any = gate.client.hmget(keys.hold(lane, nonce), "state", "request_id", "lines", "deadline_ms")
            if late[2] is None:
                raise Blurred(f"a hold came and went in lane {lane}")
            fields = ["held", late[1] or "", late[2], late[3] or ""]
        state, request_id, lines, deadline_ms = fields
        if state in HOLDING:
            holds[nonce] = HeldUnits(request_id, _units(lines), _number(deadline_ms) or 0)
    return holds


def _units(lines: str) -> dict[int, int]:
    return {int(product_id): int(quantity) for product_id, quantity in _LINE.findall(lines)}


def _sku(table: Sequence[str]) -> SkuPicture:
    terms = dict(zip(("version", "name", "price", "status", "supplied"), table, strict=False))
    return SkuPicture(terms, _number(table[5]))


def _number(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() else None
