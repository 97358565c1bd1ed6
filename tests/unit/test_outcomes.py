"""The engine's words for answers are the Lua scripts' words, in the same order; and headers tell the truth."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest

from engine.gate.scripts import LUA_DIRECTORY, script
from engine.outcomes import IssueStatus, ReserveStatus
from engine.shop.issuance import _REFUSALS
from tests.unit.lua_headers import Inputs, WrongHeader, check_guard, read_header

SCRIPTS = sorted(LUA_DIRECTORY.glob("*.lua"))

SAMPLE = """\
-- Do one thing.
--
-- Invariant: it is done once.
--
-- KEYS
--   1 sc:{n}:lane  hash  the lane's state
-- ARGV
--   1 epoch  integer
--   2 units  integer
-- RETURNS (the first that applies)
--   {'lane_not_ready'}
--   {'stale_epoch', epoch}
--   {'done', units}
-- COST O(1)

if #KEYS ~= 1 or #ARGV ~= 2 then
  return redis.error_reply('ERR sample takes 1 key and 2 arguments')
end
return {redis.call('GET', KEYS[1])}
"""


class SampleStatus(StrEnum):
    LANE_NOT_READY = "lane_not_ready"
    STALE_EPOCH = "stale_epoch"
    DONE = "done"


def assert_mirrors(source: str, statuses: type[StrEnum]) -> None:
    assert read_header(source).statuses == [status.value for status in statuses]


@pytest.mark.parametrize(("name", "statuses"), [("issue_coupon", IssueStatus), ("reserve_stock", ReserveStatus)])
def test_the_statuses_are_those_of_the_header_in_the_same_order(name: str, statuses: type[StrEnum]) -> None:
    assert_mirrors(script(name).source, statuses)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--   {'stale_epoch', epoch}\n", ""),
        ("{'done', units}", "{'made', units}"),
        ("--   {'done', units}\n", "--   {'done', units}\n--   {'extra'}\n"),
        (
            "--   {'lane_not_ready'}\n--   {'stale_epoch', epoch}",
            "--   {'stale_epoch', epoch}\n--   {'lane_not_ready'}",
        ),
    ],
    ids=["a status is missing", "a status has another name", "a status is new", "the order differs"],
)
def test_a_header_that_differs_from_the_statuses_is_noticed(old: str, new: str) -> None:
    assert_mirrors(SAMPLE, SampleStatus)
    assert SAMPLE.count(old) == 1
    with pytest.raises(AssertionError):
        assert_mirrors(SAMPLE.replace(old, new), SampleStatus)


def assert_body_answers_what_is_listed(source: str) -> None:
    body = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith("--"))
    # Every table that begins with a word is a reply, but for the fields of an outbox entry and a list of names.
    answered = re.findall(r"(?<!entry = )(?<!ipairs\()\{'([a-z_]+)'(?=[,}])", body)
    assert set(answered) == set(read_header(source).statuses)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_body_answers_what_the_header_lists_and_nothing_else(path: Path) -> None:
    assert_body_answers_what_is_listed(path.read_text(encoding="utf-8"))


def test_an_answer_that_is_not_listed_and_a_listed_one_that_is_never_given_are_noticed() -> None:
    source = script("publish_coupon").source
    for old, new in (
        ("return {'unchanged',", "return {'same',"),
        ("--   {'unchanged', issued, epoch}", "--   {issued}"),
    ):
        assert source.count(old) == 1
        with pytest.raises(AssertionError):
            assert_body_answers_what_is_listed(source.replace(old, new))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_header_has_its_sections_in_order(path: Path) -> None:
    header = read_header(path.read_text(encoding="utf-8"))
    assert header.sections["purpose"][0].endswith((".", ",")) or len(header.sections["purpose"]) > 1
    assert header.sections["COST"][0].startswith("O(")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_guard_lets_through_what_the_header_lists_and_nothing_else(path: Path) -> None:
    check_guard(path.read_text(encoding="utf-8"))


def test_all_scripts_are_looked_at() -> None:
    assert {"issue_coupon", "publish_coupon", "open_lane", "inspect_lane", "find_requests", "reserve_stock"} <= {
        path.stem for path in SCRIPTS
    }


@pytest.mark.parametrize(
    ("name", "keys", "arguments"),
    [
        ("issue_coupon", Inputs(3, 2), Inputs(4, 4)),
        ("inspect_lane", Inputs(2), Inputs(0)),
        ("reserve_stock", Inputs(5, 1), Inputs(1, 2)),
        ("release_stock", Inputs(3, 1), Inputs(4, 1)),
    ],
)
def test_headers_are_read_as_they_are_meant(name: str, keys: Inputs, arguments: Inputs) -> None:
    header = read_header(script(name).source)
    assert (header.keys, header.arguments) == (keys, arguments)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-- Do one thing.\n", ""),
        ("-- Invariant: it is done once.\n", ""),
        ("-- Invariant: it is done once.\n", "-- Invariant:\n"),
        ("-- COST O(1)\n", ""),
        ("-- RETURNS (the first that applies)\n", ""),
        ("-- KEYS\n", "-- COST O(1)\n-- KEYS\n"),
        ("-- KEYS\n--   1 sc:{n}:lane  hash  the lane's state\n", ""),
        ("-- ARGV\n", "-- ARGV\n\n"),
    ],
    ids=[
        "no purpose",
        "no invariant",
        "an empty invariant",
        "no cost",
        "no returns",
        "cost twice",
        "no keys",
        "a header that is interrupted",
    ],
)
def test_a_header_with_a_section_missing_or_out_of_order_is_noticed(old: str, new: str) -> None:
    assert SAMPLE.count(old) == 1
    with pytest.raises(WrongHeader):
        read_header(SAMPLE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("#KEYS ~= 1", "#KEYS ~= 2"),
        ("#ARGV ~= 2", "#ARGV ~= 3"),
        ("#KEYS ~= 1 or #ARGV ~= 2", "#KEYS ~= 1"),
        ("#KEYS ~= 1 or #ARGV ~= 2", "#ARGV ~= 2"),
        ("#KEYS ~= 1 or", "#KEYS ~= 1 and"),
        ("#ARGV ~= 2", "#ARGV < 2"),
        ("if #KEYS ~= 1 or #ARGV ~= 2", "if false"),
        ("--   2 units  integer\n", ""),
        ("--   2 units  integer\n", "--   2 units  integer\n--   3 price  integer\n"),
        ("--   2 units  integer\n", "--   3 units  integer\n"),
        ("--   1 sc:{n}:lane  hash", "--   1… sc:{n}:lane  hash"),
    ],
)
def test_a_guard_and_a_header_that_disagree_are_noticed(old: str, new: str) -> None:
    check_guard(SAMPLE)
    assert SAMPLE.count(old) == 1
    with pytest.raises(WrongHeader):
        check_guard(SAMPLE.replace(old, new))


def test_every_issue_status_comes_to_an_end_somewhere() -> None:
    elsewhere = {
        IssueStatus.ISSUED,
        IssueStatus.REPLAYED,
        IssueStatus.LANE_NOT_READY,  # the gate is unavailable
        IssueStatus.STALE_EPOCH,  # the gate asks again
        IssueStatus.BACKLOGGED,  # the gate is unavailable
        IssueStatus.WAIT,  # whoever asks may ask again later
    }
    assert set(_REFUSALS) | elsewhere == set(IssueStatus)
    assert not set(_REFUSALS) & elsewhere
