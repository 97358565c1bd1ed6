"""The verdict: what clients were told, against what the stores hold. Pure functions, so that each can be shown to
notice what it is for (``tests/faults/test_machine_verdict.py``).

A word that nobody heard (a time-out, a 503, a broken connection) allows an effect and requires none. A promise may be
lost only when Redis forgot it: it was in an outbox at that instant, or the instant fell between question and answer.
What was shown as COMPLETED is never lost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from loadtests.verdict import Row
from tests.faults.machine.asking import Exchange
from tests.faults.machine.facts import Kept
from tests.faults.machine.history import GATE_REFUSALS, History, Issue, Purchase, Wish

TEMPORARY_ERROR = "TEMPORARY_ERROR"
SOLD = ("COMPLETED", "CANCELLED")


class Kind(StrEnum):
    """What is wrong: the columns of the table."""

    LOST = "lost"
    """Shown as durable, and is not."""
    TAKEN_BACK = "taken back"
    """Promised, not forgotten by Redis, and not there."""
    TWICE = "twice"
    OVERSOLD = "oversold"
    DISORDER = "disorder"
    """Against the order of arrival, or a gap in the line."""
    OTHER = "other"


@dataclass(frozen=True)
class Violation:
    """One thing that must not be; ``at`` is when its story began, None when it has no time."""

    kind: Kind
    text: str
    at: float | None = None


def judge(history: History, kept: Kept) -> list[Violation]:
    """Everything that is wrong."""
    found = [violation for check in CHECKS for violation in check(history, kept)]
    return sorted(found, key=lambda violation: violation.at or 0.0)


def is_excused(history: History, wish: Wish, exchange: Exchange) -> bool:
    """Whether this promise was lost with Redis' memory, and not by us."""
    return any(
        forgetting.falls_into(wish.begin, exchange.end)
        or (forgetting.waiting is not None and exchange.request_id in forgetting.waiting)
        or (forgetting.waiting is None and forgetting.at - forgetting.seconds <= exchange.end <= forgetting.until)
        for forgetting in history.forgettings
    )


def has_come_true(kept: Kept, request_id: str) -> bool:
    """Whether what was promised under this id is in the ledger, or failed there for a reason of business."""
    order = kept.order_of(request_id)
    return request_id in kept.rows_by_request or (order is not None and order.failure != TEMPORARY_ERROR)


def promises(history: History) -> Iterator[tuple[Issue | Purchase, Exchange]]:
    """Every promise once, with its wish; the first time that it was heard."""
    for wish in history.submissions():
        heard: dict[str, Exchange] = {}
        for exchange in wish.promised():
            heard.setdefault(exchange.request_id, exchange)
        for exchange in heard.values():
            yield wish, exchange


# What was shown as durable


def what_was_completed_is_there(history: History, kept: Kept) -> Iterator[Violation]:
    """A COMPLETED that a client saw has its row, with the result that the client saw."""
    shown = [(look.request_id, look.result, look.begin) for look in history.looks if look.state == "COMPLETED"]
    for wish in history.submissions():
        shown += [(each.request_id, each.body, wish.begin) for each in wish.promised() if each.status == 201]
    for request_id, result, at in shown:
        row, order = kept.rows_by_request.get(request_id), kept.order_of(request_id)
        if row is not None:
            same = (row.user_id, row.sequence) == (result.get("userId"), result.get("sequence"))
        elif order is not None:
            same = order.status in SOLD and order.order_id == result.get("orderId")
        else:
            same = False
        if not same:
            yield Violation(Kind.LOST, f"{request_id} was COMPLETED as {dict(result)}, kept is {row or order}", at)


def ends_stay(history: History, kept: Kept) -> Iterator[Violation]:
    """COMPLETED and FAILED are final, and a request that was promised is never unknown."""
    promised = history.promised_ids()
    by_request = sorted(history.looks, key=lambda look: (look.request_id, look.begin))
    for request_id, group in groupby(by_request, key=lambda look: look.request_id):
        looks = [look for look in group if look.status in (200, 404)]
        final = kept.states.get(request_id)
        for number, look in enumerate(looks):
            later = {other.state for other in looks[number + 1 :] if other.begin > look.end}
            later |= {final} if final is not None else set()
            if look.state in ("COMPLETED", "FAILED") and later - {look.state}:
                kind = Kind.LOST if look.state == "COMPLETED" else Kind.TWICE
                yield Violation(kind, f"{request_id} was {look.state}, later {sorted(later)}", look.begin)
                break
    unknown = {look.request_id for look in history.looks if look.status == 404}
    unknown |= {request_id for request_id, state in kept.states.items() if state == "REQUEST_NOT_FOUND"}
    for request_id in sorted(unknown & promised):
        yield Violation(Kind.LOST, f"{request_id} was promised, and is said never to have been")


def charges_are_booked_once(history: History, kept: Kept) -> Iterator[Violation]:
    """A charge that was confirmed is there, and none is there twice."""
    wanted, confirmed = Counter[int](), set[int]()
    for wish in history.charges:
        wanted[wish.user_id] += 1
        told = {int(each.body["transactionId"]) for each in wish.exchanges if each.status == 200}
        confirmed |= told
        if len(told) > 1:
            yield Violation(Kind.TWICE, f"charge {wish.key} was booked as {sorted(told)}", wish.begin)
        for transaction_id in told:
            if kept.charges.get(transaction_id) != (wish.user_id, wish.amount):
                yield Violation(Kind.LOST, f"charge {transaction_id} was confirmed and is not there", wish.begin)
    booked = Counter(user_id for user_id, _ in kept.charges.values())
    for user_id in sorted(user for user, count in booked.items() if count > wanted[user]):
        yield Violation(Kind.TWICE, f"user {user_id} has {booked[user_id]} charges and asked for {wanted[user_id]}")
    unheard = sum(wish.unknown for wish in history.charges)
    if len(kept.charges) > len(confirmed) + unheard:
        yield Violation(Kind.TWICE, f"{len(kept.charges)} charges, {len(confirmed)} confirmed, {unheard} unheard")


def cancellations_stay(history: History, kept: Kept) -> Iterator[Violation]:
    """An order that was said to be cancelled is."""
    cancelled = {order.order_id for order in kept.orders if order.status == "CANCELLED"}
    for wish in history.cancellations:
        if any(each.status == 200 for each in wish.exchanges) and wish.order_id not in cancelled:
            yield Violation(Kind.LOST, f"order {wish.order_id} was said to be cancelled, and is not", wish.begin)


# What was promised


def promises_are_kept(history: History, kept: Kept) -> Iterator[Violation]:
    """Who was accepted has it, unless Redis forgot the promise before the ledger heard of it."""
    for wish, exchange in promises(history):
        if not has_come_true(kept, exchange.request_id) and not is_excused(history, wish, exchange):
            state = kept.states.get(exchange.request_id, "a failure of ours")
            text = f"{exchange.request_id}, promised to user {wish.user_id}, is {state}"
            yield Violation(Kind.TAKEN_BACK, text, wish.begin)
        row = kept.rows_by_request.get(exchange.request_id)
        told = (exchange.body.get("userId"), exchange.body.get("sequence"))
        if row is not None and (row.user_id, row.sequence) != told:
            yield Violation(Kind.LOST, f"{exchange.request_id} was promised as {told}, kept is {row}", wish.begin)


def nobody_has_it_twice(history: History, kept: Kept) -> Iterator[Violation]:
    """One coupon for one user, and one order for one wish."""
    came_true = defaultdict[tuple[int, int], set[str]](set)
    for wish, exchange in promises(history):
        if isinstance(wish, Issue) and exchange.request_id in kept.rows_by_request:
            came_true[wish.coupon_id, wish.user_id].add(exchange.request_id)
    for coupon_id, rows in kept.rows.items():
        for user_id, count in Counter(row.user_id for row in rows).items():
            if count > 1 or len(came_true[coupon_id, user_id]) > 1:
                yield Violation(Kind.TWICE, f"user {user_id} has coupon {coupon_id} {count} times")
    for wish in history.purchases:
        orders = [kept.order_of(exchange.request_id) for exchange in wish.promised()]
        sold = sorted({order.order_id for order in orders if order is not None and order.status in SOLD})
        if len(sold) > 1:
            yield Violation(Kind.TWICE, f"one wish of user {wish.user_id} became the orders {sold}", wish.begin)


def answers_are_repeated(history: History, kept: Kept) -> Iterator[Violation]:
    """The same key gets the same answer, unless Redis forgot in between."""
    for wish in history.submissions():
        told = {each.request_id for each in wish.promised()}
        if isinstance(wish, Purchase):
            told |= {each.code for each in wish.exchanges if each.code in GATE_REFUSALS}
        elif told:
            told |= {each.code for each in wish.exchanges if each.code == "COUPON_ALREADY_ISSUED"}
        forgot = any(forgetting.falls_into(wish.begin, wish.end) for forgetting in history.forgettings)
        if len(told) > 1 and not forgot:
            yield Violation(Kind.TWICE, f"one key of user {wish.user_id} was answered {sorted(told)}", wish.begin)


# What was refused


def the_refused_have_nothing(history: History, kept: Kept) -> Iterator[Violation]:
    """Nothing is recorded for somebody who was only refused, and nothing that nobody asked for."""
    hopeful = {(wish.coupon_id, wish.user_id) for wish in history.issues if wish.unknown or wish.promised()}
    for coupon_id, rows in kept.rows.items():
        for row in rows:
            if (coupon_id, row.user_id) not in hopeful:
                yield Violation(Kind.OTHER, f"coupon {coupon_id} has a row of somebody who was refused: {row}")
    promised = history.promised_ids()
    # Who waited for the end was told the failure instead of the request id.
    unheard = {wish.user_id for wish in history.purchases if wish.unknown or wish.failed}
    for order in kept.orders:
        if order.nonce in kept.refused_nonces and order.status != "EXPIRED":
            yield Violation(Kind.OTHER, f"an order that was refused is recorded: {order}")
        if order.request_id and order.request_id not in promised and order.user_id not in unheard:
            yield Violation(Kind.OTHER, f"an order that nobody was promised is recorded: {order}")


def sold_out_means_sold_out(history: History, kept: Kept) -> Iterator[Violation]:
    """Who hears SOLD_OUT while a coupon is left over in the end was refused for nothing, unless Redis forgot since."""
    for wish in history.issues:
        for exchange in wish.exchanges:
            counts = kept.coupons.get(wish.coupon_id)
            if counts is None or exchange.body.get("reason") != "SOLD_OUT":
                continue
            forgot = any(forgetting.until >= exchange.begin for forgetting in history.forgettings)
            if counts.issued < counts.total and not forgot:
                text = f"coupon {wish.coupon_id} was said to be sold out at {counts.issued} of {counts.total}"
                yield Violation(Kind.OTHER, text, wish.begin)
                return


def who_is_told_so_has_it(history: History, kept: Kept) -> Iterator[Violation]:
    """COUPON_ALREADY_ISSUED is true, unless Redis forgot since."""
    holders = {(coupon_id, row.user_id) for coupon_id, rows in kept.rows.items() for row in rows}
    for wish in history.issues:
        for exchange in wish.exchanges:
            if exchange.code != "COUPON_ALREADY_ISSUED" or (wish.coupon_id, wish.user_id) in holders:
                continue
            if not any(forgetting.until >= exchange.begin for forgetting in history.forgettings):
                text = f"user {wish.user_id} was told to have coupon {wish.coupon_id}, and has not"
                yield Violation(Kind.OTHER, text, wish.begin)


def answers_make_sense(history: History, kept: Kept) -> Iterator[Violation]:
    """No answer but those that a proper wish can get."""
    expected = {
        "issues": (201, 202, 409), "purchases": (201, 202, 409), "charges": (200,), "cancellations": (200, 409),
    }  # fmt: skip
    for name, statuses in expected.items():
        for wish in getattr(history, name):
            for exchange in wish.exchanges:
                if exchange.status not in (*statuses, 0, 503):
                    yield Violation(Kind.OTHER, f"{name}: {exchange.status} {dict(exchange.body)}", wish.begin)


# The line


def the_line_has_no_gaps(history: History, kept: Kept) -> Iterator[Violation]:
    """Sequences are 1 … n, each once."""
    for coupon_id, rows in kept.rows.items():
        sequences = sorted(row.sequence for row in rows)
        if sequences != list(range(1, len(rows) + 1)):
            place = next((n for n, found in enumerate(sequences, 1) if n != found), len(rows))
            yield Violation(Kind.DISORDER, f"coupon {coupon_id}: place {place} is missing or there twice")


def who_came_first_stands_first(history: History, kept: Kept) -> Iterator[Violation]:
    """When one had an answer before another asked, within one epoch, the one's place is the smaller."""
    lines = defaultdict[tuple[int, int], list[tuple[int, float, float, str]]](list)
    for wish, exchange in promises(history):
        row = kept.rows_by_request.get(exchange.request_id)
        if isinstance(wish, Issue):
            sequence = row.sequence if row is not None else int(exchange.body.get("sequence", 0))
            line = (wish.coupon_id, epoch_of(exchange.request_id))
            lines[line].append((sequence, wish.begin, exchange.end, exchange.request_id))
    for (coupon_id, epoch), in_line in lines.items():
        latest_begin, before = 0.0, ""
        for _, begin, end, request_id in sorted(in_line):
            if end < latest_begin:
                text = f"coupon {coupon_id}, epoch {epoch}: {request_id} was answered before {before} was asked"
                yield Violation(Kind.DISORDER, text, begin)
            if begin > latest_begin:
                latest_begin, before = begin, request_id


def epoch_of(request_id: str) -> int:
    """The epoch under which ``<lane>.<epoch>.<number>.<nonce>`` was decided."""
    return int(request_id.split(".")[1])


# The numbers


def nothing_is_oversold(history: History, kept: Kept) -> Iterator[Violation]:
    """Not more was given, at the gate or in the ledger, than there is; and the two agree."""
    for coupon_id, counts in kept.coupons.items():
        rows: Iterable[Row] = kept.rows.get(coupon_id, ())
        given = (counts.gate_issued, counts.issued, len(list(rows)))
        if max(given) > counts.total:
            yield Violation(Kind.OVERSOLD, f"coupon {coupon_id}: {max(given)} given of {counts.total}")
        if len(set(given)) > 1:
            yield Violation(Kind.OTHER, f"coupon {coupon_id}: gate, ledger and rows say {given}")


def the_shop_is_in_order(history: History, kept: Kept) -> Iterator[Violation]:
    """Units, money and coupons are conserved, nothing is left over, nothing is in quarantine."""
    for check in kept.shop:
        if not check.ok:
            kind = Kind.OVERSOLD if "negative" in check.name else Kind.OTHER
            yield Violation(kind, f"not so: {check.name}: {check.detail}")
    for entry in kept.quarantined:
        yield Violation(Kind.TAKEN_BACK, f"in quarantine: {entry}")
    for finding in kept.audit:
        yield Violation(Kind.OTHER, f"the audit: {finding}")
    for alarm in kept.alarms:
        yield Violation(Kind.OTHER, f"a process called for a person: {alarm}")
    if kept.unsettled:
        yield Violation(Kind.OTHER, f"does not come to rest: {kept.unsettled}")


CHECKS = (
    what_was_completed_is_there,
    ends_stay,
    charges_are_booked_once,
    cancellations_stay,
    promises_are_kept,
    nobody_has_it_twice,
    answers_are_repeated,
    the_refused_have_nothing,
    sold_out_means_sold_out,
    who_is_told_so_has_it,
    answers_make_sense,
    the_line_has_no_gaps,
    who_came_first_stands_first,
    nothing_is_oversold,
    the_shop_is_in_order,
)
