"""Everybody at work at once, in a process of their own: for tests of what looks on meanwhile."""

from __future__ import annotations

import multiprocessing
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from typing import Any

from engine.config import Settings
from engine.context import Engine
from engine.flow import followups
from engine.flow.drain import drain
from engine.flow.holds import sweep_holds
from engine.gate import stock
from engine.shop import product_offers
from engine.shop.accounts import charge_balance
from engine.shop.cancellation import cancel_order
from engine.shop.issuance import issue_coupon
from engine.shop.orders import OrderAsk, place_order
from engine.shop.product_offers import ProductChange
from tests.audit.audited_shop import Shop
from tests.integration.placed_orders import rows
from tests.integration.shop import add_user
from tests.stack.stack_driver import wait_until

USERS = range(100, 120)
PAUSE_SECONDS = 0.002
SLICE_SECONDS = 0.2

Step = Callable[[Engine, Shop, random.Random], object]


def issue(engine: Engine, shop: Shop, chance: random.Random) -> None:
    user_id = 1000 + chance.randrange(10**9)
    issue_coupon(engine, coupon_id=shop.waiting_coupon, user_id=user_id, idempotency_key=None)


def place(engine: Engine, shop: Shop, chance: random.Random) -> None:
    """An order of a few products, the hot one always among them; some cannot be paid, some are sent twice."""
    quantities = {product: chance.randint(1, 2) for product in chance.sample(shop.products, chance.randint(0, 3))}
    quantities[shop.products[0]] = 1
    user_id = 3 if chance.random() < 0.2 else chance.choice(USERS)
    key = f"k{chance.randrange(10**9)}" if chance.random() < 0.3 else None
    for _ in range(1 if key is None else 2):
        place_order(engine, OrderAsk(user_id, tuple(sorted(quantities.items())), None, key))


def place_too(engine: Engine, shop: Shop, chance: random.Random) -> None:
    place(engine, shop, chance)


def hold_and_forget(engine: Engine, shop: Shop, chance: random.Random) -> None:
    """A web process that dies between two lanes leaves a hold without an order."""
    product = chance.choice(shop.products)
    attempt = stock.OrderAttempt(stock.order_nonce(engine.gate, 1, None), 1, None, keep=False)
    stock.reserve(engine.gate, shop.lane_of(product), attempt, [(product, 1)], order_lane=engine.gate.lanes)


def cancel(engine: Engine, _shop: Shop, chance: random.Random) -> None:
    found = rows(engine, "SELECT id FROM orders WHERE status = 'COMPLETED' ORDER BY id DESC LIMIT 20")
    if found:
        cancel_order(engine, chance.choice(found)[0], user_id=None, idempotency_key=None)


def supply(engine: Engine, shop: Shop, chance: random.Random) -> None:
    change = ProductChange(price=chance.randint(1, 50), add_stock=chance.randint(1, 20))
    product_offers.change_product(engine, chance.choice(shop.products), change)


def charge(engine: Engine, _shop: Shop, chance: random.Random) -> None:
    charge_balance(engine, chance.choice(USERS), 1000, None)


def drain_lanes(engine: Engine, _shop: Shop, _chance: random.Random) -> None:
    for lane in range(engine.gate.lanes):
        drain(engine, lane, linger_seconds=0, slice_seconds=SLICE_SECONDS)


def sweep(engine: Engine, _shop: Shop, _chance: random.Random) -> None:
    for lane in range(engine.gate.lanes):
        sweep_holds(engine, lane)


def follow_up(engine: Engine, _shop: Shop, _chance: random.Random) -> None:
    followups.work_off(engine, slice_seconds=SLICE_SECONDS)


STEPS: tuple[Step, ...] = (
    issue,
    place,
    place_too,
    hold_and_forget,
    cancel,
    supply,
    charge,
    drain_lanes,
    sweep,
    follow_up,
)


class Progress:
    """How many times each step was done so far."""

    def __init__(self, counts: Any) -> None:
        self._counts = counts

    def __getitem__(self, step: str) -> int:
        return int(self._counts[[each.__name__ for each in STEPS].index(step)])

    def as_dict(self) -> dict[str, int]:
        return {each.__name__: self[each.__name__] for each in STEPS}


def prepare(shop: Shop) -> None:
    """Users who can pay and products that do not run out."""
    for user_id in USERS:
        add_user(shop.engine, user_id, 10_000_000)
    for product in shop.products:
        product_offers.change_product(shop.engine, product, ProductChange(price=10, add_stock=5000))


@contextmanager
def traffic(shop: Shop) -> Iterator[Progress]:
    """All of them at work, each in a thread and with connections of its own. What went wrong there is raised here."""
    context = multiprocessing.get_context("spawn")
    over, failures, counts = context.Event(), context.Queue(), context.Array("q", len(STEPS))
    names = {name: value for name, value in vars(shop).items() if name != "engine"}
    settings = replace(shop.engine.settings, ledger_pool_size=2)
    process = context.Process(target=_work, args=(settings, names, over, failures, counts), daemon=True)
    process.start()
    progress = Progress(counts)
    try:
        wait_until(lambda: not process.is_alive() or all(done > 2 for done in progress.as_dict().values()), "work")
        yield progress
    finally:
        over.set()
        process.join(30)
    failure = failures.get(timeout=30) if process.exitcode != 0 else ""
    assert failure == "", failure


def _work(settings: Settings, names: dict[str, Any], over: Event, failures: Queue[str], counts: Any) -> None:
    stock.HOLD_SECONDS = stock.GRACE_SECONDS = 1  # so that sweepers have work, too
    engines = [Engine.connect(settings, patient=True) for _ in STEPS]
    failed = threading.Event()

    def repeat(place_in_line: int) -> None:
        engine, chance = engines[place_in_line], random.Random(place_in_line)
        shop = Shop(engine, **names)
        try:
            while not over.is_set():
                STEPS[place_in_line](engine, shop, chance)
                counts[place_in_line] += 1
                time.sleep(PAUSE_SECONDS)
        except BaseException:
            failures.put(traceback.format_exc())
            failed.set()
            over.set()

    threads = [threading.Thread(target=repeat, args=(each,)) for each in range(len(STEPS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in engines:
        engine.close()
    if failed.is_set():
        sys.exit(1)
