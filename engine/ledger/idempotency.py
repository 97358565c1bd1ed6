"""First answers: the same key, caller and body gets the answer it got before.

An answer is written in the transaction that it answers for, so a key and its effect exist together or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text, tuple_

from engine.ledger.shop_tables import idempotency_keys
from engine.outcomes import Refusal, Refused

Answer = dict[str, Any] | Refused
FORGOTTEN_AT_ONCE = 5_000
"""Bounded, because a busy hour leaves more behind than one statement can drop within its time limit."""


@dataclass(frozen=True)
class Claim:
    """Who repeats what: a key is scoped to a user and an operation, ``body`` is what has to be the same again."""

    user_id: int
    operation: str
    key: str
    body: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        return sha256(json.dumps(self.body, sort_keys=True, default=str).encode()).hexdigest()


def administration_claim(operation: str, key: str | None, body: Mapping[str, Any]) -> Claim | None:
    """The claim of an administrator, who is nobody in particular: user 0; None without a key."""
    return None if key is None else Claim(0, operation, key, body)


def answer_once(connection: Connection, claim: Claim | None, work: Callable[[], Answer]) -> Answer:
    """The first answer to this claim: that of ``work``, or the one remembered; without a claim, that of ``work``.

    Within the caller's transaction. A body of JSON values comes back as it was; refusals are remembered, too.
    """
    if claim is None:
        return work()
    # Callers with the same key wait here for each other. A row could not make them wait: the first caller's is not to
    # be seen before its commit. Two scopes that share a number wait for no reason, which is harmless.
    scope = f"{claim.user_id}\x1f{claim.operation}\x1f{claim.key}"
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:scope, 0))"), {"scope": scope})
    known = connection.execute(
        select(idempotency_keys.c.fingerprint, idempotency_keys.c.answer).where(
            idempotency_keys.c.user_id == claim.user_id,
            idempotency_keys.c.operation == claim.operation,
            idempotency_keys.c.key == claim.key,
        )
    ).one_or_none()
    if known is not None:
        if known.fingerprint != claim.fingerprint:
            return Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
        return _restored(known.answer)
    answer = work()
    connection.execute(
        insert(idempotency_keys).values(
            user_id=claim.user_id,
            operation=claim.operation,
            key=claim.key,
            fingerprint=claim.fingerprint,
            answer=_stored(answer),
        )
    )
    return answer


def forget_old_keys(connection: Connection, before: datetime, at_most: int = FORGOTTEN_AT_ONCE) -> int:
    """Drop answers given before that moment, the oldest first and no more than ``at_most``; how many."""
    name = (idempotency_keys.c.user_id, idempotency_keys.c.operation, idempotency_keys.c.key)
    oldest = (
        select(*name)
        .where(idempotency_keys.c.created_at < before)
        .order_by(idempotency_keys.c.created_at)
        .limit(at_most)
    )
    return connection.execute(delete(idempotency_keys).where(tuple_(*name).in_(oldest))).rowcount


def _stored(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Refused):
        return {"refused": answer.code.value, "detail": None if answer.detail is None else dict(answer.detail)}
    return {"body": answer}


def _restored(stored: Mapping[str, Any]) -> Answer:
    if "refused" in stored:
        return Refused(Refusal(stored["refused"]), stored["detail"])
    body: dict[str, Any] = stored["body"]
    return body
