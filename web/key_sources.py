"""Where the keys come from that tokens are verified with: given from the start, or fetched from an address."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import jwt
from jwt import PyJWK, PyJWKClient

from engine.errors import EngineError
from engine.token_keys import UnusableKey, keys_in_set

FETCH_SECONDS = 3.0
"""For one step of a fetch, and how long at most a caller waits for one."""
FRESH_SECONDS = 300.0
"""After so long a set is fetched anew, so that a key that was withdrawn is not trusted for long."""
STALE_SECONDS = 3600.0
"""For so long a set is used while its address does not answer. Whoever issues our tokens is away then, too: those that
he gave out before are about to expire anyway."""
PAUSE_SECONDS = 10.0
"""Between two fetches because of a key id that is not in the set: anybody can make one up."""
PAUSE_AFTER_FAILURE_SECONDS = 2.0

logger = logging.getLogger(__name__)


class KeysUnavailable(EngineError):
    """Whether a token is good cannot be said now: the keys to verify it with could not be fetched."""

    retry_after_seconds = 1


class KeySource(Protocol):
    """Where keys come from. Thread-safe."""

    recheck_seconds: float | None
    """How long a verified token is good without another look at the keys; None: until it expires."""
    secrets: Sequence[bytes]
    """The keys that are shared secrets (for HS256)."""

    def keys_for(self, token: str, *, may_wait: bool) -> Sequence[PyJWK]:
        """The keys that this token may be signed with. Raises KeysUnavailable, PyJWTError."""

    def trouble(self) -> str | None:
        """Why no token can be verified at present; None when all is well."""


class FixedKeys:
    """Shared secrets or one public key: any of them may have signed."""

    recheck_seconds: float | None = None

    def __init__(self, keys: Sequence[PyJWK]) -> None:
        self._keys = tuple(keys)
        self.secrets: Sequence[bytes] = [key.key for key in keys if key.algorithm_name == "HS256"]

    def keys_for(self, token: str, *, may_wait: bool) -> Sequence[PyJWK]:  # noqa: ARG002
        return self._keys

    def trouble(self) -> str | None:
        return None


class KeySet:
    """A JSON Web Key Set that stays as it is: a token names its key."""

    recheck_seconds: float | None = None
    secrets: Sequence[bytes] = ()

    def __init__(self, keys: Mapping[str | None, PyJWK]) -> None:
        self._keys = keys

    def keys_for(self, token: str, *, may_wait: bool) -> Sequence[PyJWK]:  # noqa: ARG002
        return named_in(token, self._keys)

    def trouble(self) -> str | None:
        return None


class FetchedKeySet:
    """A JSON Web Key Set at an address: fetched at the first need, now and then, and for a key id that it lacks.

    One thread fetches, however many need it. Whoever brings a key that is known waits for nothing.
    """

    recheck_seconds: float | None = FRESH_SECONDS
    secrets: Sequence[bytes] = ()

    def __init__(
        self, address: str, fetch: Callable[[], Any] | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        # Of the library's client we use the fetching alone. It would fetch in the thread of whoever asks, all others
        # waiting behind it, and throw a good set away as soon as its address does not answer.
        self._fetch = fetch or PyJWKClient(address, cache_jwk_set=False, timeout=FETCH_SECONDS).fetch_data
        self._now = now
        self._lock = threading.Lock()
        self._keys: Mapping[str | None, PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._failure: str | None = None
        self._flight: Future[None] | None = None

    def keys_for(self, token: str, *, may_wait: bool) -> Sequence[PyJWK]:
        keys = self._trusted_keys()
        found = named_in(token, keys)
        if found:
            if self._now() - self._fetched_at >= FRESH_SECONDS:
                self._begin_fetch(PAUSE_SECONDS)
            return found
        flight = self._begin_fetch(PAUSE_AFTER_FAILURE_SECONDS if self._failure or not keys else PAUSE_SECONDS)
        if flight is not None:
            if not may_wait:
                raise KeysUnavailable("being fetched")
            try:
                flight.result(FETCH_SECONDS)
            except TimeoutError as error:
                raise KeysUnavailable("still being fetched") from error
        if self._failure is not None:
            raise KeysUnavailable(self._failure)
        return named_in(token, self._trusted_keys())

    def trouble(self) -> str | None:
        """None, too, before the first fetch has failed; asking begins it."""
        if self._trusted_keys():
            return None
        self._begin_fetch(PAUSE_AFTER_FAILURE_SECONDS)
        return self._failure or "not fetched yet"

    def _trusted_keys(self) -> Mapping[str | None, PyJWK]:
        return self._keys if self._now() - self._fetched_at < STALE_SECONDS else {}

    def _begin_fetch(self, pause_seconds: float) -> Future[None] | None:
        """The fetch that is on its way, begun now if need be; None when the last one is not long enough ago."""
        with self._lock:
            if self._flight is not None:
                return self._flight
            if self._now() - self._tried_at < pause_seconds:
                return None
            self._tried_at = self._now()
            flight: Future[None] = Future()
            self._flight = flight
        threading.Thread(target=self._run_fetch, args=(flight,), name="key-set", daemon=True).start()
        return flight

    def _run_fetch(self, flight: Future[None]) -> None:
        try:
            keys = keys_in_set(self._fetch())
        except (jwt.PyJWTError, UnusableKey, OSError, ValueError) as error:
            self._failure = f"the key set could not be fetched: {error}"
            logger.warning("%s", self._failure)
        except BaseException as error:
            self._failure = f"the key set could not be fetched: {type(error).__name__}"
            raise
        else:
            self._keys, self._fetched_at, self._failure = keys, self._now(), None
        finally:
            with self._lock:
                self._flight = None
            flight.set_result(None)


def named_in(token: str, keys: Mapping[str | None, PyJWK]) -> Sequence[PyJWK]:
    """The key that the token names; if it names none, the only one there is. Raises PyJWTError for what is no token."""
    key_id = jwt.get_unverified_header(token).get("kid")
    if key_id is None and len(keys) == 1:
        return tuple(keys.values())
    key = keys.get(key_id)
    return () if key is None else (key,)
