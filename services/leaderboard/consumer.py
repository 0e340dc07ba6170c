"""What the leaderboard service makes of a batch: fold it into the facts, derive the entries of what was touched."""

from collections.abc import Callable

from services.leaderboard.derive import rederive
from services.leaderboard.projector import SQL
from shared.contracts.catalogue import APPLICATIONS, FORUM, MEMBERS, TOPICS
from shared.contracts.members import MemberErased
from shared.forum import Facts, Mark
from shared.messaging import Batch

STREAMS = (FORUM, TOPICS, MEMBERS, APPLICATIONS)
_ERASED = MemberErased.type_name()


class LeaderboardConsumer:
    """Applies batches of forum, first-response, member and application events."""

    def __init__(self, facts: Facts, written: Callable[[bool], None] = lambda more: None) -> None:
        self._facts, self._written = facts, written

    async def apply(self, batch: Batch) -> None:
        """Runs in the batch's transaction; whatever it raises undoes all of it."""
        connection = batch.transaction.connection
        if _ERASED in batch.types:
            # Before the outbox's lock, which the fold of an erasure takes: who folds boards writes there.
            await connection.execute(SQL.lock_boards_in_transaction)
        touched = await self._facts.fold(batch)
        if touched.erased:
            await connection.execute(SQL.rename_erased, list(touched.erased), list(touched.erased.values()))
        if batch.records:
            last = batch.records[-1].event
            otherwise = Mark(all(record.event.backfill for record in batch.records), last.traceparent)
            await rederive(connection, touched, otherwise)
        if touched.members and (
            touched.erased or await connection.fetchval(SQL.relist_may_matter, list(touched.members))
        ):
            # Who stands for whom may have changed, and with it who is to be seen.
            await connection.execute(SQL.lock_boards_in_transaction)
            boards = [row["board"] for row in await connection.fetch(SQL.relist, list(touched.members))]
            if boards:
                await connection.execute(SQL.log_changes, boards, [None] * len(boards))
        more = batch.more  # alone: the transaction must not hold what holds it, or only the collector frees the batch
        batch.transaction.after_commit(lambda: self._written(more()))
