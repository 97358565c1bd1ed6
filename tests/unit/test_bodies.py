"""Bodies are read within their time: whole, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from web.bodies import Bodies, BodyTooSlow, ClientGone

Receive = Callable[[], Awaitable[Any]]


def chunks(*parts: bytes, gone: bool = False) -> Receive:
    """A client that sends these parts; then its end, or it goes away."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts[:-1]]
    last: dict[str, Any] = {"type": "http.request", "body": parts[-1], "more_body": gone}
    messages += [last, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    return receive


def read(receive: Receive, seconds: float = 5) -> bytes:
    async def run() -> bytes:
        return await asyncio.create_task(Bodies(seconds, look_seconds=0.01).read(receive))

    return asyncio.run(run())


@pytest.mark.parametrize("parts", [(b"",), (b"whole",), (b"a", b"b", b"c"), (b"", b"x", b"")])
def test_a_body_is_read_whole_however_it_comes(parts: tuple[bytes, ...]) -> None:
    assert read(chunks(*parts)) == b"".join(parts)


def test_a_client_that_goes_away_in_the_middle_is_noticed() -> None:
    with pytest.raises(ClientGone):
        read(chunks(b"ha", gone=True))


@pytest.mark.parametrize("sent", [0, 1])
def test_a_body_whose_time_is_over_is_given_up(sent: int) -> None:
    async def receive(parts: list[bytes] = [b"ha"] * sent) -> Any:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": True}
        return await asyncio.get_running_loop().create_future()

    with pytest.raises(BodyTooSlow):
        read(receive, seconds=0.02)


def test_who_is_cancelled_for_another_reason_is_not_called_slow() -> None:
    async def run() -> None:
        bodies = Bodies()
        never = asyncio.get_running_loop().create_future

        async def receive() -> Any:
            return await never()

        task = asyncio.create_task(bodies.read(receive))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
