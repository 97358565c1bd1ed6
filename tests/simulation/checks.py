"""The judge: what has to be true once everybody is awake or gone and all is at rest. Each check names what is off."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from engine.context import Engine
from engine.errors import EngineError
from engine.flow.requests import request_state
from engine.gate import keys
from engine.gate.coupons import lane_of_coupon
from engine.gate.stock import lane_of_product
from engine.outcomes import Issued, Refusal, Refused, RequestState, RequestStatus, Submitted
from engine.upkeep.audit import audit
from tests.simulation.history import History
from tests.simulation.record import Ask, Record, nonce_of

AUDITED_EVERY = 20
BUSINESS_FAILURES = (Refusal.USER_NOT_FOUND, Refusal.INSUFFICIENT_BALANCE, Refusal.COUPON_NOT_USABLE)
"""How an order that was accepted may end without anything having gone wrong."""


class Judge:
    """Looks at a history that has come to rest, once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._record: Record = history.record
        self._engine: Engine = history.quiet
        rows = history.stores.rows
        self._coupons = {row["id"]: row for row in rows("SELECT * FROM coupons")}
        self._user_coupons = rows("SELECT * FROM user_coupons ORDER BY coupon_id, sequence")
        self._products = {row["id"]: row for row in rows("SELECT * FROM products")}
        self._orders = rows("SELECT * FROM orders ORDER BY id")
        self._items = rows("SELECT * FROM order_items")
        self._accounts = rows("SELECT * FROM accounts")
        self._moved = rows("SELECT * FROM balance_transactions ORDER BY id")
        self._final: dict[str, RequestState | Refused] = {}

    def violations(self) -> list[str]:
        """In words, all that is off; empty for a history as it should be."""
        found = [*self._history.faults]
        cancelled = {row["id"] for row in self._orders if row["status"] == "CANCELLED"}
        for item in self._items:
            if item["order_id"] in cancelled:
                self._record.cancelled_units[item["product_id"]] += item["quantity"]
        try:
            self._final = {each: request_state(self._engine, each) for each in self._record.accepted()}
        except EngineError as error:
            return [*found, f"at rest: nobody can be told what became of a request: {error}"]
        for check in (
            self._what_was_told,
            self._what_was_accepted,
            self._coupons_given,
            self._refusals,
            self._asks_repeated,
            self._order_of_arrival,
            self._money,
            self._units,
            self._cancellations,
            self._gate_of_coupons,
            self._gate_of_products,
            self._lanes,
            self._followups,
            self._audited,
        ):
            found += [f"{check.__name__.strip('_').replace('_', ' ')}: {each}" for each in check()]
        return found

    def outcomes(self) -> Counter[str]:
        """How what was accepted ended, and how often lanes were opened anew: for the statistics. After violations()."""
        counts = Counter(f"{_kind(each)} {_short(state)}" for each, state in self._final.items())
        counts["orders cancelled"] = sum(order["status"] == "CANCELLED" for order in self._orders)
        counts["epochs begun"] = self._history.stores.rows("SELECT sum(epoch - 1) AS begun FROM lane_progress")[0][
            "begun"
        ]
        return counts

    # -- promises to clients

    def _what_was_told(self) -> Iterator[str]:
        """COMPLETED and FAILED are final, and an accepted request is never unknown."""
        for request_id, told in self._record.told.items():
            final = self._final[request_id]
            for each in told:
                if isinstance(each.state, Refused):
                    yield f"{request_id} was accepted, and step {each.step} was told {each.state.code}"
                elif each.state.status is not RequestStatus.PENDING and not _same(each.state, final):
                    yield f"{request_id} was shown {_short(each.state)} at step {each.step}, and is {_short(final)}"

    def _what_was_accepted(self) -> Iterator[str]:
        """Who was accepted is served or refused for a reason of business, unless Redis forgot the acceptance."""
        for request_id, final in self._final.items():
            decided = f"{request_id}, decided at step {self._record.decided_at.get(request_id)},"
            if isinstance(final, Refused) or final.status is RequestStatus.PENDING:
                yield f"{decided} is {_short(final)}"
            elif final.error is not None and final.error.code not in BUSINESS_FAILURES:
                repeated = request_id in self._record.closed_before
                if not repeated and not self._record.is_forgotten(request_id):
                    yield f"{decided} was accepted and never forgotten, and was taken back: {_short(final)}"

    def _refusals(self) -> Iterator[str]:
        """What was refused is not recorded, and what was said in refusing was true."""
        recorded = [("issue", row["user_id"], row["request_id"]) for row in self._user_coupons]
        recorded += [("order", row["user_id"], row["request_id"]) for row in self._orders if row["request_id"]]
        unheard = Counter((ask.kind, ask.user_id) for ask in self._record.asks if ask.unanswered)
        for kind, user_id, request_id in recorded:
            if request_id not in self._record.told:
                if not unheard[kind, user_id]:
                    yield f"{request_id} of user {user_id} is recorded, and everybody who asked was refused"
                unheard[kind, user_id] -= 1
        for ask in self._record.asks:
            if (
                isinstance(ask.answer, Refused)
                and ask.kind == "issue"
                and not self._record.forgot_after(ask.ended or 0)
            ):
                yield from self._lie(ask, ask.answer)

    def _lie(self, ask: Ask, answer: Refused) -> Iterator[str]:
        holders = [row["user_id"] for row in self._user_coupons if row["coupon_id"] == ask.target]
        if answer.code is Refusal.COUPON_ALREADY_ISSUED and ask.user_id not in holders:
            yield f"user {ask.user_id} was told to have coupon {ask.target} already, and has not"
        total = self._history.shop.coupons[ask.target - 1]
        if answer.detail == {"reason": "SOLD_OUT"} and len(holders) < total:
            yield f"user {ask.user_id} was told that coupon {ask.target} is sold out: {len(holders)} of {total} are"

    def _asks_repeated(self) -> Iterator[str]:
        """The same key gets the first answer, for as long as Redis remembers it; charges and cancels always."""
        answers: dict[tuple[Any, ...], list[Ask]] = defaultdict(list)
        for ask in self._record.asks:
            if ask.key is not None and not ask.unanswered:
                answers[ask.kind, ask.user_id, ask.target, ask.key].append(ask)
        for asks in answers.values():
            first = asks[0].answer
            for ask in asks[1:]:
                if isinstance(first, Issued | Submitted) and isinstance(ask.answer, Issued | Submitted):
                    forgotten = self._record.is_forgotten
                    if ask.kind == "order":  # placed again it gets another id, and is the same order in the ledger
                        forgotten = self._record.may_have_forgotten_its_end
                    if first.request_id != ask.answer.request_id and not forgotten(first.request_id, ask.ended):
                        yield f"{ask.kind} under key {ask.key}: {first.request_id}, then {ask.answer.request_id}"
                elif ask.kind in ("charge", "cancel") and ask.answer != first:
                    yield f"{ask.kind} of {ask.target} under key {ask.key}: {first}, then {ask.answer}"

    def _order_of_arrival(self) -> Iterator[str]:
        """Who had an answer before another asked is before the other in line."""
        winners = [
            (ask, ask.answer)
            for ask in self._record.asks
            if isinstance(ask.answer, Issued) and _is_completed(self._final[ask.answer.request_id])
        ]
        for first, one in winners:
            for later, other in winners:
                before = first.ended is not None and first.ended < later.began and one.coupon_id == other.coupon_id
                asked_anew = self._record.decided_at[other.request_id] >= later.began
                if before and asked_anew and one.sequence >= other.sequence:
                    yield f"{one.request_id} has place {one.sequence}, and {other.request_id}, later, {other.sequence}"

    # -- the ledger

    def _coupons_given(self) -> Iterator[str]:
        given: dict[int, list[Any]] = defaultdict(list)
        for row in self._user_coupons:
            given[row["coupon_id"]].append(row)
        for coupon_id, coupon in self._coupons.items():
            rows = given[coupon_id]
            if [row["sequence"] for row in rows] != list(range(1, len(rows) + 1)):
                yield f"places in line of coupon {coupon_id}: {[row['sequence'] for row in rows]}"
            if len({row["user_id"] for row in rows}) != len(rows):
                yield f"somebody has coupon {coupon_id} twice"
            if not len(rows) == coupon["issued"] <= coupon["total_quantity"]:
                yield f"coupon {coupon_id}: {len(rows)} given, counted {coupon['issued']} of {coupon['total_quantity']}"
        redeemed = Counter(row["user_coupon_id"] for row in self._orders if row["status"] == "COMPLETED")
        for row in self._user_coupons:
            if redeemed[row["id"]] != (row["status"] == "USED"):
                yield f"user coupon {row['id']} is {row['status']}, redeemed by {redeemed[row['id']]} orders"

    def _money(self) -> Iterator[str]:
        signs = {"CHARGE": 1, "PAYMENT": -1, "REFUND": 1}
        moved = Counter({row["user_id"]: 0 for row in self._accounts})
        for row in self._moved:
            moved[row["user_id"]] += signs[row["type"]] * row["amount"]
        for row in self._accounts:
            if row["balance"] != moved[row["user_id"]]:
                yield f"user {row['user_id']} moved {moved[row['user_id']]} and has {row['balance']}"
        movements = {
            name: {row["order_id"]: row["amount"] for row in self._moved if row["type"] == name} for name in signs
        }
        for row in self._orders:
            paid = row["paid_amount"] if row["status"] in ("COMPLETED", "CANCELLED") else None
            refunded = row["paid_amount"] if row["status"] == "CANCELLED" else None
            if (movements["PAYMENT"].get(row["id"]), movements["REFUND"].get(row["id"])) != (paid, refunded):
                yield f"order {row['id']} is {row['status']}, its money moved otherwise"
        opening = sum(1 for balance in self._history.shop.balances if balance)
        charges = {row["id"] for row in self._moved if row["type"] == "CHARGE" and row["id"] > opening}
        asks = [ask for ask in self._record.asks if ask.kind == "charge"]
        booked = {ask.answer["transactionId"] for ask in asks if isinstance(ask.answer, dict)}
        if booked - charges:
            yield f"charges {booked - charges} were confirmed and are not booked"
        if len(charges - booked) > sum(ask.unanswered for ask in asks):
            yield f"charges {charges - booked} are booked, and nobody can have asked for them"

    def _units(self) -> Iterator[str]:
        sold: Counter[int] = Counter()
        standing = {row["id"] for row in self._orders if row["status"] == "COMPLETED"}
        for item in self._items:
            if item["order_id"] in standing:
                sold[item["product_id"]] += item["quantity"]
        for product_id, product in self._products.items():
            if product["supplied"] != product["stock"] + sold[product_id] or product["stock"] < 0:
                came, left = product["supplied"], product["stock"]
                yield f"product {product_id}: {came} came in, {sold[product_id]} sold, {left} left"
        for row in self._history.stores.rows("SELECT lane, epoch, number, error FROM quarantined_outcomes"):
            yield f"lane {row['lane']} put {row['epoch']}-{row['number']} into quarantine: {row['error'][:200]!r}"

    def _cancellations(self) -> Iterator[str]:
        cancelled = {row["id"] for row in self._orders if row["status"] == "CANCELLED"}
        asks = [ask for ask in self._record.asks if ask.kind == "cancel"]
        confirmed = {ask.target for ask in asks if isinstance(ask.answer, dict)}
        unheard = {ask.target for ask in asks if ask.unanswered}
        if confirmed - cancelled:
            yield f"orders {confirmed - cancelled} were cancelled and are not"
        if cancelled - confirmed - unheard:
            yield f"orders {cancelled - confirmed - unheard} are cancelled, and nobody can have asked for it"

    # -- the gate

    def _gate_of_coupons(self) -> Iterator[str]:
        client: Any = self._engine.gate.client
        for coupon_id, coupon in self._coupons.items():
            lane = lane_of_coupon(self._engine.gate, coupon_id)
            found = client.hgetall(keys.coupon(lane, coupon_id))
            said = {name: str(found.get(name)) for name in ("version", "status", "total", "issued")}
            expected = {
                "version": str(coupon["version"]),
                "status": coupon["status"],
                "total": str(coupon["total_quantity"]),
                "issued": str(coupon["issued"]),
            }
            if said != expected:
                yield f"coupon {coupon_id}: the gate says {said}, the ledger {expected}"
            winners = client.hgetall(keys.winners(lane, coupon_id))
            recorded = {
                str(row["user_id"]): f"{row['sequence']} {row['request_id']}"
                for row in self._user_coupons
                if row["coupon_id"] == coupon_id
            }
            if winners != recorded:
                yield f"coupon {coupon_id}: the gate's winners are {winners}, the ledger's {recorded}"

    def _gate_of_products(self) -> Iterator[str]:
        client: Any = self._engine.gate.client
        for product_id, product in self._products.items():
            found = client.hgetall(keys.sku(lane_of_product(self._engine.gate, product_id), product_id))
            said = {name: str(found.get(name)) for name in ("version", "status", "price", "supplied", "available")}
            expected = {name: str(product[name]) for name in ("version", "status", "price", "supplied")}
            expected["available"] = str(product["stock"])
            if said != expected:
                yield f"product {product_id}: the gate says {said}, the ledger {expected}"

    def _lanes(self) -> Iterator[str]:
        client: Any = self._engine.gate.client
        recorded = {row["lane"]: row for row in self._history.stores.rows("SELECT * FROM lane_progress")}
        for lane in range(self._engine.gate.lanes):
            state = self._engine.gate.inspect(lane)
            if not state.ready or state.backlog or state.epoch != recorded[lane]["epoch"]:
                yield f"lane {lane} stands like this: {state}"
            if (state.last_number or 0) < recorded[lane]["last_number"]:
                yield f"lane {lane} counts behind the ledger: {state.last_number} < {recorded[lane]['last_number']}"
            held = client.zrange(keys.holds(lane), 0, -1)
            if held:
                yield f"lane {lane} still holds for {held}"

    # -- what follows

    def _followups(self) -> Iterator[str]:
        rows = self._history.stores.rows
        for row in rows("SELECT * FROM order_followups WHERE kind NOT LIKE '%%DATA_PLATFORM' AND status <> 'DONE'"):
            yield f"{row['kind']} of order {row['order_id']} is {row['status']}"
        counted = {row["product_id"]: int(row["sum"]) for row in rows(_STATISTICS)}
        sold: Counter[int] = Counter(dict.fromkeys(counted, 0))
        standing = {row["id"] for row in self._orders if row["status"] == "COMPLETED"}
        for item in self._items:
            sold[item["product_id"]] += item["quantity"] if item["order_id"] in standing else 0
        if counted != dict(sold):
            yield f"statistics say {counted}, orders {dict(sold)}"
        told = Counter((row["order_id"], row["event"]) for row in rows("SELECT * FROM order_history_events"))
        expected = Counter(
            (row["id"], event)
            for row in self._orders
            for event, statuses in _EVENTS.items()
            if row["status"] in statuses
        )
        if told != expected:
            yield f"the history tells {dict(told)} instead of {dict(expected)}"

    def _audited(self) -> Iterator[str]:
        """The engine's own audit has nothing to say either; it takes as long as all the rest, so not every time."""
        if self._history.seed % AUDITED_EVERY == 0:
            for check in audit(self._engine).off:
                yield f"{check.name}: {check.detail}"


_STATISTICS = "SELECT product_id, sum(quantity) FROM product_stats GROUP BY product_id"
_EVENTS = {"ORDER_COMPLETED": ("COMPLETED", "CANCELLED"), "ORDER_CANCELLED": ("CANCELLED",)}


def _is_completed(state: RequestState | Refused) -> bool:
    return isinstance(state, RequestState) and state.status is RequestStatus.COMPLETED


def _same(shown: RequestState, final: RequestState | Refused) -> bool:
    """Whether an end that was shown still stands; an order may have been cancelled since."""
    if not isinstance(final, RequestState) or (shown.status, shown.error) != (final.status, final.error):
        return False
    return {**(shown.result or {}), "status": ""} == {**(final.result or {}), "status": ""}


def _kind(request_id: str) -> str:
    return "coupon" if nonce_of(request_id).startswith("c") else "order"


def _short(state: RequestState | Refused) -> str:
    if isinstance(state, Refused):
        return str(state.code)
    return str(state.status) if state.error is None else f"{state.status} ({state.error.code})"


__all__ = ["Judge", "nonce_of"]
