"""What a newcomer does next: the lines below the address that a stack which is ready prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.config import Settings


def hints(address: str, settings: Settings, given: Mapping[str, str], data_dir: Path) -> list[str]:
    """The lines. ``given`` is the environment without what is blank; commands name its DATA_DIR, if it has one."""
    folder = f"DATA_DIR={given['DATA_DIR']} " if "DATA_DIR" in given else ""
    rush = ", where a rush can be started" if given.get("DEMO_DATA", "1") == "1" else ""
    return [
        f"open   {address} in a browser: the console{rush}",
        *(_tokens(settings, given, folder) if settings.auth == "jwt" else _rush(folder)),
        f"docs   {address}docs: every request and every answer",
        f"stop   Ctrl-C; what you did stays in {data_dir}",
    ]


def _rush(folder: str) -> list[str]:
    return [f"rush   {folder}make rush, in another terminal: a crowd at 1,000 coupons, with a verdict"]


def _tokens(settings: Settings, given: Mapping[str, str], folder: str) -> list[str]:
    """The crowd of ``make rush`` has no tokens, so it is not proposed; the console asks for an administrator's.

    A secret that was given to this command is not known in another terminal, and is not printed.
    """
    if settings.jwt_public_key or settings.jwt_key_set:
        return ["token  an administrator's, from whoever signs yours: the console asks for it"]
    secret = "".join(f"{name}=… " for name in ("JWT_SECRET", "JWT_SECRET_FILE") if name in given)
    return [f"token  {folder}{secret}make token USER=7 ADMIN=1, in another terminal: the console asks for it"]
