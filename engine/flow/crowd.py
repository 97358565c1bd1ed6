"""The crowd at one process: asks that come at the same time share round trips, lane by lane.

One turnstile for each lane and thing to ask, so that a lane whose server is away holds up only those who ask it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from engine.context import Engine
from engine.flow.requests import request_states
from engine.flow.turnstile import Deliver, Passed, Told, Turnstile, tell_each
from engine.gate.coupons import ASKS_PER_CALL, IssueAsk, lane_of_coupon
from engine.gate.request_ids import RequestId, parse_request_id
from engine.outcomes import Issued, Refusal, Refused, RequestState, Submitted
from engine.shop.issuance import issue_coupons
from engine.shop.orders import OrderAsk, place_orders

LOOKS_PER_CALL = 128
ORDERS_PER_CALL = 32
PLACES = 1000
"""How many may wait at one turnstile: what a healthy store lets through in a fraction of a second. Whoever comes when
all places are taken is told to come again, at once."""

_NOT_FOUND = Refused(Refusal.REQUEST_NOT_FOUND)


class Crowd:
    """All who ask in one process. Thread-safe."""

    def __init__(self, engine: Engine, deliver: Deliver[Any] | None = None) -> None:
        """``deliver``, if given, tells the outcomes of one call all at once (see Turnstile)."""
        self.engine = engine
        self._deliver = deliver or tell_each
        self._turnstiles: dict[tuple[str, int], Turnstile[Any, Any]] = {}
        self._making = threading.Lock()

    def issue(self, ask: IssueAsk, told: Told[Issued | Refused]) -> None:
        """Ask for a coupon; ``told`` hears what :func:`engine.shop.issuance.issue_coupon` returns or raises.

        Raises GateUnavailable, at once, when too many wait.
        """
        lane = lane_of_coupon(self.engine.gate, ask.coupon_id)
        self._turnstile("issue", lane, self._issue, ASKS_PER_CALL).put(ask, told)

    def order(self, lane: int, ask: OrderAsk, told: Told[Submitted | Refused]) -> None:
        """Place an order all of whose products live in this lane; ``told`` hears what
        :func:`engine.shop.orders.place_order` returns or raises. Raises GateUnavailable, at once, when too many wait.
        """
        self._turnstile("order", lane, self._order, ORDERS_PER_CALL).put(ask, told)

    def look(self, request_id: str, told: Told[RequestState | Refused]) -> None:
        """Ask where a request stands; ``told`` hears what :func:`engine.flow.requests.request_state` returns or raises.

        Raises GateUnavailable, at once, when too many wait or no lane is ready.
        """
        request = parse_request_id(request_id, self.engine.gate.request_key())
        if request is None:
            self._deliver([(told, _NOT_FOUND)])
        else:
            self._turnstile("look", request.lane, self._look, LOOKS_PER_CALL).put(request, told)

    def close(self) -> None:
        """Take nobody more; who waits is still answered."""
        with self._making:
            for turnstile in self._turnstiles.values():
                turnstile.close()

    def _turnstile(
        self, name: str, lane: int, pass_on: Callable[[int, Sequence[Any]], Passed[Any]], at_once: int
    ) -> Turnstile[Any, Any]:
        turnstile = self._turnstiles.get((name, lane))
        if turnstile is None:
            with self._making:
                turnstile = self._turnstiles.setdefault(
                    (name, lane),
                    Turnstile(
                        partial(pass_on, lane),
                        at_once=at_once,
                        places=PLACES,
                        name=f"{name} in lane {lane}",
                        deliver=self._deliver,
                    ),
                )
        return turnstile

    def _issue(self, lane: int, asks: Sequence[IssueAsk]) -> Passed[Issued | Refused]:
        outcomes, ring = issue_coupons(self.engine, lane, asks)
        # The bell is for the ledger: whoever asked need not wait for it.
        return Passed(outcomes, partial(self.engine.bell.ring, lane) if ring else None)

    def _order(self, lane: int, asks: Sequence[OrderAsk]) -> Passed[Submitted | Refused]:
        outcomes, ring = place_orders(self.engine, lane, asks)
        return Passed(outcomes, partial(self.engine.bell.ring, lane) if ring else None)

    def _look(self, lane: int, requests: Sequence[RequestId]) -> Passed[RequestState | Refused]:
        return Passed(request_states(self.engine, lane, requests))
