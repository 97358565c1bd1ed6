"""The machine itself: a stack, a crowd, and what may be done to them; what was told is checked at every rest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.gate import keys, stock
from tests.faults.machine import facts
from tests.faults.machine.asking import Asker
from tests.faults.machine.breaks import Break
from tests.faults.machine.crowd import CUSTOMERS, Crowd
from tests.faults.machine.facts import Kept
from tests.faults.machine.history import Forgetting, History
from tests.faults.machine.offers import Offers
from tests.faults.machine.points import Points
from tests.faults.machine.stack import LANES, MachineStack, machine_stack
from tests.faults.machine.verdict import Violation, judge

AOF_SECONDS = 3.0
"""Redis with everysec may lose its last second; a write that waits for a slow disk, two more."""


APPEND_ONLY = "appendonlydir"


@dataclass(frozen=True)
class Rest:
    """One check: what was told, what is kept, what is wrong."""

    history: History
    kept: Kept
    violations: list[Violation]


@dataclass
class Machine:
    """One run. Everything but the crowd's own threads happens in the main thread."""

    stack: MachineStack
    offers: Offers
    crowd: Crowd
    points: Points = field(init=False)
    _marks: facts.Marks = field(init=False)

    def __post_init__(self) -> None:
        self.points = Points(self.stack.points)
        self._marks = facts.marks_now(self.stack.engine)

    def rest(self) -> Rest:
        """Let everybody come to an end, compare what was told with what is kept, offer new things, go on."""
        self.stack.heal_network()
        self.stack.await_ready()
        self.crowd.pause()
        history = self.crowd.take_history()
        offered = [*self.offers.coupons, self.offers.small_coupon]
        with closing(Asker(self.stack.web_ports)) as asker:
            kept = facts.gather(self.stack.engine, asker, history, offered, self._marks)
        kept = replace(kept, alarms=self.stack.new_alarms())
        self._marks = facts.marks_now(self.stack.engine)
        self.offers.renew()
        self.crowd.resume()
        return Rest(history, kept, judge(history, kept))

    # -- what Redis may forget

    def forget_everything(self) -> None:
        """FLUSHALL; what waited in the outboxes is known to the instant."""
        self._forget(lambda pipeline: pipeline.flushall())

    def lose_redis_file(self) -> None:
        """Kill -9, and the file is gone: what a broken disk leaves. Nothing is decided from the look to the kill."""
        self._forget(lambda pipeline: pipeline.execute_command("CLIENT", "PAUSE", 60_000, "ALL"), self._kill_and_wipe)

    def copy_redis_file(self) -> None:
        """Keep what Redis has written so far, for :meth:`revert_redis`."""
        shutil.rmtree(self._older_file, ignore_errors=True)
        shutil.copytree(self.stack.valkey.directory / APPEND_ONLY, self._older_file)

    def revert_redis(self) -> None:
        """Kill -9, and start on the copy: what a replica leaves that lagged behind and took over."""
        self._forget(lambda pipeline: pipeline.execute_command("CLIENT", "PAUSE", 60_000, "ALL"), self._kill_and_revert)

    def restart_redis(self) -> None:
        """Kill -9 and start again on the file: the last moments may be missing."""
        at = time.monotonic()
        self.stack.valkey.kill()
        self.stack.restart_valkey()
        self._note(Forgetting(at, time.monotonic(), seconds=AOF_SECONDS))

    def _kill_and_wipe(self) -> None:
        self.stack.valkey.kill()
        shutil.rmtree(self.stack.valkey.directory / APPEND_ONLY)
        self.stack.restart_valkey()

    def _kill_and_revert(self) -> None:
        self.stack.valkey.kill()
        shutil.rmtree(self.stack.valkey.directory / APPEND_ONLY)
        shutil.copytree(self._older_file, self.stack.valkey.directory / APPEND_ONLY)
        self.stack.restart_valkey()

    @property
    def _older_file(self) -> Path:
        return self.stack.folder / "a while ago"

    def _forget(self, last_command: Callable[..., object], then: Callable[[], None] = lambda: None) -> None:
        gate = self.stack.engine.gate
        at = time.monotonic()
        with gate.client.pipeline(transaction=True) as pipeline:
            for lane in range(gate.lanes):
                pipeline.xrange(keys.outbox(lane))
            last_command(pipeline)
            outboxes = pipeline.execute()[:-1]
        then()
        waiting = frozenset(fields["request_id"] for outbox in outboxes for _, fields in outbox)
        self._note(Forgetting(at, time.monotonic(), waiting))

    def _note(self, forgetting: Forgetting) -> None:
        self.crowd.history.forgettings.append(forgetting)

    # -- what makes processes come by where they seldom do

    def leave_a_hold(self) -> None:
        """What a web process leaves that dies between two lanes: units held for nobody, and overdue by now."""
        gate, product_id = self.stack.engine.gate, self.offers.products[0]
        lane = stock.lane_of_product(gate, product_id)
        nonce = stock.order_nonce(gate, self.offers.users[0], None)
        attempt = stock.OrderAttempt(nonce, self.offers.users[0], None, keep=False)
        if stock.reserve(gate, lane, attempt, [(product_id, 1)], order_lane=lane + 1).granted:
            gate.client.zadd(keys.holds(lane), {nonce: 1}, xx=True)


@contextmanager
def running_machine(
    *, lanes: int = LANES, customers: int = CUSTOMERS, broken: Break | None = None
) -> Iterator[Machine]:
    """A machine whose crowd is shopping; ``broken`` switches a guard off."""
    with machine_stack(lanes, broken) as stack:
        offers = Offers(stack.web_ports)
        offers.open()
        crowd = Crowd(stack.web_ports, offers, customers)
        try:
            machine = Machine(stack, offers, crowd)
            crowd.resume()
            yield machine
        finally:
            crowd.leave()
            offers.close()
