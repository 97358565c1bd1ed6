"""An empty Flask route: a POST that answers a constant, of about the size of what an issued coupon answers.

Whatever is written in Flask on this server costs at least this much, so this is what the real routes are held against.
"""

from __future__ import annotations

from flask import Flask, Response

PATH = "/empty"
ANSWER = b'{"requestId":"%060d","kind":"coupon_issue","status":"PENDING","couponId":1,"userId":1,"sequence":1}' % 0

app = Flask(__name__)


@app.post(PATH)
def empty() -> Response:
    return Response(ANSWER, content_type="application/json")
