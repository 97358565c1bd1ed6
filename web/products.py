"""What is on sale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NotRequired

from apiflask import APIBlueprint
from flask import Response
from typing_extensions import TypedDict

from engine.shop import product_offers
from engine.shop.product_offers import ProductView
from web.answers import answer, current_language, in_words
from web.current import current_engine
from web.documentation import Success, answers
from web.languages import SENTENCES, Language
from web.problems import TEMPORARY_ERROR

products = APIBlueprint("products", __name__, url_prefix="/api/v1", tag="Products")


class ProductShown(TypedDict):
    """A product: price in KRW per unit, ``stock`` in units free to take at this moment."""

    id: int
    name: str
    price: int
    stock: int
    status: Literal["ACTIVE", "INACTIVE"]


class Products(TypedDict):
    """What is on sale, in order of id; ``message`` is there when that is nothing."""

    products: list[ProductShown]
    message: NotRequired[str]


def product_shown(product: ProductView) -> ProductShown:
    """A product as clients see it."""
    return {
        "id": product.id,
        "name": product.name,
        "price": product.price,
        "stock": product.stock,
        "status": "ACTIVE" if product.status == "ACTIVE" else "INACTIVE",
    }


@products.get("/products")
@products.doc(
    summary="What is on sale, with live stock",
    responses=answers({200: Success("The products on sale.", Products, ("Content-Language",))}, TEMPORARY_ERROR),
)
def list_products() -> Response:
    found = product_offers.list_products(current_engine())
    return in_words(answer(products_shown(found, current_language())), has_words=not found)


def products_shown(found: Sequence[ProductView], language: Language) -> Products:
    """The list as clients see it, in words where it is empty."""
    body: Products = {"products": [product_shown(product) for product in found]}
    if not found:
        body["message"] = SENTENCES["NO_PRODUCTS"].said_in(language)
    return body
