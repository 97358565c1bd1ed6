"""What Prometheus scrapes: the numbers of all processes, whichever of them answers."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response

from engine.telemetry.exposition import CONTENT_TYPE, exposition

metrics = APIBlueprint("metrics", __name__)


# Who may read this is said where it is said for all routes: what nobody opened there is for administrators.
@metrics.get("/metrics")
@metrics.doc(hide=True)
def show_metrics() -> Response:
    return Response(exposition(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
