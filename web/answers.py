"""Rendering what went well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, current_app


def answer(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer, rendered as it is: views build typed dictionaries, and nothing is validated a second time.

    Answers are somebody's own or a state of the moment, so no cache may keep them.
    """
    response = Response(current_app.json.dumps(body), status, headers, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
