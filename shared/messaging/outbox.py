"""What a transaction publishes: written beside the state it follows from, sent by the relay after the commit."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from shared.contracts.catalogue import Stream
from shared.contracts.codec import encode
from shared.contracts.envelope import Data, Event
from shared.postgres import Pool, Queries, arrays

SQL = Queries(Path(__file__).parent / "sql" / "messaging.sql")


@dataclass(slots=True)
class Outgoing:
    """A fact to be published. ``time`` is when it happened; id and sequence are given when it is written.

    ``data`` is the event's own class, or, where thousands are made at once, a mapping of the same shape.
    """

    stream: Stream
    event: type[Event]
    data: Data | dict[str, Any]
    time: datetime
    backfill: bool = False
    traceparent: str | None = None

    @property
    def key(self) -> str:
        """The record's key: of one key, events keep their order."""
        name = self.stream.key_field(self.event.type_name())
        key: str = self.data[name] if isinstance(self.data, dict) else getattr(self.data, name)
        return key


class Transaction:
    """A database transaction that can publish. Whoever publishes about a key must hold that aggregate's row lock,
    or the order of its events is not the order of its commits."""

    def __init__(self, connection: Any, source: str) -> None:
        self.connection = connection
        self._source = source
        self._outgoing: list[Outgoing] = []
        self._forwarded: list[tuple[Stream, str, Event]] = []
        self._after_commit: list[Callable[[], None]] = []

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call this once all of it can be seen by others; never if it is undone."""
        self._after_commit.append(call)

    def committed(self) -> None:
        """Say that it is: for who began the transaction."""
        for call in self._after_commit:
            call()

    def publish(self, outgoing: Outgoing) -> None:
        """Publish a fact of ours with the next sequence of its key."""
        self._outgoing.append(outgoing)

    def forward(self, stream: Stream, key: str, event: Event) -> None:
        """Publish an event as it is, under its own id: a copy for another stream, which has no sequence there."""
        self._forwarded.append((stream, key, event))

    async def write_outbox(self) -> int:
        """Write what was published, in order, with two statements whatever its size. Returns how many."""
        rows: list[tuple[str, str, bytes]] = []
        if self._outgoing:
            places = [(one.stream.name, one.key) for one in self._outgoing]
            counts = Counter(places)
            keys = sorted(counts)
            taken = await self.connection.fetch(
                SQL.take_sequences, [k[0] for k in keys], [k[1] for k in keys], [counts[k] for k in keys]
            )
            sequence = {(row["stream"], row["key"]): row["last"] - counts[row["stream"], row["key"]] for row in taken}
            for one, at in zip(self._outgoing, places, strict=True):
                sequence[at] += 1
                rows.append((*at, self._envelope(one, event_id(*at, sequence[at]), sequence[at])))
        rows += [(stream.name, key, encode(event)) for stream, key, event in self._forwarded]
        if rows:
            await self.connection.execute(SQL.write_outbox, *arrays(rows))
        self._outgoing, self._forwarded = [], []
        return len(rows)

    def _envelope(self, one: Outgoing, id: str, sequence: int) -> bytes:
        """The envelope in JSON, as ``encode`` writes that of an event, without making one."""
        envelope = {
            "specversion": "1.0",
            "id": id,
            "source": self._source,
            "type": one.event.type_name(),
            "time": one.time,
            "datacontenttype": "application/json",
            "dataschema": one.event.schema_path(),
            "sequence": sequence,
            "data": one.data if isinstance(one.data, dict) else one.data.model_dump(exclude_unset=True),
        }
        if one.backfill:
            envelope["backfill"] = True
        if one.traceparent:
            envelope["traceparent"] = one.traceparent
        return to_json(envelope)


def event_id(stream: str, key: str, sequence: int) -> str:
    """The id of an event of ours."""
    return f"{stream}/{_bounded(key)}/{sequence}"


def _bounded(key: str) -> str:
    """A key inside an event's id, which has no room for the longest keys."""
    return key if len(key) <= 200 else hashlib.sha256(key.encode()).hexdigest()


class Outbox:
    """The way in for doors that are not Kafka: HTTP requests and timers."""

    def __init__(self, pool: Pool, service: str) -> None:
        self._pool = pool
        self.source = f"/constellation/{service}"
        self.written = asyncio.Event()
        """Set after each commit that published: the relay of this process need not wait for its next look."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction whose outgoing events are committed with it, or not at all."""
        async with self._pool.acquire() as connection, self.transaction_on(connection) as transaction:
            yield transaction

    @asynccontextmanager
    async def transaction_on(self, connection: Any, isolation: str | None = None) -> AsyncIterator[Transaction]:
        """The same on a connection of the caller's own."""
        async with connection.transaction(isolation=isolation):
            transaction = Transaction(connection, self.source)
            yield transaction
            if await transaction.write_outbox():
                transaction.after_commit(self.written.set)
        transaction.committed()


async def caught_up_at(connection: Any, cluster: str, stream: Stream) -> datetime | None:
    """The instant up to which every partition of a stream is known to have been read to its end; None before that."""
    instant: datetime | None = await connection.fetchval(SQL.caught_up_at, cluster, stream.name)
    return instant
