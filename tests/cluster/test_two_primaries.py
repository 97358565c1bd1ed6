"""Two primaries at once: a failover that the old primary, and those who are connected to it, have not heard of.

Sentinel lets an old primary go on for eight seconds after ``SENTINEL FAILOVER``, and for as long as it is cut off.
"""

from __future__ import annotations

import pytest

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.flow.requests import request_state
from engine.outcomes import RequestStatus
from engine.upkeep.guard import Verdict, watch_lanes
from tests.cluster.members import Member
from tests.cluster.scenarios import url_of
from tests.conftest import EngineMaker
from tests.integration.offers import assert_recorded_once, offer, quarantined, state, win, win_all
from tests.integration.shop import drain_all


def take_over(misled: Engine, servers: list[Member], make_engine: EngineMaker) -> Engine:
    """The new one takes over and nobody tells the old one; an engine that is connected to the new one."""
    old, new = servers
    new.await_all_of(old)
    new.run("REPLICAOF", "NO", "ONE")
    engine = make_engine(redis_url=url_of(new), queue_redis_url=misled.settings.queue_redis_url)
    assert watch_lanes(engine) == {0: Verdict.APPROVE}
    return engine


def test_a_request_of_the_new_primary_is_not_told_to_be_unknown_by_the_old_one(
    misled: Engine, servers: list[Member], make_engine: EngineMaker
) -> None:
    coupon = offer(misled)
    win(misled, coupon, 1)
    engine = take_over(misled, servers, make_engine)
    waiting = win(engine, coupon, 2)
    with pytest.raises(GateUnavailable):
        request_state(misled, waiting.request_id)
    drain_all(engine)
    assert state(misled, waiting.request_id).status is RequestStatus.COMPLETED


def test_what_the_old_primary_still_promises_is_not_recorded_over_what_the_new_one_has(
    misled: Engine, servers: list[Member], make_engine: EngineMaker
) -> None:
    coupon = offer(misled, total=10)
    wins = win_all(misled, coupon, range(1, 6))
    engine = take_over(misled, servers, make_engine)
    promised = win_all(misled, coupon, range(6, 11))
    drain_all(misled)
    wins += win_all(engine, coupon, range(11, 16))
    drain_all(misled)
    drain_all(engine)
    assert_recorded_once(engine, coupon, wins)
    assert not quarantined(engine)
    assert {state(engine, each.request_id).status for each in promised} == {RequestStatus.FAILED}
    for each in promised:
        with pytest.raises(GateUnavailable):
            request_state(misled, each.request_id)
