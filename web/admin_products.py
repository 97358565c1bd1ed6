"""Products as their sellers see them: putting them on sale, changing them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from apiflask import APIBlueprint
from flask import Response
from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from engine.outcomes import Refusal, Refused
from engine.shop import product_offers
from engine.shop.product_offers import NewProduct, ProductChange
from web.answers import answer
from web.current import current_engine
from web.documentation import IDEMPOTENCY_KEY, Success, answers, reads
from web.fields import Name, RequestBody, idempotency_key
from web.problems import BUSY, TEMPORARY_ERROR, refused
from web.products import ProductShown, product_shown

MOST_PRICE = 1_000_000_000
MOST_STOCK = 100_000_000
"""Together they keep the dearest order there can be far below what a balance can hold."""

ProductStatus = Literal["ACTIVE", "INACTIVE"]
Price = Annotated[int, Field(ge=1, le=MOST_PRICE)]

admin_products = APIBlueprint("admin_products", __name__, url_prefix="/api/v1/admin", tag="Administration")


def _not_sent(schema: dict[str, Any]) -> None:
    """A member that may be left out, but not sent as null, has no default to show."""
    schema.pop("default", None)


class NewProductBody(RequestBody):
    """The product to sell."""

    name: Name
    price: Price
    stock: Annotated[int, Field(ge=0, le=MOST_STOCK)]
    status: ProductStatus = "ACTIVE"


class ProductChangeBody(RequestBody):
    """What to change; at least one member. Stock is only ever added."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: Name = Field(default="", json_schema_extra=_not_sent)
    price: Price = Field(default=1, json_schema_extra=_not_sent)
    status: ProductStatus = Field(default="ACTIVE", json_schema_extra=_not_sent)
    add_stock: Annotated[int, Field(ge=1, le=MOST_STOCK)] = Field(default=1, json_schema_extra=_not_sent)

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "must have at least one member")
        return self


@admin_products.post("/products")
@admin_products.input(NewProductBody, arg_name="body")
@admin_products.doc(
    summary="Put a product on sale, at once",
    responses=answers({201: Success("On sale.", ProductShown)}, Refusal.IDEMPOTENCY_KEY_REUSED, BUSY, TEMPORARY_ERROR),
    extensions=reads(IDEMPOTENCY_KEY),
)
def create_product(body: NewProductBody) -> Response:
    outcome = product_offers.create_product(current_engine(), NewProduct(**body.model_dump()), idempotency_key())
    return refused(outcome) if isinstance(outcome, Refused) else answer(product_shown(outcome), 201)


@admin_products.patch("/products/<product_id>")
@admin_products.input(ProductChangeBody, arg_name="body")
@admin_products.doc(
    summary="Change a product, live at once",
    responses=answers({200: Success("Changed.", ProductShown)}, Refusal.PRODUCT_NOT_FOUND, BUSY, TEMPORARY_ERROR),
)
def change_product(product_id: int, body: ProductChangeBody) -> Response:
    change = ProductChange(**body.model_dump(exclude_unset=True))
    outcome = product_offers.change_product(current_engine(), product_id, change)
    return refused(outcome) if isinstance(outcome, Refused) else answer(product_shown(outcome))
