"""Request ids: they say where a decision was taken, and nobody but us can make one."""

from __future__ import annotations

import string

import pytest

from engine.gate.request_ids import (
    RequestId,
    new_nonce,
    new_request_key,
    parse_request_id,
    repeatable_nonce,
    split_request_id,
)
from engine.outcomes import RequestKind

KEY = new_request_key()
KINDS = list(RequestKind)


def request_id(kind: RequestKind = RequestKind.COUPON_ISSUE, lane: int = 3, epoch: int = 7, number: int = 42) -> str:
    return f"{lane}.{epoch}.{number}.{new_nonce(KEY, kind)}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("lane", "epoch", "number"), [(0, 1, 1), (3, 7, 42), (1023, 10**14, 10**15 - 1)])
def test_an_id_of_ours_is_read_back_as_what_it_was_made_of(
    kind: RequestKind, lane: int, epoch: int, number: int
) -> None:
    text = request_id(kind, lane, epoch, number)
    parsed = parse_request_id(text, KEY)
    assert parsed is not None
    assert (parsed.lane, parsed.epoch, parsed.number, parsed.kind) == (lane, epoch, number, kind)
    assert parsed.entry_id == f"{epoch}-{number}"
    assert str(parsed) == text
    assert split_request_id(text) == parsed


def test_every_kind_has_a_letter_of_its_own() -> None:
    letters = {new_nonce(KEY, kind)[0] for kind in KINDS}
    assert len(letters) == len(KINDS)
    assert letters <= set(string.ascii_lowercase)


def test_a_nonce_with_any_character_changed_is_not_ours() -> None:
    text = request_id()
    start = text.rindex(".") + 1
    for position in range(start, len(text)):
        for character in {"0", "f", "c", "o"} - {text[position]}:
            tampered = text[:position] + character + text[position + 1 :]
            assert parse_request_id(tampered, KEY) is None, tampered


def test_an_id_cannot_be_turned_into_one_of_another_kind() -> None:
    text = request_id(RequestKind.COUPON_ISSUE)
    lane, epoch, number, nonce = text.split(".")
    other = new_nonce(KEY, RequestKind.ORDER)
    assert parse_request_id(".".join([lane, epoch, number, other[0] + nonce[1:]]), KEY) is None


def test_an_id_sealed_under_another_key_is_not_ours() -> None:
    assert parse_request_id(request_id(), new_request_key()) is None
    assert parse_request_id(request_id(), "") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.upper(),
        lambda text: f" {text}",
        lambda text: f"{text}\n",
        lambda text: f"{text}0",
        lambda text: text[:-1],
        lambda text: f"0{text}",
        lambda text: f"-{text}",
        lambda text: text.replace(".", "-", 1),
        lambda text: text.replace("3.7.", "3..7."),
        lambda text: text.replace("3.7.", "3.07."),
        lambda text: text.replace("3.7.", "3.0."),
        lambda text: text.replace("3.7.", "3.٧."),
        lambda text: text.replace("3.7.", "3.7e1."),
        lambda text: text.replace("3.7.", "12345.7."),
        lambda text: text.replace("3.7.", f"3.{10**15}."),
        lambda text: text.replace(".42.", ".0."),
        lambda text: text.replace(".42.", ".4 2."),
        lambda text: text.replace(".42.", "."),
        lambda text: f"{text}.{text}",
        lambda _: "",
        lambda _: "...",
        lambda _: "0.1.1.c",
        lambda _: "x" * 100_000,
        lambda _: "\x00",
    ],
)
def test_a_text_of_another_form_is_not_an_id(change: object) -> None:
    text = request_id()
    assert parse_request_id(text, KEY) is not None
    changed = change(text)  # type: ignore[operator]
    assert changed != text
    assert parse_request_id(changed, KEY) is None


def test_the_seal_does_not_hold_the_numbers_so_the_outbox_compares_the_whole_id() -> None:
    """The script adds lane, epoch and number after the seal is made; ``outbox.find`` is what notices a swap."""
    *_, nonce = request_id(number=42).split(".")
    swapped = parse_request_id(f"3.7.43.{nonce}", KEY)
    assert swapped == RequestId(3, 7, 43, nonce)


def test_new_nonces_are_all_different_and_long_enough_not_to_be_guessed() -> None:
    nonces = {new_nonce(KEY, RequestKind.ORDER) for _ in range(1000)}
    assert len(nonces) == 1000
    assert {len(nonce) for nonce in nonces} == {29}


def test_a_repeatable_nonce_is_the_same_for_the_same_scope_and_ours() -> None:
    first = repeatable_nonce(KEY, RequestKind.COUPON_ISSUE, 41, 1001, "key")
    assert repeatable_nonce(KEY, RequestKind.COUPON_ISSUE, 41, 1001, "key") == first
    parsed = parse_request_id(f"0.1.1.{first}", KEY)
    assert parsed is not None
    assert parsed.kind is RequestKind.COUPON_ISSUE


def test_repeatable_nonces_of_different_scopes_differ() -> None:
    """Also where the parts would run together into the same text."""
    scopes: list[tuple[str | int, ...]] = [
        (41, 1001, "key"),
        (4, 11001, "key"),
        (411, 1, "key"),
        (41, 1001, "Key"),
        (41, 1001, "key", ""),
        (41, 1001),
        (41, "1001key"),
        (),
    ]
    nonces = {repeatable_nonce(key, kind, *scope) for scope in scopes for kind in KINDS for key in (KEY, "other")}
    assert len(nonces) == len(scopes) * len(KINDS) * 2


def test_request_keys_are_new_each_time() -> None:
    assert len({new_request_key() for _ in range(100)}) == 100
    assert len(KEY) == 64
