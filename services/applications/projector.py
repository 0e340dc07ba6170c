"""The projector: what members contributed, month by month, and who is eligible; by one process at a time."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg

from services.applications import rules
from services.applications.programme import SQL as PROGRAMME_SQL
from services.applications.programme import Programme
from services.applications.records import read_records
from shared.contracts import applications as events
from shared.contracts.catalogue import APPLICATIONS
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox, Outgoing, Transaction
from shared.postgres import UNAVAILABLE, Queries, arrays
from shared.postgres.singleton import STANDBY_SECONDS, held_alone

log = logging.getLogger(__name__)

SQL = Queries(Path(__file__).parent / "sql" / "derive.sql")
BATCH = 2000
POLL_SECONDS = 0.2


class Projector:
    """Derives the months that facts touched, again and whole, and then whether their members are eligible."""

    def __init__(self, dsn: str, service: str, outbox: Outbox, programme: Programme) -> None:
        self._dsn, self._service, self._outbox, self._programme = dsn, service, outbox, programme
        self.wake = asyncio.Event()
        """Set when this process has applied a batch: the projector need not wait for its next look."""

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                async with held_alone(self._dsn, self._service, "projector") as connection:
                    while True:
                        self.wake.clear()
                        await self.look_again_today(connection)
                        if await self.fold(connection) < BATCH:
                            with contextlib.suppress(TimeoutError):
                                await asyncio.wait_for(self.wake.wait(), POLL_SECONDS)
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("the projector could not fold, it tries again: %s", error)
                await asyncio.sleep(STANDBY_SECONDS)

    async def look_again_today(self, connection: Any) -> None:
        """Once a day everyone is looked at: the months that criteria look at move on without an event.

        Who is eligible by that is news, but not at the first look, which finds what was there before.
        """
        async with connection.transaction():
            is_first = await connection.fetchval(SQL.look_again_today)
            if is_first is not None:
                await connection.execute(SQL.touch_everyone, is_first)

    async def fold(self, connection: Any) -> int:
        """Derive what waits, at most BATCH rows of the queue. Returns how many months and members there were."""
        if not await connection.fetchval(SQL.something_changed):
            return 0
        async with self._outbox.transaction_on(connection) as transaction:
            # Nobody is erased or merged meanwhile.
            await connection.fetchrow(FACTS_SQL.begin_batch, False)
            return await self._fold(transaction)

    async def _fold(self, transaction: Transaction) -> int:
        connection = transaction.connection
        rows = await connection.fetch(SQL.take_changed, BATCH)
        if not rows:
            return 0
        named = {row["member_id"] for row in rows}
        found = {row["id"]: row for row in await connection.fetch(SQL.roots, list(named))}
        root = {id: found[id]["root"] if id in found else id for id in named}
        # Erased, or merged into somebody who was.
        nobody = {row["root"] for row in found.values() if row["is_erased"]}
        gone: set[tuple[str, date]] = set()
        news: dict[str, bool] = {}
        for row in rows:
            id, month = row["member_id"], row["month"]
            if month is not None:
                gone |= {(id, month), (root[id], month)}
            member = root[id]
            news[member] = news.get(member, False) or not row["backfill"]
        kept = sorted(pair for pair in gone if root.get(pair[0], pair[0]) == pair[0] and pair[0] not in nobody)
        if gone:
            await connection.execute(SQL.delete_contributions, *arrays(sorted(gone)))
        if kept:
            written = await connection.fetch(SQL.read_contributions, *arrays(kept))
            if written:
                await connection.execute(SQL.write_contributions, *arrays(written))
        left = [id for id in named if root[id] != id or id in nobody]
        if left:
            await connection.execute(SQL.delete_eligible, left)
        await self._judge(transaction, {id: new for id, new in news.items() if id not in nobody})
        return len(rows)

    async def _judge(self, transaction: Transaction, members: Mapping[str, bool]) -> None:
        """Who of these members is eligible; those who became so by something that is news may be invited."""
        if not members:
            return
        connection = transaction.connection
        edition = await self._programme.present(connection)
        criteria = edition.document.rules_of_criteria()
        today = datetime.now(UTC).date()
        meeting: list[str] = []
        other: list[str] = []
        for id, record in (await read_records(connection, members)).items():
            (meeting if rules.meets(criteria, record, today) else other).append(id)
        if other:
            await connection.execute(SQL.delete_eligible, other)
        if not meeting:
            return
        fresh = await connection.fetch(SQL.write_eligible, meeting, edition.number)
        invited = [row["member_id"] for row in fresh if members[row["member_id"]]]
        if not invited or not await connection.fetchval(PROGRAMME_SQL.is_inviting):
            return
        for row in await connection.fetch(SQL.invite, invited, edition.number):
            data = events.ProgrammeInvitedData(member_id=row["member_id"], edition=str(edition.number))
            transaction.publish(Outgoing(APPLICATIONS, events.ProgrammeInvited, data, row["invited_at"]))
