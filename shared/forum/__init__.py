"""The one mechanism for facts: registers, aliases, erasure, and what a batch touched."""

from pathlib import Path

from shared.forum.facts import Facts, Mark, Touched
from shared.forum.identity import roots, stand_in
from shared.postgres import Migrations


def migrations(*kinds: str) -> Migrations:
    """The tables of the kinds of facts that a service keeps: members, topics, kudos, stars, responses."""
    folder = Path(__file__).parent / "migrations"
    return Migrations("forum", tuple(folder / f"{name}.sql" for name in (*kinds, "batches")))


__all__ = ["Facts", "Mark", "Touched", "migrations", "roots", "stand_in"]
