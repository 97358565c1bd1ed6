"""Guards switched off on purpose, one at a time: a machine that does not notice it proves nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

BREAK_VARIABLE = "SEONCHAK_MACHINE_BREAK"
"""Names the break whose ``patch`` a process applies to itself."""
LUA_VARIABLE = "SEONCHAK_MACHINE_LUA"
"""Where a process finds its scripts instead of in ``lua/``."""


@dataclass(frozen=True)
class Break:
    """One guard that is off. ``lua`` are replacements (pattern, text) by script; ``sql`` is done to the ledger."""

    name: str
    what: str
    lua: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    patch: Callable[[], None] = lambda: None
    sql: str = ""

    def write_scripts(self, source: Path, folder: Path) -> None:
        """A copy of the scripts without the guard. Raises ValueError when a script does not have it any more."""
        shutil.copytree(source, folder)
        for name, (pattern, replacement) in self.lua.items():
            path = folder / f"{name}.lua"
            text, times = re.subn(pattern, replacement, path.read_text())
            if times != 1:
                raise ValueError(f"{name}.lua has what {self.name} replaces {times} times")
            path.write_text(text)


def _no_fence() -> None:
    from engine.ledger.progress import Fence

    def admits(self: Fence, epoch: int, number: int) -> bool:
        return True

    Fence.admits = admits  # type: ignore[method-assign]


def _no_lease() -> None:
    from engine.gate.outbox import Lease

    def take(self: Lease) -> bool:
        return True

    Lease.take = take  # type: ignore[method-assign]


def _no_atomic_script() -> None:
    import loadtests.broken.main  # noqa: F401 - the web application that looks first and takes afterwards


_SERVER_CHECK = r" or state\[[23]\] ~= server"
_DECIDING = ("issue_coupon", "reserve_stock", "return_stock", "publish_coupon", "publish_product")
_TOKEN_CHECK = r"if redis\.call\('HGET', KEYS\[1\], 'building'\) ~= \S+ then"

BREAKS = (
    Break(
        "server check",
        "the scripts decide on whatever server runs them",
        lua=dict.fromkeys(_DECIDING, (_SERVER_CHECK, "")),
    ),
    Break("epoch fence", "a drain records what Redis has forgotten since", patch=_no_fence),
    Break(
        "rebuild token",
        "the gate takes build writes from any build",
        lua=dict.fromkeys(("build_coupon", "build_winners", "build_product"), (_TOKEN_CHECK, "if false then")),
    ),
    Break("single-script atomicity", "the web looks in one call and takes in another", patch=_no_atomic_script),
    Break(
        "unique keys",
        "the ledger takes a user and a place in line twice, and the fence is off, too",
        patch=_no_fence,
        sql="""
            ALTER TABLE user_coupons DROP CONSTRAINT uq_user_coupons_coupon_id_user_id;
            ALTER TABLE user_coupons DROP CONSTRAINT uq_user_coupons_coupon_id_sequence;
            ALTER TABLE coupons DROP CONSTRAINT ck_coupons_issued_within_quantity;
        """,
    ),
    Break("lease", "every drain believes that it is the only one", patch=_no_lease),
)


def apply(name: str) -> None:
    """Switch the guard off in this process."""
    [found] = [each for each in BREAKS if each.name == name]
    found.patch()
