"""Users, products and coupons from CSV files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO

import click

from engine.context import Engine
from engine.forms import CouponForm, ProductForm
from engine.shop.coupon_offers import publish_changes
from engine.shop.loading import FormOfLine, Line, Lines, Loaded, UserLine, load_coupons, load_products, load_users
from engine.shop.product_offers import publish_product_changes
from engine.shop.publishing import Told
from ops.commands.printing import json_option, print_json, progress
from ops.commands.program import OFF
from ops.connection import connected
from ops.console import complain
from ops.csv_lines import Checked, CsvLines, rewindable

Publish = Callable[[Engine, Told], int]

file_argument = click.argument("file", type=click.File("rb"))
again_option = click.option("--again", is_flag=True, help="Also if the same file was imported within the last day.")


@click.group("import")
def import_() -> None:
    """Load a CSV file: all of it, or nothing.

    UTF-8; the first line names the columns; `-` reads stdin. Every line is checked first, as the API checks a body:
    what is wrong is told by line number, and then nothing is changed. The same file again within a day changes nothing,
    so whoever does not know what became of an import repeats it.

    Exit codes: 0 loaded, and live; 1 loaded, and not yet live, because the gate is not ready; 2 nothing was changed.
    """


@import_.command()
@file_argument
@again_option
@json_option
@click.pass_context
def users(ctx: click.Context, file: IO[bytes], again: bool, as_json: bool) -> None:
    """Add users: userId, name, balance.

    Every column may be missing or empty: without a userId the next free one is taken; the balance, in KRW, is booked as
    a charge. A userId that is taken refuses the file.

    \b
    Example:
      userId,name,balance
      7,김민준,50000
    """
    _import(ctx, file, UserLine, load_users, None, again, as_json)


@import_.command()
@file_argument
@again_option
@json_option
@click.pass_context
def products(ctx: click.Context, file: IO[bytes], again: bool, as_json: bool) -> None:
    """Put products on sale: name, price, stock, status.

    The status is ACTIVE unless it says INACTIVE; the price is in KRW.

    \b
    Example:
      name,price,stock
      제주 감귤 5kg,18900,300
    """
    _import(ctx, file, ProductForm, load_products, publish_product_changes, again, as_json)


@import_.command()
@file_argument
@again_option
@json_option
@click.pass_context
def coupons(ctx: click.Context, file: IO[bytes], again: bool, as_json: bool) -> None:
    """Offer coupons: name, discountAmount, totalQuantity, …

    And startsAt, endsAt (RFC 3339, empty: no limit) and status (ACTIVE unless it says INACTIVE). Amounts are in KRW.

    \b
    Example:
      name,discountAmount,totalQuantity,startsAt
      선착순 5천원 할인,5000,1000,2030-01-01T09:00:00+09:00
    """
    _import(ctx, file, CouponForm, load_coupons, publish_changes, again, as_json)


def _import(
    ctx: click.Context,
    file: IO[bytes],
    form: type[FormOfLine],
    load: Callable[[Engine, Lines[FormOfLine], str | None], Loaded],
    publish: Publish | None,
    again: bool,
    as_json: bool,
) -> None:
    with rewindable(file) as rewound, connected() as engine:
        lines = CsvLines(rewound, form)
        with progress("checking"):
            checked = lines.check()
        loaded = _loaded(engine, lines, checked, load, None if again else checked.digest)
        # Also after a repetition: the first attempt may have ended before this.
        live = publish is None or _is_live(engine, publish, loaded.count)
    if as_json:
        print_json({"loaded": loaded.count, "before": loaded.before, "live": live})
    elif loaded.before:
        click.echo(f"this file was imported already, {loaded.count} lines: nothing was changed; --again does it again")
    else:
        click.echo(f"{loaded.count} lines were loaded")
    if not live:
        complain("not all of it is live yet: it will be as soon as the gate is ready")
        ctx.exit(OFF)


def _loaded(
    engine: Engine,
    lines: CsvLines[FormOfLine],
    checked: Checked,
    load: Callable[[Engine, Lines[FormOfLine], str | None], Loaded],
    digest: str | None,
) -> Loaded:
    with progress("loading", checked.lines) as advance:

        def counted() -> Iterator[Line[FormOfLine]]:
            for line in lines.read(checked):
                advance(1)
                yield line

        return load(engine, counted, digest)


def _is_live(engine: Engine, publish: Publish, count: int) -> bool:
    """Publish what is not; the scheduler of a running stack does the same, each second, and neither minds."""
    looked_at = 0
    with progress("making it live", count) as advance:

        def told(more: int) -> None:
            nonlocal looked_at
            looked_at += more
            advance(more)

        return publish(engine, told) == looked_at
