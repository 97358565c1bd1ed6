"""What can come instead of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ShopError(Exception):
    """Base of everything below; never raised itself."""


class Refused(ShopError):
    """A final no. Branch on ``code``, show ``message``; ``details`` are the further members of the answer."""

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        """``status`` is the HTTP status; that of a request which failed after it was accepted is 0."""
        self.status = status
        self.code = code
        self.message = message
        self.details = dict(details or {})
        super().__init__(f"{code}: {message}")


class Lost(Refused):
    """The request was accepted, and then forgotten before it was durable: nothing of it is left, nothing was taken.

    A new wish, under a new key, may come true.
    """


class Unanswered(ShopError):
    """No final answer came in time: what became of the wish is not known. The same call with this ``key`` finds out."""

    def __init__(self, reason: str, key: str | None) -> None:
        self.reason = reason
        self.key = key
        super().__init__(f"no final answer: {reason}")


class StillPending(Unanswered):
    """The wish was granted and is not yet durable; ask for ``request_id`` later."""

    def __init__(self, request_id: str, key: str | None) -> None:
        self.request_id = request_id
        super().__init__(f"request {request_id} is not yet durable", key)


class UnexpectedAnswer(ShopError):
    """The answer is none of this API: is the address right, is it another version?"""
