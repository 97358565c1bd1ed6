"""The demo's buttons. Without a demo their paths lead nowhere."""

from __future__ import annotations

from secrets import token_hex
from typing import Annotated, Any, Literal, Self

from apiflask import APIBlueprint
from flask import Response, abort
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from engine.forms import Form
from web.answers import answer
from web.current import current_demo
from web.demo_rush import Demo, Fault
from web.documentation import Success, answers
from web.problems import PROBLEM_MEDIA_TYPE, busy

MOST_REQUESTS = 50_000
MOST_USERS = 50_000
MOST_COUPONS = 10_000
"""A crowd that two cores serve in about a minute, while somebody watches."""

_NO_DEMO: dict[int | str, Any] = {
    404: {
        "description": "Not Found: INVALID_REQUEST",
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        "headers": {"Content-Language": {"$ref": "#/components/headers/Content-Language"}},
    }
}

admin_demo = APIBlueprint("admin_demo", __name__, url_prefix="/api/v1/admin/demo", tag="Demo")


class RushBody(Form):
    """How large a crowd asks, for how many coupons."""

    users: Annotated[int, Field(ge=1, le=MOST_USERS)]
    requests: Annotated[int, Field(ge=1, le=MOST_REQUESTS)]
    coupons: Annotated[int, Field(ge=1, le=MOST_COUPONS)]

    @model_validator(mode="after")
    def _everybody_asks(self) -> Self:
        if self.requests < self.users:
            raise PydanticCustomError("crowd", "requests must be at least users")
        return self


class FaultBody(Form):
    """What to break."""

    fault: Fault


class RushStarted(TypedDict):
    """The crowd is on its way; the console shows how it fares, under this id."""

    id: str


class FaultDone(TypedDict):
    """It is broken."""

    fault: Literal["kill_worker", "forget"]


@admin_demo.before_request
def _only_in_a_demo() -> None:
    """Before the body is looked at: where there is no demo, there is nothing to be wrong about."""
    if current_demo() is None:
        abort(404)


@admin_demo.post("/rush")
@admin_demo.input(RushBody, arg_name="body")
@admin_demo.doc(
    summary="Let a crowd loose on a new coupon (demo only; otherwise 404)",
    responses=answers({202: Success("It is on its way.", RushStarted)}) | _NO_DEMO,
)
def start_rush(body: RushBody) -> Response:
    demo = _demo()
    if demo.is_rushing():
        return busy()
    rush_id = token_hex(8)
    demo.start_rush(rush_id, body.users, body.requests, body.coupons)
    return answer({"id": rush_id}, 202)


@admin_demo.post("/fault")
@admin_demo.input(FaultBody, arg_name="body")
@admin_demo.doc(
    summary="Break something on purpose (demo only; otherwise 404)",
    description="`kill_worker` kills -9 the process that drains; `forget` empties the embedded Redis.",
    responses=answers({200: Success("It is broken.", FaultDone)}) | _NO_DEMO,
)
def break_something(body: FaultBody) -> Response:
    return answer({"fault": body.fault}) if _demo().break_something(body.fault) else busy()


def _demo() -> Demo:
    demo = current_demo()
    assert demo is not None  # noqa: S101 - _only_in_a_demo has looked
    return demo
