"""What the notifier does by the clock: fan-outs page by page, digests that close, leases that ran out, Monday's report.

Rows that are due are taken by one replica, the others pass over them.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from services.notifier.news import STAFF, News
from services.notifier.notify import Telling, tell
from services.notifier.rules import CATEGORIES
from shared.contracts import notifier as events
from shared.contracts.catalogue import FORUM, NOTIFIER, TOPICS
from shared.forum import Facts
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox, Outgoing, caught_up_at
from shared.observability import metrics
from shared.postgres import UNAVAILABLE, Queries

log = logging.getLogger(__name__)

SQL = Queries(Path(__file__).parent / "sql" / "timers.sql")
SECONDS = 0.2
PAGE = 500
MONDAY_HOUR = 6
"""When staff are told of the week's promise, in UTC; not later than a day after."""

_RESEND = [name for name, category in CATEGORIES.items() if category.unknown == "resend"]


class Timers:
    """Everything that happens because it is time."""

    def __init__(self, outbox: Outbox, facts: Facts, cluster: Callable[[], str | None]) -> None:
        self._outbox, self._facts, self._cluster = outbox, facts, cluster

    async def run_jobs(self) -> None:
        """Work off what concerns very many, until cancelled."""
        await self._forever(self.work_page, SECONDS)

    async def run_clock(self) -> None:
        """Close digests, sweep leases, make Monday's report, until cancelled."""
        await self._forever(self.tick, 1.0)

    async def _forever(self, work: Callable[[], Awaitable[bool]], pause: float) -> None:
        while True:
            try:
                while await work():
                    # Others of this process may go first: a page is never more urgent than a batch from Kafka.
                    await asyncio.sleep(0)
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("timers could not look, they look again: %s", error)
                await asyncio.sleep(1)
            await asyncio.sleep(pause)

    # --- jobs ---------------------------------------------------------------------------------------------------

    async def work_page(self) -> bool:
        """Work off one page of one job. False where none is due."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.fetchrow(FACTS_SQL.begin_batch, False)
            job = await connection.fetchrow(SQL.take_job)
            if job is None:
                return False
            data, now = json.loads(job["data"]), job["now"]
            if job["kind"] == "look-again":
                await self._look_again(connection, job, data)
            else:
                news = News.from_plain(data, job["actor_id"])
                page = await self._page(connection, news, job["after"]) if news.until() > now else []
                members = await self._meant(connection, news, page)
                told = await tell(connection, self._facts, [Telling(member, news) for member in members], now)
                done = len(page) < PAGE
                # A cursor is a member's id: it does not outlive its use.
                await connection.execute(SQL.write_job, job["job_id"], "" if done else page[-1], told, done)
        return True

    async def _page(self, connection: Any, news: News, after: str) -> list[str]:
        """The next ids among which an audience is found, in their order."""
        audience = news.audience or {}
        kind = audience.get("kind")
        if kind == "followers":
            pairs = audience["of"]
            rows = await connection.fetch(SQL.followers, [p[0] for p in pairs], [p[1] for p in pairs], after, PAGE)
        elif kind == "asked":
            rows = await connection.fetch(SQL.asked, audience["topic_id"], after, PAGE)
        elif kind == "staff":
            rows = await connection.fetch(SQL.staff, after, PAGE)
        elif kind == "stars":
            rows = await connection.fetch(SQL.once_stars, after, PAGE)
        elif kind == "rank":
            rows = await connection.fetch(SQL.of_rank, audience["rank"], after, PAGE)
        elif kind == "everyone":
            rows = await connection.fetch(SQL.everyone, after, PAGE)
        else:
            log.warning("an audience that nobody knows: %r", kind)
            rows = []
        return [row["member_id"] for row in rows]

    async def _meant(self, connection: Any, news: News, page: list[str]) -> list[str]:
        """Those of a page who are meant: of followers asked to answer, and of Stars, who is a Star now."""
        audience = news.audience or {}
        if not page or not (audience["kind"] == "stars" or audience.get("stars")):
            return page
        return [row["member_id"] for row in await connection.fetch(SQL.stars_among, page)]

    async def _look_again(self, connection: Any, job: Any, data: dict[str, Any]) -> None:
        rows = await connection.fetch(SQL.waiting_of_topic, data["topic_id"], int(job["after"] or 0), PAGE)
        ids = [row["delivery_id"] for row in rows]
        if ids:
            await connection.execute(SQL.wake, ids)
        if len(ids) < PAGE:
            await connection.execute(SQL.end_job, job["job_id"])
        else:
            await connection.execute(SQL.write_job, job["job_id"], str(ids[-1]), len(ids), False)

    # --- clock --------------------------------------------------------------------------------------------------

    async def tick(self) -> bool:
        """Do what is due. True where there was so much of it that it is worth looking again at once."""
        swept = await self._sweep()
        closed = await self._close_digests()
        async with self._outbox.transaction() as transaction:
            now: datetime = await transaction.connection.fetchval("SELECT clock_timestamp()")
            await self._report(transaction.connection, now)
            await transaction.connection.execute(SQL.forget_old, now)
        return PAGE in (swept, closed)

    async def _sweep(self) -> int:
        """Leases that ran out: what had not begun goes back, of what had nobody knows."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            rows = await connection.fetch(SQL.sweep, _RESEND, PAGE)
            for row in rows:
                metrics.SWEPT.labels(row["was"]).inc()
                if row["state"] == "unknown":
                    failed = events.NotificationFailedData(
                        member_id=row["member_id"],
                        delivery_id=str(row["delivery_id"]),
                        channel=row["channel"],
                        category=row["category"],
                        reason="the process died while it was sent",
                    )
                    transaction.publish(Outgoing(NOTIFIER, events.NotificationFailed, failed, row["now"]))
        return len(rows)

    async def _close_digests(self) -> int:
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            category = CATEGORIES["digest"]
            rows = await connection.fetch(SQL.close_digests, PAGE, category.age_limit, category.priority)
            if rows:
                metrics.TIMERS_FIRED.labels("notifier", "digest").inc(len(rows))
        return len(rows)

    async def _report(self, connection: Any, now: datetime) -> None:
        """On Mondays, once a week: how the promise was kept in the week that ended."""
        monday = (now - timedelta(days=now.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
        begins = monday + timedelta(hours=MONDAY_HOUR)
        if not begins <= now < begins + timedelta(days=1):
            return
        year, week, _ = (monday - timedelta(days=1)).isocalendar()
        about = f"{year}-W{week:02d}"
        if await connection.fetchval(SQL.job_exists, f"promise {about}"):
            return
        cluster = self._cluster()
        for stream in (FORUM, TOPICS):
            read_until = None if cluster is None else await caught_up_at(connection, cluster, stream)
            if read_until is None or read_until < monday:
                return  # not all that happened in that week is here yet
        figures = await connection.fetchrow(SQL.week, monday - timedelta(days=7), monday)
        data = {"week": about, "met": figures["met"], "missed": figures["missed"]}
        news = News("promise", "promise", (about,), data, begins.astimezone(UTC), audience=STAFF)
        await connection.execute(
            SQL.write_job_of, f"promise {about}", json.dumps(news.plain()), not figures["met"] + figures["missed"]
        )
