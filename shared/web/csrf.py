"""Cross-site request forgery: a cookie is sent without being asked, so what it may change asks for more.

A request that changes something and is known by its session alone has to come from a page of ours, which the browser
says (Fetch Metadata, RFC 6454), and to carry a token that only such a page has. Bearer tokens are exempt: nobody sends
one by accident.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from starlette.requests import Request

from shared.web.problems import Problem
from shared.web.sessions import Session

HEADER, FIELD = "X-CSRF-Token", "csrf_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def new_token(session: Session) -> str:
    """A token of this session, another one each time: a page's compressed size gives no constant away (BREACH)."""
    salt = secrets.token_urlsafe(9)
    return f"{salt}.{_mac(session, salt)}"


def is_token(session: Session, text: str) -> bool:
    """Whether it is a token of this session."""
    salt, _, mac = text.partition(".")
    return hmac.compare_digest(mac.encode("utf-8", "replace"), _mac(session, salt).encode())


def _mac(session: Session, salt: str) -> str:
    key, message = session.id.encode(), salt.encode("utf-8", "replace")
    return hmac.new(key, b"csrf " + message, hashlib.sha256).hexdigest()


def is_same_origin(request: Request, public_url: str | None) -> bool:
    """Whether the browser says that a page of ours sent this; a client that says nothing is no browser of today."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        return True
    try:
        given, public = urlsplit(origin), urlsplit(public_url or "")
    except ValueError:
        return False
    if not given.netloc:
        return False
    # A proxy may hide the scheme from us, and the host where it says the public one itself.
    return given.netloc == request.headers.get("host") or given[:2] == public[:2]


async def check(request: Request, session: Session, public_url: str | None) -> None:
    """Let a request of a session pass, or raise a 403 problem."""
    if request.method in SAFE_METHODS:
        return
    if not is_same_origin(request, public_url):
        raise Problem(403, "This request came from another site, and nothing was done.", type="cross-site-request")
    token = request.headers.get(HEADER) or await _field(request)
    if token is None or not is_token(session, token):
        raise Problem(
            403,
            f"This page is too old: open it again and repeat what you did. (A session needs its token in the header "
            f"{HEADER} or the form field {FIELD}.)",
            type="csrf-token-needed",
        )


async def _field(request: Request) -> str | None:
    if not request.headers.get("content-type", "").lower().startswith(_FORMS):
        return None
    try:
        # Kept, so that the route can read the body as well.
        await request.body()
    except RuntimeError:
        # The framework has read it for the route, as the form that follows.
        pass
    value = (await request.form()).get(FIELD)
    return value if isinstance(value, str) else None
