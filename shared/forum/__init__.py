"""The one mechanism for facts: registers, aliases, erasure, and what a batch touched."""

from pathlib import Path

from shared.forum.facts import Facts, Mark, Touched
from shared.forum.identity import roots, stand_in
from shared.postgres import Migrations


def migrations(*kinds: str) -> Migrations:
    """The tables of the kinds of facts that a service keeps: members, topics, kudos, stars, responses."""
    return Migrations("forum", tuple(Path(__file__).parent / "migrations" / f"{kind}.sql" for kind in kinds))


__all__ = ["Facts", "Mark", "Touched", "migrations", "roots", "stand_in"]
