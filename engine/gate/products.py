"""Products at the gate: published, built, counted; and the cached list of them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.gate import keys
from engine.gate.gate import Gate, Published, unavailability_translated
from engine.gate.stock import lane_of_product

LIST_SECONDS = 300


@dataclass(frozen=True)
class ProductTerms:
    """What the gate has to know to sell a product; ``version`` grows with every change in the ledger."""

    product_id: int
    version: int
    name: str
    price: int
    status: str
    supplied: int


@dataclass(frozen=True)
class CachedList:
    """A list as it was cached, if it was, and the generation that a list read from now on belongs to."""

    generation: str
    products: list[dict[str, Any]] | None


def publish(gate: Gate, terms: ProductTerms) -> Published:
    """Make these terms the ones decided by, unless the gate knows newer ones; where it knows them. Safe to repeat."""
    lane = lane_of_product(gate, terms.product_id)
    reply = gate.decide(
        lane,
        lambda state: gate.run(
            "publish_product",
            [keys.lane(lane), keys.sku(lane, terms.product_id)],
            [state.epoch or 0, terms.version, terms.name, terms.price, terms.status, terms.supplied],
        ),
    )
    return Published(lane, epoch=int(reply[2]))


def units_available(gate: Gate, product_ids: Sequence[int]) -> dict[int, int]:
    """Units free to take, of those products that the gate knows."""
    if not product_ids:
        return {}
    with unavailability_translated(), gate.client.pipeline(transaction=False) as pipeline:
        for product_id in product_ids:
            pipeline.hget(keys.sku(lane_of_product(gate, product_id), product_id), "available")
        units = pipeline.execute()
    return {
        product_id: max(0, int(count))
        for product_id, count in zip(product_ids, units, strict=True)
        if count is not None
    }


def cached_list(gate: Gate) -> CachedList:
    """The cached product list. A list of another generation counts as none: it was read before the last change."""
    with unavailability_translated():
        generation, cached = gate.client.mget(keys.product_generation(), keys.product_list())
    current = str(generation or "0")
    if cached is None:
        return CachedList(current, None)
    content = json.loads(str(cached))
    return CachedList(current, content["products"] if content["generation"] == current else None)


def cache_list(gate: Gate, generation: str, products: Sequence[dict[str, Any]]) -> None:
    """Keep a list for five minutes, under the generation that was current before it was read from the ledger."""
    content = json.dumps({"generation": generation, "products": list(products)}, ensure_ascii=False)
    with unavailability_translated():
        gate.client.set(keys.product_list(), content, ex=LIST_SECONDS)


def forget_list(gate: Gate) -> None:
    """From now on every list that was read before counts as none, even one that is cached only later."""
    with unavailability_translated():
        # No number: that would begin anew with an empty Redis, and come to where it was when an old list was read.
        gate.client.set(keys.product_generation(), secrets.token_hex(8))
