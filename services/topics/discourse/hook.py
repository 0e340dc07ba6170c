"""The webhook's door: ``POST /topics/hooks/discourse``.

Discourse signs the raw body with HMAC-SHA256 (``X-Discourse-Event-Signature: sha256=HEX``) and waits 20 seconds. It
retries what is not 2xx (after 1, 5, 25 and 125 minutes, each under a new event id), so 503 is how it learns that Kafka
was away. The body alone is signed: neither the event's name nor its id nor a time, so that a captured delivery could be
sent again. By meaning that changes nothing but the last of two opposites; and what this process took already
is not taken again.
"""

import hashlib
import hmac
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic_core import from_json

from services.topics.discourse.categories import Categories
from services.topics.discourse.mapping import Envelope, Unreadable, events_of
from shared.settings import Settings
from shared.web import Problem

log = logging.getLogger(__name__)

Publish = Callable[[list[Envelope]], Awaitable[None]]

_SIGNATURE = re.compile(r"sha256=([0-9a-fA-F]{64})")
_REMEMBERED = 10_000


def signed(secret: bytes, body: bytes, header: str | None) -> bool:
    """Whether the header holds the body's signature; compared in constant time."""
    given = _SIGNATURE.fullmatch(header or "")
    expected = hmac.new(secret, body, hashlib.sha256).digest()
    return given is not None and hmac.compare_digest(expected, bytes.fromhex(given[1]))


class _Taken:
    """The last deliveries that this process took: event id, event and body together."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[str, ...], None] = OrderedDict()

    def __contains__(self, key: tuple[str, ...]) -> bool:
        return key in self._keys

    def add(self, key: tuple[str, ...]) -> None:
        self._keys[key] = None
        while len(self._keys) > _REMEMBERED:
            self._keys.popitem(last=False)


def router(
    settings: Settings, publish: Publish, now: Callable[[], datetime], categories: Categories | None = None
) -> APIRouter | None:
    """The route, to be mounted under ``/topics``; None without a secret, for then nobody could be trusted.

    ``publish`` takes a list of envelopes and raises Problem 503 when Kafka is away. Raises MappingError when the
    mapping file cannot be used.
    """
    secret = settings.discourse_secret.get_secret_value().encode() if settings.discourse_secret else b""
    if not secret:
        return None
    places = categories if categories is not None else Categories.load(settings.discourse_mapping)
    if not places:
        log.warning("no category of the Discourse is mapped: every topic and post is dropped (STARS_DISCOURSE_MAPPING)")
    taken = _Taken()
    routes = APIRouter(tags=["hooks"])

    @routes.post(
        "/hooks/discourse",
        summary="One delivery of a Discourse webhook",
        responses={
            200: {
                "description": "How many events it came to, or why it was ignored",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": {"events": {"type": "integer"}, "ignored": {"type": "string"}},
                        }
                    }
                },
            },
            401: {"description": "The signature is missing or wrong"},
        },
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}},
    )
    async def discourse_hook(request: Request) -> dict[str, Any]:
        body = await request.body()
        signatures = request.headers.getlist("x-discourse-event-signature")
        if len(signatures) != 1 or not signed(secret, body, signatures[0]):
            raise Problem(
                401,
                "X-Discourse-Event-Signature is missing or not this body's: the webhook there has another secret.",
                type="bad-signature",
                headers={"WWW-Authenticate": "X-Discourse-Event-Signature"},
            )
        name, type, instance, id = (
            request.headers.get(f"x-discourse-{header}", "")
            for header in ("event", "event-type", "instance", "event-id")
        )
        key = (instance, id, name, hashlib.sha256(body).hexdigest())
        if id and key in taken:
            return {"ignored": "taken before"}
        try:
            parsed = from_json(body, allow_inf_nan=False)
        except ValueError:
            raise Problem(400, "The body is not JSON in UTF-8.", type="unreadable-delivery") from None
        if not isinstance(parsed, dict):
            raise Problem(400, "The body is not a JSON object.", type="unreadable-delivery")
        try:
            mapped = events_of(name, type, instance, parsed, now(), places)
        except Unreadable as error:
            raise Problem(400, f"Not what Discourse sends: {error}.", type="unreadable-delivery") from None
        if mapped.ignored is not None:
            return {"ignored": mapped.ignored}
        await publish(mapped.envelopes)
        taken.add(key)
        return {"events": len(mapped.envelopes)}

    return routes
