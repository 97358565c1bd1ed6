"""A replica carries its primary's data and its replication id, and decides nothing, not even that nothing is left.

Clients reach one when a server was demoted under their connections, or when a sentinel that has not heard of a failover
names it.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.flow.requests import request_state
from engine.shop import issuance
from engine.upkeep.guard import Verdict, watch_lanes
from tests.cluster.members import Member
from tests.cluster.scenarios import url_of
from tests.conftest import EngineMaker
from tests.integration.offers import offer, win, win_all
from tests.integration.shop import add_product, order


def hand_over(misled: Engine, servers: list[Member], make_engine: EngineMaker) -> Engine:
    """The new server takes over and is approved, the old one follows it; an engine that knows where to ask."""
    old, new = servers
    new.await_all_of(old)
    new.run("REPLICAOF", "NO", "ONE")
    old.run("REPLICAOF", "127.0.0.1", new.port)
    old.await_link()
    engine = make_engine(redis_url=url_of(new), queue_redis_url=misled.settings.queue_redis_url)
    assert watch_lanes(engine) == {0: Verdict.APPROVE}
    old.await_all_of(new)
    return engine


def test_a_replica_decides_nothing(misled: Engine, servers: list[Member], make_engine: EngineMaker) -> None:
    coupon, product = offer(misled, total=5), add_product(misled, 1000, 0)
    win_all(misled, coupon, range(1, 6))
    hand_over(misled, servers, make_engine)
    answers: list[object] = []
    for user in range(1, 11):
        with suppress(GateUnavailable):
            answers.append(issuance.issue_coupon(misled, coupon_id=coupon, user_id=user, idempotency_key=None))
    with suppress(GateUnavailable):
        answers.append(order(misled, 1, {product: 1}))
    assert not answers


def test_a_replica_that_lags_does_not_tell_that_a_request_never_was(
    misled: Engine, servers: list[Member], make_engine: EngineMaker
) -> None:
    coupon = offer(misled)
    win(misled, coupon, 1)
    engine = hand_over(misled, servers, make_engine)
    servers[0].fall_behind()
    waiting = win(engine, coupon, 2)
    with pytest.raises(GateUnavailable):
        request_state(misled, waiting.request_id)
