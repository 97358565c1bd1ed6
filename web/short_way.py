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

from engine.errors import EngineError, GateUnavailable, LedgerUnavailable, TooManyAsks
from engine.flow.crowd import PLACES, Crowd
from engine.flow.turnstile import Passed, Turnstile
from engine.gate.coupons import IssueAsk
from engine.gate.turns import TurnLimits
from engine.ids import MAX_SAFE_INTEGER
from engine.outcomes import Issued, Refusal, Refused, RequestState, RequestStatus, Submitted
from engine.shop import popularity, product_offers
from engine.shop.orders import OrderAsk, only_lane_of
from engine.telemetry import metrics
from web.admission import Admission, Share
from web.coupons import issue_submitted
from web.current import Serving
from web.exchange import JSON_MEDIA_TYPE, Answered, Asked, Header, json_answer, problem_answer, worded_answer
from web.fields import VISIBLE_ASCII
from web.key_sources import KeysUnavailable
from web.languages import Language
from web.orders import OrderBody, order_asked, order_submitted
from web.popular import popular_shown
from web.problems import BUSY, RETRY_AFTER_SECONDS, TEMPORARY_ERROR, TOO_MANY_REQUESTS, whole_seconds
from web.products import products_shown
from web.requests import request_shown
from web.strict_json import MAX_BODY_BYTES, read_json
from web.tokens import ANYBODY, Caller

_JSON = JSON_MEDIA_TYPE.encode()
_RETRY = (b"retry-after", b"%d" % RETRY_AFTER_SECONDS)
_ISSUE_PATH = re.compile(r"/api/v1/coupons/([1-9][0-9]{0,15})/issue")
_REQUEST_PATH = re.compile(r"/api/v1/requests/([0-9a-zA-Z._-]{1,200})")
_USER_BODY = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"userId"[ \t\r\n]*:[ \t\r\n]*([1-9][0-9]{0,15})[ \t\r\n]*\}[ \t\r\n]*')
_UNUSUAL = (b"prefer", b"transfer-encoding", b"content-encoding", b"expect")

MOST_HEADERS = 40
MOST_HEADER_BYTES = 12 * 1024
"""What nobody's browser or proxy exceeds, and well within what the views take."""

logger = logging.getLogger(__name__)


class ShortWay:
    """Answers what it recognises. Used from one event loop."""

    def __init__(self, serving: Serving, admission: Admission) -> None:
        self._submissions, self._reads = admission.submissions, admission.reads
        self._loop = asyncio.get_running_loop()
        self._engine = engine = serving.engine
        self._crowd = Crowd(engine, self._deliver)
        self._outage_log = serving.outage_log
        self._refusals = serving.refusals
        self._authenticator = serving.authenticator
        self._limits = serving.limits
        self._shared = {
            "/api/v1/products": self._one_for_all(lambda: product_offers.list_products(engine), products_shown),
            "/api/v1/products/popular": self._one_for_all(lambda: popularity.popular_products(engine), popular_shown),
        }

    def recognise(self, asked: Asked) -> Awaitable[Answered] | None:
        """The answer on its way; None for a request that is the views' to answer."""
        headers = asked.headers
        if asked.repeated or asked.query or any(name in headers for name in _UNUSUAL):
            return None
        if len(headers) > MOST_HEADERS or sum(map(len, headers.values())) > MOST_HEADER_BYTES:
            return None
        if asked.method == "POST":
            if asked.path == "/api/v1/orders":
                return self._recognise_order(asked)
            issue = _ISSUE_PATH.fullmatch(asked.path)
            return None if issue is None else self._recognise_issue(asked, int(issue[1]))
        if asked.method == "GET" and not asked.body:
            shared = self._shared.get(asked.path)
            if shared is not None:
                return self._show_shared(asked, shared)
            request = _REQUEST_PATH.fullmatch(asked.path)
            return None if request is None else self._recognise_request(asked, request[1])
        return None

    def close(self) -> None:
        """Take nobody more."""
        self._crowd.close()
        for turnstile in self._shared.values():
            turnstile.close()

    def _caller(self, asked: Asked) -> Caller | None:
        """Who calls; None for somebody whom the views have to tell why they are not let in."""
        if self._authenticator is None:
            return ANYBODY
        authorization = asked.headers.get(b"authorization")
        try:
            caller = self._authenticator.caller_of(
                None if authorization is None else authorization.decode("latin-1"), may_wait=False
            )
        except KeysUnavailable:
            return None
        return caller if isinstance(caller, Caller) else None

    def _limits_of(self, caller: Caller, asked: Asked) -> TurnLimits:
        """What a submission counts against where it is decided."""
        if self._limits is None:
            return ()
        return self._limits.of(caller, asked.peer, asked.headers.get(b"x-forwarded-for", b"").decode("latin-1"))

    # -- issuing

    def _recognise_issue(self, asked: Asked, coupon_id: int) -> Awaitable[Answered] | None:
        user = _USER_BODY.fullmatch(asked.body)
        if user is None or not _is_plain_json(asked):
            return None
        user_id, caller = int(user[1]), self._caller(asked)
        if coupon_id > MAX_SAFE_INTEGER or user_id > MAX_SAFE_INTEGER:
            return None
        if caller is None or not caller.may_act_for(user_id):
            return None
        key = asked.headers.get(b"idempotency-key")
        text = None if key is None else key.decode("latin-1")
        if text is not None and not VISIBLE_ASCII.fullmatch(text):
            return None
        return self._issue(asked, IssueAsk(coupon_id, user_id, text, self._limits_of(caller, asked)))

    async def _issue(self, asked: Asked, ask: IssueAsk) -> Answered:
        outcome = await self._outcome(self._submissions, lambda told: self._crowd.issue(ask, told))
        if isinstance(outcome, Issued):
            return json_answer(202, issue_submitted(outcome), _location(outcome.request_id), _RETRY)
        return self._refused(asked, outcome)

    # -- ordering

    def _recognise_order(self, asked: Asked) -> Awaitable[Answered] | None:
        key, caller = asked.headers.get(b"idempotency-key"), self._caller(asked)
        text = None if key is None else key.decode("latin-1")
        if caller is None or not _is_plain_json(asked) or (text is not None and not VISIBLE_ASCII.fullmatch(text)):
            return None
        try:
            body = OrderBody.model_validate(read_json(asked.body))
            ask = order_asked(body, text, self._limits_of(caller, asked))
        except ValueError:  # JSON's and pydantic's errors both are
            return None
        if not caller.may_act_for(ask.user_id):
            return None
        lane = only_lane_of(self._engine, ask)
        return None if lane is None else self._order(asked, lane, ask)

    async def _order(self, asked: Asked, lane: int, ask: OrderAsk) -> Answered:
        outcome = await self._outcome(self._submissions, lambda told: self._crowd.order(lane, ask, told))
        if isinstance(outcome, Submitted):
            return json_answer(202, order_submitted(outcome), _location(outcome.request_id), _RETRY)
        return self._refused(asked, outcome)

    # -- polling

    def _recognise_request(self, asked: Asked, request_id: str) -> Awaitable[Answered] | None:
        caller = self._caller(asked)
        return None if caller is None else self._show_request(asked, request_id, caller)

    async def _show_request(self, asked: Asked, request_id: str, caller: Caller) -> Answered:
        outcome = await self._outcome(self._reads, lambda told: self._crowd.look(request_id, told))
        if not isinstance(outcome, RequestState):
            return self._refused(asked, outcome)
        if not outcome.is_seen_by(caller.only_sees):
            return self._refused(asked, Refused(Refusal.REQUEST_NOT_FOUND))
        headers = (_RETRY,) if outcome.status is RequestStatus.PENDING else ()
        language = asked.language
        return worded_answer(200, request_shown(outcome, language), language, outcome.error is not None, *headers)

    # -- what is the same for all

    def _one_for_all(
        self, look: Callable[[], Sequence[Any]], show: Callable[[Any, Language], Mapping[str, Any]]
    ) -> Turnstile[Language, Answered]:
        """Who waits gets one answer, looked for once after the last of them came, rendered once a language."""

        def pass_on(languages: Sequence[Language]) -> Passed[Answered]:
            with metrics.timed_call("shared", len(languages)):
                found = look()
                answers = {
                    language: worded_answer(200, show(found, language), language, not found)
                    for language in set(languages)
                }
            return Passed([answers[language] for language in languages])

        return Turnstile(pass_on, at_once=PLACES, places=PLACES, name="shared answer", deliver=self._deliver)

    async def _show_shared(self, asked: Asked, turnstile: Turnstile[Language, Answered]) -> Answered:
        outcome = await self._outcome(self._reads, lambda told: turnstile.put(asked.language, told))
        return outcome if isinstance(outcome, Answered) else self._refused(asked, outcome)

    # -- the crowd

    async def _outcome(self, share: Share, put: Callable[[Any], None]) -> Any:
        """What the crowd's turnstile tells. Takes a place until then."""
        if share.is_full:  # the last places went while this request's body was read
            metrics.TURNED_AWAY.inc()
            return GateUnavailable(f"all {share.places} places for {share.name} are taken")
        told: asyncio.Future[Any] = self._loop.create_future()
        with share:
            try:
                put(told)
            except EngineError as error:
                return error
            return await told

    def _deliver(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Wake the loop once for all who went together. In a turnstile's thread."""
        self._loop.call_soon_threadsafe(_settle, pairs)

    def _refused(self, asked: Asked, outcome: Refused | EngineError) -> Answered:
        if isinstance(outcome, Refused):
            self._refusals.count(outcome.code.value, outcome.detail)
            return problem_answer(outcome.code.value, asked.language, outcome.detail)
        if isinstance(outcome, TooManyAsks):
            seconds = whole_seconds(outcome.milliseconds)
            return problem_answer(TOO_MANY_REQUESTS, asked.language, retry_after_seconds=seconds)
        if isinstance(outcome, GateUnavailable):
            self._outage_log.warn("gate", outcome)
            self._refusals.count(BUSY)
            return problem_answer(BUSY, asked.language)
        if isinstance(outcome, LedgerUnavailable):
            self._outage_log.warn("ledger", outcome)
            return problem_answer(TEMPORARY_ERROR, asked.language)
        raise outcome


def _location(request_id: str) -> Header:
    return (b"location", f"/api/v1/requests/{request_id}".encode())


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
