"""Who an id stands for: merged topics, merged members and erased members are one mechanism."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping

STAND_IN_PREFIX = "erased:"


def stand_in(key: bytes, member_id: str) -> str:
    """The one name that an erased member keeps, the same in every service of an installation."""
    return STAND_IN_PREFIX + hmac.digest(key, member_id.encode(), hashlib.sha256).hex()[:32]


def roots(links: Mapping[str, str], ids: Iterable[str]) -> dict[str, str]:
    """For each id the one that it stands for: chains are followed to the end, a cycle to its smallest id (as bytes).

    ``links`` says what each id was merged into.
    """
    found: dict[str, str] = {}
    for start in ids:
        path: list[str] = []
        seen: dict[str, int] = {}
        at = start
        while at in links and at not in seen and at not in found:
            seen[at] = len(path)
            path.append(at)
            at = links[at]
        if at in found:
            root = found[at]
        elif at in seen:
            root = min(path[seen[at] :])
        else:
            root = at
        for step in path:
            found[step] = root
        found[start] = root
    return found
