"""How many calls somebody may make: by user, by address. Knows nothing of Flask.

A submission (asking for a coupon, ordering) carries its limits to the gate, which counts it where it decides it. Polls
and product lists are not counted: one costs less than counting it, and together they have places of their own
(``web/admission.py``). Every other call is counted before it costs anything.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from engine.config import Settings
from engine.errors import GateUnavailable
from engine.gate.gate import Gate
from engine.gate.turns import TurnLimits, take_turn
from web.access import API
from web.tokens import Caller

SUBMISSIONS = frozenset({("POST", f"{API}/coupons/*/issue"), ("POST", f"{API}/orders")})
HOT_ROUTES = SUBMISSIONS | frozenset(
    {
        ("GET", f"{API}/requests/*"),
        ("GET", f"{API}/products"),
        ("GET", f"{API}/products/popular"),
    }
)
PAUSE_SECONDS = 1.0
"""How long nobody is counted after the gate could not be asked: an outage of the gate's must not slow down what needs
only the ledger."""
IPV6_PREFIX = 64
"""What one customer is given: whoever has one address of it has all."""


def is_counted_here(rule: str, method: str) -> bool:
    """Whether calls of the route of that rule (a path, its variables in whatever form) are counted before the view."""
    return rule.startswith(f"{API}/") and ("GET" if method == "HEAD" else method, _shape(rule)) not in HOT_ROUTES


def is_limited(rule: str, method: str) -> bool:
    """Whether calls of that route are counted at all."""
    return is_counted_here(rule, method) or (method, _shape(rule)) in SUBMISSIONS


@lru_cache(maxsize=256)
def _shape(rule: str) -> str:
    return re.sub(r"[<{]\w+[>}]", "*", rule)


class Limits:
    """Counts calls. Thread-safe; one per process, but the counts are those of all."""

    def __init__(
        self,
        gate: Gate,
        *,
        per_user: int,
        per_address: int,
        proxies: int = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gate = gate
        self._per_user = per_user
        self._per_address = per_address
        self._proxies = proxies
        self._now = now
        self._asking_again_at = 0.0

    def of(self, caller: Caller, peer: str, forwarded: str) -> TurnLimits:
        """What a call counts against. ``peer`` is who is at the other end of the connection, ``forwarded`` what
        ``X-Forwarded-For`` says. Administrators are not limited by who they are."""
        limits: TurnLimits = ()
        if self._per_user and not caller.is_admin:
            limits += ((f"user:{caller.user_id}", self._per_user),)
        if self._per_address:
            limits += ((f"address:{address_of(peer, forwarded, self._proxies)}", self._per_address),)
        return limits

    def milliseconds_to_wait(self, caller: Caller, environ: Mapping[str, Any]) -> int:
        """Count a call with this WSGI environment: 0, or how long the caller has to wait because it was too many.

        Never raises GateUnavailable: what cannot be counted is granted.
        """
        limits = dict(self.of(caller, *whereabouts(environ)))
        if not limits or self._now() < self._asking_again_at:
            return 0
        try:
            return take_turn(self._gate, limits)
        except GateUnavailable:
            self._asking_again_at = self._now() + PAUSE_SECONDS
            return 0


def limits_from(settings: Settings, gate: Gate) -> Limits | None:
    """What counts calls with these settings; None when there is no limit."""
    if not settings.limit_per_user and not settings.limit_per_address:
        return None
    return Limits(
        gate,
        per_user=settings.limit_per_user,
        per_address=settings.limit_per_address,
        proxies=settings.proxies,
    )


def whereabouts(environ: Mapping[str, Any]) -> tuple[str, str]:
    """Who is at the other end, and what ``X-Forwarded-For`` says, in a WSGI environment."""
    return str(environ.get("REMOTE_ADDR", "")), str(environ.get("HTTP_X_FORWARDED_FOR", ""))


def address_of(peer: str, forwarded: str, proxies: int) -> str:
    """Where a call comes from, as far as it can be believed; of IPv6 the network.

    Each proxy adds the address of whoever it was called by to the end of ``X-Forwarded-For``; what stands before the
    entries of our own proxies was written by strangers.
    """
    if proxies:
        entries = [entry.strip() for entry in forwarded.split(",")]
        if len(entries) >= proxies and _network(entries[-proxies]):
            peer = entries[-proxies]
    return _network(peer) or "unknown"


@lru_cache(maxsize=4096)
def _network(text: str) -> str:
    """The address, or its network; empty for what is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((int(address), IPV6_PREFIX), strict=False).network_address)
    return str(address)
