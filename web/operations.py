"""What operators and developers look at: health, readiness, the documentation."""

from __future__ import annotations

from typing import Any, Literal, cast

from apiflask import APIBlueprint, APIFlask
from flask import Response, current_app, render_template
from typing_extensions import TypedDict

from engine.upkeep import readiness
from web.answers import answer
from web.current import current_authenticator, current_engine, current_outage_log
from web.documentation import Success, answers
from web.languages import SENTENCES
from web.problems import PROBLEMS, not_ready

# Pages need nothing but their own text and style; whatever ends up in them, no browser runs or fetches it.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

operations = APIBlueprint("operations", __name__, tag="Operations")


class Alive(TypedDict):
    """The process answers."""

    status: Literal["alive"]


class Ready(TypedDict):
    """The process can take orders."""

    status: Literal["ready"]


@operations.get("/healthz")
@operations.doc(summary="Whether the process is alive", responses=answers({200: Success("It is.", Alive)}))
def healthz() -> Response:
    body: Alive = {"status": "alive"}
    return answer(body)


@operations.get("/readyz")
@operations.doc(
    summary="Whether the process can take orders",
    responses=answers({200: Success("It can.", Ready)}),
)
def readyz() -> Response:
    missing = {**readiness.missing_parts(current_engine()), **_missing_keys()}
    if missing:
        # The reasons may quote a driver, and with it hosts or keys: they are for the log, the names for the client.
        for part, reason in missing.items():
            current_outage_log().warn(part, reason, expected=not current_outage_log().was_ready)
        return not_ready(sorted(missing))
    current_outage_log().was_ready = True
    body: Ready = {"status": "ready"}
    return answer(body)


def _missing_keys() -> dict[str, str]:
    """Whoever can tell no caller can take no orders."""
    authenticator = current_authenticator()
    trouble = None if authenticator is None else authenticator.trouble()
    return {} if trouble is None else {"keys": trouble}


@operations.get("/docs")
@operations.doc(hide=True)
def docs() -> tuple[str, dict[str, str]]:
    spec = cast(dict[str, Any], cast(APIFlask, current_app).spec)
    return render_template("docs.html", spec=spec, problems=PROBLEMS, sentences=SENTENCES), _PAGE_HEADERS
