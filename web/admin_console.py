"""The console's figures, and the one thing it does that no other page does: trying parked follow-ups again."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from apiflask import APIBlueprint
from flask import Response
from typing_extensions import TypedDict

from engine.flow import followups
from engine.upkeep.console import Look
from web.answers import answer
from web.current import current_console, current_demo, current_engine
from web.demo_rush import RushShown
from web.documentation import Success, answers
from web.popular import PopularProductShown
from web.problems import TEMPORARY_ERROR
from web.products import ProductShown

admin_console = APIBlueprint("admin_console", __name__, url_prefix="/api/v1/admin", tag="Administration")


class LaneShown(TypedDict):
    """A lane: ``ready`` when it decides, ``backlog`` in decisions not yet recorded, ``lagMs`` the age of the oldest."""

    lane: int
    open: bool
    ready: bool
    epoch: int | None
    backlog: int
    lagMs: int | None


class CouponFigures(TypedDict):
    """A coupon and its live numbers: of those ``issued``, ``pending`` are not yet durable."""

    id: int
    name: str
    totalQuantity: int
    issued: int
    remaining: int
    pending: int
    status: Literal["ACTIVE", "INACTIVE"]


class WinnerShown(TypedDict):
    """Who got a coupon, and which place in line; ``durable`` once it is committed."""

    couponId: int
    userId: int
    sequence: int
    durable: bool


class RefusalCount(TypedDict):
    """How often requests were refused with this code, for this reason if the code has several."""

    code: str
    reason: str | None
    count: int


class ProcessShown(TypedDict):
    """A process that was heard in the last minute."""

    kind: str
    name: str
    alive: bool
    silentSeconds: float


class ParkedShown(TypedDict):
    """Follow-ups that wait for a person, at most 1,000 of them counted; why the last of them failed."""

    kind: str
    count: int
    lastError: str | None


class ConsoleShown(TypedDict):
    """The system at a glance. ``decided`` and ``recorded`` only grow: rates are differences of two looks."""

    takenAt: datetime
    ready: bool
    gateAnswers: bool
    ledgerAnswers: bool
    decided: int | None
    recorded: int | None
    backlog: int
    lagMs: int
    lanes: list[LaneShown]
    coupons: list[CouponFigures]
    products: list[ProductShown]
    winners: list[WinnerShown]
    refusals: list[RefusalCount]
    processes: list[ProcessShown]
    popularProducts: list[PopularProductShown]
    quarantined: int | None
    parked: list[ParkedShown]
    demo: bool
    rush: RushShown | None


class Requeued(TypedDict):
    """How many follow-ups will be tried again."""

    requeued: int


@admin_console.get("/console")
@admin_console.doc(
    summary="The system at a glance, at most half a second old",
    responses=answers({200: Success("What gate and ledger hold; an outage is told, not answered with.", ConsoleShown)}),
)
def show_console() -> Response:
    demo = current_demo()
    look = current_console().look()
    return answer({**_shown(look), "demo": demo is not None, "rush": None if demo is None else demo.rush()})


@admin_console.post("/followups/requeue")
@admin_console.doc(
    summary="Try parked follow-ups again",
    responses=answers({200: Success("They are due now, with all their attempts.", Requeued)}, TEMPORARY_ERROR),
)
def requeue_followups() -> Response:
    return answer({"requeued": followups.requeue_parked(current_engine())})


def _shown(look: Look) -> dict[str, Any]:
    return {
        "takenAt": look.taken_at,
        "ready": look.ready,
        "gateAnswers": look.gate_answers,
        "ledgerAnswers": look.ledger_answers,
        "decided": look.decided,
        "recorded": look.recorded,
        "backlog": sum(lane.backlog for lane in look.lanes),
        "lagMs": max((lane.head_age_ms or 0 for lane in look.lanes), default=0),
        "lanes": [
            {
                "lane": lane.lane,
                "open": lane.open,
                "ready": lane.ready,
                "epoch": lane.epoch,
                "backlog": lane.backlog,
                "lagMs": lane.head_age_ms,
            }
            for lane in look.lanes
        ],
        "coupons": [
            {
                "id": coupon.id,
                "name": coupon.name,
                "totalQuantity": coupon.total_quantity,
                "issued": coupon.issued,
                "remaining": coupon.remaining,
                "pending": coupon.pending,
                "status": coupon.status,
            }
            for coupon in look.coupons
        ],
        "products": [
            {"id": each.id, "name": each.name, "price": each.price, "stock": each.stock, "status": each.status}
            for each in look.products
        ],
        "winners": [
            {"couponId": each.coupon_id, "userId": each.user_id, "sequence": each.sequence, "durable": each.durable}
            for each in look.winners
        ],
        "refusals": [_refusal(name, count) for name, count in sorted(look.refusals.items())],
        "processes": [
            {
                "kind": each.kind,
                "name": each.name,
                "alive": each.alive,
                "silentSeconds": round(each.silent_seconds, 1),
            }
            for each in look.processes
        ],
        "popularProducts": [
            {"productId": each.product_id, "name": each.name, "totalSales": each.total_sales} for each in look.popular
        ],
        "quarantined": look.quarantined,
        "parked": [{"kind": each.kind, "count": each.count, "lastError": each.last_error} for each in look.parked],
    }


def _refusal(name: str, count: int) -> RefusalCount:
    code, _, reason = name.partition(":")
    return {"code": code, "reason": reason or None, "count": count}
