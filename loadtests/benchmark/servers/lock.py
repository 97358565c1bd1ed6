"""The usual way to issue a coupon, behind a Flask route: a lock in Redis, then ``SELECT … FOR UPDATE``.

As thin as a route can be: no validation beyond what the statement needs, nothing looked up twice.
"""

from __future__ import annotations

from multiprocessing.util import Finalize

from flask import Flask, Response, request

from engine.config import Settings
from engine.context import Engine
from loadtests.lock_baseline import issue_under_a_lock

ISSUED = b'{"status":"COMPLETED"}'
CLOSED = b'{"code":"COUPON_CLOSED"}'

engine = Engine.connect(Settings.from_environment(), patient=True)
Finalize(None, engine.close, exitpriority=0)
app = Flask(__name__)


@app.post("/coupons/<int:coupon_id>/issue")
def issue(coupon_id: int) -> Response:
    if issue_under_a_lock(engine, coupon_id, int(request.get_json()["userId"])):
        return Response(ISSUED, 201, content_type="application/json")
    return Response(CLOSED, 409, content_type="application/json")
