"""Guards switched off one at a time: what the simulation has to find, or it would prove nothing when it finds nothing.

``python -m tests.simulation --controls`` prints the table: which guard, found after how many histories, by which check.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from greenlet import getcurrent  # type: ignore[import-untyped]
from sqlalchemy import text

from engine.context import Engine
from engine.flow import drain, followups, holds, requests
from engine.gate import outbox, scripts, stock
from engine.gate.gate import Gate, LaneState, unavailability_translated
from engine.ledger import coupons as ledger_coupons
from engine.ledger import progress
from engine.ledger import settlement as settling
from engine.ledger.orders import Ending, OrderEnd, SubmittedOrder, order_ends
from engine.ledger.settlement import Settlement
from engine.shop import accounts
from engine.upkeep import guard, rebuild
from engine.upkeep.guard import Verdict
from tests.simulation.doctored import Edit, doctored_scripts
from tests.simulation.stores import Stores

Off = Callable[[Stores], AbstractContextManager[object]]

SERVER_CHECK: Edit = (r"state\[1\] ~= '1' or [^\n]* then", "state[1] ~= '1' then")
TOKEN_CHECK: Edit = (r"if redis\.call\('HGET', KEYS\[1\], 'building'\) ~= \S+ then", "if false then")
RELEASED: Edit = (
    r"if hold\[1\] ~= 'held' and .*?\nlocal key_of",
    "if not hold[1] then return {'gone'} end\nlocal key_of",
)
SHARED: Edit = (r"if hold\[4\] and [^\n]* then", "if false then")
REQUIRED: Edit = (r"if required and [^\n]* then", "if false then")
RETURNED: Edit = (r"redis\.call\('SET', marker_key.*?keep_ms\)", "")
UNIQUE = ("request_id", "coupon_id_user_id", "coupon_id_sequence")


@dataclass(frozen=True)
class Control:
    """One guard: its name, how to switch it off, and in how many histories of which profile that has to be found.

    ``seed`` is where to begin: a little before one that is known to find it, so that the tests take little time.
    """

    guard: str
    off: Off
    profile: str = "one-lane"
    within: int = 500
    seed: int = 1


def _scripts(**edits: Edit) -> Off:
    return lambda _: doctored_scripts(edits)


def _replaced(owner: object, name: str, instead: object) -> Off:
    return lambda _: mock.patch.object(owner, name, instead)


@contextmanager
def _without_unique_keys(stores: Stores) -> Iterator[None]:
    """Nothing in the ledger tells that an issuance is there already."""
    sql = ledger_coupons.RECORD_ISSUANCES.text
    plain = sql.replace("ON CONFLICT (request_id) DO NOTHING", "")
    assert plain != sql
    table = "ALTER TABLE user_coupons"
    columns = {name: ", ".join(re.findall(r"request_id|coupon_id|user_id|sequence", name)) for name in UNIQUE}
    stores.empty()
    for name in columns:
        stores.monitor.execute(f"{table} DROP CONSTRAINT uq_user_coupons_{name}".encode())
    try:
        with mock.patch.object(ledger_coupons, "RECORD_ISSUANCES", text(plain)):
            yield
    finally:
        stores.empty()
        for name, unique in columns.items():
            stores.monitor.execute(f"{table} ADD CONSTRAINT uq_user_coupons_{name} UNIQUE ({unique})".encode())


@contextmanager
def _without_build_tokens(_: Stores) -> Iterator[None]:
    """A rebuild may write whatever became of the lane since it took its epoch."""
    writes = dict.fromkeys(
        ("build_coupon", "build_winners", "build_product", "forget_holds", "mark_returned"), TOKEN_CHECK
    )
    opening = (r"if known\[1\] ~= epoch then", "if false then")
    beginning = (r"for _, known in ipairs.*?\n(?=redis\.call\('HSET')", "")
    with doctored_scripts({**writes, "open_lane": opening, "begin_build": beginning}):
        yield


@contextmanager
def _closing_only_what_is_open(_: Stores) -> Iterator[None]:
    """Who finds a lane closed takes nobody's claim to build it away."""
    close = rebuild.close_lane

    def close_if_open(gate: Gate, state: LaneState) -> str:
        return close(gate, state) if state.open else "none"

    unclaimed = (r"if redis\.call\('HGET', lane_key, 'claim'\) ~= claim then", "if false then")
    with mock.patch.object(rebuild, "close_lane", close_if_open), doctored_scripts({"begin_build": unclaimed}):
        yield


@contextmanager
def _issuing_in_two_steps(_: Stores) -> Iterator[None]:
    """Look first, take afterwards, in two round trips."""
    source = scripts.script("issue_coupon").source
    for check in ("if sequence then", "if coupon.issued >= coupon.total then"):
        assert check in source
        source = source.replace(check, "if false then")
    take = scripts.script_from(source, "take_coupon_unchecked")
    run = Gate.run

    def run_in_two_steps(gate: Gate, name: str, script_keys: Any, arguments: Any) -> Any:
        if name != "issue_coupon" or len(script_keys) != 5:
            return run(gate, name, script_keys, arguments)
        with unavailability_translated(), gate.client.pipeline(transaction=False) as look:
            look.hmget(script_keys[3], "total", "issued")
            look.hexists(script_keys[4], str(arguments[6]))
            (total, issued), has_it = look.execute()
        if total is None or has_it or int(issued) >= int(total):
            return run(gate, name, script_keys, arguments)
        with unavailability_translated():
            return take.run(gate.client, script_keys, arguments)

    with mock.patch.object(Gate, "run", run_in_two_steps):
        yield


@contextmanager
def _holds_ended_by_the_clock(_: Stores) -> Iterator[None]:
    """Whoever sees that a deadline has passed gives the units back, and asks nobody."""

    def sweep(engine: Engine, lane: int) -> int:
        overdue = stock.claim_overdue_holds(engine.gate, lane, 100)
        for hold in overdue:
            release = stock.release
            release(engine.gate, lane, hold.built_epoch, hold.nonce, hold.product_ids, deadline_ms=hold.deadline_ms)
        return len(overdue)

    with doctored_scripts({"claim_holds": (r" and not waits\(hold\[2\]\)", "")}), ExitStack() as stack:
        stack.enter_context(mock.patch.object(holds, "sweep_holds", sweep))
        yield


def _removed_before_the_commit(_: Stores) -> AbstractContextManager[object]:
    record = drain._record

    def remove_and_record(engine: Engine, report: Any, entries: Any) -> None:
        outbox.remove(engine.gate, report.lane, entries)
        record(engine, report, entries)

    return mock.patch.object(drain, "_record", remove_and_record)


@contextmanager
def _ledger_asked_first(_: Stores) -> Iterator[None]:
    """What the ledger says is from before the look into the outbox."""
    look, recorded_states = requests._look_into_outbox, requests._recorded_states
    earlier: dict[object, Any] = {}

    def look_later(engine: Engine, lane: int, asked: Any) -> Any:
        earlier[getcurrent()] = recorded_states(engine, asked)
        return look(engine, lane, asked)

    with (
        mock.patch.object(requests, "_look_into_outbox", look_later),
        mock.patch.object(requests, "_recorded_states", side_effect=lambda *_: earlier.pop(getcurrent())),
    ):
        yield


def _begun_on_any_examination(_: Stores) -> AbstractContextManager[object]:
    begin = progress.begin_epoch

    def begin_anyway(connection: Any, lane: int, **told: Any) -> Any:
        return begin(connection, lane, **{**told, "examined": progress.progress_of_lane(connection, lane)})

    return mock.patch.object(progress, "begin_epoch", begin_anyway)


def _approving_what_is_behind(_: Stores) -> AbstractContextManager[object]:
    judge = guard.verdict

    def lenient(state: Any, recorded: Any) -> Verdict:
        found = judge(state, recorded)
        behind = found is Verdict.REBUILD and state.open and state.epoch is not None and recorded is not None
        return Verdict.APPROVE if behind and not state.ready else found

    return mock.patch.object(guard, "verdict", lenient)


def _giving_back_all(_: Stores) -> AbstractContextManager[object]:
    """Whatever an order counts on goes back to the gate when another order of its nonce is in the ledger."""

    def sort(order: SubmittedOrder, ending: Ending, settlement: Settlement) -> bool:
        stands = ending.is_shown and ending.request_id == order.request_id
        (settlement.sold if stands else settlement.unsold).append(order)
        return ending.request_id != order.request_id

    return mock.patch.object(settling, "_sort", sort)


def _ends_by_nonce(_: Stores) -> AbstractContextManager[object]:
    """Whoever has the nonce of an order is told how that ended."""

    def ends(connection: Any, asked: Mapping[str, str]) -> dict[str, OrderEnd]:
        query = "SELECT nonce, coalesce(request_id, nonce) FROM orders WHERE nonce = ANY(:nonces)"
        owners = dict(connection.execute(text(query), {"nonces": list(asked.values())}).all())
        own = {owners[nonce]: nonce for nonce in asked.values() if nonce in owners}
        found = order_ends(connection, own)
        return {each: found[owners[nonce]] for each, nonce in asked.items() if owners.get(nonce) in found}

    return mock.patch.object(requests, "order_ends", ends)


_believing_any_lane = _replaced(holds, "_knew_all", lambda *_: True)
_confirming_all = _replaced(followups, "confirm_returns", lambda _, returned: [True] * len(returned))
_counting_decisions_alone = _replaced(
    progress.Standing, "lacks", lambda standing, relied_on: standing.last_number < relied_on.last_number
)

CONTROLS = (
    Control("the unique request key", _without_unique_keys, "remembering", seed=58),
    Control("the epoch fence of the drain", _replaced(progress.Fence, "admits", lambda *_: True), seed=235),
    Control("the token of a rebuild", _without_build_tokens, seed=10),
    Control("a lane is built by who closed it last", _closing_only_what_is_open, "rebuilding"),
    Control("an epoch begins on what was examined", _begun_on_any_examination, seed=61),
    Control("the server check of issue_coupon.lua", _scripts(issue_coupon=SERVER_CHECK)),
    Control("the deadline is arbitrated by the ledger", _holds_ended_by_the_clock, seed=121),
    Control("one script decides and records", _issuing_in_two_steps, profile="remembering", seed=88),
    Control("an entry leaves the outbox after its commit", _removed_before_the_commit, "remembering"),
    Control("the outbox is asked before the ledger", _ledger_asked_first, "remembering", seed=35),
    Control("what is behind the ledger is rebuilt", _approving_what_is_behind),
    Control(
        "an outbox is emptied before its lane is rebuilt", _replaced(rebuild, "_drain_outbox", lambda *_: 0), seed=52
    ),
    Control("a hold is given back once", _scripts(release_stock=RELEASED), "remembering", seed=158),
    Control("a repetition gives back no hold of its first order", _giving_back_all, "repeating-shards", seed=150),
    Control("who gives back leaves what is shared", _scripts(release_stock=SHARED), "repeating-shards", seed=150),
    Control("a lane that nobody has approved is not believed", _believing_any_lane, "repeating-shards", seed=560),
    Control("cancelled units come back once", _scripts(return_stock=RETURNED), "remembering", seed=73),
    Control("the ledger relies on a return in its epoch only", _confirming_all, "repeating", seed=39),
    Control("a lane that forgot a return is rebuilt", _counting_decisions_alone, "repeating", seed=101),
    Control(
        "of several lanes none is approved", _replaced(guard, "_may_be_approved", lambda _: True), "lanes", seed=221
    ),
    Control("no order on holds from before a rebuild", _scripts(reserve_stock=REQUIRED), "lanes", seed=225),
    Control("an end is told by the whole request id", _ends_by_nonce, "repeating"),
    Control(
        "a charge is answered once", _replaced(accounts, "answer_once", lambda *told: told[2]()), "remembering", seed=39
    ),
)

HARMLESS = (Control("the lease of a drain", _replaced(outbox.Lease, "take", lambda _: True), within=60),)
"""What may be switched off without anything going wrong: it saves work, and nothing relies on it."""
