"""The desk: did Ada get it, and if not, why? Deliveries with their whole life, suppressions, providers."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from services.notifier.breaker import Breaker
from services.notifier.rules import CATEGORIES
from shared.forum import Facts
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox
from shared.observability import metrics
from shared.postgres import Pool, Queries
from shared.web import Problem, decode_cursor, encode_cursor

SQL = Queries(Path(__file__).parent / "sql" / "desk.sql")

FINAL = ("accepted", "unknown", "bounced", "suppressed", "skipped", "dead")
STATES = ("pending", "leased", "sending", "retry", *FINAL)


class Desk:
    """What staff see and may do."""

    def __init__(self, pool: Pool, outbox: Outbox, facts: Facts) -> None:
        self._pool, self._outbox, self._facts = pool, outbox, facts

    async def deliveries(
        self,
        *,
        member: str | None = None,
        state: str | None = None,
        channel: str | None = None,
        category: str | None = None,
        topic: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Deliveries, latest first."""
        [after] = decode_cursor(cursor, int) if cursor is not None else [None]
        async with self._pool.acquire() as connection:
            accounts = await self._accounts(connection, member)
            query = SQL.deliveries.replace("{columns}", SQL.columns)
            query = query.replace("{which}", SQL.of_topic if topic is not None else SQL.of_all)
            rows = await connection.fetch(query, accounts, state, channel, category, topic, after, limit + 1)
        more = len(rows) > limit
        return {
            "items": [_delivery(row) for row in rows[:limit]],
            "next": encode_cursor([rows[limit - 1]["delivery_id"]]) if more else None,
        }

    async def delivery(self, delivery_id: int) -> dict[str, Any]:
        """One delivery. Raises Problem 404."""
        row = await self._pool.fetchrow(SQL.delivery.replace("{columns}", SQL.columns), delivery_id)
        if row is None:
            raise Problem(404, "There is no such delivery.")
        return _delivery(row)

    async def resend(self, delivery_id: int, by: str) -> dict[str, Any]:
        """Send once more, whatever the hour and the budget; suppressions and what is gone still hold. Raises Problem
        404, 409 where it is under way."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            row = await self._locked(connection, delivery_id)
            if row["state"] not in FINAL or row["channel"] == "inbox":
                raise Problem(409, f"It is {row['state']}: there is nothing to send again.", state=row["state"])
            limit = CATEGORIES[row["category"]].age_limit
            await connection.execute(SQL.resend, delivery_id, limit, by)
        return await self.delivery(delivery_id)

    async def cancel(self, delivery_id: int, by: str) -> dict[str, Any]:
        """Do not send what waits. Raises Problem 404, 409 where it is sent or being sent."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            row = await self._locked(connection, delivery_id)
            if row["state"] not in ("pending", "leased", "retry"):
                raise Problem(409, f"It is {row['state']}: there is nothing to cancel.", state=row["state"])
            await connection.execute(SQL.cancel, delivery_id, by)
        return await self.delivery(delivery_id)

    async def _accounts(self, connection: Any, member: str | None) -> list[str] | None:
        """All accounts that are one member's, for what was sent before a merge; None for everyone's."""
        return None if member is None else [row["id"] for row in await connection.fetch(SQL.accounts, member)]

    async def _locked(self, connection: Any, delivery_id: int) -> Any:
        row = await connection.fetchrow(SQL.lock, delivery_id)
        if row is None:
            raise Problem(404, "There is no such delivery.")
        return row

    async def suppressions(self, limit: int, cursor: str | None) -> dict[str, Any]:
        """Addresses that nothing is sent to, latest first."""
        [after] = decode_cursor(cursor, int) if cursor is not None else [None]
        rows = await self._pool.fetch(SQL.suppressions, after, limit + 1)
        more = len(rows) > limit
        items = [
            {
                "suppression_id": str(row["suppression_id"]),
                "channel": row["channel"],
                "address": masked(row["address"]),
                "member_id": row["member_id"],
                "reason": row["reason"],
                "at": row["at"],
            }
            for row in rows[:limit]
        ]
        return {"items": items, "next": encode_cursor([rows[limit - 1]["suppression_id"]]) if more else None}

    async def lift(self, suppression_id: int) -> None:
        """Send there again. Raises Problem 404."""
        if not await self._pool.fetchval(SQL.lift, suppression_id):
            raise Problem(404, "There is no such suppression.")

    async def providers(self) -> list[dict[str, Any]]:
        """How each provider does, and what waits for each channel."""
        return [dict(row) for row in await self._pool.fetch(SQL.providers)]

    async def waiting(self) -> dict[str, int]:
        """How many deliveries wait for each channel, counted up to a thousand."""
        return {row["channel"]: row["waiting"] for row in await self._pool.fetch(SQL.waiting)}

    async def mails(self, member: str | None, limit: int, cursor: str | None) -> dict[str, Any]:
        """The local mailbox, latest first."""
        [after] = decode_cursor(cursor, int) if cursor is not None else [None]
        rows = await self._pool.fetch(SQL.mails, await self._accounts(self._pool, member), after, limit + 1)
        more = len(rows) > limit
        items = [{**dict(row), "mail_id": str(row["mail_id"])} for row in rows[:limit]]
        return {"items": items, "next": encode_cursor([rows[limit - 1]["mail_id"]]) if more else None}

    async def mail(self, mail_id: int) -> dict[str, Any]:
        """One mail of the local mailbox with its source. Raises Problem 404."""
        row = await self._pool.fetchrow(SQL.mail, mail_id)
        if row is None:
            raise Problem(404, "There is no such mail.")
        return {**dict(row), "mail_id": str(row["mail_id"])}


def masked(address: str | None) -> str | None:
    """An address as far as one must see it to tell which of two it is."""
    if address is None:
        return None
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}" if local else "…"


def _delivery(row: Any) -> dict[str, Any]:
    history = [
        {
            "at": datetime.fromisoformat(entry["at"]),
            "state": entry["state"],
            "reason": entry.get("reason"),
            "detail": f"by {entry['by']}" if "by" in entry else entry.get("detail"),
            "provider": entry.get("provider"),
            "until": datetime.fromisoformat(entry["until"]) if entry.get("until") else None,
        }
        for entry in json.loads(row["history"])
    ]
    return {
        "delivery_id": str(row["delivery_id"]),
        "notification_id": str(row["notification_id"]),
        "member_id": row["member_id"],
        "channel": row["channel"],
        "category": row["category"],
        "what": row["what"],
        "topic_id": row["topic_id"],
        "state": row["state"],
        "reason": row["reason"],
        "address": masked(row["address"]),
        "provider": row["provider"],
        "attempts": row["attempts"],
        "made_at": row["made_at"],
        "due_at": row["due_at"] if row["state"] in ("pending", "retry") else None,
        "expires_at": row["expires_at"],
        "history": history,
    }


class ProviderBook:
    """Writes down how providers do, so that the desk of every process can say it."""

    def __init__(self, pool: Pool, channel: str) -> None:
        self._pool, self._channel = pool, channel
        self._waiting: dict[str, tuple[int, float, str | None, bool]] = {}

    def changed(self, breaker: Breaker) -> None:
        """A breaker opened or closed."""
        opened = bool(breaker.opened)
        metrics.PROVIDER_OPEN.labels(self._channel, breaker.name).set(opened)
        seconds = min(breaker.longest, breaker.shortest * 2 ** max(0, breaker.opened - 1)) if opened else 0.0
        self._waiting[breaker.name] = (breaker.failures, seconds, breaker.reason, not opened)

    def accepted(self, name: str) -> None:
        """A provider took something; told now and then."""
        self._waiting.setdefault(name, (0, 0.0, None, True))

    async def write(self) -> None:
        """Write down what is new."""
        while self._waiting:
            name, (failures, seconds, reason, accepted) = self._waiting.popitem()
            await self._pool.execute(SQL.write_provider, name, self._channel, failures, seconds, reason, accepted)
