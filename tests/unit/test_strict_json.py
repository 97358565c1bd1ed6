"""What is JSON enough for us, and what is written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest
from flask import Flask

from web.strict_json import MalformedJson, StrictJSONProvider


@pytest.fixture
def provider() -> StrictJSONProvider:
    return StrictJSONProvider(Flask("web"))


@pytest.mark.parametrize("value", [{}, {"a": [1, -2, None, True, "선착 😀"]}, 2**53 - 1, -(2**53), "\n"])
def test_ordinary_values_are_read_as_they_are(provider: StrictJSONProvider, value: Any) -> None:
    assert provider.loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        (b'{"a":1,"a":1}', "a", "more than once"),
        (b'{"x":{"b":1,"b":2}}', "b", "more than once"),
        (b'{"a":NaN}', "body", "NaN is not a number"),
        (b'{"a":Infinity}', "body", "Infinity is not a number"),
        (b'{"a":-Infinity}', "body", "-Infinity is not a number"),
        (b'{"a":"\xff"}', "body", "UTF-8"),
        ('{"a":1}'.encode("utf-16"), "body", "UTF-8"),
        ('\ufeff{"a":1}'.encode(), "body", "not JSON"),
        (b'{"a":"\xed\xa0\x80"}', "body", "UTF-8"),
        (b'{"a":"\\u0000"}', "body", "NUL"),
        (b'{"\\u0000":1}', "body", "NUL"),
        (b'{"a":[{"b":"\\ud800"}]}', "body", "half a surrogate"),
        (b'{"\\udfff":1,"\\udfff":1}', "body", "half a surrogate"),
        (b'{"a":"\x00"}', "body", "not JSON"),
        (b"", "body", "not JSON"),
        (b'{"a":1} {}', "body", "not JSON"),
        (b'{"a":1', "body", "not JSON"),
        (b"{'a':1}", "body", "not JSON"),
        (b'{"a":01}', "body", "not JSON"),
        (b'{"a":+1}', "body", "not JSON"),
        (b'{"a":0x10}', "body", "not JSON"),
        (b'{"a":1,}', "body", "not JSON"),
        (b"[" * 60_000, "body", "nested too deeply"),
        (b'{"a":' * 12_000, "body", "nested too deeply"),
    ],
)
def test_what_the_standard_leaves_open_is_refused(
    provider: StrictJSONProvider, text: bytes, field: str, reason: str
) -> None:
    with pytest.raises(MalformedJson) as caught:
        provider.loads(text)
    assert caught.value.field == field
    assert reason in caught.value.reason


def test_a_whole_surrogate_pair_and_other_escapes_are_fine(provider: StrictJSONProvider) -> None:
    assert provider.loads(b'{"\\u0061":"\\ud83d\\ude00\\n\\uc120"}') == {"a": "😀\n선"}


@pytest.mark.parametrize("sign", ["", "-"])
def test_an_integer_of_many_digits_stays_outside_every_limit_without_being_converted(
    provider: StrictJSONProvider, sign: str
) -> None:
    value = provider.loads(f'{{"a":{sign}{"1" * 60_000}}}')["a"]
    assert isinstance(value, int)
    assert abs(value) > 2**53
    assert (value < 0) == (sign == "-")


def test_a_number_with_a_point_or_an_exponent_stays_a_float(provider: StrictJSONProvider) -> None:
    values = provider.loads(b"[1.0, 1e3, 1e999]")
    assert all(isinstance(value, float) for value in values)


def test_text_is_written_compactly_and_unescaped(provider: StrictJSONProvider) -> None:
    assert provider.dumps({"a": [1, None, True], "b": "선착", "c": 2**53 - 1}) == (
        '{"a":[1,null,true],"b":"선착","c":9007199254740991}'
    )


def test_a_datetime_is_written_in_utc_and_a_read_only_mapping_as_an_object(provider: StrictJSONProvider) -> None:
    seoul = timezone(timedelta(hours=9))
    value = MappingProxyType({"at": datetime(2030, 1, 1, 9, tzinfo=seoul), "to": datetime(2030, 1, 1, 0, 0, 0, 5, UTC)})
    assert provider.dumps(value) == '{"at":"2030-01-01T00:00:00Z","to":"2030-01-01T00:00:00.000005Z"}'


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": object()}, {"a": {1, 2}}])
def test_what_has_no_json_form_is_not_written(provider: StrictJSONProvider, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        provider.dumps(value)
