"""Words to Stars: with an audience, and an embargo until which they are for nobody else's ears."""

import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from services.applications.members import Members
from services.applications.programme import Programme
from shared.contracts import applications as events
from shared.contracts.catalogue import APPLICATIONS
from shared.messaging import Outbox, Outgoing
from shared.observability import current_traceparent
from shared.postgres import Queries
from shared.web import Principal, Problem, Role, decode_cursor, encode_cursor

SQL = Queries(Path(__file__).parent / "sql" / "announcements.sql")
EVERYONE, STARS, RANK = "everyone", "stars", "rank:"


class Announcements:
    """Stars of the audience read at once; what is meant for everyone, others read when its embargo is over."""

    def __init__(self, outbox: Outbox, members: Members, programme: Programme) -> None:
        self._outbox, self._members, self._programme = outbox, members, programme

    async def page(self, principal: Principal | None, limit: int, cursor: str | None) -> dict[str, Any]:
        """What somebody may read, the latest first."""
        before = decode_cursor(cursor, datetime, str) if cursor else [None, None]
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            me = await self._members.reading(connection, principal)
            ids = [] if me is None else await self._members.ids(connection, me)
            rank = await connection.fetchval(SQL.rank, ids)
            staff = principal is not None and principal.has(Role.STAFF)
            star = rank is not None or (principal is not None and principal.has(Role.STAR))
            rows = await connection.fetch(SQL.list, staff, star, rank, *before, limit + 1)
        shown = rows[:limit]
        more = len(rows) > limit
        return {
            "items": [
                {
                    "announcement_id": row["announcement_id"],
                    "title": row["title"],
                    "text": row["text"],
                    "audience": row["audience"],
                    "embargo_until": row["embargo_until"],
                    "under_embargo": row["under_embargo"],
                    "published_at": row["published_at"],
                }
                for row in shown
            ],
            "next": encode_cursor([shown[-1]["published_at"], shown[-1]["announcement_id"]]) if more else None,
        }

    async def publish(
        self, principal: Principal, title: str, text: str, audience: str, embargo_until: datetime | None
    ) -> str:
        """Tell it; returns its id. Raises Problem 400 for an audience that is none or an embargo that is over."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            document = (await self._programme.present(connection)).document
            audiences = {EVERYONE, STARS, *(f"{RANK}{one.id}" for one in document.ranks)}
            if audience not in audiences:
                raise Problem(400, f"An audience is one of {', '.join(sorted(audiences))}.", type="no-such-audience")
            now = await connection.fetchval("SELECT now()")
            if embargo_until is not None and embargo_until <= now:
                raise Problem(400, "An embargo ends in the future.", type="embargo-in-the-past")
            by = await self._members.reading(connection, principal)
            id = uuid.uuid4().hex
            await connection.execute(SQL.publish, id, title, text, audience, embargo_until, by)
            data = events.AnnouncementData(
                announcement_id=id, title=title, text=text, audience=audience, embargo_until=embargo_until
            )
            transaction.publish(
                Outgoing(APPLICATIONS, events.AnnouncementPublished, data, now, traceparent=current_traceparent())
            )
            return id
