"""The OpenAPI document: what views say about themselves, completed with what holds for all of them.

APIFlask collects paths, bodies and summaries. Views add their answers with :func:`answers` and the headers they read
with ``extensions=reads(...)``; :func:`complete` adds the rest, so that no view can forget it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter
from pydantic.alias_generators import to_camel

from engine.ids import MAX_SAFE_INTEGER
from web.access import Access, access_to
from web.fields import IDEMPOTENCY_KEY_CHARACTERS, is_path_id
from web.languages import LANGUAGES
from web.limits import is_limited
from web.pages import CURSOR_PATTERN, DEFAULT_LIMIT, MOST_PER_PAGE
from web.preferences import LONGEST_WAIT_SECONDS
from web.problems import (
    BUSY,
    FORBIDDEN,
    INVALID_REQUEST,
    INVALID_USER_ID,
    PROBLEM_MEDIA_TYPE,
    PROBLEMS,
    TEMPORARY_ERROR,
    TOO_MANY_REQUESTS,
    UNAUTHENTICATED,
    Problem,
)
from web.strict_json import MAX_BODY_BYTES

READ_PARAMETERS = "x-read-parameters"
IDEMPOTENCY_KEY = "Idempotency-Key"
PREFER = "Prefer"
PAGE = ("cursor", "limit")
BEARER = "bearer"
_SCHEMAS = "#/components/schemas/"
_PROBLEM_HEADERS = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}

HEADERS: Mapping[str, dict[str, Any]] = {
    "Location": {"description": "Where the request or the new resource is found.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait before asking again.", "schema": {"type": "integer"}},
    "Preference-Applied": {"description": "The wait that was granted.", "schema": {"type": "string"}},
    "Allow": {"description": "The methods there are.", "schema": {"type": "string"}},
    "WWW-Authenticate": {
        "description": "`Bearer`, and what is wrong with the token that was sent (RFC 6750).",
        "schema": {"type": "string"},
    },
    "Content-Language": {
        "description": f"The language of `message`, as `Accept-Language` asks: one of {', '.join(LANGUAGES)}.",
        "schema": {"type": "string", "enum": list(LANGUAGES)},
    },
}
PARAMETERS: Mapping[str, dict[str, Any]] = {
    IDEMPOTENCY_KEY: {
        "name": IDEMPOTENCY_KEY,
        "in": "header",
        "description": "The same key, caller and body gets the first answer again. Kept at least 24 hours.",
        "schema": {"type": "string", "pattern": f"^[!-~]{{1,{IDEMPOTENCY_KEY_CHARACTERS}}}$"},
    },
    PREFER: {
        "name": PREFER,
        "in": "header",
        "description": f"`wait=N` answers when the outcome is final, or after N seconds, at most "
        f"{LONGEST_WAIT_SECONDS}. Anything else is ignored, and so is the wish when too many wait already.",
        "schema": {"type": "string"},
        "example": "wait=5",
    },
    "cursor": {
        "name": "cursor",
        "in": "query",
        "description": "The `nextCursor` of the page before; without it the first page.",
        "schema": {"type": "string", "pattern": f"^{CURSOR_PATTERN}$"},
    },
    "limit": {
        "name": "limit",
        "in": "query",
        "description": "How many at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_PER_PAGE, "default": DEFAULT_LIMIT},
    },
}


@dataclass(frozen=True)
class Success:
    """An answer that is no error: what it means, the type of its body, the headers it may carry."""

    description: str
    body: Any
    headers: tuple[str, ...] = ()


def answers(successes: Mapping[int, Success], *codes: str) -> dict[int | str, Any]:
    """The ``responses`` of ``doc()``: the successes, and the codes a client has to expect besides the ones that every
    operation of its form has."""
    described: dict[int | str, Any] = {}
    for status, success in successes.items():
        schema = TypeAdapter(success.body).json_schema(mode="serialization", ref_template=_SCHEMAS + "{model}")
        described[status] = {
            "description": success.description,
            "content": {"application/json": {"schema": schema}},
            "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in success.headers},
        }
    for code in codes:
        _add_problem(described, PROBLEMS[code].status, code)
    return described


def reads(*names: str) -> dict[str, Any]:
    """The ``extensions`` of ``doc()`` that say which of the :data:`PARAMETERS` a view reads."""
    return {READ_PARAMETERS: names}


def complete(spec: dict[str, Any] | str, *, authenticated: bool = False, limited: bool = False) -> dict[str, Any]:
    """The document as it is served; APIFlask gives it to us as a dict, as long as the format is JSON.

    ``authenticated``: callers have to say who they are; ``limited``: their calls are counted. Where that is not so, the
    document does not speak of it.
    """
    if isinstance(spec, str):
        raise TypeError("SPEC_FORMAT must be json")
    # Several blueprints may share a tag, and APIFlask lists it once for each.
    spec["tags"] = list({tag["name"]: tag for tag in spec.get("tags", [])}.values())
    components = spec.setdefault("components", {})
    components["headers"] = dict(HEADERS)
    components["parameters"] = dict(PARAMETERS)
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = TypeAdapter(Problem).json_schema(ref_template=_SCHEMAS + "{model}")
    schemas["Problem"]["properties"]["code"]["enum"] = list(PROBLEMS)
    spec["paths"] = {_with_camel_variables(path): operations for path, operations in spec.get("paths", {}).items()}
    if authenticated:
        components["securitySchemes"] = {BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    for path, method, operation in _operations(spec):
        _complete_parameters(operation)
        if authenticated:
            _complete_security(operation, path, method)
        elif method != "GET":
            _add_problem(operation["responses"], 403, FORBIDDEN)  # to a page of another site, see web.auth
        if limited and is_limited(path, method):
            _add_problem(operation["responses"], 429, TOO_MANY_REQUESTS)
        _complete_problems(operation)
        for schema in _response_schemas(operation):
            schemas.update(schema.pop("$defs", {}))
            _drop_generated_titles(schema)
    schemas.update(schemas["Problem"].pop("$defs", {}))
    for schema in schemas.values():
        _drop_generated_titles(schema)
    return spec


def _operations(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            yield path, method.upper(), operation


def _response_schemas(operation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for response in operation["responses"].values():
        for content in response.get("content", {}).values():
            yield content["schema"]


def _drop_generated_titles(schema: Mapping[str, Any]) -> None:
    """Pydantic makes "Discountamount" of discountAmount; the name alone says more."""
    for member in schema.get("properties", {}).values():
        member.pop("title", None)


def _with_camel_variables(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: "{" + to_camel(match[1]) + "}", path)


def _complete_parameters(operation: dict[str, Any]) -> None:
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            if is_path_id(parameter["name"]):
                parameter["schema"] = {"type": "integer", "minimum": 1, "maximum": MAX_SAFE_INTEGER}
            parameter["name"] = to_camel(parameter["name"])
    operation["parameters"] += [
        {"$ref": f"#/components/parameters/{name}"} for name in operation.pop(READ_PARAMETERS, ())
    ]


def _complete_security(operation: dict[str, Any], path: str, method: str) -> None:
    access = access_to(path, method)
    if access is Access.OPEN:
        return
    operation["security"] = [{BEARER: []}]
    _add_problem(operation["responses"], 401, UNAUTHENTICATED)
    # In whose name something is done stands in the path or in the body of what is submitted.
    if access is Access.ADMIN or method == "POST" or "{userId}" in path:
        _add_problem(operation["responses"], 403, FORBIDDEN)
    _add_problem(operation["responses"], 503, TEMPORARY_ERROR)


def _complete_problems(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    names = {parameter.get("name") for parameter in operation["parameters"]}
    if "userId" in names:
        _add_problem(responses, 400, INVALID_USER_ID)
    if "requestBody" in operation:
        operation["requestBody"]["required"] = True
        operation["requestBody"]["description"] = f"At most {MAX_BODY_BYTES} bytes, sent with a Content-Length."
        for status in (408, 411, 413, 415):
            _add_problem(responses, status, INVALID_REQUEST)
    if "requestBody" in operation or any(_can_be_malformed(parameter) for parameter in operation["parameters"]):
        _add_problem(responses, 400, INVALID_REQUEST)
    for status in (414, 431):
        _add_problem(responses, status, INVALID_REQUEST)
    _add_problem(responses, 500, TEMPORARY_ERROR)
    _add_problem(responses, 503, BUSY)
    operation["responses"] = dict(sorted(responses.items()))


def _can_be_malformed(parameter: Mapping[str, Any]) -> bool:
    """Whether it can make a request INVALID_REQUEST. A user's id has a code of its own, no wish is ever malformed."""
    if "$ref" in parameter:
        return bool(parameter["$ref"] != f"#/components/parameters/{PREFER}")
    is_number = parameter["in"] == "path" and parameter["schema"].get("type") == "integer"
    return is_number and bool(parameter["name"] != "userId")


def _add_problem(responses: dict[Any, Any], status: int, code: str) -> None:
    """Responses are keyed by number before APIFlask has seen them and by text afterwards."""
    key = str(status) if any(isinstance(key, str) for key in responses) else status
    response = responses.setdefault(
        key,
        {
            "description": "",
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": _SCHEMAS + "Problem"}}},
            "headers": {
                name: {"$ref": f"#/components/headers/{name}"}
                for name in ("Content-Language", _PROBLEM_HEADERS.get(status))
                if name
            },
        },
    )
    codes = [
        name for name in response["description"].removeprefix(f"{HTTPStatus(status).phrase}: ").split(", ") if name
    ]
    if code not in codes:
        response["description"] = f"{HTTPStatus(status).phrase}: {', '.join([*codes, code])}"
