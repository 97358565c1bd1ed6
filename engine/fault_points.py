"""Named points at which a test lets a process die or fall asleep: ``reach("drain.after_commit")``.

Off unless SEONCHAK_FAULT_POINTS, which only tests set, names a folder when the process starts; then :func:`reach` is a
function that does nothing. Else an order for a point is a file of the point's name in that folder, which holds ``kill``
or ``stop``. The first process that reaches the point takes the order by renaming the file to ``<point>.<its pid>``, so
that one order is for one process, once; then it sends itself SIGKILL or SIGSTOP. Whoever gave the order finds the pid
in the file's new name, and wakes a sleeper by SIGCONT.

========================  ===================  =========================================================================
point                     reached by           what has happened, and what has not
========================  ===================  =========================================================================
issue.decided             web                  the gate has decided about a coupon; nobody has rung or answered
order.between_lanes       web                  a lane has reserved; the order's next lane has not been asked
order.decided             web                  the last lane has accepted the order; nobody has rung or answered
charge.committed          web                  the money is booked; nobody has answered
cancel.committed          web                  the order is cancelled in the ledger; nobody has rung or answered
publish.recorded          web, scheduler       a coupon or product is in the ledger; the gate does not know it
publish.unmarked          web, scheduler       the gate knows it; the ledger does not know that
drain.after_reading_head  worker, rebuild      entries are read; nothing is written
drain.before_commit       worker, rebuild      a batch is written; its transaction is open
drain.after_commit        worker, rebuild      a batch is committed; the gate has not heard of its orders
holds.mid_release         worker, rebuild      the holds of one lane or one order have ended; others' may not have
drain.before_removal      worker, rebuild      the gate knows the ends of the orders; the entries are in the outbox
followups.before_commit   followups            an effect in the ledger is written; its transaction is open
followups.claimed         followups            rows are claimed; no effect has begun
followups.unmarked        followups            an effect outside the ledger is done; its rows do not say so
sweep.before_expiry       scheduler            overdue holds are read; the ledger has not been asked
sweep.after_expiry        scheduler            the ledger has said how their orders ended; the gate has not heard it
guard.before_approval     scheduler            an epoch has begun for a server that lost nothing; the lane is not open
rebuild.closed            scheduler            a lane is closed; its outbox is not drained
rebuild.begun             scheduler            the ledger has begun an epoch for the lane; nothing is read or built
rebuild.building          scheduler            the ledger is read and one coupon is built; the rest is not
rebuild.before_opening    scheduler            all is built; the lane is closed
========================  ===================  =========================================================================

``tests/faults/test_fault_points.py`` compares this table with the calls.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

CONTROL_VARIABLE = "SEONCHAK_FAULT_POINTS"
ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def _pass(_point: str) -> None:
    """What a point costs when nobody tests: one call."""


def _take_orders(folder: Path) -> Callable[[str], None]:
    def reach(point: str) -> None:
        taken = folder / f"{point}.{os.getpid()}"
        try:
            # Atomic: of all who come here at once, one finds the file.
            os.rename(folder / point, taken)
            ordered = ACTIONS[taken.read_text()]
        except FileNotFoundError:
            return  # not ordered, taken by somebody else, or withdrawn in this very instant
        os.kill(os.getpid(), ordered)

    return reach


_folder = os.environ.get(CONTROL_VARIABLE, "")

reach: Callable[[str], None] = _take_orders(Path(_folder)) if _folder else _pass
"""Die or sleep here if that was ordered."""
