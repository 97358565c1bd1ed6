"""What is on offer: written to the ledger first, then made live at the gate.

A process that dies between the two leaves a version that is not published; :func:`publish_changes`, run every second
by the scheduler, finds and publishes it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from engine.context import Engine
from engine.fault_points import reach
from engine.gate import coupons as gate_coupons
from engine.gate.coupons import CouponTerms
from engine.ledger import coupons as ledger_coupons
from engine.ledger.coupons import Coupon
from engine.ledger.idempotency import Answer, administration_claim, answer_once
from engine.outcomes import Refusal, Refused
from engine.shop.publishing import Told, publish_each, tell_nobody


class _Unchanged(Enum):
    UNCHANGED = "unchanged"


UNCHANGED: Final = _Unchanged.UNCHANGED
"""Leave this member as it is; None means "no limit"."""


@dataclass(frozen=True)
class NewCoupon:
    """A coupon to be offered. ``status`` is ACTIVE or INACTIVE; amounts in KRW; times are aware datetimes."""

    name: str
    discount_amount: int
    total_quantity: int
    starts_at: datetime | None
    ends_at: datetime | None
    status: str


@dataclass(frozen=True)
class CouponChange:
    """What to change; None leaves a member as it is."""

    name: str | None = None
    status: str | None = None
    starts_at: datetime | _Unchanged | None = UNCHANGED
    ends_at: datetime | _Unchanged | None = UNCHANGED
    add_quantity: int = 0


@dataclass(frozen=True)
class CouponOverview:
    """A coupon with its live numbers: ``issued`` is the gate's count, ``pending`` of them are not yet recorded."""

    id: int
    name: str
    discount_amount: int
    total_quantity: int
    issued: int
    remaining: int
    pending: int
    status: str
    starts_at: datetime | None
    ends_at: datetime | None
    created_at: datetime


_MOMENTS = ("starts_at", "ends_at", "created_at")


class WindowReversed(ValueError):
    """The change would let a coupon end before it starts."""


def create_coupon(engine: Engine, new: NewCoupon, idempotency_key: str | None = None) -> CouponOverview | Refused:
    """Offer a coupon; open for issuing when this returns. The same key and coupon again gets the same answer.

    Raises LedgerUnavailable (nothing changed) or GateUnavailable (recorded; the scheduler makes it live as soon as
    the gate is back).
    """
    values = {
        "name": new.name,
        "discount_amount": new.discount_amount,
        "total_quantity": new.total_quantity,
        "starts_at": new.starts_at,
        "ends_at": new.ends_at,
        "status": new.status,
    }
    claim = administration_claim("create_coupon", idempotency_key, values)

    def work(connection: Connection) -> tuple[Answer, Coupon | None]:
        answer = answer_once(connection, claim, lambda: _first_answer(ledger_coupons.insert_coupon(connection, values)))
        coupon = None if isinstance(answer, Refused) else ledger_coupons.coupon_by_id(connection, answer["id"])
        return answer, coupon

    answer, coupon = engine.ledger.run(work)
    if isinstance(answer, Refused):
        return answer
    if coupon is not None and coupon.published_version < coupon.version:
        _publish(engine, coupon)
    return CouponOverview(**{name: _restored(name, value) for name, value in answer.items()})


def change_coupon(engine: Engine, coupon_id: int, change: CouponChange) -> CouponOverview | Refused:
    """Change a coupon, live. Raises as :func:`create_coupon`, and WindowReversed (nothing changed)."""
    members: dict[str, Any] = {"name": change.name, "status": change.status}
    values = {name: value for name, value in members.items() if value is not None}
    values |= {
        name: value
        for name, value in (("starts_at", change.starts_at), ("ends_at", change.ends_at))
        if value is not UNCHANGED
    }

    def work(connection: Connection) -> Coupon | None:
        return ledger_coupons.update_coupon(connection, coupon_id, values, change.add_quantity)

    try:
        coupon = engine.ledger.run(work)
    except IntegrityError as error:
        if "window_forward" in str(error.orig):
            raise WindowReversed("endsAt must be after startsAt") from error
        raise
    if coupon is None:
        return Refused(Refusal.COUPON_NOT_FOUND)
    _publish(engine, coupon)
    return _overview(engine, coupon)


def coupon_overview(engine: Engine, coupon_id: int) -> CouponOverview | Refused:
    """A coupon and its live numbers. Raises LedgerUnavailable, GateUnavailable."""
    with engine.ledger.read() as connection:
        coupon = ledger_coupons.coupon_by_id(connection, coupon_id)
    return Refused(Refusal.COUPON_NOT_FOUND) if coupon is None else _overview(engine, coupon)


def publish_changes(engine: Engine, told: Told = tell_nobody) -> int:
    """Make live what was recorded but not published; how many coupons that were."""
    with engine.ledger.read() as connection:
        waiting = ledger_coupons.unpublished_coupons(connection)
    return publish_each(waiting, partial(_publish, engine), told)


def terms_of(coupon: Coupon) -> CouponTerms:
    """The part of a coupon that the gate decides by."""
    return CouponTerms(
        coupon_id=coupon.id,
        version=coupon.version,
        status=coupon.status,
        total_quantity=coupon.total_quantity,
        starts_at=coupon.starts_at,
        ends_at=coupon.ends_at,
    )


def _first_answer(coupon: Coupon) -> dict[str, Any]:
    """The overview of a coupon that nobody has yet, as JSON values."""
    members = asdict(_overview_of(coupon, issued=0))
    return {name: value.isoformat() if name in _MOMENTS and value else value for name, value in members.items()}


def _restored(name: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if name in _MOMENTS and value else value


def _publish(engine: Engine, coupon: Coupon) -> None:
    reach("publish.recorded")
    at = gate_coupons.publish(engine.gate, terms_of(coupon))
    reach("publish.unmarked")
    with engine.ledger.transaction() as connection:
        ledger_coupons.mark_published(connection, coupon.id, coupon.version, lane=at.lane, epoch=at.epoch)


def _overview(engine: Engine, coupon: Coupon) -> CouponOverview:
    # The ledger was read before the gate, so the gate's count is never the smaller one; a lane that is being rebuilt
    # may not have the coupon for a moment, and then the ledger's count is the best there is.
    issued = gate_coupons.issued_count(engine.gate, coupon.id)
    return _overview_of(coupon, coupon.issued if issued is None else max(issued, coupon.issued))


def _overview_of(coupon: Coupon, issued: int) -> CouponOverview:
    return CouponOverview(
        id=coupon.id,
        name=coupon.name,
        discount_amount=coupon.discount_amount,
        total_quantity=coupon.total_quantity,
        issued=issued,
        remaining=coupon.total_quantity - issued,
        pending=issued - coupon.issued,
        status=coupon.status,
        starts_at=coupon.starts_at,
        ends_at=coupon.ends_at,
        created_at=coupon.created_at,
    )
