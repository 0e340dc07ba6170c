"""Wiping erased members: their own rows go, rows of others that name them get their stand-in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.postgres import Queries

SQL = Queries(Path(__file__).parent / "sql" / "erasure.sql")

_OWN = (
    "erase_mail",
    "erase_deliveries",
    "erase_digest_items",
    "erase_digests",
    "erase_notifications",
    "erase_contacts",
    "erase_own_contacts",
    "erase_preferences",
    "erase_interests",
    "erase_push_subscriptions",
    "erase_spent",
    "erase_suppressions",
    "erase_ranks",
)
_OF_OTHERS = ("rename_notifications", "rename_claims", "rename_jobs", "rename_staff")


async def erase(connection: Any, gone: Mapping[str, str]) -> None:
    """Wipe members; ``gone`` maps each id of theirs to its stand-in. Runs under the facts' exclusive lock, alone."""
    ids, stand_ins = list(gone), list(gone.values())
    for name in _OWN:
        await connection.execute(getattr(SQL, name), ids)
    for name in _OF_OTHERS:
        await connection.execute(getattr(SQL, name), ids, stand_ins)
