"""The door: where every request comes in (ASGI), before a thread or a view is spent on it.

It reads the body within its time and size, answers the plain requests of a rush at once (``short_way.py``), and hands
everything else to Flask (``wsgi_bridge.py``). A client that sends half a body costs a few kilobytes until its time is
over, and no thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from engine.service_manager import tell_ready
from engine.telemetry import metrics
from web.admission import Admission, Share, busy_answer
from web.bodies import BODY_SECONDS, Bodies, BodyTooSlow, ClientGone, Receive
from web.current import EXTENSION
from web.exchange import Answered, Asked, problem_answer
from web.languages import Language, language_for
from web.listening import GOODBYE, take_nobody_new
from web.problems import BUSY, INVALID_REQUEST, TEMPORARY_ERROR
from web.request_times import FAULT, SHORT, VIEWS, LoopPulse, RequestTimes
from web.short_way import ShortWay
from web.strict_json import MAX_BODY_BYTES
from web.wsgi_bridge import TooManyWaiting, WsgiBridge

_LAST_ANSWER = (b"connection", b"close")
BUSY_STATUS = 503
_TOO_SLOW = [{"field": "body", "reason": "did not arrive in time"}]

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

logger = logging.getLogger(__name__)


class Door:
    """The ASGI application of one process: the short way in front of a Flask application."""

    def __init__(self, flask: Any, body_seconds: float = BODY_SECONDS, admission: Admission | None = None) -> None:
        self._flask = flask
        self._admission = admission or Admission()
        self._bodies = Bodies(body_seconds)
        self._short_way: ShortWay | None = None
        self._bridge = WsgiBridge(flask.wsgi_app)
        self._leaving = False
        self._times = RequestTimes()
        self._pulse = LoopPulse()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            share = self._admission.share_of(scope["method"], scope["path"])
            try:
                if share is not None and share.is_full:
                    answered = self._turn_away(share, scope)
                else:
                    answered = await self._answer(scope, receive)
            except ClientGone:
                return
            except TooManyWaiting:
                answered = problem_answer(BUSY, _language(scope))
            except Exception:
                logger.exception("%s %s failed", scope["method"], scope["path"])
                answered = problem_answer(TEMPORARY_ERROR, _language(scope), status=500)
            headers = answered.headers
            if self._leaving and scope["http_version"].startswith("1"):  # HTTP/2 has a farewell of its own
                headers = [*headers, _LAST_ANSWER]
            await send({"type": "http.response.start", "status": answered.status, "headers": headers})
            await send({"type": "http.response.body", "body": answered.body})

    def say_goodbye(self) -> None:
        """This process is about to leave: nobody new is taken, and every answer is the last one on its connection.

        A client that gets such an answer opens a new connection, which another process takes. Were the connection just
        closed some time later, its next request might be on its way.
        """
        self._leaving = True
        take_nobody_new()

    def close(self) -> None:
        """Take nobody more; what is at work is finished."""
        if self._short_way is not None:
            self._short_way.close()
        self._bridge.close()
        self._flask.extensions[EXTENSION].refusals.close()

    def _turn_away(self, share: Share, scope: Scope) -> Answered:
        """Before anything else is done for them, bodies included: being busy must not make us busier."""
        serving = self._flask.extensions[EXTENSION]
        serving.outage_log.warn("door", f"all {share.places} places for {share.name} are taken")
        serving.refusals.count(BUSY)
        metrics.TURNED_AWAY.inc()
        self._times.end(self._times.begin(), scope["path"], SHORT, BUSY_STATUS)
        return busy_answer(scope["headers"])

    async def _answer(self, scope: Scope, receive: Receive) -> Answered:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body = b""
        if _has_readable_body(headers):
            try:
                body = await self._bodies.read(receive)
            except BodyTooSlow:
                return problem_answer(INVALID_REQUEST, _language(scope), {"errors": _TOO_SLOW}, status=408)
        asked = Asked(
            scope["method"],
            scope["path"],
            scope["query_string"],
            headers,
            len(headers) != len(scope["headers"]),
            body,
            (scope.get("client") or ("",))[0],
        )
        if self._short_way is None:
            self._short_way = ShortWay(self._flask.extensions[EXTENSION], self._admission)
        begun, way = self._times.begin(), VIEWS
        try:
            on_its_way = self._short_way.recognise(asked)
            if on_its_way is None:
                answered = await self._bridge.answer(scope, body)
            else:
                way = SHORT
                answered = await on_its_way
        except TooManyWaiting:
            self._times.end(begun, asked.path, way, BUSY_STATUS)
            raise
        except Exception:  # not of who is cancelled, because they went away or we stop: that is nobody's fault
            self._times.end(begun, asked.path, way, FAULT)
            raise
        self._times.end(begun, asked.path, way, answered.status)
        return answered

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                asyncio.get_running_loop().add_signal_handler(GOODBYE, self.say_goodbye)
            else:
                self.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                self._pulse.stop()
                self._times.hand_over()
                return
            tell_ready()
            self._pulse.start()


def _language(scope: Scope) -> Language:
    wish = dict(scope["headers"]).get(b"accept-language")
    return language_for(None if wish is None else wish.decode("latin-1"))


def _has_readable_body(headers: Mapping[bytes, bytes]) -> bool:
    """Whether there is a body that a view may read; one of unknown or excessive length every view refuses unread."""
    length = headers.get(b"content-length", b"")
    return length.isdigit() and 0 < int(length[:9]) <= MAX_BODY_BYTES and len(length) < 10
