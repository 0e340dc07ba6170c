"""How a Discourse is named here: every id of it begins with its host, since each Discourse counts from 1."""

import re
from urllib.parse import urlsplit

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,198}[a-z0-9])?")
_FOLDER = re.compile(r"(?:/[A-Za-z0-9._~-]{1,50}){0,2}")
_PORTS = {"http": 80, "https": 443}


def user_id(place: str, number: int) -> str:
    """A member's id, of the Discourse at a place."""
    return f"{place}:u:{number}"


class Discourse:
    """One Discourse, by its base URL. Raises ValueError where the address is not one."""

    def __init__(self, address: str) -> None:
        try:
            parts = urlsplit(address.strip())
            host, port = (parts.hostname or "").lower().rstrip("."), parts.port
        except ValueError:
            raise ValueError("a base URL is needed") from None
        folder = parts.path.rstrip("/")
        usual = parts.scheme in _PORTS and _HOST.fullmatch(host) and _FOLDER.fullmatch(folder)
        if not usual or parts.username is not None or parts.query or parts.fragment:
            raise ValueError("a base URL is needed")
        where = host + (f":{port}" if port and port != _PORTS[parts.scheme] else "")
        self.place = where + folder
        """HOST of every id: its host name, with a port that is not its scheme's and a folder where it has them."""
        self.url = f"{parts.scheme}://{self.place}"

    def user(self, number: int) -> str:
        """A member's id."""
        return user_id(self.place, number)
