"""What forums hear that do not read Kafka: who belongs into their group of Stars, and signed webhooks.

What is to be told is a row, written in the transaction that it follows from. One process after another takes due rows,
by a lease that frees them again if it dies; the network is spoken to outside of any transaction. The group is brought
to where it should be, so that doing so twice does no harm; a webhook keeps its id over all its tries.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import random
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import httpx

from services.applications.members import names_of
from shared.discourse import Discourse
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Transaction
from shared.postgres import UNAVAILABLE, Pool, Queries, arrays
from shared.settings import Settings
from shared.web.fetch import UNREACHABLE, fetch_json

log = logging.getLogger(__name__)

SQL = Queries(Path(__file__).parent / "sql" / "telling.sql")
SECONDS, BATCH, LEASE_SECONDS = 0.5, 50, 60
LONGEST_PAUSE = 3600.0
GIVE_UP = timedelta(days=3)


class Refused(Exception):
    """The other side does not do what it was asked; the message says why, and nothing secret."""


def pause_after(tries: int) -> float:
    """Seconds until the next try: longer each time, with jitter."""
    return float(min(2.0 ** min(tries, 20) * 2, LONGEST_PAUSE)) * random.uniform(0.8, 1.2)  # noqa: S311  no secret


def signature(secret: bytes, id: str, timestamp: int, body: str) -> str:
    """A Standard Webhooks signature: ``v1,`` and the base64 HMAC-SHA256 of id, timestamp and body, parted by dots."""
    signed = f"{id}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


class Group:
    """The group of Stars of one Discourse, over its admin API."""

    def __init__(
        self, url: str, group: int, key: str, user: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._forum, self._group, self._transport = Discourse(url), group, transport
        self._headers = {"Api-Key": key, "Api-Username": user}
        self._account = re.compile(re.escape(f"{self._forum.place}:u:") + r"(\d{1,18})")

    @classmethod
    def of(cls, settings: Settings) -> "Group | None":
        """The group that the settings name."""
        key, url, group = settings.discourse_api_key, settings.discourse_url, settings.discourse_star_group
        if key is None or url is None or group is None:
            return None
        return cls(url, group, key.get_secret_value(), settings.discourse_api_user)

    async def bring(self, member_id: str, wanted: bool) -> str | None:
        """Let a member be in the group or not, as it should be. Returns what there is to know.

        It looks first, so it may be asked any number of times. Raises UNREACHABLE and Refused.
        """
        account = self._account.fullmatch(member_id)
        if account is None:
            return "no account of this forum"
        number = account[1]
        status, user = await self._ask("GET", f"/admin/users/{number}.json")
        if status == 404:
            return "the account is gone"
        if status != 200 or not isinstance(user, dict):
            raise Refused(f"the forum answered {status} when asked for the account")
        groups = user.get("groups")
        there = {one.get("id") for one in groups if isinstance(one, dict)} if isinstance(groups, list) else set()
        if (self._group in there) == wanted:
            return None
        status, _ = await self._ask(
            "PUT" if wanted else "DELETE", f"/groups/{self._group}/members.json", {"user_ids": number}
        )
        if not 200 <= status < 300:
            raise Refused(f"the forum answered {status} when asked to change the group")
        return None

    async def _ask(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, Any]:
        headers = self._headers | ({"Content-Type": "application/x-www-form-urlencoded"} if form else {})
        return await fetch_json(
            self._forum.url + path,
            transport=self._transport,
            method=method,
            headers=headers,
            content=urlencode(form) if form else None,
        )


class Telling:
    """Writes down what others are to hear, and tells them."""

    def __init__(
        self,
        pool: Pool,
        group: Group | None,
        urls: Sequence[str],
        secret: bytes | None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._pool, self._group, self._transport = pool, group, transport
        self._urls, self._secret = (tuple(urls), secret) if secret else ((), b"")

    @classmethod
    def of(cls, settings: Settings, pool: Pool) -> "Telling":
        """As the settings say. Without a secret no webhook is sent: nobody could tell whether it is ours."""
        secret = settings.webhook_secret
        return cls(
            pool, Group.of(settings), settings.webhook_urls, secret.get_secret_value().encode() if secret else None
        )

    async def star(self, transaction: Transaction, since: Mapping[str, datetime], is_star: bool, news: bool) -> None:
        """Members became Stars, or are none any more, each since an instant."""
        await self.regroup(transaction, since)
        if self._urls and news:
            kind = "star-appointed" if is_star else "star-retired"
            await self._webhooks(transaction, [(member, kind, at, {}) for member, at in since.items()])

    async def regroup(self, transaction: Transaction, members: Iterable[str]) -> None:
        """Who is a Star, or whom an account stands for, changed: so may who belongs into the group."""
        if self._group is not None:
            await transaction.connection.execute(SQL.want, list(members))

    async def regroup_everyone(self) -> None:
        """Look at all, as nobody did while no group was set. Runs alone: nobody is appointed or merged meanwhile."""
        if self._group is None:
            return
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(FACTS_SQL.exclusive_lock)
            members = [row["member_id"] for row in await connection.fetch(SQL.everyone)]
            await connection.execute(SQL.want, members)

    async def answering(self, transaction: Transaction, claims: list[Any]) -> None:
        """Stars have taken on questions."""
        if self._urls:
            told = [
                (
                    one.data.member_id,
                    "star-answering",
                    one.time,
                    {"topic_id": one.data.topic_id, "until": one.data.until},
                )
                for one in claims
            ]
            await self._webhooks(transaction, told)

    async def _webhooks(self, transaction: Transaction, told: list[tuple[str, str, datetime, dict[str, Any]]]) -> None:
        names = await names_of(transaction.connection, [member for member, *_ in told])
        rows = []
        for member, kind, at, more in told:
            data = {"member_id": member, "name": names[member], **more}
            body = json.dumps({"type": kind, "timestamp": at, "data": data}, ensure_ascii=False, default=_plain)
            key = uuid.uuid4().hex
            rows += [(key, member, url, body) for url in self._urls]
        await transaction.connection.execute(SQL.write_webhooks, *arrays(rows))

    async def run(self) -> None:
        """Tell until cancelled."""
        looked = False
        while True:
            try:
                if not looked:
                    await self.regroup_everyone()
                    looked = True
                while await self.tick():
                    pass
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("others could not be told, it is tried again: %s", error)
            await asyncio.sleep(SECONDS)

    async def tick(self) -> int:
        """Tell what is due. Returns how many rows were taken."""
        count = 0
        if self._group is not None:
            members = await self._pool.fetch(SQL.take_members, BATCH, LEASE_SECONDS)
            await asyncio.gather(*(self._bring(self._group, row) for row in members))
            count += len(members)
        if self._urls:
            rows = await self._pool.fetch(SQL.take_webhooks, BATCH, LEASE_SECONDS)
            async with httpx.AsyncClient(transport=self._transport, timeout=10, follow_redirects=False) as client:
                await asyncio.gather(*(self._send(client, row) for row in rows))
            count += len(rows)
        return count

    async def _bring(self, group: Group, row: Any) -> None:
        try:
            problem = await group.bring(row["member_id"], row["wanted"])
        except (*UNREACHABLE, Refused) as error:
            said = str(error) if isinstance(error, Refused) else f"the forum does not answer ({type(error).__name__})"
            log.warning("the forum's group could not be changed, it is tried again: %s", said)
            await self._pool.execute(SQL.later_member, row["member_id"], pause_after(row["tries"]), said)
            return
        await self._pool.execute(SQL.brought, row["member_id"], row["wanted"], problem)

    async def _send(self, client: httpx.AsyncClient, row: Any) -> None:
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": row["key"],
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._secret or b"", row["key"], timestamp, row["body"]),
        }
        said: str
        try:
            async with client.stream("POST", row["url"], content=row["body"].encode(), headers=headers) as answer:
                if 200 <= answer.status_code < 300:
                    await self._pool.execute(SQL.sent, row["webhook_id"])
                    return
                said = f"answered {answer.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            said = type(error).__name__
        if datetime.now(UTC) - row["made_at"] > GIVE_UP:
            log.error("a webhook was given up after %s: %s", GIVE_UP, said)
            await self._pool.execute(SQL.sent, row["webhook_id"])
            return
        await self._pool.execute(SQL.later_webhook, row["webhook_id"], pause_after(row["tries"]), said)


def _plain(value: object) -> str:
    assert isinstance(value, datetime)
    return value.astimezone(UTC).isoformat()
