"""Users as administrators see them."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response
from typing_extensions import TypedDict

from engine.forms import UserForm
from engine.outcomes import Refusal, Refused
from engine.shop import accounts
from web.answers import answer
from web.current import current_engine
from web.documentation import IDEMPOTENCY_KEY, Success, answers, reads
from web.fields import idempotency_key
from web.problems import TEMPORARY_ERROR, refused

admin_users = APIBlueprint("admin_users", __name__, url_prefix="/api/v1/admin", tag="Administration")


class NewUserBody(UserForm):
    """The user to add; without an id the next free one is taken."""


class UserShown(TypedDict):
    """A user and their balance in KRW."""

    userId: int
    name: str | None
    balance: int


@admin_users.post("/users")
@admin_users.input(NewUserBody, arg_name="body")
@admin_users.doc(
    summary="Add a user",
    responses=answers(
        {201: Success("Added, with a balance of 0.", UserShown)},
        Refusal.USER_EXISTS,
        Refusal.IDEMPOTENCY_KEY_REUSED,
        TEMPORARY_ERROR,
    ),
    extensions=reads(IDEMPOTENCY_KEY),
)
def add_user(body: NewUserBody) -> Response:
    outcome = accounts.open_account(current_engine(), body.user_id, body.name, idempotency_key())
    return refused(outcome) if isinstance(outcome, Refused) else answer(outcome, 201)
