"""Sign-in for development: anybody as anybody, on an embedded instance that nobody but this machine can reach."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import Request

from shared.settings import Settings
from shared.web.addresses import is_loopback
from shared.web.principals import Principal, Role, is_member_id, person
from shared.web.sign_in.attempts import SignInFailed

ROLES = {
    Role.MEMBER: "asks and answers",
    Role.STAR: "claims questions as well",
    Role.STAFF: "runs the programme",
}
"""Whom one can be, and what that is."""
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


def is_possible(settings: Settings) -> bool:
    """Whether an embedded instance keeps to its own machine. One with a public URL or address does not."""
    public = [settings.host] + ([] if settings.url is None else [_host(settings.url)])
    return all(map(is_loopback, public))


def is_local(request: Request) -> bool:
    """Whether a request came from this machine, was meant for it, and passed no proxy.

    The Host header is looked at because another site's name may lead here (DNS rebinding).
    """
    client = request.client.host if request.client else None
    host = _host(f"http://{request.headers.get('host', '')}")
    return is_loopback(client) and is_loopback(host) and not any(name in request.headers for name in _FORWARDED)


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def read(form: Mapping[str, object]) -> Principal:
    """Whom the form names. Raises SignInFailed."""
    role, member = form.get("role"), form.get("member_id")
    if role not in tuple(ROLES):
        raise SignInFailed(400, f"Choose a role: {', '.join(ROLES)}.")
    member = member.strip() if isinstance(member, str) else None
    if member and not is_member_id(member):
        raise SignInFailed(400, "That cannot be the id of a member.")
    if not member and role != Role.STAFF:
        raise SignInFailed(400, f"A {role} needs the forum’s id of a member.")
    return person(member or None, [Role(str(role))], member or str(role))
