"""One of a demo's crowd: asks over one connection, one thing at a time. Standard library only."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ANSWER_SECONDS = 15.0


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 when nothing did, and then it is unknown what became of the request."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether asking again would change nothing."""
        return self.status not in (0, 408, 429) and self.status < 500


class Shopper:
    """A connection, made anew whenever it breaks. For one thread."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)

    def post(self, path: str, body: Mapping[str, Any], key: str) -> Answer:
        """Submit, under an idempotency key: asking again is the same request."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return self._exchange("POST", path, json.dumps(body).encode(), headers)

    def get(self, path: str) -> Answer:
        """Look."""
        return self._exchange("GET", path, None, {})

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        try:
            self._connection.request(method, path, body, dict(headers))
            response = self._connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return Answer(0)
