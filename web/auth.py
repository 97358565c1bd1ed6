"""Who calls: asked before anything else about a request is looked at. With ``AUTH=off`` everybody may do everything."""

from __future__ import annotations

from typing import Any

from flask import g, request

from engine.gate.turns import TurnLimits
from web.access import API, Access, access_to
from web.current import current_authenticator, current_limits
from web.limits import is_counted_here, whereabouts
from web.problems import Forbidden, NotAuthenticated, TooManyRequests
from web.tokens import ANYBODY, Caller, Unauthenticated

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({None, "none", "same-origin"})
"""What ``Sec-Fetch-Site`` says of a page of ours, of a person at the address bar, and of no browser at all."""


def identify_caller(_endpoint: str | None, _variables: dict[str, Any] | None) -> None:
    """Find out who calls, and whether this route is for them.

    A ``url_value_preprocessor``, because those come first: to somebody unknown not even a path's form is explained.
    Raises NotAuthenticated, Forbidden, KeysUnavailable.
    """
    authenticator = current_authenticator()
    if authenticator is None:
        _refuse_pages_of_others()
        g.caller = ANYBODY
        return
    access = _access()
    if access is Access.OPEN:
        return
    caller = authenticator.caller_of(request.environ.get("HTTP_AUTHORIZATION"))
    if isinstance(caller, Unauthenticated):
        raise NotAuthenticated(caller.reason)
    if access is Access.ADMIN and not caller.is_admin:
        raise Forbidden
    g.caller = caller


def count_call(_endpoint: str | None, _variables: dict[str, Any] | None) -> None:
    """Count the call against its caller's limits, before it costs anything. Raises TooManyRequests."""
    limits = current_limits()
    rule = request.url_rule
    if limits is None or rule is None or not is_counted_here(rule.rule, request.method):
        return
    milliseconds = limits.milliseconds_to_wait(current_caller(), request.environ)
    if milliseconds:
        raise TooManyRequests(milliseconds)


def limits_of_submission() -> TurnLimits:
    """What the current request counts against where it is decided."""
    limits = current_limits()
    return () if limits is None else limits.of(current_caller(), *whereabouts(request.environ))


def refuse_paths_of_others(_endpoint: str | None, variables: dict[str, Any] | None) -> None:
    """A path that names a user is theirs. To be registered behind the one that makes numbers of ids."""
    if variables and "user_id" in variables:
        act_for(variables["user_id"])


def current_caller() -> Caller:
    """Who calls; on routes that are not open."""
    caller: Caller = g.caller
    return caller


def act_for(user_id: int) -> None:
    """Raises Forbidden unless the caller may act in this user's name."""
    if not current_caller().may_act_for(user_id):
        raise Forbidden


def _refuse_pages_of_others() -> None:
    """Without tokens, any page that is open in a browser on this machine could cancel an order or start a rush.

    A browser asks us before it sends JSON from another site's page, and we never say yes; a POST without a body it just
    sends. With tokens, there is nothing that a browser would add by itself.
    """
    if request.method not in _READING and request.headers.get("Sec-Fetch-Site") not in _OWN_SITE:
        raise Forbidden


def _access() -> Access:
    if request.url_rule is not None:
        return access_to(request.url_rule.rule, request.method)
    # Nothing is served here under this method. Below the API not even that is told to somebody unknown.
    if request.path in (f"{API}", f"{API}/") or request.path.startswith(f"{API}/"):
        return Access.CALLER
    return Access.OPEN
