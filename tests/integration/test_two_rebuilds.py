"""Two rebuilds of one lane at once, as of a scheduler that slept and the one that took over from it.

Whichever of them opens the lane, and whenever the other wakes: who was accepted after an opening keeps what they got.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, current_thread, main_thread
from typing import Any

import pytest

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.gate import keys
from engine.gate.building import LaneBuild, Superseded
from engine.gate.lanes import close_lane
from engine.ledger import progress
from engine.outcomes import RequestStatus
from engine.upkeep import rebuild
from engine.upkeep.guard import Verdict, watch_lanes
from tests.conftest import EngineMaker
from tests.integration.offers import offer, quarantined, win, win_all
from tests.integration.shop import drain_all
from tests.integration.test_fences import sleeps_before, status

PATIENCE_SECONDS = 30


class FirstRebuild:
    """A rebuild in a thread of its own that has built the lane and waits before it opens it."""

    def __init__(self, engine: Engine, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        self._built, self._may_open = Event(), Event()
        original = LaneBuild.open

        def open_when_allowed(build: LaneBuild, **arguments: Any) -> None:
            if current_thread() is not main_thread():
                self._built.set()
                assert self._may_open.wait(PATIENCE_SECONDS)
            original(build, **arguments)

        monkeypatch.setattr(LaneBuild, "open", open_when_allowed)
        self._end: Future[Any] = pool.submit(watch_lanes, engine)
        assert self._built.wait(PATIENCE_SECONDS)

    def goes_on(self) -> bool:
        """Whether it has opened the lane."""
        self._may_open.set()
        error = self._end.exception(PATIENCE_SECONDS)
        assert error is None or isinstance(error, Superseded)
        return error is None


@pytest.mark.parametrize(
    ("where", "name", "first_opens"),
    [
        (rebuild, "close_lane", True),
        (rebuild, "_drain_outbox", False),
        (progress, "begin_epoch", False),
        (LaneBuild, "begin", False),
        (LaneBuild, "add_coupon", False),
        (LaneBuild, "open", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rebuild_that_began_while_another_one_built_takes_nothing_back(
    engine: Engine,
    make_engine: EngineMaker,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    first_opens: bool,
) -> None:
    """The second one finds the lane closed, and sleeps; the first one goes on."""
    coupon = offer(engine, total=6)
    win_all(engine, coupon, (1, 2))
    drain_all(engine)
    engine.gate.client.hset(keys.lane(0), mapping={"last_number": "0"})
    second, promised = make_engine(), []
    with ThreadPoolExecutor(1) as pool:
        first = FirstRebuild(engine, pool, monkeypatch)
        opened: list[bool] = []

        def meanwhile() -> None:
            opened.append(first.goes_on())
            if opened[0]:
                promised.extend(win_all(engine, coupon, (3, 4)))

        sleeps_before(monkeypatch, where, name, meanwhile)
        if first_opens:
            with pytest.raises(GateUnavailable):
                watch_lanes(second)
        else:
            assert watch_lanes(second) == {0: Verdict.REBUILD}
        monkeypatch.undo()
    assert opened == [first_opens]
    assert watch_lanes(second) == {0: Verdict.READY}
    promised.append(win(second, coupon, 5))
    drain_all(second)
    assert {status(second, each.request_id) for each in promised} == {RequestStatus.COMPLETED}
    assert quarantined(second) == []


def test_of_two_rebuilds_that_both_closed_the_lane_the_earlier_one_builds_nothing(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its epoch by then, which the other one will be refused: both look again."""
    coupon = offer(engine, total=6)
    win_all(engine, coupon, (1, 2))
    drain_all(engine)
    engine.gate.client.hset(keys.lane(0), mapping={"last_number": "0"})
    other = make_engine()

    def meanwhile() -> None:
        close_lane(other.gate, other.gate.inspect(0))

    slept = sleeps_before(monkeypatch, LaneBuild, "begin", meanwhile)
    with pytest.raises(Superseded):
        watch_lanes(engine)
    assert slept()
    assert not engine.gate.inspect(0).open
    assert watch_lanes(other) == {0: Verdict.REBUILD}
    assert win(other, coupon, 3).sequence == 3
