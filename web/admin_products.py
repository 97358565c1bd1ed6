"""Products as their sellers see them: putting them on sale, changing them."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response
from pydantic import Field

from engine.forms import AddedStock, Change, Name, Price, ProductForm, Status, not_sent
from engine.outcomes import Refusal, Refused
from engine.shop import product_offers
from engine.shop.product_offers import NewProduct, ProductChange
from web.answers import answer
from web.current import current_engine
from web.documentation import IDEMPOTENCY_KEY, Success, answers, reads
from web.fields import idempotency_key
from web.problems import TEMPORARY_ERROR, refused
from web.products import ProductShown, product_shown

admin_products = APIBlueprint("admin_products", __name__, url_prefix="/api/v1/admin", tag="Administration")


class NewProductBody(ProductForm):
    """The product to sell."""


class ProductChangeBody(Change):
    """What to change; at least one member. Stock is only ever added."""

    name: Name = Field(default="", json_schema_extra=not_sent)
    price: Price = Field(default=1, json_schema_extra=not_sent)
    status: Status = Field(default="ACTIVE", json_schema_extra=not_sent)
    add_stock: AddedStock = Field(default=1, json_schema_extra=not_sent)


@admin_products.post("/products")
@admin_products.input(NewProductBody, arg_name="body")
@admin_products.doc(
    summary="Put a product on sale, at once",
    responses=answers({201: Success("On sale.", ProductShown)}, Refusal.IDEMPOTENCY_KEY_REUSED, TEMPORARY_ERROR),
    extensions=reads(IDEMPOTENCY_KEY),
)
def create_product(body: NewProductBody) -> Response:
    outcome = product_offers.create_product(current_engine(), NewProduct(**body.model_dump()), idempotency_key())
    return refused(outcome) if isinstance(outcome, Refused) else answer(product_shown(outcome), 201)


@admin_products.patch("/products/<product_id>")
@admin_products.input(ProductChangeBody, arg_name="body")
@admin_products.doc(
    summary="Change a product, live at once",
    responses=answers({200: Success("Changed.", ProductShown)}, Refusal.PRODUCT_NOT_FOUND, TEMPORARY_ERROR),
)
def change_product(product_id: int, body: ProductChangeBody) -> Response:
    change = ProductChange(**body.model_dump(exclude_unset=True))
    outcome = product_offers.change_product(current_engine(), product_id, change)
    return refused(outcome) if isinstance(outcome, Refused) else answer(product_shown(outcome))
