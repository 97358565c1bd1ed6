"""The bell: few rings for many decisions, jobs that cannot jam, and a lost ring that costs a second."""

from __future__ import annotations

from importlib import import_module
from uuid import UUID

import pytest
import redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from engine.context import Engine
from engine.flow.bell import DRAIN_JOB, DRAIN_QUEUE, FOLLOWUPS_JOB, Bell
from engine.flow.drain import drain
from engine.gate import keys, outbox
from engine.outcomes import Refused, RequestStatus
from engine.shop.issuance import issue_coupon
from ops.processes import free_port
from scheduler import jobs
from tests.conftest import EngineMaker
from tests.integration.offers import (
    assert_recorded_once,
    forget_rings,
    lane_of,
    offer,
    recorded,
    rings,
    state,
    waiting,
    win,
    win_all,
)
from workers import drain as drain_worker


def work_through(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker of RQ do the jobs that wait, in this process."""
    monkeypatch.setattr(drain_worker, "engine_of_this_process", lambda: engine)
    with redis.Redis.from_url(engine.settings.queue_redis_url) as client:
        queue = Queue(DRAIN_QUEUE, connection=client, serializer=JSONSerializer)
        SimpleWorker([queue], connection=client, serializer=JSONSerializer).work(burst=True, logging_level="ERROR")


def make_head_old(engine: Engine, lane: int, age_ms: int = 5000) -> None:
    """Let the oldest entry have waited for so long; what it says is otherwise as it was."""
    client = engine.gate.client
    outbox_key = keys.outbox(lane)
    entries = client.xrange(outbox_key)
    seconds, _ = client.time()  # type: ignore[misc]
    client.delete(outbox_key)
    for entry_id, fields in entries:
        client.xadd(outbox_key, {**fields, "decided_at_ms": str(seconds * 1000 - age_ms)}, id=entry_id)


def test_two_thousand_decisions_ring_once_or_twice(engine: Engine) -> None:
    """Twice if they take longer than a bell stays armed."""
    coupon = offer(engine, total=2000)
    wins = win_all(engine, coupon, range(1, 2001))
    assert 1 <= len(rings(engine)) <= 2
    assert drain(engine, 0, linger_seconds=0).recorded == 2000
    assert_recorded_once(engine, coupon, wins)


@pytest.mark.parametrize("lanes", [16])
def test_each_lane_has_a_bell_of_its_own(engine: Engine) -> None:
    coupons = [offer(engine) for _ in range(6)]
    for user in (1, 2, 3):
        for coupon in coupons:
            win(engine, coupon, user)
    assert sorted(job.args[0] for job in rings(engine)) == sorted({lane_of(engine, coupon) for coupon in coupons})


def test_a_refusal_rings_for_nobody(engine: Engine) -> None:
    coupon = offer(engine, total=1)
    win(engine, coupon, 1)
    drain(engine, 0, linger_seconds=0)
    forget_rings(engine)
    for user in range(1, 20):
        answer = issue_coupon(engine, coupon_id=coupon, user_id=user, idempotency_key=None)
        assert isinstance(answer, Refused)
    assert rings(engine) == []


def test_jobs_have_random_ids_and_bounded_lives(engine: Engine) -> None:
    for _ in range(5):
        assert engine.bell.ring(3)
    found = rings(engine)
    assert len({UUID(job.id).version for job in found} | {4}) == 1
    assert len({job.id for job in found}) == 5
    for job in found:
        assert (job.func_name, job.args, job.kwargs) == (DRAIN_JOB, [3], {})
        assert (job.timeout, job.result_ttl, job.failure_ttl, job.ttl) == (60, 10, 3600, 60)
        assert 0 < job.connection.ttl(job.key) <= 60


@pytest.mark.parametrize("path", [DRAIN_JOB, FOLLOWUPS_JOB])
def test_a_jobs_dotted_path_leads_to_a_function(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert callable(getattr(import_module(module), name))


def test_a_worker_answers_the_ring(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, range(1, 6))
    assert len(rings(engine)) == 1
    work_through(engine, monkeypatch)
    assert rings(engine) == []
    assert_recorded_once(engine, coupon, wins)
    assert state(engine, wins[0].request_id).status is RequestStatus.COMPLETED


def test_a_worker_that_leaves_work_behind_rings_for_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second ring waits, so the first drain does not linger; batches of one make it leave entries behind."""
    monkeypatch.setattr("engine.flow.drain.BATCH_LIMIT", 1)
    coupon = offer(engine)
    wins = win_all(engine, coupon, range(1, 6))
    engine.bell.ring(0)
    work_through(engine, monkeypatch)
    assert rings(engine) == []
    assert waiting(engine) == 0
    assert_recorded_once(engine, coupon, wins)


def test_a_worker_survives_a_ledger_that_is_away(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupon = offer(engine)
    win(engine, coupon, 1)
    cut_off = make_engine(database_url=f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing")
    work_through(cut_off, monkeypatch)
    assert (waiting(engine), rings(engine)) == (1, [])
    assert not outbox.is_leased(engine.gate, 0)


def test_a_lost_ring_is_rung_again_by_the_scheduler(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    coupon = offer(engine)
    win_all(engine, coupon, [1, 2, 3])
    forget_rings(engine)
    make_head_old(engine, 0)
    assert jobs.ring_old_bells(engine) == 1
    assert [job.args for job in rings(engine)] == [[0]]
    work_through(engine, monkeypatch)
    assert len(recorded(engine, coupon)) == 3
    assert jobs.ring_old_bells(engine) == 0


def test_the_scheduler_rings_only_for_lanes_that_need_it(engine: Engine) -> None:
    coupon = offer(engine)
    assert jobs.ring_old_bells(engine) == 0  # nothing waits
    win(engine, coupon, 1)
    forget_rings(engine)
    make_head_old(engine, 0, age_ms=-60_000)
    assert jobs.ring_old_bells(engine) == 0  # what waits is new
    make_head_old(engine, 0)
    lease = outbox.Lease(engine.gate, 0)
    lease.take()
    assert jobs.ring_old_bells(engine) == 0  # a drain is at work
    lease.release()
    assert jobs.ring_old_bells(engine) == 1
    assert jobs.ring_old_bells(engine) == 0  # somebody is on the way
    assert len(rings(engine)) == 1


@pytest.mark.parametrize("lanes", [4])
def test_the_scheduler_finds_the_one_lane_among_many(engine: Engine) -> None:
    coupons = [offer(engine) for _ in range(8)]
    chosen = coupons[-1]
    lane = lane_of(engine, chosen)
    win(engine, chosen, 1)
    forget_rings(engine)
    make_head_old(engine, lane)
    assert jobs.ring_old_bells(engine) == 1
    assert [job.args for job in rings(engine)] == [[lane]]


def test_a_bell_that_cannot_be_rung_does_not_spoil_the_decision(engine: Engine, make_engine: EngineMaker) -> None:
    coupon = offer(engine)
    deaf = make_engine(queue_redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert win(deaf, coupon, 1).sequence == 1
    assert not Bell.connect(f"redis://127.0.0.1:{free_port()}/0").ring(0)
    assert deaf.bell.waiting() == 0
    assert waiting(engine) == 1
