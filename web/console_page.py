"""The console: one page and the files it is made of. What it shows comes from ``admin_console.py``."""

from __future__ import annotations

from pathlib import Path

from apiflask import APIBlueprint
from flask import Response, render_template, request, send_from_directory

LANGUAGES = ("ko", "en")
"""The first one is spoken to those who ask for neither."""
STATIC_DIRECTORY = Path(__file__).parent / "static"

# Nothing inline and nothing from elsewhere: whatever a name of a coupon holds, no browser runs it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Language",
}

console_page = APIBlueprint("console_page", __name__)


@console_page.get("/")
@console_page.doc(hide=True)
def page() -> tuple[str, dict[str, str]]:
    return render_template("console.html", language=_language()), _HEADERS


def _language() -> str:
    """The first of the reader's languages that is one of ours, whatever the country.

    Not ``best_match``: it takes a ``ko;q=0.5`` for a better match than an ``en-US`` before it.
    """
    wanted = (tag.partition("-")[0].lower() for tag in request.accept_languages.values())
    return next((language for language in wanted if language in LANGUAGES), LANGUAGES[0])


@console_page.get("/static/<path:filename>")
@console_page.doc(hide=True)
def static_file(filename: str) -> Response:
    response = send_from_directory(STATIC_DIRECTORY, filename)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
