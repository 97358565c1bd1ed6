"""Every key the gate uses, with its type, owner and expiry. Keys are built here and nowhere else.

The hash tag ``{n}`` is the lane: whatever one script touches lives in one Redis Cluster slot.

================================  ======  ===========================  ================================================
key                               type    written by                   expiry
================================  ======  ===========================  ================================================
``sc:{n}:lane``                   hash    guard, deciding scripts      never; absent on a server that forgot all
``sc:{n}:outbox``                 stream  deciding scripts             an entry leaves by XDEL after its commit
``sc:{n}:bell``                   string  deciding scripts, drain      ``BELL_SECONDS``
``sc:{n}:lease``                  string  drain                        ``LEASE_SECONDS``
``sc:{n}:coupon:<id>``            hash    coupon offers, issue_coupon  never
``sc:{n}:coupon:<id>:winners``    hash    issue_coupon                 never
``sc:{n}:sku:<id>``               hash    product offers, holds        never
``sc:{n}:hold:<nonce>``           hash    reserve_stock                with its hold; longer under an idempotency key
``sc:{n}:holds``                  zset    reserve_stock                an entry leaves with its hold
``sc:{n}:returned:<nonce>``       string  return_stock, rebuild        ``RETURN_MARKER_SECONDS``
``sc:{n}:idempotency:<digest>``   string  orders                       ``KEEP_SECONDS``
``sc:{n}:turns:<who>``            string  take_turn, issue_coupon,     with what it says, within ``PERIOD_SECONDS``
                                          reserve_stock
``sc:{products}:list``            string  whoever missed it            ``LIST_SECONDS``
``sc:{products}:generation``      string  product offers               never; grows with every change
``sc:filling:<name>``             string  whoever missed a cache       ``FILLING_MS``
``sc:processes``                  zset    every process                an entry leaves after ``FORGOTTEN_SECONDS``
``sc:refusals``                   hash    web                          never; only people read it
``sc:popular``                    zset    scheduler, web               ``RANKING_SECONDS``, ``EMPTY_SECONDS``
``sc:{sc:popular}:next:<token>``  zset    scheduler, web               becomes ``sc:popular`` at once
================================  ======  ===========================  ================================================
"""

from __future__ import annotations

from zlib import crc32

PREFIX = "sc"


def lane_of(kind: str, entity_id: int, lanes: int) -> int:
    """The lane an entity lives in: a stable hash of what it is, the same in every process and version."""
    return crc32(f"{kind}:{entity_id}".encode()) % lanes


def lane(number: int) -> str:
    """Hash: open, epoch, replid, last_number, lanes, request_key, built_epoch, returned, claim, building, and
    built:<other lane>, the earliest build of that lane on which an order may count here."""
    return f"{PREFIX}:{{{number}}}:lane"


def outbox(number: int) -> str:
    """Stream: one entry per accepted decision, its id is ``<epoch>-<number>``."""
    return f"{PREFIX}:{{{number}}}:outbox"


def bell(number: int) -> str:
    """String: exists while somebody has been told to drain the lane."""
    return f"{PREFIX}:{{{number}}}:bell"


def lease(number: int) -> str:
    """String: the token of the drain at work."""
    return f"{PREFIX}:{{{number}}}:lease"


def coupon(number: int, coupon_id: int) -> str:
    """Hash: version, status, total, issued, starts_at_ms, ends_at_ms."""
    return f"{PREFIX}:{{{number}}}:coupon:{coupon_id}"


def winners(number: int, coupon_id: int) -> str:
    """Hash: user id to ``<sequence> <request id>``."""
    return winners_of(coupon(number, coupon_id))


def winners_of(coupon_key: str) -> str:
    """The winners' key beside a coupon's."""
    return f"{coupon_key}:winners"


def sku(number: int, product_id: int) -> str:
    """Hash: version, name, price, status, supplied, available."""
    return f"{PREFIX}:{{{number}}}:sku:{product_id}"


def hold(number: int, nonce: str) -> str:
    """Hash: state (held, ending, settled, released), request_id, lines, keep_ms, order_lane, deadline_ms, shared; or
    state (refused), answer."""
    return f"{PREFIX}:{{{number}}}:hold:{nonce}"


def holds(number: int) -> str:
    """Sorted set: nonce by deadline in milliseconds."""
    return f"{PREFIX}:{{{number}}}:holds"


def returned(number: int, nonce: str) -> str:
    """String: the units of this cancelled order are back on sale."""
    return f"{PREFIX}:{{{number}}}:returned:{nonce}"


def idempotency(number: int, digest: str) -> str:
    """String: fingerprint of the body that an idempotency key was first used with."""
    return f"{PREFIX}:{{{number}}}:idempotency:{digest}"


def turns(number: int, who: str) -> str:
    """String: when the last call of ``user:<id>`` or ``address:<address>`` was due at an even pace, in microseconds."""
    return f"{PREFIX}:{{{number}}}:turns:{who}"


def product_list() -> str:
    """String: the product list as JSON, with the generation it belongs to. No decision reads it: it needs no lane."""
    return f"{PREFIX}:{{products}}:list"


def product_generation() -> str:
    """String: another text with every change of a product; in one slot with the list, to be read with it."""
    return f"{PREFIX}:{{products}}:generation"


def filling(name: str) -> str:
    """String: somebody asks the ledger in order to fill the cache of this name."""
    return f"{PREFIX}:filling:{name}"


def processes() -> str:
    """Sorted set: ``<kind> <host>:<pid>`` of every process that was heard, by when that was (Unix seconds)."""
    return f"{PREFIX}:processes"


def refusals() -> str:
    """Hash: how often something was refused, by ``<code>`` or ``<code>:<reason>``. No decision reads it."""
    return f"{PREFIX}:refusals"


def popular() -> str:
    """Sorted set: ``<product id, 19 digits> <name>`` by units sold, negated; or the marker of an empty ranking."""
    return f"{PREFIX}:popular"


def next_popular(token: str) -> str:
    """Sorted set: a ranking before it is renamed. Its hash tag is the other key's name, so both are in one slot."""
    return f"{PREFIX}:{{{popular()}}}:next:{token}"
