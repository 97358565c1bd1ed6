"""Coupons on offer in a test: winning them, and looking at what the ledger, the outbox and the queue hold of that."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer
from sqlalchemy import text

from engine.context import Engine
from engine.flow.bell import DRAIN_QUEUE
from engine.flow.requests import request_state
from engine.gate import keys
from engine.gate.coupons import lane_of_coupon
from engine.outcomes import Issued, RequestState
from engine.shop import coupon_offers, issuance
from engine.shop.coupon_offers import CouponOverview, NewCoupon

_names = count(1)

WINNERS = text("""
    SELECT user_id, sequence, request_id FROM user_coupons WHERE coupon_id = :coupon_id ORDER BY sequence
""")


def offer(engine: Engine, total: int = 1000) -> int:
    """A coupon that is open for issuing; its id."""
    coupon = coupon_offers.create_coupon(engine, NewCoupon(f"쿠폰 {next(_names)}", 500, total, None, None, "ACTIVE"))
    assert isinstance(coupon, CouponOverview)
    return coupon.id


def win(engine: Engine, coupon_id: int, user_id: int) -> Issued:
    """The user asks and wins."""
    issued = issuance.issue_coupon(engine, coupon_id=coupon_id, user_id=user_id, idempotency_key=None)
    assert isinstance(issued, Issued), issued
    return issued


def win_all(engine: Engine, coupon_id: int, users: Iterable[int]) -> list[Issued]:
    """One after the other asks and wins."""
    return [win(engine, coupon_id, user_id) for user_id in users]


def lane_of(engine: Engine, coupon_id: int) -> int:
    return lane_of_coupon(engine.gate, coupon_id)


def waiting(engine: Engine, lane: int = 0) -> int:
    """Entries in the outbox."""
    return int(engine.gate.client.xlen(keys.outbox(lane)))


def recorded(engine: Engine, coupon_id: int) -> list[tuple[int, int, str]]:
    """(user id, sequence, request id) as the ledger has them, in order of the sequence."""
    with engine.ledger.read() as connection:
        rows = connection.execute(WINNERS, {"coupon_id": coupon_id})
        return [(row.user_id, row.sequence, row.request_id) for row in rows]


def assert_recorded_once(engine: Engine, coupon_id: int, wins: Iterable[Issued]) -> None:
    """The ledger has these wins and no others, and has counted them right."""
    assert recorded(engine, coupon_id) == [(each.user_id, each.sequence, each.request_id) for each in wins]
    with engine.ledger.read() as connection:
        query = text("SELECT issued FROM coupons WHERE id = :id")
        assert connection.execute(query, {"id": coupon_id}).scalar_one() == len(recorded(engine, coupon_id))


def last_recorded_number(engine: Engine, lane: int = 0) -> int:
    """How far the ledger says that it has recorded the lane."""
    with engine.ledger.read() as connection:
        query = text("SELECT last_number FROM lane_progress WHERE lane = :lane")
        return int(connection.execute(query, {"lane": lane}).scalar_one())


def quarantined(engine: Engine) -> list[Any]:
    """What the ledger refused."""
    with engine.ledger.read() as connection:
        return list(connection.execute(text("SELECT * FROM quarantined_outcomes ORDER BY lane, epoch, number")))


def state(engine: Engine, request_id: str) -> RequestState:
    """Where a request stands."""
    found = request_state(engine, request_id)
    assert isinstance(found, RequestState), found
    return found


def rings(engine: Engine) -> list[Job]:
    """The drain jobs that wait in the queue."""
    with redis.Redis.from_url(engine.settings.queue_redis_url) as client:
        return Queue(DRAIN_QUEUE, connection=client, serializer=JSONSerializer).jobs


def forget_rings(engine: Engine) -> None:
    """Lose every job in the queue."""
    with redis.Redis.from_url(engine.settings.queue_redis_url) as client:
        Queue(DRAIN_QUEUE, connection=client, serializer=JSONSerializer).empty()
