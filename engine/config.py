"""Settings: read once from the environment by an entry point, then passed on as one frozen object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from engine.errors import InvalidSettings
from engine.telemetry.logs import AUTO, FORMATS, LEVELS

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
QUEUE_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
DATA_PLATFORM_SCHEMES = ("http", "https")


@dataclass(frozen=True)
class Settings:
    """What a process needs to know to take part. Durations carry their unit in the name."""

    redis_url: str
    queue_redis_url: str
    database_url: str
    lanes: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    auth: str = "off"
    backlog_limit: int = 200_000
    """Outbox entries per lane above which the gate answers BUSY; bounds Redis' memory while Postgres is away."""
    gate_timeout_seconds: float = 0.5
    """How long one decision may take; the contract promises BUSY within a second of Redis going away."""
    statement_timeout_seconds: float = 5.0
    ledger_pool_size: int = 8
    data_platform_url: str = ""
    """Where order events are POSTed. Empty: nobody is told, deliveries wait in the ledger until there is an address."""
    data_platform_secret: str = field(default="", repr=False)
    """What deliveries are signed with; has to be there when the address is."""
    log_format: str = AUTO
    log_level: str = "info"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings; raise :class:`InvalidSettings` naming every problem at once."""
        reader = _Reader(os.environ if environ is None else environ)
        redis_url = reader.url("REDIS_URL", REDIS_SCHEMES)
        settings = cls(
            redis_url=redis_url,
            queue_redis_url=reader.url("QUEUE_REDIS_URL", QUEUE_SCHEMES, default=redis_url),
            database_url=_with_driver(reader.url("DATABASE_URL", DATABASE_SCHEMES)),
            lanes=reader.integer("LANES", cls.lanes, 1, 1024),
            host=reader.text("HOST", cls.host),
            port=reader.integer("PORT", cls.port, 1, 65535),
            auth=reader.choice("AUTH", cls.auth, ("off",)),
            backlog_limit=reader.integer("BACKLOG_LIMIT", cls.backlog_limit, 1, 100_000_000),
            ledger_pool_size=reader.integer("LEDGER_POOL_SIZE", cls.ledger_pool_size, 1, 1000),
            data_platform_url=reader.optional_url("DATA_PLATFORM_URL", DATA_PLATFORM_SCHEMES),
            data_platform_secret=reader.text("DATA_PLATFORM_SECRET", ""),
            log_format=reader.choice("LOG_FORMAT", cls.log_format, FORMATS),
            log_level=reader.choice("LOG_LEVEL", cls.log_level, LEVELS),
        )
        if settings.data_platform_url and not settings.data_platform_secret:
            reader.problems.append("DATA_PLATFORM_SECRET is not set: what goes to DATA_PLATFORM_URL is signed with it")
        if settings.auth == "off" and not is_loopback(settings.host):
            reader.problems.append(
                f"HOST={settings.host}: AUTH=off is refused unless HOST is a loopback address (127.0.0.1, ::1)"
            )
        if reader.problems:
            raise InvalidSettings(reader.problems)
        return settings


def is_loopback(host: str) -> bool:
    """Whether ``host`` is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _with_driver(url: str) -> str:
    """SQLAlchemy picks the driver by scheme; ``postgres://`` is what many hosters hand out."""
    for scheme in ("postgres://", "postgresql://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url


class _Reader:
    """Reads variables and collects what is wrong with them instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name, "").strip() or default

    def url(self, name: str, schemes: tuple[str, ...], default: str = "") -> str:
        value = self.text(name, default)
        if not value:
            self.problems.append(f"{name} is not set (for example {schemes[0]}://…)")
        elif urlsplit(value).scheme not in schemes:
            self.problems.append(f"{name}: the scheme must be one of {', '.join(schemes)}")
        return value

    def optional_url(self, name: str, schemes: tuple[str, ...]) -> str:
        value = self.text(name, "")
        try:
            parts = urlsplit(value)
            wrong = bool(value) and (parts.scheme not in schemes or not parts.hostname)
        except ValueError:
            wrong = True
        if wrong:
            self.problems.append(f"{name}: must be empty or {' or '.join(f'{scheme}://…' for scheme in schemes)}")
        return value

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        value = self.text(name, str(default))
        if not (value.isascii() and value.isdigit()) or not least <= int(value) <= most:
            self.problems.append(f"{name}={value}: must be a whole number from {least} to {most}")
            return default
        return int(value)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in choices:
            self.problems.append(f"{name}={value}: must be one of {', '.join(choices)}")
            return default
        return value
