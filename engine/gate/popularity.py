"""The popular products as they are cached: one sorted set, replaced as a whole.

Redis orders members of one score by their bytes. With units sold negated and ids padded, the ascending order is the one
that is wanted: most sold first, ties by product id. The name is part of the member, so that ranking and names cannot
come from two moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex
from typing import Any, NamedTuple

from engine.gate import keys
from engine.gate.gate import Gate, unavailability_translated

RANKING_SECONDS = 3600
EMPTY_SECONDS = 600

EMPTY_MARKER = "none"
"""Says that there is nothing to tell: a sorted set cannot be empty, and a missing one says that nobody has looked."""
ID_DIGITS = 19


class PopularProduct(NamedTuple):
    """Units of a product sold lately."""

    product_id: int
    name: str
    total_sales: int


def cached_ranking(gate: Gate) -> list[PopularProduct] | None:
    """The ranking, most sold first; None when it is not cached. Raises GateUnavailable."""
    with unavailability_translated():
        rows: Any = gate.client.zrange(keys.popular(), 0, -1, withscores=True)
    if not rows:
        return None
    return [parse_ranked(member, score) for member, score in rows if member != EMPTY_MARKER]


def cache_ranking(gate: Gate, ranking: Sequence[PopularProduct], *, replace: bool) -> None:
    """Put a ranking, which may be empty, in the place of the one before. Raises GateUnavailable.

    Readers see the one or the other: it is built aside and renamed. Without ``replace`` it is dropped when there is
    one: whoever filled a gap may be slower than the scheduler and know less.
    """
    scores = {_member(product): -product.total_sales for product in ranking} or {EMPTY_MARKER: 0}
    aside = keys.next_popular(token_hex(8))
    with unavailability_translated(), gate.client.pipeline(transaction=True) as pipeline:
        pipeline.zadd(aside, scores)
        # Within the same transaction, so that a process that dies here leaves nothing that stays.
        pipeline.expire(aside, RANKING_SECONDS if ranking else EMPTY_SECONDS)
        if replace:
            pipeline.rename(aside, keys.popular())
        else:
            pipeline.renamenx(aside, keys.popular())
            pipeline.delete(aside)
        pipeline.execute()


def _member(product: PopularProduct) -> str:
    return f"{product.product_id:0{ID_DIGITS}d} {product.name}"


def parse_ranked(member: str, score: float) -> PopularProduct:
    """A member of the ranking and its score as the product they stand for."""
    product_id, _, name = member.partition(" ")
    return PopularProduct(int(product_id), name, -int(score))
