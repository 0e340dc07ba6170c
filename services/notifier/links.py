"""What the links in mails open. GET shows a page and changes nothing, since scanners follow links; POST acts, without a
sign-in, and says the same for a good token as for a bad one."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import StringConstraints
from starlette.responses import Response

from services.notifier.contacts import Contacts
from services.notifier.preferences import Preferences
from services.notifier.signing import Signing
from services.notifier.tokens import Purpose
from shared.web import Pages

PURPOSES: tuple[Purpose, ...] = ("unsubscribe", "pause", "not-for-me", "verify")
Token = Annotated[str, StringConstraints(max_length=4096)]


def links(signing: Signing, preferences: Preferences, contacts: Contacts) -> APIRouter:
    """The routes of links in mails."""
    routes = APIRouter(include_in_schema=False)
    pages = Pages(Path(__file__).parent / "templates")

    def add(purpose: Purpose) -> None:
        """The two routes of one purpose: each has a path of its own, so that none answers for other addresses."""

        async def link_page(request: Request, token: Token) -> Response:
            return pages.render(request, "link.html", purpose=purpose, done=False, worked=True)

        async def act(request: Request, token: Token) -> Response:
            grant = (await signing.keys()).tokens.read(token, purpose)
            worked = True
            if purpose == "verify":
                worked = grant is not None and await contacts.verify(grant)
            elif grant is not None:
                await preferences.act(grant)
            return pages.render(request, "link.html", purpose=purpose, done=True, worked=worked)

        routes.add_api_route(f"/{purpose}/{{token}}", link_page, methods=["GET"])
        routes.add_api_route(f"/{purpose}/{{token}}", act, methods=["POST"])

    for purpose in PURPOSES:
        add(purpose)
    return routes
