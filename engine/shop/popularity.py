"""Popular products: what sold best in the last 72 hours (``engine.ledger.statistics`` says which hours those are).

The scheduler rebuilds the ranking every minute; whoever finds none asks the ledger and leaves the answer for the
others. Without Redis the ledger answers, without the ledger the last ranking does, for an hour.
"""

from __future__ import annotations

from datetime import UTC, datetime

from typing_extensions import override

from engine.caching.read_through import ReadThrough
from engine.context import Engine
from engine.gate import popularity as gate_popularity
from engine.gate.popularity import PopularProduct
from engine.ledger import statistics

SHOWN = 5


def popular_products(engine: Engine, now: datetime | None = None) -> list[PopularProduct]:
    """At most five products, most sold first, ties by id; empty when nothing sold.

    ``now`` (aware) is where the window ends when there is no cached ranking. Raises LedgerUnavailable when there is
    none and the ledger does not answer.
    """
    return (_RANKING if now is None else _Ranking(now)).get(engine)


def rebuild_ranking(engine: Engine, now: datetime | None = None) -> int:
    """Replace the cached ranking by what the ledger says; how many products it has.

    Raises LedgerUnavailable, GateUnavailable: the one before stays then, until it expires.
    """
    ranking = _Ranking(now).ask(engine)
    gate_popularity.cache_ranking(engine.gate, ranking, replace=True)
    return len(ranking)


class _Ranking(ReadThrough[list[PopularProduct], None]):
    """The ranking as it is at ``now``, or at whatever time it is asked for."""

    name = "popular"

    def __init__(self, now: datetime | None = None) -> None:
        super().__init__()
        self._now = now

    @override
    def look(self, engine: Engine) -> tuple[list[PopularProduct] | None, None]:
        return gate_popularity.cached_ranking(engine.gate), None

    @override
    def ask(self, engine: Engine) -> list[PopularProduct]:
        now = datetime.now(UTC) if self._now is None else self._now
        with engine.ledger.read() as connection:
            sales = statistics.best_sellers(connection, now, SHOWN)
        return [PopularProduct(*product) for product in sales]

    @override
    def keep(self, engine: Engine, value: list[PopularProduct], ticket: None) -> None:
        # Whoever fills a gap may be slower than the scheduler and know less: it does not replace what is there.
        gate_popularity.cache_ranking(engine.gate, value, replace=False)


_RANKING = _Ranking()
