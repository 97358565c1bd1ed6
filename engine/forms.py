"""What administrators fill in, by whichever way it comes: bounds, kinds, and what excludes what.

The web reads these from JSON bodies, the command line from its words and from CSV files, so that neither takes what the
other refuses. Members are camelCase where they come in, and nothing is converted: ``1.0``, ``true`` and ``"1"`` are
not 1.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from engine.ids import MAX_SAFE_INTEGER
from engine.moments import Moment

MOST_DISCOUNT = 100_000_000
MOST_QUANTITY = 10_000_000
MOST_PRICE = 1_000_000_000
MOST_STOCK = 100_000_000
"""Price and stock together keep the dearest order there can be far below what a balance can hold."""
MOST_CHARGED = 100_000_000

Id = Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)]


class _Legible:
    """Tells those who read only the document what the reader of JSON and the stripping refuse."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"}


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), _Legible()]
"""What something is called; spaces around it do not count."""
Status = Literal["ACTIVE", "INACTIVE"]
Discount = Annotated[int, Field(ge=1, le=MOST_DISCOUNT)]
Quantity = Annotated[int, Field(ge=1, le=MOST_QUANTITY)]
Price = Annotated[int, Field(ge=1, le=MOST_PRICE)]
Stock = Annotated[int, Field(ge=0, le=MOST_STOCK)]
AddedStock = Annotated[int, Field(ge=1, le=MOST_STOCK)]
Charge = Annotated[int, Field(ge=1, le=MOST_CHARGED)]


class Form(BaseModel):
    """No conversions, no unknown members."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


class Change(Form):
    """What to change of something: at least one member."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "must have at least one member")
        return self


def not_sent(schema: dict[str, Any]) -> None:
    """A member that may be left out, but not sent as null, has no default to show."""
    schema.pop("default", None)


class Window(Form):
    """When a coupon can be had; null means "no limit"."""

    starts_at: Moment | None = Field(default=None, examples=["2030-05-01T10:00:00Z"], json_schema_extra=not_sent)
    ends_at: Moment | None = Field(
        default=None,
        description="Must be after `startsAt`: the one sent, or else the one it has.",
        examples=["2030-05-01T22:00:00Z"],
        json_schema_extra=not_sent,
    )

    @field_validator("ends_at")
    @classmethod
    def _ends_after_start(cls, ends_at: datetime | None, info: ValidationInfo) -> datetime | None:
        starts_at = info.data.get("starts_at")
        if ends_at is not None and starts_at is not None and ends_at <= starts_at:
            raise PydanticCustomError("window", "must be after startsAt")
        return ends_at


class CouponForm(Window):
    """A coupon to offer."""

    name: Name
    discount_amount: Discount
    total_quantity: Quantity
    status: Status = "ACTIVE"


class ProductForm(Form):
    """A product to sell."""

    name: Name
    price: Price
    stock: Stock
    status: Status = "ACTIVE"


class UserForm(Form):
    """A user to add; without an id the next free one is taken."""

    user_id: Id | None = None
    name: Name | None = None
