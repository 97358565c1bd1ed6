"""What is counted and exported, against real stores."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterator

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from engine.context import Engine
from engine.errors import GateUnavailable, LedgerUnavailable
from engine.flow.bell import DRAIN_QUEUE
from engine.flow.drain import drain
from engine.flow.followups import work_off
from engine.gate import keys
from engine.ledger.followups import FollowupKind
from engine.outcomes import Submitted
from engine.telemetry import metrics
from engine.telemetry.logs import formatter
from engine.upkeep.auditing.findings import CheckName
from engine.upkeep.guard import watch_lanes
from engine.upkeep.observation import observe_ledger, observe_queues
from scheduler import jobs
from tests.audit.audited_shop import open_shop
from tests.integration import placed_orders, shop
from tests.integration.offers import lane_of, offer, win, win_all
from tests.integration.placed_orders import add_order, execute, without_ledger, without_redis
from workers.main import Worker


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(f"seonchak_{name}", labels) or 0.0


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that our code writes, debugging included, as machines read it."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter("test", as_json=True))
    ours = logging.getLogger("engine")
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    yield written
    ours.removeHandler(handler)
    ours.setLevel(logging.NOTSET)


def documents(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_what_waits_in_a_lane_is_exported_and_of_a_lane_that_is_away_only_that(engine: Engine) -> None:
    coupon = offer(engine)
    win_all(engine, coupon, range(1, 4))
    jobs.observe_lanes(engine)
    assert (value("lane_ready", lane="0"), value("outbox_entries", lane="0")) == (1, 3)
    assert value("outbox_head_age_seconds", lane="0") >= 0
    drain(engine, 0, linger_seconds=0)
    jobs.observe_lanes(engine)
    assert (value("outbox_entries", lane="0"), value("outbox_head_age_seconds", lane="0")) == (0, 0)
    jobs.observe_lanes(without_redis(engine))
    assert value("lane_ready", lane="0") == 0
    assert math.isnan(value("outbox_entries", lane="0"))
    jobs.close_rounds()


def test_a_closed_lane_is_not_ready(engine: Engine) -> None:
    engine.gate.client.hset(keys.lane(0), "open", "0")
    jobs.observe_lanes(engine)
    assert value("lane_ready", lane="0") == 0
    jobs.close_rounds()


def test_holds_are_exported_while_they_are_held(engine: Engine) -> None:
    product = shop.add_product(engine, 1000, 5)
    shop.add_user(engine, 7, 10_000)
    assert isinstance(shop.order(engine, 7, {product: 1}), Submitted)
    jobs.observe_lanes(engine)
    assert value("holds", lane="0") == 1
    drain(engine, 0, linger_seconds=0)
    jobs.observe_lanes(engine)
    assert value("holds", lane="0") == 0
    jobs.close_rounds()


def test_followups_are_exported_by_kind_and_state(engine: Engine) -> None:
    product = placed_orders.add_product(engine)
    first, second = (add_order(engine, {product: 1}, [FollowupKind.HISTORY]) for _ in range(2))
    add_order(engine, {product: 1}, [FollowupKind.DATA_PLATFORM])
    execute(engine, "UPDATE order_followups SET status = 'PARKED' WHERE order_id = :id", id=first)
    execute(engine, "UPDATE order_followups SET due_at = now() - interval '90 s' WHERE order_id = :id", id=second)
    execute(engine, "UPDATE order_followups SET due_at = now() - interval '1 day' WHERE kind = 'DATA_PLATFORM'")
    observe_ledger(engine)
    found = {state: value("followups", kind="HISTORY", state=state) for state in ("pending", "parked")}
    assert found == {"pending": 1, "parked": 1}
    # Nobody is late with deliveries for which there is no address.
    assert 89 < value("followups_due_age_seconds") < 120
    assert work_off(engine).done == {FollowupKind.HISTORY: 1}
    observe_ledger(engine)
    assert value("followups", kind="HISTORY", state="pending") == 0
    assert value("followups_due_age_seconds") == 0


def test_what_the_ledger_refused_is_exported_and_its_log_line_names_lane_and_request(
    engine: Engine, log: io.StringIO
) -> None:
    coupon = offer(engine)
    issued = win(engine, coupon, 7)
    before = value("drain_entries_total", result="quarantined")
    entry_id = f"{engine.gate.known_lane(0).epoch}-1"
    fields = engine.gate.client.xrange(keys.outbox(0))[0][1]
    engine.gate.client.delete(keys.outbox(0))
    engine.gate.client.xadd(keys.outbox(0), {**fields, "coupon_id": coupon + 1000}, id=entry_id)
    drain(engine, 0, linger_seconds=0)
    observe_ledger(engine)
    assert value("drain_entries_total", result="quarantined") == before + 1
    assert value("quarantined_outcomes") == 1
    (alarm,) = [line for line in documents(log) if str(line["message"]).startswith("ALARM")]
    assert (alarm["request_id"], alarm["lane"]) == (issued.request_id, 0)


def test_an_observation_of_a_ledger_that_is_away_is_none(engine: Engine) -> None:
    before = value("observed_timestamp_seconds", store="ledger")
    with pytest.raises(LedgerUnavailable):
        observe_ledger(without_ledger(engine))
    assert value("observed_timestamp_seconds", store="ledger") == before


def test_jobs_that_wait_and_jobs_that_fail_are_exported(engine: Engine) -> None:
    before = value("job_failures_total", queue=DRAIN_QUEUE)
    with redis.Redis.from_url(engine.settings.queue_redis_url) as client:
        queue = Queue(DRAIN_QUEUE, connection=client, serializer=JSONSerializer)
        queue.enqueue("operator.truediv", 1, 0)
        observe_queues(engine)
        assert value("queue_jobs", queue=DRAIN_QUEUE, state="queued") == 1
        Worker([queue], connection=client, serializer=JSONSerializer).work(burst=True, logging_level="CRITICAL")
        observe_queues(engine)
    assert value("queue_jobs", queue=DRAIN_QUEUE, state="queued") == 0
    assert value("queue_jobs", queue=DRAIN_QUEUE, state="failed") == 1
    assert value("job_failures_total", queue=DRAIN_QUEUE) == before + 1


def test_asks_that_could_not_be_decided_are_counted_as_such(engine: Engine) -> None:
    coupon = offer(engine)
    before = value("decisions_total", kind="coupon_issue", outcome="unavailable")
    with pytest.raises(GateUnavailable):
        win(without_redis(engine), coupon, 7)
    assert value("decisions_total", kind="coupon_issue", outcome="unavailable") == before + 1


def test_a_rebuild_is_counted_with_its_verdict_and_its_time(engine: Engine) -> None:
    verdicts = value("guard_verdicts_total", verdict="rebuild")
    rebuilds = value("rebuild_seconds_count", result="opened")
    engine.gate.client.flushdb()
    watch_lanes(engine)
    assert value("guard_verdicts_total", verdict="rebuild") == verdicts + 1
    assert value("rebuild_seconds_count", result="opened") == rebuilds + 1


def test_what_an_audit_found_off_is_exported_until_it_is_in_order_again(engine: Engine) -> None:
    audited = open_shop(engine)
    jobs.auditing(lambda: True)(engine)
    assert exported_off() == set()
    ended = value("audit_timestamp_seconds")
    assert ended > 0
    execute(engine, "UPDATE accounts SET balance = balance + 1 WHERE user_id = (SELECT min(user_id) FROM accounts)")
    audited.gate.hset(audited.winners_key(), "999", "11 0.1.999.c")
    jobs.auditing(lambda: True)(engine)
    assert exported_off() == {CheckName.BALANCES, CheckName.WINNERS}
    assert value("audit_timestamp_seconds") > ended
    execute(engine, "UPDATE accounts SET balance = balance - 1 WHERE user_id = (SELECT min(user_id) FROM accounts)")
    audited.gate.hdel(audited.winners_key(), "999")
    jobs.auditing(lambda: True)(engine)
    assert exported_off() == set()


def test_an_audit_that_has_to_leave_gives_no_all_clear(engine: Engine) -> None:
    audited = open_shop(engine)
    audited.gate.hset(audited.winners_key(), "999", "11 0.1.999.c")
    jobs.auditing(lambda: True)(engine)
    jobs.auditing(lambda: False)(engine)
    assert exported_off() == {CheckName.WINNERS}


def exported_off() -> set[CheckName]:
    """The checks that did not hold, of those that were exported: all."""
    found = {
        check: metrics.REGISTRY.get_sample_value("seonchak_audit_check_ok", {"check": check}) for check in CheckName
    }
    assert None not in found.values()
    return {check for check, ok in found.items() if not ok}


def test_an_audit_that_could_not_look_exports_nothing(engine: Engine) -> None:
    jobs.auditing(lambda: True)(engine)
    before = value("audit_timestamp_seconds")
    with pytest.raises(LedgerUnavailable):
        jobs.auditing(lambda: True)(without_ledger(engine))
    assert value("audit_timestamp_seconds") == before


def test_one_request_is_followed_from_the_gate_to_what_follows(engine: Engine, log: io.StringIO) -> None:
    product = shop.add_product(engine, 1000, 5)
    shop.add_user(engine, 7, 10_000)
    submitted = shop.order(engine, 7, {product: 1})
    assert isinstance(submitted, Submitted)
    drain(engine, lane_of(engine, 1), linger_seconds=0)
    work_off(engine)
    found = [line for line in documents(log) if submitted.request_id in (line.get("request_ids") or ())]
    assert [line["logger"] for line in found][:2] == ["engine.shop.orders", "engine.flow.drain"]
    assert {line["logger"] for line in found[2:]} == {"engine.flow.followups"}
