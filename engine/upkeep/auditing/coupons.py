"""The audit of coupons: what the gate has given is what the ledger has recorded and what is on its way there.

One look takes the ledger's counts, then a picture of the gate, then the outbox up to the last number in that picture,
then what was recorded meanwhile. Traffic goes on, and still the comparison is exact: every coupon issued in the picture
is one of

- those recorded at first, which are counted,
- those recorded since, whose places are beyond the highest recorded at first and not beyond the picture's count,
- those seen in the outbox and not recorded at the end either, whose places are beyond the highest recorded then,

and of nothing else, because an entry leaves the outbox only after its commit, and entries are committed in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.context import Engine
from engine.gate import pictures
from engine.gate.coupons import lane_of_coupon
from engine.gate.pictures import CouponPicture
from engine.ledger import audit_queries
from engine.ledger.coupons import Coupon
from engine.shop.coupon_offers import terms_of
from engine.upkeep.auditing.findings import CheckName, Off
from engine.upkeep.auditing.looking import Looking, by_lane, look_at_lane, look_until_sure, while_open

CHECKS = (CheckName.COUPON_TERMS, CheckName.COUPONS, CheckName.WINNERS)


def audit_coupons(looking: Looking) -> None:
    """Every coupon there is. Raises GateUnavailable, LedgerUnavailable."""
    engine = looking.engine

    def ids_after(after: int, limit: int) -> Sequence[int]:
        with engine.ledger.read() as connection:
            return audit_queries.coupon_ids_after(connection, after, limit)

    for lane, ids in by_lane(looking, ids_after, lambda coupon_id: lane_of_coupon(engine.gate, coupon_id)):

        def look(some: Sequence[int], lane: int = lane) -> Mapping[int, Sequence[Off]]:
            return while_open(engine, lane, lambda: _look(engine, lane, some))

        def until_sure(lane: int = lane, ids: Sequence[int] = ids) -> None:
            look_until_sure(looking, lane, ids, CHECKS, look, "coupon")

        look_at_lane(looking, CHECKS, f"coupons of lane {lane}", until_sure)


def _look(engine: Engine, lane: int, coupon_ids: Sequence[int]) -> dict[int, list[Off]]:
    with engine.ledger.snapshot() as connection:
        before = audit_queries.coupon_records(connection, coupon_ids)
    picture = pictures.picture_coupons(engine.gate, lane, coupon_ids)
    waiting = pictures.waiting_issuances(engine.gate, lane, picture.last_number)
    unrecorded = {each: (before[each].highest_sequence, seen.issued or 0) for each, seen in picture.coupons.items()}
    with engine.ledger.snapshot() as connection:
        after = audit_queries.coupon_records(connection, coupon_ids)
        since = audit_queries.recorded_within(connection, unrecorded)
    found = {}
    for each in coupon_ids:
        highest = after[each].highest_sequence
        still_waiting = sum(place > highest for place in waiting.get(each, ()))
        counts = _Counts(before[each].coupon.issued, since[each], still_waiting)
        found[each] = _compare(before[each].coupon, picture.coupons[each], counts, after[each].coupon)
    return found


class _Counts(NamedTuple):
    """Coupons by where they were seen."""

    recorded: int
    recorded_since: int
    waiting: int


def _compare(before: Coupon, picture: CouponPicture, counts: _Counts, after: Coupon) -> list[Off]:
    """What is off with a coupon, given what was seen of it."""
    name = f"coupon {before.id}"
    if picture.version is None:
        if not before.published_version:
            return []
        return [Off(CheckName.COUPON_TERMS, f"{name}: published, but the gate does not know it")]
    found = []
    terms = _terms_off(before, picture, after)
    if terms:
        found.append(Off(CheckName.COUPON_TERMS, f"{name}: {terms}"))
    if picture.winners != picture.issued:
        found.append(Off(CheckName.WINNERS, f"{name}: {picture.issued} issued, {picture.winners} winners"))
    if picture.issued != sum(counts):
        recorded = counts.recorded + counts.recorded_since
        what = f"{name}: {picture.issued} issued at the gate, {recorded} recorded, {counts.waiting} waiting"
        found.append(Off(CheckName.COUPONS, what))
    return found


def _terms_off(before: Coupon, picture: CouponPicture, after: Coupon) -> str:
    version = picture.version or 0
    if version < before.published_version:
        return f"version {before.published_version} is published, the gate has {version}"
    if version > after.version:
        return f"the gate has version {version}, the ledger {after.version}"
    for recorded in (before, after):
        if recorded.version == version and terms_of(recorded).fields() != dict(picture.terms):
            return f"the gate has other terms than version {version} of the ledger"
    return ""
