"""What exactly an actor is sent for: drawn so that actors meet, on the same few users, coupons, products and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.planner import Planner

Values = dict[str, Any]


def drawn_values(planner: Planner, kind: str) -> Values:
    """Everything that an errand of this kind has to know."""
    chance, shop = planner.chance, planner.history.shop
    client = {
        "user": 1 + chance.randrange(len(shop.balances)),
        "key": chance.choice((None, None, "first", "second")),
        "retries": chance.choice((0, 0, 1, 2)),
        "polls": chance.choice((0, 1, 2)),
    }
    if kind == "issue":
        return {**client, "coupon": 1 + chance.randrange(len(shop.coupons))}
    if kind == "order":
        wanted = chance.sample(range(1, 1 + len(shop.products)), chance.randint(1, len(shop.products)))
        quantities = {product: chance.choice((1, 1, 2)) for product in sorted(wanted)}
        return {**client, "quantities": quantities, "redeem": chance.choice((False, False, True))}
    if kind in ("issue to a crowd", "order in a crowd"):
        users = [1 + chance.randrange(len(shop.balances)) for _ in range(chance.randint(2, 4))]
        target = {
            "product": 1 + chance.randrange(len(shop.products)),
            "coupon": 1 + chance.randrange(len(shop.coupons)),
        }
        return {**target, "users": users, "key": client["key"]}
    if kind == "charge":
        return {**client, "amount": chance.choice((100, 200))}
    if kind == "cancel":
        return {**client, "place": chance.randrange(4)}
    if kind == "poll":
        return {"place": chance.randrange(8), "polls": chance.choice((1, 2))}
    if kind == "drain":
        return {"lane": _lane_to_drain(planner), "linger": chance.choice((0.0, 0.0, 0.6))}
    return _drawn_offer(planner, kind)


def _lane_to_drain(planner: Planner) -> int:
    """Mostly one in which something was decided lately."""
    decided = list(planner.history.record.lanes_of.values())
    busy = [lane for lanes in decided[-3:] for lane in sorted(lanes)]
    return planner.chance.choice((planner.chance.randrange(planner.history.shop.lanes), *busy))


def _drawn_offer(planner: Planner, kind: str) -> Values:
    chance, shop = planner.chance, planner.history.shop
    if kind == "add quantity":
        status = chance.choice((None, None, "ACTIVE", "INACTIVE"))
        return {"coupon": 1 + chance.randrange(len(shop.coupons)), "add": chance.randint(0, 2), "status": status}
    if kind == "add stock":
        price = chance.choice((None, 200))
        return {"product": 1 + chance.randrange(len(shop.products)), "add": chance.randint(0, 2), "price": price}
    if kind == "offer coupon":
        return {"total": chance.randint(1, 2)}
    if kind == "offer product":
        return {"stock": chance.randint(1, 2)}
    return {}
