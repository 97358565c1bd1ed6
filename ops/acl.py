"""``python -m ops.acl``: the Redis users for web, worker and scheduler, each with what it needs and nothing else.

What it prints is kept in ``docs/operations/acl/seonchak.acl``. A script runs with the rights of the user who calls it,
so the commands of a role are those it sends itself and those in the scripts it calls, which are read from ``lua/``.
``tests/e2e/test_acl.py`` runs the whole stack under exactly these users, and fails on a command too many, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ops.processes import PROJECT_ROOT

ACL_FILE = PROJECT_ROOT / "docs" / "operations" / "acl" / "seonchak.acl"
_LUA = PROJECT_ROOT / "lua"
_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'")

CONNECTION = ("client|setinfo", "evalsha", "eval", "script|load", "info")
"""redis-py says who it is, scripts are called; INFO is RQ's way to learn the server's version. HELLO and AUTH are
everybody's in any case."""
PRESENCE = ("zadd", "zremrangebyscore", "zrem")
"""The list of processes that are alive."""
RING = ("multi", "exec", "sadd", "hset", "expire", "rpush", "llen")
"""RQ's way to put a job into a queue, and to count those that wait."""
DRAIN = ("xrange", "xdel", "set", "del")
"""Reading the head of an outbox, and removing what is in the ledger; the bell and the lease."""
LEASE = ("get", "del", "pexpire")
"""redis-py's lock is kept and given up by scripts of its own, which call these."""
RQ_WORKER = (
    *("client|setname", "client|info", "subscribe", "unsubscribe", "exists", "blmove", "hgetall", "persist"),
    *("lrem", "lrange", "watch", "unwatch", "smembers", "srem", "hincrby", "hincrbyfloat", "xadd"),
    *("zrange", "zrangebyscore"),
)

SHARED_QUEUE_KEYS = ("rq:queues", "rq:queue:drain", "rq:queue:followups", "rq:job:*")
FAILED_JOBS_KEYS = ("rq:failed:drain", "rq:failed:followups")
"""Counted for the metrics; RQ drops the old ones when it counts."""
ENGINE_KEYS = ("sc:*",)
_PICTURES = ("picture_coupons", "picture_lane", "picture_stock", "waiting_issuances", "find_requests")


@dataclass(frozen=True)
class Role:
    """What the processes of one role do with Redis."""

    commands: tuple[str, ...]
    """Sent by the processes of this role themselves."""
    scripts: tuple[str, ...]
    """Of ours, called by them."""
    keys: tuple[str, ...]
    channels: tuple[str, ...] = ()
    in_other_scripts: tuple[str, ...] = ()

    def allowed(self) -> list[str]:
        """Every command, in order."""
        return sorted(
            {
                *self.commands,
                *self.in_other_scripts,
                *(command for name in self.scripts for command in commands_in(name)),
            }
        )


ROLES: Mapping[str, Role] = {
    "web": Role(
        commands=(
            *CONNECTION,
            *PRESENCE,
            *RING,
            # caches, the console and idempotency keys
            *("mget", "set", "del", "hget", "hmget", "hgetall", "hincrby", "zrange", "xrevrange"),
            "renamenx",
        ),
        scripts=(
            *("inspect_lane", "issue_coupon", "reserve_stock", "release_stock", "take_turn"),
            *("publish_coupon", "publish_product", *_PICTURES),
        ),
        keys=(*ENGINE_KEYS, *SHARED_QUEUE_KEYS),
    ),
    "worker": Role(
        commands=(*CONNECTION, *PRESENCE, *RING, *DRAIN, *RQ_WORKER, "xread"),
        scripts=("settle_holds", "release_stock", "return_stock"),
        keys=(*ENGINE_KEYS, "rq:*"),
        channels=("rq:pubsub:*",),
        in_other_scripts=LEASE,
    ),
    "scheduler": Role(
        commands=(
            *(*CONNECTION, *PRESENCE, *RING),
            # whoever rebuilds a lane drains what is left in it
            *("xrange", "xdel"),
            *("exists", "rename", "zrange", "hget", "hmget", "set"),
        ),
        scripts=(
            *("inspect_lane", "require_built", "approve_lane", "close_lane", "begin_build", "build_coupon"),
            *("build_product", "build_winners", "forget_holds", "forget_entities", "mark_returned", "open_lane"),
            *("due_holds", "claim_holds"),
            *("settle_holds", "release_stock", "publish_coupon", "publish_product", *_PICTURES),
        ),
        keys=(*ENGINE_KEYS, *SHARED_QUEUE_KEYS, *FAILED_JOBS_KEYS),
    ),
}


def commands_in(script: str) -> set[str]:
    """The commands that ``lua/<script>.lua`` calls."""
    return {name.lower() for name in _CALL.findall((_LUA / f"{script}.lua").read_text(encoding="utf-8"))}


def acl_file() -> str:
    """The users, one a line as Redis reads them. The passwords are to be put in."""
    return "".join(
        f"user {name} reset on >@{name.upper()}_PASSWORD@ "
        + " ".join([*(f"~{key}" for key in role.keys), *(f"&{channel}" for channel in role.channels)])
        + " -@all "
        + " ".join(f"+{command}" for command in role.allowed())
        + "\n"
        for name, role in ROLES.items()
    )


def main() -> None:
    """Print the file."""
    print(acl_file(), end="")


if __name__ == "__main__":
    main()
