"""What a transaction publishes: written beside the state it follows from, sent by the relay after the commit."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from shared.contracts.catalogue import Stream
from shared.contracts.codec import encode
from shared.contracts.envelope import Data, Event
from shared.postgres import Pool, Queries

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
        name, data = self.stream.key_field(_names(self.event)[0]), self.data
        key: str = data[name] if isinstance(data, dict) else getattr(data, name)
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
        places = [(one.stream.name, one.key) for one in self._outgoing]
        sequence = await self._take_sequences(Counter(places)) if places else {}
        values = []
        for one, place in zip(self._outgoing, places, strict=True):
            n = sequence[place] = sequence[place] + 1
            values.append(self._envelope(one, event_id(*place, n), n))
        for stream, key, event in self._forwarded:
            places.append((stream.name, key))
            values.append(encode(event))
        if values:
            rows = [(stream, key, value) for (stream, key), value in zip(places, values, strict=True)]
            # COPY writes whole pages where INSERT writes rows.
            await self.connection.copy_records_to_table("outbox", records=rows, columns=("stream", "key", "value"))
        self._outgoing, self._forwarded = [], []
        return len(values)

    async def _take_sequences(self, counts: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Of each stream and key the last sequence that was given before; as many as are counted are ours now."""
        places = sorted(counts)
        rows = await self.connection.fetch(
            SQL.take_sequences, [one[0] for one in places], [one[1] for one in places], [counts[one] for one in places]
        )
        return {(place := (row["stream"], row["key"])): row["last"] - counts[place] for row in rows}

    def _envelope(self, one: Outgoing, id: str, sequence: int) -> bytes:
        """The envelope in JSON, as ``encode`` writes that of an event, without making one."""
        type_name, schema = _names(one.event)
        envelope = {
            "specversion": "1.0",
            "id": id,
            "source": self._source,
            "type": type_name,
            "time": one.time,
            "datacontenttype": "application/json",
            "dataschema": schema,
            "sequence": sequence,
            "data": one.data if isinstance(one.data, dict) else one.data.model_dump(exclude_unset=True),
        }
        if one.backfill:
            envelope["backfill"] = True
        if one.traceparent:
            envelope["traceparent"] = one.traceparent
        return to_json(envelope)


@cache
def _names(event: type[Event]) -> tuple[str, str]:
    """Its type, and where its schema is: of thousands of events in a row these are the same."""
    return event.type_name(), event.schema_path()


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
