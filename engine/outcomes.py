"""The business answers: what a decision or a request can come to.

A refusal is an outcome, not an exception. The status words mirror the RETURNS section of the Lua headers, in the
same order of precedence; ``tests/unit/test_outcomes.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class IssueStatus(StrEnum):
    """What ``issue_coupon.lua`` answers, in order of precedence."""

    LANE_NOT_READY = "lane_not_ready"
    STALE_EPOCH = "stale_epoch"
    REPLAYED = "replayed"
    WAIT = "wait"
    NOT_FOUND = "not_found"
    ALREADY_ISSUED = "already_issued"
    INACTIVE = "inactive"
    NOT_STARTED = "not_started"
    ENDED = "ended"
    SOLD_OUT = "sold_out"
    BACKLOGGED = "backlogged"
    ISSUED = "issued"


class ReserveStatus(StrEnum):
    """What ``reserve_stock.lua`` answers, in order of precedence."""

    LANE_NOT_READY = "lane_not_ready"
    STALE_EPOCH = "stale_epoch"
    ENDING = "ending"
    KEY_REUSED = "key_reused"
    REPLAYED = "replayed"
    HOLD_EXPIRED = "hold_expired"
    WAIT = "wait"
    PRODUCT_NOT_FOUND = "product_not_found"
    OUT_OF_STOCK = "out_of_stock"
    BACKLOGGED = "backlogged"
    RESERVED = "reserved"


class RequestKind(StrEnum):
    """What a request asks for."""

    COUPON_ISSUE = "coupon_issue"
    ORDER = "order"


class RequestStatus(StrEnum):
    """Where a request stands; COMPLETED and FAILED are final."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Refusal(StrEnum):
    """Why something was not done: the ``code`` that clients branch on. ``web/problems.py`` gives each its words."""

    INVALID_REQUEST = "INVALID_REQUEST"
    USER_NOT_FOUND = "USER_NOT_FOUND"
    COUPON_NOT_FOUND = "COUPON_NOT_FOUND"
    COUPON_ALREADY_ISSUED = "COUPON_ALREADY_ISSUED"
    COUPON_CLOSED = "COUPON_CLOSED"
    PRODUCT_NOT_FOUND = "PRODUCT_NOT_FOUND"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE"
    COUPON_NOT_USABLE = "COUPON_NOT_USABLE"
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND"
    ORDER_NOT_CANCELLABLE = "ORDER_NOT_CANCELLABLE"
    REQUEST_NOT_FOUND = "REQUEST_NOT_FOUND"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    USER_EXISTS = "USER_EXISTS"
    TEMPORARY_ERROR = "TEMPORARY_ERROR"


@dataclass(frozen=True)
class Refused:
    """A final no. ``detail`` holds the extra members of the problem document, such as ``{"reason": "SOLD_OUT"}``."""

    code: Refusal
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Issued:
    """A coupon was given: ``sequence`` is the place in line, 1 for the first winner."""

    request_id: str
    coupon_id: int
    user_id: int
    sequence: int


@dataclass(frozen=True)
class Submitted:
    """An order was accepted: its stock is held, the ledger decides about coupon and payment."""

    request_id: str
    user_id: int


@dataclass(frozen=True)
class RequestState:
    """What a client learns when it asks after a request. ``result`` is set on COMPLETED, ``error`` on FAILED.

    ``user_id`` is whose request it is; None when nothing is left that says so, because Redis forgot it.
    """

    request_id: str
    kind: RequestKind
    status: RequestStatus
    result: Mapping[str, Any] | None = None
    error: Refused | None = None
    user_id: int | None = None
    """Whose request it is; None where no record says so any more."""

    def is_seen_by(self, user_id: int | None) -> bool:
        """Whether the request exists for this user; None stands for somebody who sees everybody's.

        An id cannot be guessed. One that was forgotten tells whoever has it that it failed, and nothing else.
        """
        return user_id is None or self.user_id in (None, user_id)
