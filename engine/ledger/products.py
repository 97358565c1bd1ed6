"""Products in the ledger: what is sold, at which price, how much is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from engine.ledger import progress
from engine.ledger.shop_tables import products


@dataclass(frozen=True)
class Product:
    """A row of ``products``. ``stock`` is what completed orders left over, ``supplied`` all that ever came in."""

    id: int
    name: str
    price: int
    stock: int
    supplied: int
    status: str
    version: int
    published_version: int
    created_at: datetime


def insert_product(connection: Connection, name: str, price: int, stock: int, status: str) -> Product:
    """Write a new product; it is not yet published."""
    values = {"name": name, "price": price, "stock": stock, "supplied": stock, "status": status}
    return _product(connection.execute(insert(products).values(**values).returning(*products.c)).mappings().one())


def update_product(
    connection: Connection, product_id: int, values: Mapping[str, Any], add_stock: int
) -> Product | None:
    """Change a product and raise its version, so that the change has to be published; None if there is none."""
    statement = (
        update(products)
        .where(products.c.id == product_id)
        .values(
            **values,
            version=products.c.version + 1,
            stock=products.c.stock + add_stock,
            supplied=products.c.supplied + add_stock,
        )
        .returning(*products.c)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else _product(row)


def product_by_id(connection: Connection, product_id: int) -> Product | None:
    """A product, or None."""
    row = connection.execute(select(products).where(products.c.id == product_id)).mappings().one_or_none()
    return None if row is None else _product(row)


def all_products(connection: Connection) -> list[Product]:
    """Every product there is, in order of id."""
    return [_product(row) for row in connection.execute(select(products).order_by(products.c.id)).mappings()]


def active_products(connection: Connection) -> list[Product]:
    """The products on sale, in order of id."""
    query = select(products).where(products.c.status == "ACTIVE").order_by(products.c.id)
    return [_product(row) for row in connection.execute(query).mappings()]


def unpublished_products(connection: Connection) -> list[Product]:
    """Products whose last change the gate has not confirmed."""
    query = select(products).where(products.c.published_version < products.c.version).order_by(products.c.id)
    return [_product(row) for row in connection.execute(query).mappings()]


def mark_product_published(connection: Connection, product_id: int, version: int, *, lane: int, epoch: int) -> None:
    """As :func:`engine.ledger.progress.mark_published`."""
    progress.mark_published(connection, products, product_id, version, lane=lane, epoch=epoch)


def _product(row: Mapping[Any, Any]) -> Product:
    return Product(**row)
