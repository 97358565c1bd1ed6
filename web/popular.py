"""What sells best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired

from apiflask import APIBlueprint
from flask import Response
from typing_extensions import TypedDict

from engine.gate.popularity import PopularProduct
from engine.shop import popularity
from web.answers import answer, current_language, in_words
from web.current import current_engine
from web.documentation import Success, answers
from web.languages import SENTENCES, Language
from web.problems import TEMPORARY_ERROR

popular = APIBlueprint("popular", __name__, url_prefix="/api/v1", tag="Products")


class PopularProductShown(TypedDict):
    """A product and the units of it sold in the last 72 hours."""

    productId: int
    name: str
    totalSales: int


class PopularProducts(TypedDict):
    """At most five, most sold first, ties by product id; ``message`` is there when nothing sold."""

    popularProducts: list[PopularProductShown]
    message: NotRequired[str]


@popular.get("/products/popular")
@popular.doc(
    summary="What sold best in the last 72 hours",
    responses=answers(
        {200: Success("At most five products.", PopularProducts, ("Content-Language",))}, TEMPORARY_ERROR
    ),
)
def popular_products() -> Response:
    products = popularity.popular_products(current_engine())
    return in_words(answer(popular_shown(products, current_language())), has_words=not products)


def popular_shown(products: Sequence[PopularProduct], language: Language) -> PopularProducts:
    """The ranking as clients see it, in words where there is none."""
    body: PopularProducts = {
        "popularProducts": [
            {"productId": product.product_id, "name": product.name, "totalSales": product.total_sales}
            for product in products
        ]
    }
    if not products:
        body["message"] = SENTENCES["NO_STATISTICS"].said_in(language)
    return body
