"""``tests/BRANCHES.md`` names the tests that exist, each once, and no others."""

from __future__ import annotations

from pathlib import Path

from tests.shop import test_sequence_diagrams

TABLE = Path(__file__).parent.parent / "BRANCHES.md"
COLUMNS = 4


def rows(table: str) -> list[list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    assert all(len(row) == COLUMNS for row in cells)
    return cells[2:]


def existing_tests() -> list[str]:
    return [name for name in vars(test_sequence_diagrams) if name.startswith("test_")]


def differences(table: str) -> set[str]:
    """Tests that only one of the two knows, or that the table has twice."""
    named = [row[-1] for row in rows(table)]
    twice = {name for name in named if named.count(name) > 1}
    return set(named) ^ set(existing_tests()) | twice


def test_the_table_of_branches_names_exactly_the_existing_tests() -> None:
    assert differences(TABLE.read_text()) == set()


def test_the_table_covers_all_seven_diagrams() -> None:
    assert {row[0][0] for row in rows(TABLE.read_text())} == set("1234567")


def test_a_branch_without_a_test_or_a_test_without_a_branch_would_be_noticed() -> None:
    table = TABLE.read_text()
    renamed = table.replace("test_charge_succeeds", "test_charge_fails")
    assert differences(renamed) == {"test_charge_succeeds", "test_charge_fails"}
    assert differences(table + "| 1 | again | 200 | test_charge_succeeds |\n") == {"test_charge_succeeds"}
