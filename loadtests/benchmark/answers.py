"""Reading HTTP/1.1 answers from a socket, no more of them than a load has to know."""

from __future__ import annotations

HEAD_END = b"\r\n\r\n"
STATUS_LINE = b"HTTP/1.1 "
LENGTH = b"\r\ncontent-length:"


class AnswerReader:
    """Takes the bytes of one connection's answers, one at a time: the next request goes out after the answer.

    ``status``, ``head`` (in small letters) and ``body`` are those of the last one.
    """

    __slots__ = ("_data", "body", "head", "status")

    def __init__(self) -> None:
        self._data = b""
        self.status = 0
        self.head = b""
        self.body = b""

    def take(self, data: bytes) -> bool:
        """Add what was received; whether an answer is complete. Raises ValueError for what is no answer, or has no
        length: a chunked body is nothing that is measured here."""
        if self._data:
            data = self._data + data
        head, end, body = data.partition(HEAD_END)
        if not end:
            self._data = data
            return False
        if not head.startswith(STATUS_LINE):
            raise ValueError("no HTTP/1.1 answer")
        head = head.lower()
        _, found, rest = head.partition(LENGTH)
        if not found:
            raise ValueError("an answer that does not tell its length")
        missing = int(rest.partition(b"\r\n")[0]) - len(body)
        if missing < 0:
            raise ValueError("an answer that is longer than it tells")
        if missing:
            self._data = data
            return False
        self._data = b""
        self.status, self.head, self.body = int(head[len(STATUS_LINE) : len(STATUS_LINE) + 3]), head, body
        return True


def is_busy_told_well(answer: AnswerReader) -> bool:
    """Whether the answer is what the contract says to those who come when there is no room: 503, BUSY, when again."""
    return answer.status == 503 and b"\r\nretry-after:" in answer.head and b'"BUSY"' in answer.body
