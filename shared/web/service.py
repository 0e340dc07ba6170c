"""One service as a web application: what it answers for, and how its OpenAPI document is made."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from shared.web.auth import BEARER_SCHEME, OPTIONAL_SCHEME
from shared.web.principals import Role
from shared.web.problems import PROBLEM_MEDIA_TYPE, add_problem_handlers
from shared.web.sessions import HOST_SESSION, SESSION

OPENAPI_PATH = "/api/openapi.json"


@dataclass
class Service:
    """A service as the process sees it."""

    name: str
    """Also its prefix: ``/NAME``."""
    app: FastAPI
    lifespan: Callable[[], AbstractAsyncContextManager[None]]
    """Pools, consumers, relay and timers: open while the process answers."""
    problems: Callable[[], Awaitable[list[str]]]
    """Why it is not ready, in plain words; empty when it is."""


_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong (RFC 9457). Further members depend on the type.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "examples": ["about:blank"]},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "request_id": {"type": "string", "description": "What the log calls this request; from status 500 on"},
        "errors": {
            "type": "array",
            "description": "What is wrong with the request, and where",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "location": {"type": "string", "examples": ["body.title"]},
                    "index": {"type": "integer"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}

SESSION_SCHEME = "session"
_SESSION: dict[str, Any] = {
    "type": "apiKey",
    "in": "cookie",
    "name": HOST_SESSION,
    "description": f"The session of a browser in which somebody signed in at `/sign-in`; over plain HTTP the cookie is "
    f"`{SESSION}`. An Authorization header outranks it. What changes something needs the session's token as well, in "
    "the header `X-CSRF-Token` or the form field `csrf_token`, which pages get with their content.",
}

_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 0}}}

# status -> name of the component, description, headers. Any request can meet each of them on its way to a route.
_DEFAULTS: dict[int, tuple[str, str, dict[str, Any]]] = {
    400: ("InvalidRequest", "The request is not valid", {}),
    401: (
        "Unauthorised",
        "There is no token where one is needed, or it does not hold",
        {"WWW-Authenticate": {"description": "RFC 6750", "schema": {"type": "string"}}},
    ),
    403: ("Forbidden", "The token lacks the role, or the thing is another member's", {}),
    404: ("NotFound", "There is no such thing", {}),
    405: ("MethodNotAllowed", "Not a method of this address", {"Allow": {"schema": {"type": "string"}}}),
    413: ("ContentTooLarge", "The body is larger than this installation takes", {}),
    415: ("UnsupportedMediaType", "Not a media type of this address", {}),
    429: ("TooManyRequests", "Too many requests of one caller", _RETRY_AFTER),
    500: ("InternalError", "An error of the service; `request_id` finds it in the log", {}),
    503: ("Unavailable", "Something that the service needs is away", _RETRY_AFTER),
}


def _operation_id(route: APIRoute) -> str:
    """The name of the function: short, and steady while paths change."""
    return route.name


class ServiceApp(FastAPI):
    """FastAPI whose OpenAPI document says how this project answers: problems, optional tokens, roles."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once. Raises ValueError when two routes would share an operation id."""
        if self.openapi_schema is None:
            self.openapi_schema = _finish(deepcopy(super().openapi()))
        return self.openapi_schema


def _finish(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM_SCHEMA
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses = components.setdefault("responses", {})
    for name, text, headers in _DEFAULTS.values():
        responses[name] = {"description": text, "content": content} | ({"headers": headers} if headers else {})
    seen: dict[str, str] = {}
    for path, item in document.get("paths", {}).items():
        for method, operation in item.items():
            if not isinstance(operation, dict):
                continue
            where = f"{method.upper()} {path}"
            if (other := seen.setdefault(operation["operationId"], where)) != where:
                raise ValueError(f"{where} and {other} have the same operation id: rename one function")
            _finish_operation(operation, content)
    # FastAPI's own shape of validation errors, which we never send.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemes = components.get("securitySchemes", {})
    if (optional := schemes.pop(OPTIONAL_SCHEME, None)) is not None:
        schemes.setdefault(BEARER_SCHEME, optional)
    if BEARER_SCHEME in schemes:
        schemes[SESSION_SCHEME] = _SESSION
    return document


def _finish_operation(operation: dict[str, Any], content: dict[str, Any]) -> None:
    documented = operation.setdefault("responses", {})
    if "HTTPValidationError" in str(documented.get("422", "")):
        del documented["422"]
    for status, answer in documented.items():
        if status[0] in "45" and "content" not in answer and "$ref" not in answer:
            answer["content"] = content
    for code, (name, _, _) in _DEFAULTS.items():
        documented.setdefault(str(code), {"$ref": f"#/components/responses/{name}"})
    operation["responses"] = dict(sorted(documented.items()))
    if security := operation.get("security"):
        operation["security"] = _security(security)


def _security(requirements: list[dict[str, list[str]]]) -> list[dict[str, list[str]]]:
    """Any one of the roles is enough, so each is an alternative; OpenAPI reads a list of roles as "all of these"."""
    merged = {name: roles for requirement in requirements for name, roles in requirement.items()}
    result: list[dict[str, list[str]]] = []
    if BEARER_SCHEME in merged:
        roles = merged.pop(BEARER_SCHEME)
        result += [{BEARER_SCHEME: [role]} for role in roles] or [{BEARER_SCHEME: []}]
        # The forum is a machine: it never signs in.
        result += [{SESSION_SCHEME: [role]} for role in roles if role != Role.FORUM] or (
            [] if roles else [{SESSION_SCHEME: []}]
        )
    elif OPTIONAL_SCHEME in merged:
        result += [{}, {BEARER_SCHEME: []}, {SESSION_SCHEME: []}]
    merged.pop(OPTIONAL_SCHEME, None)
    return result + [{name: roles} for name, roles in merged.items()]


def create_service_app(name: str, title: str, description: str, version: str) -> FastAPI:
    """The application of one service, to be mounted at ``/NAME``; its document is at ``/NAME/api/openapi.json``."""
    app = ServiceApp(
        title=title,
        description=description,
        version=version,
        openapi_url=OPENAPI_PATH,
        # The interactive pages load their scripts from elsewhere, which our own content security policy forbids.
        docs_url=None,
        redoc_url=None,
        servers=[{"url": f"/{name}"}],
        root_path_in_servers=False,
        # Starlette builds that redirect from the Host header, which is the caller's to choose.
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    add_problem_handlers(app)
    return app
