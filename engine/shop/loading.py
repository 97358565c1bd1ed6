"""Loading many users, products or coupons at once: all of them or none.

One transaction writes them, in sets, while they are read. Whoever sleeps in the middle of it is ended by the database's
limit for idle transactions and has changed nothing; who is told that the outcome is unknown repeats the same lines, and
finds out: their digest is the idempotency key of the load. What was loaded is recorded and not yet live; publishing
carries versions and epochs, as for any other change, so it may come as late as it likes and from whomever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Generic, TypeVar

from pydantic import Field
from sqlalchemy import Connection

from engine.context import Engine
from engine.errors import EngineError
from engine.forms import MOST_CHARGED, CouponForm, ProductForm, UserForm
from engine.ledger import bulk
from engine.ledger.idempotency import Answer, administration_claim, answer_once

LINES_AT_ONCE = 2_000


class UserLine(UserForm):
    """A user, and the money that they bring along in KRW: it is booked as their first charge."""

    balance: Annotated[int, Field(ge=0, le=MOST_CHARGED)] = 0


FormOfLine = TypeVar("FormOfLine", UserLine, ProductForm, CouponForm)


@dataclass(frozen=True)
class Line(Generic[FormOfLine]):
    """What stands in one line, counted from 1."""

    number: int
    form: FormOfLine


@dataclass(frozen=True)
class Problem:
    """What is wrong with a line."""

    line: int
    reason: str


class LinesRefused(EngineError):
    """Nothing was loaded, because of these lines."""

    def __init__(self, problems: Sequence[Problem], *, more: bool = False) -> None:
        """``more``: there are others, which were not looked at."""
        self.problems = tuple(problems)
        self.more = more
        told = [f"line {problem.line}: {problem.reason}" for problem in problems]
        super().__init__("\n".join([*told, *(["…"] if more else []), "nothing was changed"]))


@dataclass(frozen=True)
class Loaded:
    """How many were loaded, by this call or, ``before``, by an earlier one with the same lines."""

    count: int
    before: bool


Lines = Callable[[], Iterable[Line[FormOfLine]]]
"""Gives all lines from the beginning; called again when the transaction has to be repeated."""


def load_users(engine: Engine, lines: Lines[UserLine], digest: str | None) -> Loaded:
    """Add users with their balances. Raises LinesRefused, LedgerUnavailable.

    ``digest``, if given, stands for the lines: loading them again within a day changes nothing.
    """
    return _load(engine, "load_users", lines, digest, _add_users)


def load_products(engine: Engine, lines: Lines[ProductForm], digest: str | None) -> Loaded:
    """Put products on sale as soon as they are published. As :func:`load_users`."""
    return _load(engine, "load_products", lines, digest, _add_products)


def load_coupons(engine: Engine, lines: Lines[CouponForm], digest: str | None) -> Loaded:
    """Offer coupons as soon as they are published. As :func:`load_users`."""
    return _load(engine, "load_coupons", lines, digest, _add_coupons)


def _load(
    engine: Engine,
    operation: str,
    lines: Lines[FormOfLine],
    digest: str | None,
    add: Callable[[Connection, Sequence[Line[FormOfLine]]], None],
) -> Loaded:
    claim = administration_claim(operation, digest, {"digest": digest})

    def work(connection: Connection) -> tuple[Answer, bool]:
        done = False

        def add_all() -> Answer:
            nonlocal done
            done = True
            count = 0
            for some in _sets(lines()):
                add(connection, some)
                count += len(some)
            return {"loaded": count}

        return answer_once(connection, claim, add_all), not done

    answer, before = engine.ledger.run(work)
    assert isinstance(answer, dict)  # noqa: S101 - one digest, one body: it cannot be a reused key
    return Loaded(int(answer["loaded"]), before)


def _sets(lines: Iterable[Line[FormOfLine]]) -> Iterator[list[Line[FormOfLine]]]:
    remaining = iter(lines)
    while some := list(islice(remaining, LINES_AT_ONCE)):
        yield some


def _add_users(connection: Connection, lines: Sequence[Line[UserLine]]) -> None:
    free = iter(bulk.free_user_ids(connection, sum(line.form.user_id is None for line in lines)))
    ids = [next(free) if line.form.user_id is None else line.form.user_id for line in lines]
    added = bulk.insert_accounts(
        connection, ids, [line.form.name for line in lines], [line.form.balance for line in lines]
    )
    seen: Counter[int] = Counter()
    problems = []
    for line, user_id in zip(lines, ids, strict=True):
        seen[user_id] += 1
        if user_id not in added or seen[user_id] > 1:
            problems.append(Problem(line.number, f"userId {user_id} is taken, by an account or by an earlier line"))
    if problems:
        raise LinesRefused(problems)


def _add_products(connection: Connection, lines: Sequence[Line[ProductForm]]) -> None:
    forms = [line.form for line in lines]
    bulk.insert_products(
        connection,
        [form.name for form in forms],
        [form.price for form in forms],
        [form.stock for form in forms],
        [form.status for form in forms],
    )


def _add_coupons(connection: Connection, lines: Sequence[Line[CouponForm]]) -> None:
    forms = [line.form for line in lines]
    bulk.insert_coupons(
        connection,
        [form.name for form in forms],
        [form.discount_amount for form in forms],
        [form.total_quantity for form in forms],
        [(form.starts_at, form.ends_at) for form in forms],
        [form.status for form in forms],
    )
