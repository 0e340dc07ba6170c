"""What the links in mails open. GET shows a page and changes nothing, since scanners follow links; POST acts, without a
sign-in, and says the same for a good token as for a bad one."""

from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import StringConstraints
from starlette.responses import Response

from services.notifier.contacts import Contacts
from services.notifier.preferences import Preferences
from services.notifier.signing import Signing
from shared.web import Pages

Token = Annotated[str, StringConstraints(max_length=4096)]


def links(signing: Signing, preferences: Preferences, contacts: Contacts) -> APIRouter:
    """The routes of links in mails."""
    routes = APIRouter(include_in_schema=False)
    pages = Pages(Path(__file__).parent / "templates")

    @routes.get("/{purpose}/{token}")
    async def link_page(
        request: Request, purpose: Literal["unsubscribe", "pause", "not-for-me", "verify"], token: Token
    ) -> Response:
        """Asks whether it is meant."""
        return pages.render(request, "link.html", purpose=purpose, done=False, worked=True)

    @routes.post("/{purpose}/{token}")
    async def act(
        request: Request, purpose: Literal["unsubscribe", "pause", "not-for-me", "verify"], token: Token
    ) -> Response:
        """Does it (RFC 8058 for unsubscribing)."""
        grant = (await signing.keys()).tokens.read(token, purpose)
        worked = True
        if purpose == "verify":
            worked = grant is not None and await contacts.verify(grant)
        elif grant is not None:
            await preferences.act(grant)
        return pages.render(request, "link.html", purpose=purpose, done=True, worked=worked)

    return routes
