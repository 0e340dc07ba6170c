"""The page on which people choose how to sign in."""

from html import escape
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from shared.web.auth import SIGN_IN_PATH, csrf_token, principal_of
from shared.web.pages import page
from shared.web.sign_in.attempts import SignInFailed
from shared.web.sign_in.development import ROLES


def sign_in_page(
    request: Request, *, ways: list[tuple[str, str]], development: bool, next: str, failed: SignInFailed | None
) -> Response:
    """The page; with what went wrong, where something did."""
    query = urlencode({"next": next})
    body = "<h2>Sign in</h2>"
    if failed is not None:
        body += f'<p role="alert">{escape(failed.words)}</p>'
    if (who := principal_of(request)) is not None:
        body += f"<p>You are signed in as {escape(who.name or who.member_id or 'staff')}.</p>"
        body += (
            '<form method="post" action="/sign-out">'
            f'<input type="hidden" name="csrf_token" value="{csrf_token(request)}"><button>Sign out</button></form>'
        )
    for name, at in ways:
        body += f'<p><a href="{SIGN_IN_PATH}/{name}?{escape(query)}">Sign in at {escape(at)}</a></p>'
    if development:
        options = "".join(f"<option>{role}</option>" for role in ROLES)
        body += (
            f'<form method="post" action="{SIGN_IN_PATH}/development">'
            f'<input type="hidden" name="next" value="{escape(next)}"><select name="role">{options}</select>'
            '<input name="member_id"><button>Sign in</button></form>'
        )
    return HTMLResponse(page("Sign in", body), failed.status if failed else 200)
