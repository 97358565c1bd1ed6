"""Coupons: opening, pausing, adding to them, looking at them."""

from __future__ import annotations

from dataclasses import asdict

import click
from pydantic.alias_generators import to_camel

from engine.errors import EngineError, GateUnavailable
from engine.forms import Quantity
from engine.outcomes import Refused
from engine.shop.coupon_offers import CouponChange, CouponOverview, change_coupon, coupon_overview
from ops.commands.printing import json_option, print_json
from ops.commands.program import OFF
from ops.commands.values import COUPON_ID, FieldType
from ops.connection import connected


class NoSuchCoupon(EngineError):
    """There is no coupon with this id; nothing was changed."""


@click.group()
def coupon() -> None:
    """Open, pause, add to a coupon, live."""


@coupon.command()
@json_option
@click.argument("coupon_id", type=COUPON_ID)
def show(coupon_id: int, as_json: bool) -> None:
    """Show a coupon with its live numbers."""
    with connected() as engine:
        _tell(_found(coupon_overview(engine, coupon_id), coupon_id), as_json)


@coupon.command("open")
@json_option
@click.argument("coupon_id", type=COUPON_ID)
@click.pass_context
def open_(ctx: click.Context, coupon_id: int, as_json: bool) -> None:
    """Let it be issued (again), at once."""
    _change(ctx, coupon_id, CouponChange(status="ACTIVE"), as_json)


@coupon.command()
@json_option
@click.argument("coupon_id", type=COUPON_ID)
@click.pass_context
def pause(ctx: click.Context, coupon_id: int, as_json: bool) -> None:
    """Refuse whoever asks, from now on.

    Who has it keeps it. Safe to repeat.
    """
    _change(ctx, coupon_id, CouponChange(status="INACTIVE"), as_json)


@coupon.command()
@json_option
@click.argument("coupon_id", type=COUPON_ID)
@click.argument("quantity", type=FieldType("quantity", Quantity))
@click.pass_context
def add(ctx: click.Context, coupon_id: int, quantity: int, as_json: bool) -> None:
    """Let so many more be had.

    Every call adds. If the database went away in the middle, look with `coupon show` before you repeat it.

    \b
    Examples:
      python -m ops coupon add 1 500
    """
    _change(ctx, coupon_id, CouponChange(add_quantity=quantity), as_json)


def _change(ctx: click.Context, coupon_id: int, change: CouponChange, as_json: bool) -> None:
    with connected() as engine:
        try:
            overview = _found(change_coupon(engine, coupon_id, change), coupon_id)
        except GateUnavailable as error:
            click.echo(f"recorded, and live as soon as the gate is ready: {error}", err=True)
            ctx.exit(OFF)
    _tell(overview, as_json)


def _found(outcome: CouponOverview | Refused, coupon_id: int) -> CouponOverview:
    if isinstance(outcome, Refused):
        raise NoSuchCoupon(f"there is no coupon {coupon_id}: nothing was changed")
    return outcome


def _tell(overview: CouponOverview, as_json: bool) -> None:
    if as_json:
        print_json({to_camel(name): value for name, value in asdict(overview).items()})
        return
    click.echo(
        f"{overview.id} {overview.name}: {overview.status}, {overview.issued} of {overview.total_quantity} issued, "
        f"{overview.remaining} left" + (f", {overview.pending} not yet recorded" if overview.pending else "")
    )
