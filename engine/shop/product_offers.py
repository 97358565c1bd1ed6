"""Products on offer: written to the ledger first, then made live at the gate; and the list of them, cached."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection

from engine.caching.read_through import ReadThrough
from engine.caching.single_flight import SingleFlight
from engine.context import Engine
from engine.errors import EngineError
from engine.fault_points import reach
from engine.gate import products as gate_products
from engine.gate.products import ProductTerms
from engine.ledger import products as ledger_products
from engine.ledger.idempotency import Answer, administration_claim, answer_once
from engine.ledger.products import Product
from engine.outcomes import Refusal, Refused
from engine.shop.publishing import Told, publish_each, tell_nobody


@dataclass(frozen=True)
class NewProduct:
    """A product to be sold: price in KRW per unit, stock in units, status ACTIVE or INACTIVE."""

    name: str
    price: int
    stock: int
    status: str


@dataclass(frozen=True)
class ProductChange:
    """What to change; None leaves a member as it is, stock is only ever added."""

    name: str | None = None
    price: int | None = None
    status: str | None = None
    add_stock: int = 0


@dataclass(frozen=True)
class ProductView:
    """A product as it is shown; ``stock`` are the units free to take."""

    id: int
    name: str
    price: int
    stock: int
    status: str


def create_product(engine: Engine, new: NewProduct, idempotency_key: str | None = None) -> ProductView | Refused:
    """Put a product on sale; it can be ordered when this returns. The same key and product again gets the same answer.

    Raises LedgerUnavailable (nothing changed) or GateUnavailable (recorded; the scheduler makes it live as soon as
    the gate is back).
    """
    claim = administration_claim("create_product", idempotency_key, asdict(new))

    def work(connection: Connection) -> tuple[Answer, Product | None]:
        answer = answer_once(
            connection, claim, lambda: asdict(_view(ledger_products.insert_product(connection, **asdict(new))))
        )
        product = None if isinstance(answer, Refused) else ledger_products.product_by_id(connection, answer["id"])
        return answer, product

    answer, product = engine.ledger.run(work)
    if isinstance(answer, Refused):
        return answer
    if product is not None and product.published_version < product.version:
        _publish(engine, product)
    return ProductView(**answer)


def change_product(engine: Engine, product_id: int, change: ProductChange) -> ProductView | Refused:
    """Change a product, live. Raises as :func:`create_product`."""
    members = {"name": change.name, "price": change.price, "status": change.status}
    values = {name: value for name, value in members.items() if value is not None}

    def work(connection: Connection) -> Product | None:
        return ledger_products.update_product(connection, product_id, values, change.add_stock)

    product = engine.ledger.run(work)
    if product is None:
        return Refused(Refusal.PRODUCT_NOT_FOUND)
    available = product.stock
    _publish(engine, product)
    with suppress(EngineError):
        available = gate_products.units_available(engine.gate, [product.id]).get(product.id, available)
    return replace(_view(product), stock=available)


def publish_product_changes(engine: Engine, told: Told = tell_nobody) -> int:
    """Make live what was recorded but not published; how many products that were."""
    with engine.ledger.read() as connection:
        waiting = ledger_products.unpublished_products(connection)
    return publish_each(waiting, partial(_publish, engine), told)


def terms_of_product(product: Product) -> ProductTerms:
    """The part of a product that the gate sells by."""
    return ProductTerms(product.id, product.version, product.name, product.price, product.status, product.supplied)


def list_products(engine: Engine) -> list[ProductView]:
    """The products on sale in order of id, cached for five minutes, with live stock laid over.

    Without the gate it comes from the ledger, with the ledger's stock; without the ledger, from the cache. Raises
    LedgerUnavailable when neither has it.
    """
    found = _LIST.find(engine)
    products = [ProductView(**product) for product in found.value]
    if not found.redis_answers:
        return products
    try:
        units = _units_available(engine, tuple(product.id for product in products))
    except EngineError:
        return products
    return [
        ProductView(product.id, product.name, product.price, units.get(product.id, product.stock), product.status)
        for product in products
    ]


class _ProductList(ReadThrough[list[dict[str, Any]], str]):
    """The cached list; the generation is what makes a list that was read before a change count as none."""

    name = "products"

    def look(self, engine: Engine) -> tuple[list[dict[str, Any]] | None, str]:
        cached = gate_products.cached_list(engine.gate)
        return cached.products, cached.generation

    def ask(self, engine: Engine) -> list[dict[str, Any]]:
        with engine.ledger.read() as connection:
            found = ledger_products.active_products(connection)
        return [
            {"id": each.id, "name": each.name, "price": each.price, "stock": each.stock, "status": each.status}
            for each in found
        ]

    def keep(self, engine: Engine, value: list[dict[str, Any]], ticket: str) -> None:
        gate_products.cache_list(engine.gate, ticket, value)


_LIST = _ProductList()
_COUNTS: SingleFlight[dict[int, int]] = SingleFlight()


def _units_available(engine: Engine, product_ids: tuple[int, ...]) -> dict[int, int]:
    """As the gate tells it, asked for once for all in this process who want to know now."""
    return _COUNTS.do_afresh((engine, product_ids), lambda: gate_products.units_available(engine.gate, product_ids))


def _view(product: Product) -> ProductView:
    return ProductView(product.id, product.name, product.price, product.stock, product.status)


def _publish(engine: Engine, product: Product) -> None:
    reach("publish.recorded")
    at = gate_products.publish(engine.gate, terms_of_product(product))
    gate_products.forget_list(engine.gate)
    reach("publish.unmarked")
    with engine.ledger.transaction() as connection:
        ledger_products.mark_product_published(connection, product.id, product.version, lane=at.lane, epoch=at.epoch)
