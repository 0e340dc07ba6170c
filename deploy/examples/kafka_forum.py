"""A forum that writes its events to Kafka itself: a question, a reply, and the reply accepted.

.venv/bin/python deploy/examples/kafka_forum.py

What counts: the value is the whole CloudEvent in JSON, the key is the topic's id in UTF-8, so that everything about a
topic is in one partition and in order, the header says what it is, and the partitioner is murmur2, which is Java's and
aiokafka's own (librdkafka calls it murmur2_random and has another one by default). Nobody checks here what the HTTP
door checks: a mistake ends as a dead letter (`./stars dead-letters list topics`). Try events at the door first.
"""

import argparse
import asyncio
import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

STREAM = "forum.events"
HEADERS = [("content-type", b"application/cloudevents+json")]


def event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """Something that happened now. ``source`` and ``id`` name it: derived, so that a repeat is the same event."""
    return {
        "specversion": "1.0",
        "id": f"{kind}/{data.get('reply_id', data['topic_id'])}",
        "source": "/forum/kafka-example",
        "type": kind,
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": data,
    }


async def publish(producer: AIOKafkaProducer, *events: dict[str, Any]) -> None:
    """Send events in their order, and return when Kafka has them all."""
    sent = [
        await producer.send(STREAM, json.dumps(one).encode(), key=one["data"]["topic_id"].encode(), headers=HEADERS)
        for one in events
    ]
    await asyncio.gather(*sent)


async def run(kafka: str, title: str) -> str:
    """A question, its answer and the solution; returns the topic's id."""
    topic_id = f"kafka-example:{secrets.token_hex(4)}"
    reply_id = f"{topic_id}:1"
    producer = AIOKafkaProducer(bootstrap_servers=kafka.split(","), acks="all")
    await producer.start()
    try:
        await publish(
            producer,
            event(
                "topic-created",
                {
                    "topic_id": topic_id,
                    "author_id": "kafka-example:ada",
                    "author_kind": "member",
                    "title": title,
                    "space": "Example",
                    "tags": ["kafka"],
                    "language": "en",
                    "kind": "question",
                },
            ),
        )
        await publish(
            producer,
            event(
                "reply-posted",
                {
                    "topic_id": topic_id,
                    "reply_id": reply_id,
                    "author_id": "kafka-example:ben",
                    "author_kind": "member",
                    "visibility": "public",
                },
            ),
            event(
                "solution-accepted",
                {"topic_id": topic_id, "reply_id": reply_id, "accepted_by": "kafka-example:ada"},
            ),
        )
    finally:
        await producer.stop()
    return topic_id


def main() -> None:
    """Publish, and say where to look."""
    parser = argparse.ArgumentParser(description="Publishes a question, a reply and a solution straight to Kafka.")
    parser.add_argument("--kafka", default=os.environ.get("STARS_KAFKA"), help="Kafka's servers, host:port[,host:port]")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("STARS_DATA", ".stars")), help="or an instance"
    )
    parser.add_argument("--title", default="How do I move my playlists?", help="what is asked")
    given = parser.parse_args()
    url = os.environ.get("STARS_URL", "http://localhost:8080")
    if not given.kafka:
        try:
            instance = json.loads((given.data / "instance.json").read_text())
        except OSError:
            parser.error(f"no instance runs on {given.data}: start one with `./stars up`, or give --kafka host:port")
        given.kafka, url = instance["kafka"], instance["url"]
    topic_id = asyncio.run(run(given.kafka, given.title))
    print(f"published. Look at it: curl {url}/topics/api/topics/{topic_id}")


if __name__ == "__main__":
    main()
