"""member-erased: what is theirs goes; what is others' stays and names a stand-in."""

from pathlib import Path

from services.applications.jams import erase_guests
from shared.messaging import Transaction
from shared.postgres import Queries

SQL = Queries(Path(__file__).parent / "sql" / "erasing.sql")


async def erase(transaction: Transaction, erased: dict[str, str]) -> None:
    """Wipe members from everything that this service keeps of its own; runs in the batch's transaction.

    ``erased`` maps to its stand-in every id of theirs, those of accounts that were merged into theirs included.
    """
    connection = transaction.connection
    ids, stand_ins = list(erased), list(erased.values())
    for delete in (
        SQL.contributions,
        SQL.changed,
        SQL.eligible,
        SQL.suspensions,
        SQL.invitations,
        SQL.applications,
        SQL.conflicts,
        SQL.memberships,
        SQL.membership_changes,
        SQL.grants,
        SQL.group_members,
        SQL.webhooks,
    ):
        await connection.execute(delete, ids)
    for rename in (
        SQL.rename_changes,
        SQL.rename_decisions,
        SQL.one_review_each,
        SQL.rename_reviewers,
        SQL.rename_discussion,
        SQL.rename_membership_changes,
        SQL.rename_grants,
        SQL.rename_editions,
        SQL.rename_announcements,
        SQL.rename_standings,
    ):
        await connection.execute(rename, ids, stand_ins)
    await erase_guests(transaction, erased)
