"""Who somebody is to this installation: a member of the forum, or not, and the roles that were given."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeGuard

from shared.contracts.types import is_text

MAX_MEMBER_ID = 255
"""Characters, as of every id in the contracts."""

MAX_NAME = 100


class Role(StrEnum):
    """What a token or a session may say about its bearer."""

    MEMBER = "member"
    STAR = "star"
    STAFF = "staff"
    FORUM = "forum"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. ``member_id`` is None for a machine (the forum) or staff without an account in the forum."""

    member_id: str | None
    roles: frozenset[Role]
    name: str | None = None
    """What pages call them; from a sign-in alone, and never a reason to let anybody do anything."""

    def has(self, *roles: Role) -> bool:
        """Whether it has one of the roles."""
        return not self.roles.isdisjoint(roles)

    def owns(self, member_id: str) -> bool:
        """Whether it is this member."""
        return self.member_id is not None and self.member_id == member_id

    @property
    def is_staff(self) -> bool:
        """Whether it runs the programme."""
        return Role.STAFF in self.roles

    @property
    def shown_as(self) -> str:
        """What pages call them."""
        return self.name or self.member_id or "Staff"


def person(member_id: str | None, roles: Iterable[Role], name: object = None) -> Principal:
    """Who signed in: whoever has an account in the forum is a member, and nobody is the forum, which is a machine."""
    given = frozenset(roles) - {Role.FORUM}
    return Principal(member_id, given | {Role.MEMBER} if member_id is not None else given, _name(name))


def is_member_id(value: object) -> TypeGuard[str]:
    """Whether it can be the id of a member."""
    return is_text(value) and 0 < len(value) <= MAX_MEMBER_ID


def read_member(claim: object) -> str | None:
    """The member id that a claim holds, None without one. Raises ValueError for what cannot be one."""
    if isinstance(claim, int) and not isinstance(claim, bool):
        # Forums that number their members put a number into their own claim.
        claim = str(claim)
    if not (claim is None or is_member_id(claim)):
        raise ValueError("not a member id")
    return claim


def read_roles(claim: object) -> frozenset[Role]:
    """A list, or a text separated by spaces or commas; what is not a role of ours means nothing to us."""
    names: Iterable[object] = ()
    if isinstance(claim, str):
        names = claim.replace(",", " ").split()
    elif isinstance(claim, list):
        names = claim
    known = {role.value: role for role in Role}
    return frozenset(known[name] for name in names if isinstance(name, str) and name in known)


def _name(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    shown = "".join(character if character.isprintable() else " " for character in value[: 2 * MAX_NAME])
    return " ".join(shown.split())[:MAX_NAME] or None
