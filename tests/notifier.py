"""The notifier without Kafka: batches straight into the consumer, a pipeline that a test turns by hand."""

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from services.notifier.channels import Attempts, Channel, Outcome, Ready
from services.notifier.channels.mailbox import MailboxChannel
from services.notifier.consumer import STREAMS, NotifierConsumer
from services.notifier.contacts import Contacts
from services.notifier.desk import Desk
from services.notifier.inbox import Inbox
from services.notifier.mail import Composer
from services.notifier.pipeline import Pipeline
from services.notifier.preferences import Preferences
from services.notifier.rules import ORDINARY, URGENT
from services.notifier.timers import Timers
from services.notifier.tokens import Tokens
from shared.contracts.catalogue import BY_NAME
from shared.contracts.codec import StrictReader
from shared.forum import Facts
from shared.messaging import Batch, Outbox, Record
from shared.postgres import Pool

KEY = b"the erasure key of the notifier's tests"
READER = StrictReader(STREAMS)
STREAM_OF = {event.type_name(): stream.name for stream in reversed(STREAMS) for event in stream.events}
BASE = "https://stars.example"
TOKENS = Tokens({1: b"k" * 32})


def composer(sender: str = "Stars <stars@stars.example>") -> Composer:
    """A composer whose links can be read with TOKENS."""
    return Composer(TOKENS, lambda: BASE, sender)


class Scripted:
    """A channel that does what a test says, and remembers what it was given."""

    def __init__(self, name: str = "email", script: Callable[[Ready], Outcome] | None = None) -> None:
        self.name, self._script = name, script or (lambda ready: Outcome("accepted", address=ready.address))
        self.sent: list[Ready] = []

    def available(self) -> bool:
        return True

    async def deliver(self, batch: Sequence[Ready], attempts: Attempts, *, urgent: bool) -> None:
        for ready in batch:
            if await attempts.begin(ready):
                self.sent.append(ready)
                await attempts.finish(ready, self._script(ready))

    async def close(self) -> None:
        pass


class World:
    """A notifier on a schema of its own."""

    def __init__(self, pool: Pool, channels: Sequence[Channel] | None = None, lease: float = 20) -> None:
        self.pool, self.outbox = pool, Outbox(pool, "notifier")
        self.facts = Facts(KEY, topics=True, stars=True)
        self.consumer = NotifierConsumer(self.facts)
        self.channels: Sequence[Channel] = channels or [MailboxChannel(composer()), Scripted("push")]
        self.pipeline = Pipeline(pool, self.outbox, self.channels, timedelta(seconds=lease), luck=lambda: 0.5)
        self.timers = Timers(self.outbox, self.facts, lambda: "cluster")
        self.preferences = Preferences(self.outbox, self.facts)
        self.contacts = Contacts(self.outbox, self.facts, self.preferences)
        self.inbox = Inbox(pool, lambda: BASE)
        self.desk = Desk(pool, self.outbox, self.facts)
        self._n, self._name = 0, uuid.uuid4().hex[:8]

    def event(
        self, type_: str, /, at: datetime | None = None, *, backfill: bool = False, **data: Any
    ) -> dict[str, Any]:
        """An envelope. Events of our own services count their sequence up."""
        self._n += 1
        stream = STREAM_OF[type_]
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"{self._name}-{self._n}",
            "source": "/test",
            "type": type_,
            "time": (at or datetime.now(UTC)).isoformat(),
            "data": data,
        }
        if backfill:
            event["backfill"] = True
        if stream.startswith(("topics.", "leaderboard.", "applications.")):
            event["sequence"] = self._n
        return event

    async def happen(self, *events: dict[str, Any]) -> None:
        """One batch, in a transaction of its own."""
        records = [
            Record(READER.read(event), STREAM_OF[event["type"]], 0, n, datetime.now(UTC))
            for n, event in enumerate(events)
        ]
        async with self.outbox.transaction() as transaction:
            await self.consumer.apply(Batch(transaction, records))

    async def member(self, member_id: str, email: str | None = "", **more: Any) -> None:
        """A member with an address of theirs (None: without)."""
        data = {"member_id": member_id, "status": "active", "name": f"Name of {member_id}", **more}
        events = [self.event("member-registered", **data)]
        if email is not None:
            address = email or f"{member_id}@mail.example"
            events.append(self.event("contact-changed", member_id=member_id, email=address))
        await self.happen(*events)

    def asked(self, topic_id: str, *candidates: str, **more: Any) -> dict[str, Any]:
        """An answer-needed to candidates; without any, for who follows the space, tags or language."""
        data: dict[str, Any] = {
            "topic_id": topic_id,
            "author_id": "asker",
            "title": f"Title of {topic_id}",
            "url": f"https://forum.example/t/{topic_id}",
            "space": "help",
            "tags": [],
            "stage": "new",
            "due_at": (datetime.now(UTC) + timedelta(hours=40)).isoformat(),
            "candidates": [{"member_id": one, "score": 1.0} for one in candidates],
        }
        if candidates:
            data["arm"] = "routed"
        return self.event("answer-needed", **(data | more))

    async def turn(self, times: int = 1) -> int:
        """Every lane until nothing is due any more; returns how many deliveries were looked at."""
        looked = 0
        for _ in range(times):
            for channel in self.channels:
                for urgent, priorities in ((True, URGENT), (False, ORDINARY)):
                    while channel.available():
                        taken, batch = await self.pipeline.claim(channel.name, priorities, 100)
                        if not taken:
                            break
                        looked += taken
                        await channel.deliver(batch, self.pipeline, urgent=urgent)
                        await self.pipeline._finish.drained()
                        await self.pipeline._release(batch)
        return looked

    async def jobs(self) -> None:
        """Fan-outs and the like, to their end."""
        while await self.timers.work_page():
            pass

    async def everything(self) -> None:
        """Jobs, clock and lanes."""
        await self.jobs()
        await self.timers.tick()
        await self.jobs()
        await self.turn()

    async def deliveries(self, member: str | None = None, **which: Any) -> list[dict[str, Any]]:
        """What the desk says, earliest first."""
        found = await self.desk.deliveries(member=member, limit=200, **which)
        return list(reversed(found["items"]))

    async def states(self, member: str, channel: str = "email") -> list[tuple[str, str | None]]:
        """State and reason of a member's deliveries over a channel."""
        return [(one["state"], one["reason"]) for one in await self.deliveries(member, channel=channel)]

    async def mails(self, member: str | None = None) -> list[dict[str, Any]]:
        """The local mailbox, earliest first."""
        found = await self.desk.mails(member, 200, None)
        return list(reversed(found["items"]))

    async def published(self, stream: str) -> list[dict[str, Any]]:
        """What waits in the outbox for a stream."""
        rows = await self.pool.fetch("SELECT value FROM outbox WHERE stream = $1 ORDER BY id", BY_NAME[stream].name)
        return [json.loads(row["value"]) for row in rows]

    async def make_due(self) -> None:
        """What is put off is due now."""
        await self.pool.execute("UPDATE delivery SET due_at = now() WHERE state IN ('pending', 'retry')")

    async def empty(self) -> None:
        """Forget everything."""
        rows = await self.pool.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'notifier'"
            " AND tablename NOT IN ('migration', 'signing_key')"
        )
        await self.pool.execute(f"TRUNCATE {', '.join(row['tablename'] for row in rows)}")


async def running(pipeline: Pipeline, until: Callable[[], Any], seconds: float = 30) -> None:
    """Run a pipeline until the awaited answer of UNTIL is true."""
    task = asyncio.create_task(pipeline.run())
    try:
        async with asyncio.timeout(seconds):
            while not await until():
                assert not task.done(), task
                await asyncio.sleep(0.02)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
