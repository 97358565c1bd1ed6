"""The audit as administrators see it."""

from __future__ import annotations

import threading
from datetime import datetime

from apiflask import APIBlueprint
from flask import Response
from typing_extensions import TypedDict

from engine.caching.single_flight import SingleFlight
from engine.upkeep import audit
from engine.upkeep.audit import Report
from web.answers import answer
from web.current import current_engine
from web.documentation import Success, answers
from web.problems import TEMPORARY_ERROR, busy

ASKING_PLACES = 4
"""How many requests of one process may wait for an audit: it takes longer than anything else that is answered here, and
most threads have to be there for submissions."""

admin_audit = APIBlueprint("admin_audit", __name__, url_prefix="/api/v1/admin", tag="Administration")

_places = threading.BoundedSemaphore(ASKING_PLACES)
_audits: SingleFlight[Report] = SingleFlight()


class CheckShown(TypedDict):
    """One thing that has to be so; ``detail`` names some of what is off."""

    name: str
    ok: bool
    detail: str


class AuditShown(TypedDict):
    """Whether gate and ledger agree and all books add up; ``checkedAt`` is when the looking began."""

    ok: bool
    checkedAt: datetime
    checks: list[CheckShown]


@admin_audit.get("/audit")
@admin_audit.doc(
    summary="Audit gate and ledger, now",
    description="Looks at every coupon, product, account and order while everybody works on, so it takes as long as "
    "there is data; where something stands still, it waits for seconds to see whether that lasts. Who asks while an "
    "audit is under way in the same process gets that one's result.",
    responses=answers({200: Success("The result.", AuditShown)}, TEMPORARY_ERROR),
)
def show_audit() -> Response:
    engine = current_engine()
    if not _places.acquire(blocking=False):
        return busy()
    try:
        report = _audits.do(id(engine), lambda: audit.audit(engine))
    finally:
        _places.release()
    return answer(report.body())
