"""Every guard that the negative controls switch off is still where they look for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.processes import PROJECT_ROOT
from tests.faults.machine.breaks import BREAKS, Break

LUA = PROJECT_ROOT / "lua"


@pytest.mark.parametrize("guard", [each for each in BREAKS if each.lua], ids=lambda guard: guard.name)
def test_a_guard_in_the_scripts_can_be_taken_out(guard: Break, tmp_path: Path) -> None:
    guard.write_scripts(LUA, tmp_path / "lua")
    changed = {
        path.stem for path in LUA.glob("*.lua") if path.read_text() != (tmp_path / "lua" / path.name).read_text()
    }
    assert changed == set(guard.lua)


def test_a_guard_that_is_not_there_any_more_is_noticed(tmp_path: Path) -> None:
    gone = Break("gone", "nothing", lua={"issue_coupon": ("no such line", "")})
    with pytest.raises(ValueError, match=r"issue_coupon\.lua has what gone replaces 0 times"):
        gone.write_scripts(LUA, tmp_path / "lua")
