"""The drain when something goes wrong: killed anywhere, two at once, entries that the ledger refuses."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from sqlalchemy import Connection

from engine.context import Engine
from engine.errors import LedgerUnavailable
from engine.flow.drain import DrainReport, drain, drain_batch
from engine.gate import keys, outbox
from engine.gate.gate import Gate
from engine.gate.request_ids import new_nonce
from engine.ledger import coupons as ledger_coupons
from engine.ledger import progress
from engine.outcomes import Issued, Refusal, Refused, RequestKind, RequestStatus
from engine.upkeep.guard import Verdict, watch_lanes
from ops.processes import PROJECT_ROOT, free_port
from scheduler import jobs
from tests.conftest import EngineMaker
from tests.integration.offers import (
    assert_recorded_once,
    forget_rings,
    last_recorded_number,
    offer,
    quarantined,
    recorded,
    state,
    waiting,
    win,
    win_all,
)

KILLED_DRAIN = """
import os, signal
from engine.flow import drain
from engine.config import Settings
from engine.context import Engine
from {module} import {name}
import {module} as module

def die(*arguments):
    {before}
    os.kill(os.getpid(), signal.SIGKILL)

module.{name} = die
drain.drain(Engine.connect(Settings.from_environment()), 0, linger_seconds=0)
"""


class Died(BaseException):
    """Stands for the end of the process: nothing in the engine may catch it."""


def kill_a_drain(engine: Engine, module: str, name: str, before: str) -> None:
    """Run a drain in a process of its own that kills itself when it calls ``module.name``."""
    environ = {
        **os.environ,
        "REDIS_URL": engine.settings.redis_url,
        "QUEUE_REDIS_URL": engine.settings.queue_redis_url,
        "DATABASE_URL": engine.settings.database_url,
    }
    script = KILLED_DRAIN.format(module=module, name=name, before=before)
    ended = subprocess.run([sys.executable, "-c", script], env=environ, cwd=PROJECT_ROOT, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


@pytest.mark.parametrize(
    ("module", "name", "before", "committed"),
    [
        ("engine.gate.outbox", "read_head", "pass", False),
        ("engine.ledger.coupons", "record_issuances", "pass", False),
        ("engine.ledger.progress", "advance", f"{'advance'}(*arguments)", False),
        ("engine.gate.outbox", "remove", "pass", True),
        ("engine.gate.outbox", "disarm_bell", "pass", True),
    ],
    ids=["before reading", "before writing", "before the commit", "after the commit", "before the last look"],
)
def test_a_drain_killed_anywhere_is_made_good_by_the_next(
    engine: Engine, module: str, name: str, before: str, committed: bool
) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, range(1, 26))
    kill_a_drain(engine, module, name, before)
    assert len(recorded(engine, coupon)) == (25 if committed else 0)
    assert drain(engine, 0, linger_seconds=0).leased_elsewhere  # the dead one's lease; it expires by itself
    assert 0 < engine.gate.client.pttl(keys.lease(0)) <= outbox.LEASE_SECONDS * 1000
    engine.gate.client.delete(keys.lease(0))
    wins.append(win(engine, coupon, 26))
    drain(engine, 0, linger_seconds=0)
    assert_recorded_once(engine, coupon, wins)
    assert (waiting(engine), last_recorded_number(engine), quarantined(engine)) == (0, 26, [])


def test_a_lease_that_nobody_keeps_expires(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LEASE_SECONDS", 0.05)
    assert outbox.Lease(engine.gate, 0).take()
    while outbox.is_leased(engine.gate, 0):
        continue
    assert not drain(engine, 0, linger_seconds=0).leased_elsewhere


def test_an_exception_between_commit_and_removal_gives_the_lease_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, [1, 2, 3])

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "remove", die)
        with pytest.raises(Died):
            drain(engine, 0, linger_seconds=0)
    assert len(recorded(engine, coupon)) == waiting(engine) == 3
    assert not outbox.is_leased(engine.gate, 0)
    assert drain(engine, 0, linger_seconds=0).recorded == 3
    assert_recorded_once(engine, coupon, wins)


def test_an_exception_inside_the_transaction_leaves_no_half_of_a_batch(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, [1, 2, 3])
    advance = progress.advance

    def die(connection: Connection, lane: int, number: int) -> None:
        advance(connection, lane, number)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(progress, "advance", die)
        with pytest.raises(Died):
            drain(engine, 0, linger_seconds=0)
    assert (recorded(engine, coupon), last_recorded_number(engine), waiting(engine)) == ([], 0, 3)
    drain(engine, 0, linger_seconds=0)
    assert_recorded_once(engine, coupon, wins)


def test_drains_side_by_side_that_read_the_same_head_record_it_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupons = [offer(engine), offer(engine)]
    wins = {coupon: win_all(engine, coupon, range(1, 101)) for coupon in coupons}
    both_have_read = threading.Barrier(4)
    read_head = outbox.read_head

    def read_together(gate: Gate, lane: int, limit: int) -> list[outbox.Entry]:
        entries = read_head(gate, lane, limit)
        both_have_read.wait(10)
        return entries

    monkeypatch.setattr(outbox, "read_head", read_together)
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: drain_batch(engine, DrainReport(0)), range(4)))
    assert counts == [200] * 4
    for coupon in coupons:
        assert_recorded_once(engine, coupon, wins[coupon])
    assert (waiting(engine), last_recorded_number(engine), quarantined(engine)) == (0, 200, [])


def test_drains_side_by_side_keep_up_with_decisions_that_go_on(engine: Engine) -> None:
    coupon = offer(engine)
    decided = threading.Event()

    def keep_draining() -> None:
        while not decided.is_set() or waiting(engine):
            drain_batch(engine, DrainReport(0))

    with ThreadPoolExecutor(3) as pool:
        drains = [pool.submit(keep_draining) for _ in range(3)]
        try:
            wins = win_all(engine, coupon, range(1, 301))
        finally:
            decided.set()
        for each in drains:
            each.result()
    assert_recorded_once(engine, coupon, wins)
    assert (last_recorded_number(engine), quarantined(engine)) == (300, [])


def test_while_the_ledger_is_away_entries_wait(engine: Engine, make_engine: EngineMaker) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, [1, 2, 3])
    cut_off = make_engine(database_url=f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing")
    with pytest.raises(LedgerUnavailable):
        drain(cut_off, 0, linger_seconds=0)
    assert waiting(engine) == 3
    assert not outbox.is_leased(engine.gate, 0)
    drain(engine, 0, linger_seconds=0)
    assert_recorded_once(engine, coupon, wins)


def append(engine: Engine, fields: Mapping[str, object]) -> str:
    """Put an entry into the outbox as the next decision, past every check of the gate; its request id."""
    number = engine.gate.client.hincrby(keys.lane(0), "last_number", 1)
    epoch = engine.gate.known_lane(0).epoch
    request_id = f"0.{epoch}.{number}.{new_nonce(engine.gate.request_key(), RequestKind.COUPON_ISSUE)}"
    entry = {"request_id": request_id, **fields}
    engine.gate.client.xadd(keys.outbox(0), entry, id=f"{epoch}-{number}")  # type: ignore[arg-type]
    return request_id


AN_ORDER = {"kind": "order", "nonce": "o", "user_coupon_id": "", "lines": "1:1:100", "name:1": "감귤"}


def poison(coupon: int, fault: str) -> dict[str, object]:
    """An entry that no correct gate writes."""
    fields: dict[str, object] = {
        "kind": "coupon_issue",
        "coupon_id": coupon,
        "user_id": 9000,
        "sequence": 500,
        "decided_at_ms": 1_700_000_000_000,
    }
    changes: dict[str, dict[str, object]] = {
        "the user has it already": {"user_id": 1},
        "the place is taken": {"sequence": 1},
        "unknown coupon": {"coupon_id": coupon + 1000},
        "unknown kind": {"kind": "raffle"},
        "no kind": {"kind": ""},
        "words for numbers": {"user_id": "somebody"},
        "no number at all": {"sequence": ""},
        "a number beyond bigint": {"user_id": 2**70},
        "a time beyond every calendar": {"decided_at_ms": 10**18},
        "a time in words": {"decided_at_ms": "soon"},
        "no time": {"decided_at_ms": ""},
        "a character that Postgres cannot hold": {"user_id": "1\x00"},
        "a negative user": {"user_id": -1},
        "a hold without its build": {**AN_ORDER, "held": "0"},
        "a hold of more than there is to it": {**AN_ORDER, "held": "0:1:2:3"},
    }
    return {**fields, **changes[fault]}


@pytest.mark.parametrize(
    "fault",
    [
        "the user has it already",
        "the place is taken",
        "unknown coupon",
        "unknown kind",
        "no kind",
        "words for numbers",
        "no number at all",
        "a number beyond bigint",
        "a time beyond every calendar",
        "a time in words",
        "no time",
        "a character that Postgres cannot hold",
        "a negative user",
        "a hold without its build",
        "a hold of more than there is to it",
    ],
)
def test_a_poison_entry_goes_into_quarantine_and_everything_else_is_recorded(
    engine: Engine, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, range(1, 8))
    request_id = append(engine, poison(coupon, fault))
    wins += win_all(engine, coupon, range(11, 21))
    assert state(engine, request_id).status is RequestStatus.PENDING
    with caplog.at_level(logging.ERROR, "engine.flow.drain"):
        report = drain(engine, 0, linger_seconds=0)
    assert (report.recorded, report.quarantined) == (17, 1)
    assert_recorded_once(engine, coupon, wins)
    assert (waiting(engine), last_recorded_number(engine)) == (0, 18)
    (row,) = quarantined(engine)
    assert (row.request_id, row.lane, row.number) == (request_id, 0, 8)
    assert row.error
    assert [record.message.startswith("ALARM") for record in caplog.records] == [True]
    failed = state(engine, request_id)
    assert (failed.status, failed.error) == (RequestStatus.FAILED, Refused(Refusal.TEMPORARY_ERROR))
    assert {state(engine, each.request_id).status for each in wins} == {RequestStatus.COMPLETED}


@pytest.mark.parametrize("field", ["user_id", "request_id", "kind", "strange"])
def test_bytes_that_are_no_text_stop_nobody(engine: Engine, redis_url: str, field: str) -> None:
    coupon = offer(engine)
    wins = [win(engine, coupon, 1)]
    fields = {name: str(value) for name, value in poison(coupon, "a negative user").items()}
    with redis.Redis.from_url(redis_url) as raw:
        raw.xadd(keys.outbox(0), {**fields, "request_id": "0.1.2.c", field: b"\xff\xfe\x80"}, id="1-2")
        raw.hset(keys.lane(0), "last_number", "2")
    wins.append(win(engine, coupon, 2))
    report = drain(engine, 0, linger_seconds=0)
    assert (report.recorded, report.quarantined) == (2, 1)
    (row,) = quarantined(engine)
    assert row.fields[field] == "\\xff\\xfe\\x80"
    assert_recorded_once(engine, coupon, wins)


@pytest.mark.parametrize("fault", ["a time in words", "no time"])
def test_a_poison_head_keeps_nobody_from_looking_deciding_and_ringing(
    engine: Engine, make_engine: EngineMaker, fault: str
) -> None:
    """Its ring is lost, and the server has restarted: guard, new process and scheduler have to get past the entry."""
    coupon = offer(engine)
    request_id = append(engine, poison(coupon, fault))
    engine.gate.client.hset(keys.lane(0), "replid", "0" * 40)
    assert watch_lanes(engine) == {0: Verdict.APPROVE}
    wins = [win(make_engine(), coupon, 1)]
    forget_rings(engine)
    assert jobs.ring_old_bells(engine) == 1
    drain(engine, 0, linger_seconds=0)
    assert_recorded_once(engine, coupon, wins)
    assert (waiting(engine), state(engine, request_id).status) == (0, RequestStatus.FAILED)


def test_entries_without_any_known_field_go_into_quarantine_one_by_one(engine: Engine) -> None:
    coupon = offer(engine)
    wins = [win(engine, coupon, 1)]
    for _ in range(3):
        append(engine, {"noise": "…"})
    wins.append(win(engine, coupon, 2))
    report = drain(engine, 0, linger_seconds=0)
    assert (report.recorded, report.quarantined, waiting(engine)) == (2, 3, 0)
    assert_recorded_once(engine, coupon, wins)
    assert [row.kind for row in quarantined(engine)] == ["", "", ""]


def test_what_a_gate_gives_over_the_limit_goes_into_quarantine_and_the_limit_holds(engine: Engine) -> None:
    coupon = offer(engine, total=5)
    engine.gate.client.hset(keys.coupon(0, coupon), "total", "8")
    wins: list[Issued] = win_all(engine, coupon, range(1, 9))
    report = drain(engine, 0, linger_seconds=0)
    assert (report.recorded, report.quarantined) == (5, 3)
    assert_recorded_once(engine, coupon, wins[:5])
    assert [state(engine, each.request_id).status for each in wins[5:]] == [RequestStatus.FAILED] * 3
    assert all("issued_within_quantity" in row.error for row in quarantined(engine))


def test_a_poison_entry_that_is_met_twice_is_kept_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    coupon = offer(engine)
    append(engine, poison(coupon, "unknown coupon"))
    with monkeypatch.context() as patched:
        patched.setattr(outbox, "remove", lambda *_: None)
        for _ in range(2):
            assert drain_batch(engine, DrainReport(0)) == 1
    drain(engine, 0, linger_seconds=0)
    assert len(quarantined(engine)) == 1
    assert waiting(engine) == 0


def test_nothing_is_quarantined_because_the_ledger_was_away_for_a_moment(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, [1, 2, 3])

    def away(*_: object) -> None:
        raise LedgerUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(ledger_coupons, "record_issuances", away)
        with pytest.raises(LedgerUnavailable):
            drain(engine, 0, linger_seconds=0)
    assert (quarantined(engine), waiting(engine)) == ([], 3)
    drain(engine, 0, linger_seconds=0)
    assert_recorded_once(engine, coupon, wins)
