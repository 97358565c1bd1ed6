"""Settings: read once from the environment by an entry point, then passed on as one frozen object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from engine.errors import InvalidSettings
from engine.telemetry.logs import AUTO, FORMATS, LEVELS

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
QUEUE_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
DATA_PLATFORM_SCHEMES = ("http", "https")
MOST_CALLS = 1_000_000


@dataclass(frozen=True)
class Settings:
    """What a process needs to know to take part. Durations carry their unit in the name.

    Printed, it shows no secret: whatever is one, or is an address that may hold a password, is left out.
    """

    redis_url: str = field(repr=False)
    queue_redis_url: str = field(repr=False)
    database_url: str = field(repr=False)
    lanes: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    auth: str = "off"
    """``off``: everybody may act for everybody, on this machine only. ``jwt``: as the token says."""
    jwt_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Any of them verifies a token, so that one can be replaced by the next; new tokens are signed with the first."""
    jwt_public_key: str = ""
    """The path of a PEM file."""
    jwt_key_set: str = field(default="", repr=False)
    """The path or address of a JSON Web Key Set."""
    jwt_audience: str = ""
    jwt_issuer: str = ""
    """What tokens have to be for and from; empty: not looked at."""
    limit_per_user: int = 0
    limit_per_address: int = 0
    """Calls per minute, as many of them at once as one likes; 0: as many as one likes."""
    proxies: int = 0
    """How many proxies of ours stand in front: so many entries at the end of X-Forwarded-For are to be believed."""
    backlog_limit: int = 200_000
    """Outbox entries per lane above which the gate answers BUSY; bounds Redis' memory while Postgres is away."""
    gate_timeout_seconds: float = 0.5
    """How long one decision may take; BUSY is to come within a second of Redis going away."""
    statement_timeout_seconds: float = 5.0
    ledger_pool_size: int = 8
    data_platform_url: str = field(default="", repr=False)
    """Where order events are POSTed. Empty: nobody is told, deliveries wait in the ledger until there is an address."""
    data_platform_secret: str = field(default="", repr=False)
    """What deliveries are signed with; has to be there when the address is."""
    log_format: str = AUTO
    log_level: str = "info"
    demo: bool = False
    """Whether this is a shop to play with: then the console lets crowds loose and breaks things."""
    data_dir: str = ""
    """Where whoever started this process keeps the running stack's data, if they said so."""

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
            auth=reader.choice("AUTH", cls.auth, ("off", "jwt")),
            jwt_secrets=tuple(reader.secret("JWT_SECRET").split()),
            jwt_public_key=reader.text("JWT_PUBLIC_KEY", ""),
            jwt_key_set=reader.text("JWT_JWKS", ""),
            jwt_audience=reader.text("JWT_AUDIENCE", ""),
            jwt_issuer=reader.text("JWT_ISSUER", ""),
            limit_per_user=reader.integer("LIMIT_PER_USER", _default_limit_per_user(reader), 0, MOST_CALLS),
            limit_per_address=reader.integer("LIMIT_PER_ADDRESS", cls.limit_per_address, 0, MOST_CALLS),
            proxies=reader.integer("PROXIES", cls.proxies, 0, 10),
            backlog_limit=reader.integer("BACKLOG_LIMIT", cls.backlog_limit, 1, 100_000_000),
            ledger_pool_size=reader.integer("LEDGER_POOL_SIZE", cls.ledger_pool_size, 1, 1000),
            data_platform_url=reader.optional_url("DATA_PLATFORM_URL", DATA_PLATFORM_SCHEMES),
            data_platform_secret=reader.text("DATA_PLATFORM_SECRET", ""),
            log_format=reader.choice("LOG_FORMAT", cls.log_format, FORMATS),
            log_level=reader.choice("LOG_LEVEL", cls.log_level, LEVELS),
            demo=reader.text("DEMO_DATA", "0") == "1",
            data_dir=reader.text("DATA_DIR", ""),
        )
        if settings.data_platform_url and not settings.data_platform_secret:
            reader.problems.append("DATA_PLATFORM_SECRET is not set: what goes to DATA_PLATFORM_URL is signed with it")
        if settings.auth == "off" and not is_loopback(settings.host):
            reader.problems.append(
                f"HOST={settings.host}: AUTH=off is refused unless HOST is a loopback address (127.0.0.1, ::1)"
            )
        if settings.auth == "off" and settings.limit_per_user:
            reader.problems.append("LIMIT_PER_USER: with AUTH=off nobody is asked who they are; it needs AUTH=jwt")
        if settings.auth == "jwt":
            reader.problems += _key_problems(settings)
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


def _default_limit_per_user(reader: _Reader) -> int:
    """Where callers are told apart, each gets ten a second: a person needs one, a broken loop takes thousands."""
    return 600 if reader.text("AUTH", "off") == "jwt" else 0


def _key_problems(settings: Settings) -> list[str]:
    # Not before it is needed: what verifies a signature takes a fifth of a worker's start.
    from engine.token_keys import key_problems

    return key_problems(settings.jwt_secrets, settings.jwt_public_key, settings.jwt_key_set)


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

    def secret(self, name: str) -> str:
        """From the variable, or from the file that ``<name>_FILE`` names."""
        path = self.text(f"{name}_FILE", "")
        if not path:
            return self.text(name, "")
        if self.text(name, ""):
            self.problems.append(f"{name}_FILE: {name} is set, too; set one of them")
        try:
            return Path(path).read_text().strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            self.problems.append(f"{name}_FILE={path}: cannot be read: {reason}")
            return ""

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
