"""Request ids: opaque to clients; to the engine they say where a decision was taken and that it was ours.

``<lane>.<epoch>.<number>.<nonce>``: the script adds the number, so that an id names its outbox entry
(``<epoch>-<number>``) and the status of a request needs no record of its own. The nonce begins with a letter for the
kind of request and ends in a seal (an HMAC under the request key), so an id that we never gave is told apart from one
that was lost.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import NamedTuple

from engine.outcomes import RequestKind

RANDOM_BYTES = 15
SEAL_BYTES = 6
"""Both multiples of three: their Base64 needs no padding."""
SEAL_CHARACTERS = SEAL_BYTES * 4 // 3
_NONCE_CHARACTERS = (RANDOM_BYTES + SEAL_BYTES) * 4 // 3
_LETTERS = {RequestKind.COUPON_ISSUE: "c", RequestKind.ORDER: "o"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_NONCE = rf"[{''.join(_KINDS)}][0-9A-Za-z_-]{{{_NONCE_CHARACTERS}}}"
_FORM = re.compile(rf"(0|[1-9]\d{{0,3}})\.([1-9]\d{{0,14}})\.([1-9]\d{{0,14}})\.({_NONCE})", re.ASCII)


class RequestId(NamedTuple):
    """The parts of a request id."""

    lane: int
    epoch: int
    number: int
    nonce: str

    @property
    def entry_id(self) -> str:
        """The id of the outbox entry."""
        return f"{self.epoch}-{self.number}"

    @property
    def kind(self) -> RequestKind:
        """What was asked for."""
        return _KINDS[self.nonce[0]]

    def __str__(self) -> str:
        return f"{self.lane}.{self.epoch}.{self.number}.{self.nonce}"


def new_request_key() -> str:
    """The secret that seals request ids; made once, kept in the ledger."""
    return secrets.token_hex(32)


def new_nonce(request_key: str, kind: RequestKind) -> str:
    """A nonce nobody had before."""
    return _sealed(_LETTERS[kind] + _text(os.urandom(RANDOM_BYTES)), request_key)


def repeatable_nonce(request_key: str, kind: RequestKind, *scope: str | int) -> str:
    """The same nonce for the same scope: an idempotency key with its user and operation."""
    text = "\x00".join([kind, *(str(part) for part in scope)])
    return _sealed(_LETTERS[kind] + _digest(request_key, b"scope", text, RANDOM_BYTES), request_key)


def parse_request_id(text: str, request_key: str) -> RequestId | None:
    """The parts of ``text``, or None when we cannot have given that id."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    lane, epoch, number, nonce = match.groups()
    if not hmac.compare_digest(_sealed(nonce[:-SEAL_CHARACTERS], request_key), nonce):
        return None
    return RequestId(int(lane), int(epoch), int(number), nonce)


def split_request_id(text: str) -> RequestId:
    """The parts of an id that came from the gate itself, so that its seal need not be looked at."""
    lane, epoch, number, nonce = text.split(".")
    return RequestId(int(lane), int(epoch), int(number), nonce)


def _sealed(core: str, request_key: str) -> str:
    return core + _digest(request_key, b"seal", core, SEAL_BYTES)


def _digest(request_key: str, purpose: bytes, text: str, size: int) -> str:
    """A keyed digest (BLAKE2b, RFC 7693): a third of what an HMAC costs, and every ask pays for one or two."""
    return _text(blake2b(text.encode(), digest_size=size, key=request_key.encode(), person=purpose).digest())


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode()
