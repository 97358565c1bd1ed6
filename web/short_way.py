"""The short way: the requests of a rush, answered on the event loop without Flask.

It recognises the plain form of a hot request and nothing else: whatever is in any way unusual (another media type, a
preference, a query, a member too many, a number out of range) goes to the views, which are the reference for all that
can be wrong. Engine functions, documents and renderings are those of the views; a test sends the same requests both
ways and compares every byte.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from engine.context import Engine
from engine.errors import EngineError, GateUnavailable, LedgerUnavailable
from engine.flow.crowd import PLACES, Crowd
from engine.flow.turnstile import Passed, Turnstile
from engine.gate.coupons import IssueAsk
from engine.outcomes import Refused, RequestStatus
from engine.shop import popularity, product_offers
from engine.shop.orders import OrderAsk, only_lane_of
from engine.telemetry import metrics
from web.coupons import issue_submitted
from web.exchange import JSON_MEDIA_TYPE, Answered, Asked, busy_answer, json_answer, problem_answer
from web.fields import VISIBLE_ASCII
from web.orders import OrderBody, order_asked, order_submitted
from web.outages import OutageLog
from web.popular import popular_shown
from web.problems import RETRY_AFTER_SECONDS, TEMPORARY_ERROR
from web.products import products_shown
from web.requests import request_shown
from web.strict_json import MAX_BODY_BYTES, MAX_SAFE_INTEGER, read_json

_JSON = JSON_MEDIA_TYPE.encode()
_RETRY = (b"retry-after", b"%d" % RETRY_AFTER_SECONDS)
_ISSUE_PATH = re.compile(r"/api/v1/coupons/([1-9][0-9]{0,15})/issue")
_REQUEST_PATH = re.compile(r"/api/v1/requests/([0-9a-zA-Z._-]{1,200})")
_USER_BODY = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"userId"[ \t\r\n]*:[ \t\r\n]*([1-9][0-9]{0,15})[ \t\r\n]*\}[ \t\r\n]*')
_UNUSUAL = (b"prefer", b"transfer-encoding", b"content-encoding", b"expect")

logger = logging.getLogger(__name__)


class ShortWay:
    """Answers what it recognises. Used from one event loop."""

    def __init__(self, engine: Engine, outage_log: OutageLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._crowd = Crowd(engine, self._deliver)
        self._outage_log = outage_log
        self._engine = engine
        self._shared = {
            "/api/v1/products": self._one_for_all(lambda: products_shown(product_offers.list_products(engine))),
            "/api/v1/products/popular": self._one_for_all(lambda: popular_shown(popularity.popular_products(engine))),
        }

    def recognise(self, asked: Asked) -> Awaitable[Answered] | None:
        """The answer on its way; None for a request that is the views' to answer."""
        if asked.repeated or asked.query or any(name in asked.headers for name in _UNUSUAL):
            return None
        if asked.method == "POST":
            if asked.path == "/api/v1/orders":
                return self._recognise_order(asked)
            issue = _ISSUE_PATH.fullmatch(asked.path)
            return None if issue is None else self._recognise_issue(asked, int(issue[1]))
        if asked.method == "GET" and not asked.body:
            shared = self._shared.get(asked.path)
            if shared is not None:
                return self._show_shared(shared)
            request = _REQUEST_PATH.fullmatch(asked.path)
            return None if request is None else self._show_request(request[1])
        return None

    def close(self) -> None:
        """Take nobody more."""
        self._crowd.close()
        for turnstile in self._shared.values():
            turnstile.close()

    # -- issuing

    def _recognise_issue(self, asked: Asked, coupon_id: int) -> Awaitable[Answered] | None:
        user = _USER_BODY.fullmatch(asked.body)
        if user is None or not _is_plain_json(asked):
            return None
        user_id = int(user[1])
        if coupon_id > MAX_SAFE_INTEGER or user_id > MAX_SAFE_INTEGER:
            return None
        key = asked.headers.get(b"idempotency-key")
        if key is None:
            return self._issue(IssueAsk(coupon_id, user_id))
        text = key.decode("latin-1")
        return self._issue(IssueAsk(coupon_id, user_id, text)) if VISIBLE_ASCII.fullmatch(text) else None

    async def _issue(self, ask: IssueAsk) -> Answered:
        outcome = await self._outcome(lambda told: self._crowd.issue(ask, told))
        if isinstance(outcome, Refused):
            return problem_answer(outcome.code.value, outcome.detail)
        if isinstance(outcome, EngineError):
            return self._unavailable(outcome)
        location = (b"location", f"/api/v1/requests/{outcome.request_id}".encode())
        return json_answer(202, issue_submitted(outcome), location, _RETRY)

    # -- ordering

    def _recognise_order(self, asked: Asked) -> Awaitable[Answered] | None:
        key = asked.headers.get(b"idempotency-key")
        text = None if key is None else key.decode("latin-1")
        if not _is_plain_json(asked) or (text is not None and not VISIBLE_ASCII.fullmatch(text)):
            return None
        try:
            ask = order_asked(OrderBody.model_validate(read_json(asked.body)), text)
        except ValueError:  # JSON's and pydantic's errors both are
            return None
        lane = only_lane_of(self._engine, ask)
        return None if lane is None else self._order(lane, ask)

    async def _order(self, lane: int, ask: OrderAsk) -> Answered:
        outcome = await self._outcome(lambda told: self._crowd.order(lane, ask, told))
        if isinstance(outcome, Refused):
            return problem_answer(outcome.code.value, outcome.detail)
        if isinstance(outcome, EngineError):
            return self._unavailable(outcome)
        location = (b"location", f"/api/v1/requests/{outcome.request_id}".encode())
        return json_answer(202, order_submitted(outcome), location, _RETRY)

    # -- polling

    async def _show_request(self, request_id: str) -> Answered:
        outcome = await self._outcome(lambda told: self._crowd.look(request_id, told))
        if isinstance(outcome, Refused):
            return problem_answer(outcome.code.value, outcome.detail)
        if isinstance(outcome, EngineError):
            return self._unavailable(outcome)
        headers = (_RETRY,) if outcome.status is RequestStatus.PENDING else ()
        return json_answer(200, request_shown(outcome), *headers)

    # -- what is the same for all

    def _one_for_all(self, show: Callable[[], Mapping[str, Any]]) -> Turnstile[None, Answered]:
        """Everybody who waits gets one answer, looked for and rendered once, after the last of them came."""

        def pass_on(asks: Sequence[None]) -> Passed[Answered]:
            with metrics.timed_call("shared", len(asks)):
                return Passed([json_answer(200, show())] * len(asks))

        return Turnstile(pass_on, at_once=PLACES, places=PLACES, name="shared answer", deliver=self._deliver)

    async def _show_shared(self, turnstile: Turnstile[None, Answered]) -> Answered:
        outcome = await self._outcome(lambda told: turnstile.put(None, told))
        return self._unavailable(outcome) if isinstance(outcome, EngineError) else outcome

    # -- the crowd

    async def _outcome(self, put: Callable[[Any], None]) -> Any:
        """What the crowd's turnstile tells."""
        told: asyncio.Future[Any] = self._loop.create_future()
        try:
            put(told)
        except EngineError as error:
            return error
        return await told

    def _deliver(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Wake the loop once for all who went together. In a turnstile's thread."""
        self._loop.call_soon_threadsafe(_settle, pairs)

    def _unavailable(self, error: EngineError) -> Answered:
        if isinstance(error, GateUnavailable):
            self._outage_log.warn("gate", error)
            return busy_answer()
        if isinstance(error, LedgerUnavailable):
            self._outage_log.warn("ledger", error)
            return problem_answer(TEMPORARY_ERROR)
        raise error


def _settle(pairs: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for told, outcome in pairs:
        if not told.done():  # who went away meanwhile hears nothing
            told.set_result(outcome)


def _is_plain_json(asked: Asked) -> bool:
    """Whether the body came as nearly everybody sends it: as JSON, with its length."""
    headers = asked.headers
    return (
        headers.get(b"content-type") == _JSON
        and headers.get(b"content-length") == b"%d" % len(asked.body)
        and len(asked.body) <= MAX_BODY_BYTES
    )
