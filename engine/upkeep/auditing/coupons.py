"""The audit of coupons: what the gate has given is what the ledger has recorded and what is on its way there.

One look takes the ledger's counts, then a picture of the gate, then the outbox page by page, then the counts again.
Traffic goes on; still each comparison is exact. What was recorded before the picture cannot be more than was issued in
it. What was issued in it is either seen in the outbox afterwards or had left it, and then it was committed before the
second counts: so the places in line that are seen have to be the last ones up to the count, without a gap, and the
ledger has to have all those before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.context import Engine
from engine.gate import pictures
from engine.gate.coupons import lane_of_coupon
from engine.gate.pictures import CouponPicture, Waiting
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
    before = _recorded(engine, coupon_ids)
    seen = pictures.picture_coupons(engine.gate, lane, coupon_ids)
    moving = {
        each: picture.issued
        for each, picture in seen.items()
        if picture.issued is not None and picture.issued != before[each].issued
    }
    waiting = pictures.waiting_issuances(engine.gate, lane, moving) if moving else {}
    after = _recorded(engine, coupon_ids)
    return {each: _compare(before[each], seen[each], waiting.get(each), after[each]) for each in coupon_ids}


def _recorded(engine: Engine, coupon_ids: Sequence[int]) -> dict[int, Coupon]:
    with engine.ledger.snapshot() as connection:
        return audit_queries.coupons_of(connection, coupon_ids)


def _compare(before: Coupon, picture: CouponPicture, waiting: Waiting | None, after: Coupon) -> list[Off]:
    """What is off with a coupon, given what was seen of it in this order."""
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
    counts = _counts_off(before.issued, picture.issued, waiting, after.issued)
    if counts:
        found.append(Off(CheckName.COUPONS, f"{name}: {counts}"))
    return found


def _counts_off(recorded_before: int, issued: int | None, waiting: Waiting | None, recorded_after: int) -> str:
    if issued is None:
        return "the gate does not know how many it issued"
    if recorded_before > issued:
        return f"{issued} issued at the gate, {recorded_before} recorded"
    if waiting is None:
        return (
            "" if recorded_after >= issued else f"{issued} issued at the gate, {recorded_after} recorded, none waiting"
        )
    places = f"{issued} issued at the gate, {recorded_after} recorded, {waiting.count} waiting"
    if waiting.last != issued or waiting.count != waiting.last - waiting.first + 1:
        return f"{places} for the places {waiting.first} to {waiting.last}"
    if recorded_after < waiting.first - 1:
        return f"{places} from place {waiting.first} on"
    return ""


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
