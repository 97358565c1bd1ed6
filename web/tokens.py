"""Who calls, as a bearer token says (RFC 6750, RFC 7519). Knows nothing of Flask: any way into the service may ask.

A token is verified once. From then on until it expires, asking costs a digest and a look into a table.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt
from jwt import PyJWK
from jwt.exceptions import InvalidSubjectError

from engine.config import Settings
from engine.ids import id_in
from engine.token_keys import is_address, key_in_pem_file, key_of_secret, keys_in_file
from web.key_sources import FetchedKeySet, FixedKeys, KeySet, KeySource
from web.plain_tokens import PlainTokens

ADMIN_ROLE = "admin"
LEEWAY_SECONDS = 10
"""How far the clocks of whoever signs and of this machine may differ."""
REMEMBERED_TOKENS = 20_000
"""Per process, some 300 bytes each: a crowd that comes back to poll within seconds should find itself known."""
LONGEST_HEADER = 8192

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "the token is expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is from another issuer"),
    (InvalidSubjectError, "the sub of the token is no user id"),
    (jwt.MissingRequiredClaimError, "the token lacks a claim that is required"),
    (jwt.InvalidAlgorithmError, "the token is signed with an algorithm that is not accepted"),
    (jwt.InvalidSignatureError, "the token is signed with an unknown key"),
)
_MALFORMED = "the token is malformed"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and whether with the role of an administrator."""

    user_id: int
    is_admin: bool = False

    def may_act_for(self, user_id: int) -> bool:
        """Users act for themselves only, administrators for anyone."""
        return self.is_admin or self.user_id == user_id

    @property
    def only_sees(self) -> int | None:
        """Whose requests and orders exist for this caller; None: everybody's."""
        return None if self.is_admin else self.user_id


ANYBODY = Caller(user_id=0, is_admin=True)
"""Every caller where nobody is asked who they are (``AUTH=off``)."""


@dataclass(frozen=True, slots=True)
class Unauthenticated:
    """Nobody that we know: ``reason`` says to developers what is wrong with the token, None if none was sent."""

    reason: str | None = None


class Authenticator:
    """Tells callers by their ``Authorization`` header. Thread-safe; one per process."""

    def __init__(
        self,
        keys: KeySource,
        *,
        audience: str = "",
        issuer: str = "",
        remembered_tokens: int = REMEMBERED_TOKENS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._audience = audience or None
        self._issuer = issuer or None
        self._options: Any = {
            "require": ["exp", "sub"],
            # Without an audience of ours to compare with, PyJWT would refuse every token that names one.
            "verify_aud": bool(audience),
            "enforce_minimum_key_length": True,
        }
        self._plain = PlainTokens(keys.secrets, audience=self._audience, issuer=self._issuer)
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._remembered_tokens = remembered_tokens
        self._lock = threading.Lock()
        self._now = now

    def caller_of(self, authorization: str | None, *, may_wait: bool = True) -> Caller | Unauthenticated:
        """The caller who sent this header.

        Raises KeysUnavailable when that cannot be said now. Only where keys are fetched from an address may it have to
        wait for them, seconds at most; with ``may_wait=False`` it raises instead, and never blocks.
        """
        if authorization is None:
            return Unauthenticated()
        if len(authorization) > LONGEST_HEADER:
            return Unauthenticated(_MALFORMED)
        # The digest, and not the token: whoever gets to see our memory does not get to be our users.
        digest = sha256(authorization.encode()).digest()
        with self._lock:
            known = self._known.get(digest)
            if known is not None:
                if self._now() < known[1]:
                    self._known.move_to_end(digest)
                    return known[0]
                del self._known[digest]
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return Unauthenticated()
        return self._verified(digest, token.strip(" "), may_wait)

    def trouble(self) -> str | None:
        """Why nobody new can be told at present; None when all is well."""
        return self._keys.trouble()

    def _verified(self, digest: bytes, token: str, may_wait: bool) -> Caller | Unauthenticated:
        try:
            claims = self._plain.claims_of(token, self._now())
            if claims is None:
                claims = self._claims(token, self._keys.keys_for(token, may_wait=may_wait))
                self._plain.learn(token)
        # The library promises PyJWTError; what a stranger makes up must not become a crash if it should break that.
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            return Unauthenticated(next((text for kind, text in _REASONS if isinstance(error, kind)), _MALFORMED))
        user_id = id_in(claims["sub"])
        if user_id is None:
            return Unauthenticated("the sub of the token is no user id")
        caller = Caller(user_id, claims.get("role") == ADMIN_ROLE)
        good_until: float = int(claims["exp"]) + LEEWAY_SECONDS
        if self._keys.recheck_seconds is not None:
            good_until = min(good_until, self._now() + self._keys.recheck_seconds)
        with self._lock:
            self._known[digest] = (caller, good_until)
            if len(self._known) > self._remembered_tokens:
                self._known.popitem(last=False)
        return caller

    def _claims(self, token: str, keys: Sequence[PyJWK]) -> dict[str, Any]:
        for key in keys:
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[key.algorithm_name],
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=LEEWAY_SECONDS,
                    options=self._options,
                )
            except jwt.InvalidSignatureError:
                continue
        raise jwt.InvalidSignatureError


def authenticator_from(settings: Settings) -> Authenticator | None:
    """Who tells callers with these settings; None with ``AUTH=off``. Raises UnusableKey."""
    if settings.auth == "off":
        return None
    return Authenticator(_keys_from(settings), audience=settings.jwt_audience, issuer=settings.jwt_issuer)


def _keys_from(settings: Settings) -> KeySource:
    if settings.jwt_secrets:
        return FixedKeys([key_of_secret(secret) for secret in settings.jwt_secrets])
    if settings.jwt_public_key:
        return FixedKeys([key_in_pem_file(settings.jwt_public_key)])
    if is_address(settings.jwt_key_set):
        return FetchedKeySet(settings.jwt_key_set)
    return KeySet(keys_in_file(settings.jwt_key_set))
