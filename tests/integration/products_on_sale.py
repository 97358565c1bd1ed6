"""Products for tests of selling and listing them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.context import Engine
from engine.shop.product_offers import NewProduct, ProductView, create_product, list_products

in_one_lane_and_in_several = pytest.mark.parametrize("lanes", [1, 4], ids=["one lane", "four lanes"])


def create(
    engine: Engine, name: str = "감귤", price: int = 1000, stock: int = 10, status: str = "ACTIVE"
) -> ProductView:
    """A product, live."""
    product = create_product(engine, NewProduct(name, price, stock, status))
    assert isinstance(product, ProductView)
    return product


def listed(engine: Engine) -> list[tuple[str, int, int]]:
    """The product list: name, price, stock."""
    return [(product.name, product.price, product.stock) for product in list_products(engine)]


def list_at_once(engines: Sequence[Engine], askers: int) -> list[list[ProductView]]:
    """What as many askers are told who ask at the same moment, spread over the engines."""
    ready = threading.Barrier(askers)

    def ask(number: int) -> list[ProductView]:
        ready.wait()
        return list_products(engines[number % len(engines)])

    with ThreadPoolExecutor(askers) as pool:
        return list(pool.map(ask, range(askers)))
