from __future__ import annotations

from ops.lock_check import FILES, behind, pins_in, problems_in
from ops.processes import PROJECT_ROOT

HASH = "--hash=sha256:" + "0a" * 32
GOOD = f"""\
# made by a tool
flask==3.1.3 \\
    {HASH} \\
    {HASH}
    # via -r requirements.in
pydantic[email]==2.14.3 ; python_version < '4' \\
    {HASH}
"""


def test_what_is_locked_is_pinned_with_hashes() -> None:
    for name in FILES:
        text = (PROJECT_ROOT / f"{name}.txt").read_text()
        assert problems_in(text) == []
        assert len(pins_in(text)) > 20


def test_extras_markers_and_comments_are_understood() -> None:
    assert problems_in(GOOD) == []
    assert pins_in(GOOD) == {"flask": "3.1.3", "pydantic": "2.14.3"}


def test_a_missing_hash_and_a_loose_version_are_found() -> None:
    assert problems_in("flask==3.1.3\n") == ["flask==3.1.3 has no hash"]
    assert problems_in(f"flask>=3 \\\n    {HASH}\n") == ["flask>=3 is not pinned with =="]
    assert problems_in("flask==3.1.3 \\\n    --hash=md5:00\n") == ["flask==3.1.3 has no hash"]


def test_a_pin_that_is_behind_is_named_with_what_it_could_be() -> None:
    assert behind({"a": "1.0", "b": "2.0"}, {"a": "1.0.1", "b": "2.0", "c": "1"}) == ["a 1.0 could be 1.0.1"]
    assert behind({"gone": "1.0"}, {}) == []
