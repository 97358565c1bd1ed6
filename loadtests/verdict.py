"""The verdict: what has to be true after a rush, whatever happened in between.

Pure functions over :class:`Facts`; ``loadtests/facts.py`` collects them. An attempt that nobody answered (a time-out, a
503, a broken connection) is unknown: it allows a row in the ledger, but does not require one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

EXAMPLES_SHOWN = 3
NO_ANSWER = 0


class Purpose(StrEnum):
    """Why somebody of the crowd sent a request."""

    ISSUE = "issue"
    UNKNOWN_COUPON = "unknown_coupon"
    BAD_INPUT = "bad_input"
    POLL = "poll"


@dataclass(frozen=True)
class Attempt:
    """One request of the crowd and its answer, one line of the rush's JSONL file.

    ``status`` is the HTTP status, NO_ANSWER when there was none; ``code`` that of a problem document, ``state`` the
    status that a poll was told; ``at`` is the time of the answer in Unix seconds.
    """

    purpose: Purpose
    user_id: int
    status: int
    code: str = ""
    request_id: str = ""
    sequence: int = 0
    state: str = ""
    at: float = 0.0
    milliseconds: float = 0.0

    @property
    def accepted(self) -> bool:
        """Whether the coupon was promised."""
        return self.purpose is Purpose.ISSUE and self.status in (201, 202)

    @property
    def unknown(self) -> bool:
        """Whether the sender cannot know what became of it."""
        return self.status == NO_ANSWER or self.status >= 500

    def __str__(self) -> str:
        said = " ".join(filter(None, [self.code, self.state, self.request_id]))
        return f"{self.purpose.value} by user {self.user_id} got {self.status or 'no answer'} {said}".rstrip()


@dataclass(frozen=True)
class Row:
    """One issuance as the ledger has it."""

    user_id: int
    sequence: int
    request_id: str


@dataclass(frozen=True)
class Shown:
    """What ``GET /requests/{id}`` says at the end; user and sequence are 0 unless it is COMPLETED."""

    status: str
    user_id: int = 0
    sequence: int = 0


@dataclass(frozen=True)
class Facts:
    """What is known of one coupon after its rush.

    ``planned`` is how many attempts the crowd was told to make, its polls not counted. ``shown`` is by request id;
    ``chaos`` says faults were declared.
    """

    planned: int
    quantity: int
    attempts: tuple[Attempt, ...]
    rows: tuple[Row, ...]
    shown: Mapping[str, Shown]
    gate_issued: int
    ledger_issued: int
    backlog: int = 0
    quarantined: int = 0
    chaos: bool = False
    issues: tuple[Attempt, ...] = field(init=False)

    def __post_init__(self) -> None:
        issues = tuple(attempt for attempt in self.attempts if attempt.purpose is Purpose.ISSUE)
        object.__setattr__(self, "issues", issues)


@dataclass(frozen=True)
class Check:
    """One thing that had to be true; ``detail`` says what was found."""

    name: str
    ok: bool
    detail: str


def judge(facts: Facts) -> list[Check]:
    """Every check, in the order of :data:`CHECKS`."""
    return [Check(name, *check(facts)) for name, check in CHECKS.items()]


Finding = tuple[bool, str]


def nothing_is_off_the_record(facts: Facts) -> Finding:
    """Every planned attempt is known: Locust survives an error in a scenario, and what it lost is no proof."""
    recorded = sum(attempt.purpose is not Purpose.POLL for attempt in facts.attempts)
    return recorded == facts.planned, f"{recorded} of {facts.planned} attempts recorded"


def somebody_was_answered(facts: Facts) -> Finding:
    """A proper attempt got an answer: of a rush in which all is unknown, everything below would hold."""
    answered = sum(not attempt.unknown for attempt in facts.issues)
    return answered > 0, f"{answered} of {len(facts.issues)} proper attempts answered"


def as_many_as_there_were(facts: Facts) -> Finding:
    """rows == min(quantity, distinct eligible users); users of whom all is unknown may be counted or not."""
    users = {attempt.user_id for attempt in facts.issues}
    certain = {attempt.user_id for attempt in facts.issues if not attempt.unknown}
    least, most = min(facts.quantity, len(certain)), min(facts.quantity, len(users))
    wanted = str(least) if least == most else f"{least} to {most}"
    return least <= len(facts.rows) <= most, f"{len(facts.rows)} rows, {wanted} expected"


def nobody_was_promised_in_vain(facts: Facts) -> Finding:
    """Every 202 and 201 has exactly one row, with its request id, user and sequence."""
    found = Counter((row.request_id, row.user_id, row.sequence) for row in facts.rows)
    accepted = [attempt for attempt in facts.issues if attempt.accepted]
    wrong = [attempt for attempt in accepted if found[(attempt.request_id, attempt.user_id, attempt.sequence)] != 1]
    return not wrong, f"{len(accepted)} accepted, {len(wrong)} without their row{_examples(wrong)}"


def requests_tell_the_same(facts: Facts) -> Finding:
    """Every accepted request is COMPLETED, with the result that was promised; none was ever seen FAILED."""
    accepted = [attempt for attempt in facts.issues if attempt.accepted]
    wrong = [
        attempt
        for attempt in accepted
        if facts.shown.get(attempt.request_id) != Shown("COMPLETED", attempt.user_id, attempt.sequence)
    ]
    taken_back = [a for a in facts.attempts if a.purpose is Purpose.POLL and not a.unknown and not _is_hopeful(a)]
    detail = f"{len(wrong)} of {len(accepted)} not COMPLETED as promised{_examples(wrong)}"
    return not wrong and not taken_back, detail + f", {len(taken_back)} polls lost theirs{_examples(taken_back)}"


def the_refused_have_nothing(facts: Facts) -> Finding:
    """No user who only ever got refusals has a row."""
    hopeful = {attempt.user_id for attempt in facts.issues if attempt.accepted or attempt.unknown}
    wrong = [row for row in facts.rows if row.user_id not in hopeful]
    return not wrong, f"{len(wrong)} rows of users who were only refused{_examples(wrong)}"


def the_line_has_no_gaps(facts: Facts) -> Finding:
    """Sequences are 1 … n, each once."""
    sequences = sorted(row.sequence for row in facts.rows)
    wrong = [(place, found) for place, found in enumerate(sequences, 1) if place != found]
    return not wrong, f"{len(sequences)} sequences" + (f", place {wrong[0][0]} is {wrong[0][1]}" if wrong else "")


def the_line_is_the_outbox(facts: Facts) -> Finding:
    """In the order of the sequences, (epoch, number) of the request ids only grows."""
    in_line = [(_place_in_outbox(row.request_id), row) for row in sorted(facts.rows, key=lambda row: row.sequence)]
    wrong = [row for (before, _), (after, row) in pairwise(in_line) if not before < after]
    return not wrong, f"{len(wrong)} out of order{_examples(wrong)}"


def who_is_told_so_has_one(facts: Facts) -> Finding:
    """Whoever was told that they have the coupon already has a row."""
    holders = {row.user_id for row in facts.rows}
    told = [attempt for attempt in facts.issues if attempt.code == "COUPON_ALREADY_ISSUED"]
    wrong = [attempt for attempt in told if attempt.user_id not in holders]
    return not wrong, f"{len(told)} told so, {len(wrong)} of them without a row{_examples(wrong)}"


def one_for_each(facts: Facts) -> Finding:
    """A user has at most one row and one acceptance."""
    rows = Counter(row.user_id for row in facts.rows)
    promises = Counter(attempt.user_id for attempt in facts.issues if attempt.accepted)
    wrong = sorted(user for user, count in (rows | promises).items() if count > 1)
    return not wrong, f"{len(wrong)} users with more than one{_examples(wrong)}"


def not_more_than_there_are(facts: Facts) -> Finding:
    """No over-issue: neither gate nor ledger gave, nor did anybody promise, more than the quantity."""
    promised = len({attempt.request_id for attempt in facts.issues if attempt.accepted})
    most = max(promised, facts.gate_issued, facts.ledger_issued, len(facts.rows))
    return most <= facts.quantity, f"{most} given of {facts.quantity}"


def the_outbox_is_empty(facts: Facts) -> Finding:
    """Everything decided has arrived."""
    return facts.backlog == 0, f"{facts.backlog} entries wait"


def the_counts_agree(facts: Facts) -> Finding:
    """The gate's issued, the ledger's issued and the number of rows are one number."""
    detail = f"gate {facts.gate_issued}, ledger {facts.ledger_issued}, rows {len(facts.rows)}"
    return facts.gate_issued == facts.ledger_issued == len(facts.rows), detail


def nothing_in_quarantine(facts: Facts) -> Finding:
    """The ledger refused nothing that the gate had granted."""
    return facts.quarantined == 0, f"{facts.quarantined} refused by the ledger"


def nonsense_is_refused(facts: Facts) -> Finding:
    """Bad input got 400, an unknown coupon 404 COUPON_NOT_FOUND."""
    sent = [a for a in facts.attempts if a.purpose in (Purpose.BAD_INPUT, Purpose.UNKNOWN_COUPON) and not a.unknown]
    wrong = [attempt for attempt in sent if not _is_rightly_refused(attempt)]
    return not wrong, f"{len(sent)} sent, {len(wrong)} not refused as they should{_examples(wrong)}"


def sense_is_understood(facts: Facts) -> Finding:
    """A proper attempt is accepted, told ALREADY_ISSUED or SOLD_OUT; nothing else."""
    wrong = [a for a in facts.issues if not a.unknown and not a.accepted and (a.status, a.code) not in _REFUSALS]
    return not wrong, f"{len(facts.issues)} attempts, {len(wrong)} with an odd answer{_examples(wrong)}"


def no_errors_but_declared(facts: Facts) -> Finding:
    """No 5xx but BUSY; BUSY and missing answers only when chaos was declared."""
    unknown = [attempt for attempt in facts.attempts if attempt.unknown]
    wrong = [a for a in unknown if not facts.chaos or (a.status >= 500 and (a.status, a.code) != (503, "BUSY"))]
    return not wrong, f"{len(unknown)} unknown, {len(wrong)} of them not declared{_examples(wrong)}"


CHECKS: Mapping[str, Callable[[Facts], Finding]] = {
    "every attempt is on record": nothing_is_off_the_record,
    "somebody was answered": somebody_was_answered,
    "as many rows as coupons, or as users": as_many_as_there_were,
    "not more given than there are": not_more_than_there_are,
    "every acceptance has its row": nobody_was_promised_in_vain,
    "every accepted request is COMPLETED": requests_tell_the_same,
    "the refused have nothing": the_refused_have_nothing,
    "who is told to have it has it": who_is_told_so_has_one,
    "at most one for each user": one_for_each,
    "sequences without a gap": the_line_has_no_gaps,
    "sequences in the order of the outbox": the_line_is_the_outbox,
    "the outbox is empty": the_outbox_is_empty,
    "gate, ledger and rows agree": the_counts_agree,
    "nothing in quarantine": nothing_in_quarantine,
    "nonsense is refused": nonsense_is_refused,
    "proper attempts are understood": sense_is_understood,
    "no error but declared ones": no_errors_but_declared,
}

_REFUSALS = {(409, "COUPON_ALREADY_ISSUED"), (409, "COUPON_CLOSED")}


def _is_hopeful(poll: Attempt) -> bool:
    return poll.status == 200 and poll.state in ("PENDING", "COMPLETED")


def _is_rightly_refused(attempt: Attempt) -> bool:
    if attempt.purpose is Purpose.UNKNOWN_COUPON:
        return (attempt.status, attempt.code) == (404, "COUPON_NOT_FOUND")
    return 400 <= attempt.status < 500 and attempt.code == "INVALID_REQUEST"


def _place_in_outbox(request_id: str) -> tuple[int, int]:
    """(epoch, number) of ``<lane>.<epoch>.<number>.<nonce>``; a coupon never leaves its lane."""
    _, epoch, number, _ = request_id.split(".")
    return int(epoch), int(number)


def _examples(found: Iterable[object]) -> str:
    some = [str(each) for each in found][:EXAMPLES_SHOWN]
    return ": " + "; ".join(some) if some else ""
