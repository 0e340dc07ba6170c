"""Addresses that a browser may be sent to, and those of this machine."""

import ipaddress
import re
from urllib.parse import quote, urlsplit

from starlette.requests import Request

LONGEST = 1500
_ODD = re.compile(r"[\x00-\x20\x7f\\]")


def local_address(text: str, default: str = "/") -> str:
    """The address if it is a path on this very host, else DEFAULT: nobody is sent elsewhere by a link of ours.

    Browsers read backslashes as slashes and skip tabs and line feeds, so there must be none.
    """
    if not text.startswith("/") or text.startswith("//") or _ODD.search(text) or len(text) > LONGEST:
        return default
    first = text.split("?")[0].split("#")[0].split("/")[1]
    if first in ("sign-in", "sign-out"):
        # No place to come back to.
        return default
    plain = quote(text, safe="/?#%&=+:,;@!$'()*~[]")
    return plain if len(plain) <= LONGEST else default


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine."""
    name = (host or "").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def public_url(request: Request, configured: str | None) -> str | None:
    """What this installation is called from outside, without a slash at the end; None where nobody has said it.

    What a Host header claims is believed only of this machine itself.
    """
    if configured:
        return configured.rstrip("/")
    try:
        parts = urlsplit(f"http://{request.headers.get('host', '')}")
        local = is_loopback(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return f"http://{parts.netloc}" if local and not parts.username and parts.path == "" else None
