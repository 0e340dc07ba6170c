"""What the topics service is compared with, each a program of its own: ``python -m tests.load.baselines plain|floor``.

``plain`` is what a newcomer to FastStream writes for the same job; ``floor`` is what Kafka's client, the decoder and
PostgreSQL allow by themselves: the facts are stored, in a table with the keys and the two indexes of our replies, but
nothing is derived and nothing published.
"""

import argparse
import logging
import os
from datetime import datetime
from typing import Annotated, Any, Union

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from pydantic import BaseModel, Field, TypeAdapter

from shared.contracts.catalogue import FORUM
from shared.contracts.envelope import Event
from shared.forum.registers import stamp_of
from shared.web import run

KAFKA, POSTGRES = os.environ.get("STARS_KAFKA", ""), os.environ.get("STARS_POSTGRES", "")

PLAIN_SCHEMA = """
CREATE TABLE fact (id text PRIMARY KEY, type text NOT NULL, topic_id text NOT NULL, at timestamptz NOT NULL);
CREATE INDEX ON fact (topic_id, at);
CREATE TABLE topic (topic_id text PRIMARY KEY, author_id text, created_at timestamptz, first_reply_id text,
    first_response_at timestamptz);
"""

FLOOR_SCHEMA = """
CREATE TABLE fact (id text COLLATE "C" PRIMARY KEY, stamp text COLLATE "C" NOT NULL, type text NOT NULL,
    topic_id text COLLATE "C" NOT NULL, reply_id text COLLATE "C", author_id text COLLATE "C", at timestamptz NOT NULL);
CREATE INDEX ON fact (topic_id, at, id);
CREATE INDEX ON fact (author_id, topic_id, at, id);
CREATE TABLE consumer_offset (partition integer PRIMARY KEY, next_offset bigint NOT NULL) WITH (fillfactor = 50);
"""


# --- plain ------------------------------------------------------------------------------------------------------


class ForumEvent(BaseModel):
    """An event, with as much of it as this service needs."""

    id: str
    type: str
    time: datetime
    data: dict[str, Any]


async def plain(topic: str, group: str, policy: AckPolicy) -> None:
    """A service with one handler: a message, a transaction, an acknowledgement."""
    broker = KafkaBroker(KAFKA, logger=logging.getLogger("plain"), log_level=logging.DEBUG)
    pool = await asyncpg.create_pool(POSTGRES, min_size=1, max_size=4)

    @broker.subscriber(topic, group_id=group, auto_offset_reset="earliest", ack_policy=policy)
    async def handle(event: ForumEvent) -> None:
        topic_id = event.data["topic_id"]
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO fact (id, type, topic_id, at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
                event.id,
                event.type,
                topic_id,
                event.time,
            )
            if event.type == "topic-created":
                await connection.execute(
                    "INSERT INTO topic (topic_id, author_id, created_at) VALUES ($1, $2, $3) ON CONFLICT (topic_id)"
                    " DO UPDATE SET author_id = excluded.author_id, created_at = excluded.created_at",
                    topic_id,
                    event.data["author_id"],
                    event.time,
                )
            elif event.type == "reply-posted":
                await connection.execute(
                    "UPDATE topic SET first_reply_id = $2, first_response_at = $3 WHERE topic_id = $1"
                    " AND author_id <> $4 AND (first_response_at IS NULL OR first_response_at > $3)",
                    topic_id,
                    event.data["reply_id"],
                    event.time,
                    event.data["author_id"],
                )

    await FastStream(broker, logger=None).run()


# --- floor ------------------------------------------------------------------------------------------------------


async def floor(topic: str, records: int, batch: int) -> None:
    """Fetch, decode, insert and remember the offsets, a transaction a batch, until so many records are in."""
    adapter: TypeAdapter[Event] = TypeAdapter(
        Annotated[Union[tuple(FORUM.events)], Field(discriminator="type")]  # type: ignore[arg-type]  # noqa: UP007
    )
    consumer = AIOKafkaConsumer(bootstrap_servers=KAFKA, enable_auto_commit=False, auto_offset_reset="earliest")
    connection = await asyncpg.connect(POSTGRES)
    await consumer.start()
    try:
        await consumer._client.set_topics([topic])
        consumer.assign([TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()])
        done = 0
        while done < records:
            found = await consumer.getmany(timeout_ms=100, max_records=batch)
            rows, offsets = [], {}
            for at, messages in found.items():
                offsets[at.partition] = messages[-1].offset + 1
                for message in messages:
                    event = adapter.validate_json(message.value)
                    data = event.data
                    reply, author = getattr(data, "reply_id", None), getattr(data, "author_id", None)
                    rows.append((event.id, stamp_of(event), event.type, data.topic_id, reply, author, event.time))
            if not rows:
                continue
            async with connection.transaction():
                await connection.execute(
                    "INSERT INTO fact SELECT * FROM unnest("
                    "$1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])",
                    *map(list, zip(*rows, strict=True)),
                )
                await connection.execute(
                    "INSERT INTO consumer_offset SELECT * FROM unnest($1::int[], $2::bigint[])"
                    " ON CONFLICT (partition) DO UPDATE SET next_offset = excluded.next_offset",
                    list(offsets),
                    list(offsets.values()),
                )
            done += len(rows)
    finally:
        await consumer.stop()
        await connection.close()


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("which", choices=["plain", "floor"])
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", default="")
    parser.add_argument("--policy", default="ACK")
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--batch", type=int, default=500)
    given = parser.parse_args()
    if given.which == "plain":
        work = plain(given.topic, given.group, AckPolicy[given.policy])
    else:
        work = floor(given.topic, given.records, given.batch)
    run(work)


if __name__ == "__main__":
    main()
