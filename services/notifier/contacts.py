"""Contacts: the forum's address, and one of the member's own that is used once they have shown that it is theirs."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from services.notifier.mail import NotAnAddress, address_of
from services.notifier.news import News
from services.notifier.notify import Telling, tell
from services.notifier.preferences import Preferences
from services.notifier.tokens import Grant
from shared.forum import Facts
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox
from shared.postgres import Queries
from shared.web import Problem

SQL = Queries(Path(__file__).parent / "sql" / "contacts.sql")

MAILS_AN_HOUR = 5


class Contacts:
    """Reading, asking for and verifying addresses."""

    def __init__(self, outbox: Outbox, facts: Facts, preferences: Preferences) -> None:
        self._outbox, self._facts, self._preferences = outbox, facts, preferences

    async def read(self, member_id: str) -> dict[str, Any]:
        """Where mail goes, and what waits to be verified."""
        async with self._outbox.transaction() as transaction:
            member = await self._preferences.member(transaction.connection, member_id)
            return await self._answer(transaction.connection, member)

    async def _answer(self, connection: Any, member: str) -> dict[str, Any]:
        row = await connection.fetchrow(SQL.read, member)
        own = row["own_email"]
        return {
            "member_id": member,
            "email": own or row["forum_email"],
            "source": "own" if own else ("forum" if row["forum_email"] else None),
            "verified": bool(own),
            "pending_email": row["pending_email"],
            "suppressed": row["suppressed"],
        }

    async def ask(self, member_id: str, email: str | None) -> dict[str, Any]:
        """Ask for another address: a mail goes there, and until its link is used nothing changes. None takes the
        member's own address away. Raises Problem 400 for what is no address, 429 for too many mails in an hour."""
        if email is not None:
            try:
                address_of(email)
            except NotAnAddress as error:
                raise Problem(400, f"email: {error}", type="invalid-request") from None
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            member = await self._preferences.member(connection, member_id)
            now: datetime = await connection.fetchval("SELECT clock_timestamp()")
            await connection.execute(SQL.ensure, member)
            row = await connection.fetchrow(SQL.lock, member)
            if email is None:
                await connection.execute(SQL.forget, member)
            elif row["email"] is not None and row["email"] == email:
                await connection.execute(SQL.settle, member)
            else:
                recent = row["asked_at"] is not None and now - row["asked_at"] < timedelta(hours=1)
                asked = row["asked"] if recent else 0
                if asked >= MAILS_AN_HOUR:
                    raise Problem(
                        429,
                        "That was asked for very often. Try again in an hour.",
                        headers={"Retry-After": "3600"},
                    )
                await connection.execute(SQL.ask, member, email, row["asked_at"] if recent else now, asked + 1)
                news = News("verification", "verification", (email, now.isoformat()), {"email": email}, now)
                await tell(connection, self._facts, [Telling(member, news)], now)
            return await self._answer(connection, member)

    async def verify(self, grant: Grant) -> bool:
        """Use the link of a verification mail. False where it is no longer the address that was asked for."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            try:
                member = await self._preferences.member(connection, grant.member_id)
            except Problem:
                return False
            verified = await connection.fetchval(SQL.verify, member, grant.detail)
            if verified:
                await connection.execute(SQL.lift, member, grant.detail.lower())
                await connection.execute(SQL.wake_waiting, member)
            return bool(verified)
