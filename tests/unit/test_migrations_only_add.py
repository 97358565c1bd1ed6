"""Old and new processes work side by side on the new schema, so a migration takes nothing away from the old ones."""

from __future__ import annotations

import re

import pytest

from engine.ledger.schema import MIGRATIONS

TAKES_AWAY = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|INDEX)|\bRENAME\b|\bSET\s+NOT\s+NULL|\bALTER\s+COLUMN\s+\w+\s+TYPE|drop_(table|column|index)"
    r"|ADD\s+COLUMN\s+\w+\s+\w+\s+NOT\s+NULL(?!\s+DEFAULT)",
    re.IGNORECASE,
)
ADDED = re.compile(r"ADD COLUMN (\w+)")
CONSTRAINT = re.compile(r"ADD CONSTRAINT \w+\s+(?:CHECK)?(.*?)(?:\"|\Z)", re.DOTALL)
COLUMN = re.compile(r"(?<!')\b[a-z_]+\b(?!')")
UPGRADES = {
    path.name: path.read_text(encoding="utf-8").split("def downgrade")[0]
    for path in sorted((MIGRATIONS / "versions").glob("*.py"))
}


def taken_away(upgrade: str) -> list[str]:
    """What old processes would miss, or stumble over: a constraint may speak of columns that they do not know."""
    constrained = {column for body in CONSTRAINT.findall(upgrade) for column in COLUMN.findall(body)}
    return [match[0] for match in TAKES_AWAY.finditer(upgrade)] + sorted(constrained - set(ADDED.findall(upgrade)))


@pytest.mark.parametrize("name", UPGRADES)
def test_a_migration_takes_nothing_away(name: str) -> None:
    assert taken_away(UPGRADES[name]) == []


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE orders DROP COLUMN held",
        "ALTER TABLE orders RENAME COLUMN held TO holds",
        "ALTER TABLE orders ADD COLUMN held text NOT NULL",
        "ALTER TABLE orders ALTER COLUMN held SET NOT NULL",
        "ALTER TABLE orders ALTER COLUMN held TYPE bigint",
        "ALTER TABLE orders ADD CONSTRAINT c CHECK (held > 0)",
        "DROP INDEX ix_orders_user",
    ],
)
def test_what_would_take_something_away_is_found(statement: str) -> None:
    assert taken_away(statement)


def test_what_only_adds_is_let_pass() -> None:
    assert not taken_away("ALTER TABLE orders ADD COLUMN held bigint NOT NULL DEFAULT 0")
    assert not taken_away("ALTER TABLE orders ADD COLUMN held text")
    assert not taken_away("ADD COLUMN ended text; ADD CONSTRAINT known CHECK (ended IN ('RECORDED', 'DROPPED'))")
