"""The audit of stock: units free at the gate are those in stock, less what is held and what is still to be returned.

One look takes the products' rows in the ledger, then a picture of the gate with its holds, then the versions of the
rows again. Whoever sells, cancels or adds units of a product changes its row in the same transaction, so where the
version is the same before and after the picture, the ledger stood still for that product while it was taken, and the
comparison is exact. Where it is not, that product is looked at again: a look takes milliseconds, and a drain commits
in batches.

A hold counts as long as the ledger has not completed its order: then the units are gone from the stock already, and
what remains is to tell the gate. Units of a cancelled order count until its marker says that the gate has them back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from engine.context import Engine
from engine.gate import pictures
from engine.gate.pictures import HeldUnits, SkuPicture
from engine.gate.stock import lane_of_product
from engine.ledger import audit_queries
from engine.ledger import orders as ledger_orders
from engine.ledger.orders import Ending, Held
from engine.ledger.products import Product
from engine.upkeep.auditing.findings import CheckName, Off
from engine.upkeep.auditing.looking import Looking, by_lane, look_at_lane, look_until_sure, while_open

CHECKS = (CheckName.PRODUCT_TERMS, CheckName.STOCK)


def audit_stock(looking: Looking) -> None:
    """Every product there is. Raises GateUnavailable, LedgerUnavailable."""
    engine = looking.engine

    def ids_after(after: int, limit: int) -> Sequence[int]:
        with engine.ledger.read() as connection:
            return audit_queries.product_ids_after(connection, after, limit)

    for lane, ids in by_lane(looking, ids_after, lambda product_id: lane_of_product(engine.gate, product_id)):

        def look(some: Sequence[int], lane: int = lane) -> Mapping[int, Sequence[Off]]:
            return while_open(engine, lane, lambda: _look(engine, lane, some))

        def until_sure(lane: int = lane, ids: Sequence[int] = ids) -> None:
            look_until_sure(looking, lane, ids, CHECKS, look, "product")

        look_at_lane(looking, CHECKS, f"products of lane {lane}", until_sure)


def _look(engine: Engine, lane: int, product_ids: Sequence[int]) -> dict[int, list[Off]]:
    """What is off, by product; those whose row changed meanwhile are left out."""
    with engine.ledger.snapshot() as connection:
        records = audit_queries.product_records(connection, product_ids)
        undone = audit_queries.units_to_return(connection, product_ids)
    nonces_to_return = sorted({each.nonce for each in undone})
    picture = pictures.picture_stock(engine.gate, lane, product_ids, nonces_to_return)
    concerned = {nonce: hold for nonce, hold in picture.holds.items() if not hold.units.keys().isdisjoint(records)}
    with engine.ledger.snapshot() as connection:
        row_versions = audit_queries.product_row_versions(connection, product_ids)
        endings = ledger_orders.endings(connection, list(concerned))
    held = _held_units(lane, engine.gate.inspect(lane).built_epoch or 0, concerned, endings)
    to_return: Counter[int] = Counter()
    for each in undone:
        if each.nonce not in picture.returned:
            to_return[each.product_id] += each.quantity
    return {
        each: _compare(record.product, picture.skus[each], held[each], to_return[each])
        for each, record in records.items()
        if row_versions.get(each) == record.row_version
    }


def _held_units(
    lane: int, built_epoch: int, holds: Mapping[str, HeldUnits], endings: Mapping[str, Ending]
) -> Counter[int]:
    """Units by product that are held for orders which the ledger has not completed."""
    held: Counter[int] = Counter()
    for nonce, hold in holds.items():
        ending = endings.get(nonce)
        if ending is None or not ending.has_sold(Held(lane, built_epoch, hold.deadline_ms), hold.request_id):
            held.update(hold.units)
    return held


def _compare(product: Product, sku: SkuPicture, held: int, to_return: int) -> list[Off]:
    name = f"product {product.id}"
    if sku.version is None:
        if not product.published_version:
            return []
        return [Off(CheckName.PRODUCT_TERMS, f"{name}: published, but the gate does not know it")]
    found = []
    terms = _terms_off(product, sku)
    if terms:
        found.append(Off(CheckName.PRODUCT_TERMS, f"{name}: {terms}"))
    # What came in and is not published yet is in the ledger's stock, but not at the gate.
    to_come = product.supplied - (sku.supplied or 0)
    free = product.stock - to_come - held - to_return
    if sku.available != free or free < 0:
        parts = f"{product.stock} in stock, {held} held, {to_return} to be returned, {to_come} to be published"
        found.append(Off(CheckName.STOCK, f"{name}: {sku.available} free at the gate, {free} expected ({parts})"))
    return found


def _terms_off(product: Product, sku: SkuPicture) -> str:
    version = sku.version or 0
    if version < product.published_version:
        return f"version {product.published_version} is published, the gate has {version}"
    if version > product.version:
        return f"the gate has version {version}, the ledger {product.version}"
    recorded = {
        "version": str(product.version),
        "name": product.name,
        "price": str(product.price),
        "status": product.status,
        "supplied": str(product.supplied),
    }
    if version == product.version and recorded != dict(sku.terms):
        return f"the gate has other terms than version {version} of the ledger"
    return ""
