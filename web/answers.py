"""Rendering what went well, and what every answer with words for people has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, current_app, request

from web.languages import SENTENCES, Language, language_for


def answer(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer, rendered as it is: views build typed dictionaries, and nothing is validated a second time.

    Answers are somebody's own or a state of the moment, so no cache may keep them.
    """
    response = Response(current_app.json.dumps(body), status, headers, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def sentence(name: str) -> str:
    """One of the :data:`~web.languages.SENTENCES`, in the language of whoever reads the answer."""
    return SENTENCES[name].said_in(current_language())


def current_language() -> Language:
    """The language that the current request asks for."""
    return language_for(request.environ.get("HTTP_ACCEPT_LANGUAGE"))


def in_words(response: Response, *, has_words: bool = True) -> Response:
    """The answer of something that may have words for people: it depends on the language that was asked for, and if it
    has any, they are in that one."""
    response.headers["Vary"] = "Accept-Language"
    if has_words:
        response.headers["Content-Language"] = current_language()
    return response
