"""The mix of events that benchmarks apply: 20% topics, 50% replies, 5% accepts, 25% kudos, and one hot topic."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

HOT_SHARE = 0.05


START = datetime(2024, 1, 1, tzinfo=UTC)

Record = tuple[str, bytes]
"""Key and value, as they go to Kafka."""


def envelope(event_type: str, id: str, time: datetime, topic: str, **data: Any) -> dict[str, Any]:
    """An event as a forum would send it."""
    return {
        "specversion": "1.0",
        "id": id,
        "source": "/load",
        "type": event_type,
        "time": time.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {"topic_id": topic, **data},
    }


def question(id: str, time: datetime, topic: str, author: str, space: str) -> dict[str, Any]:
    """A topic-created."""
    return envelope(
        "topic-created",
        id,
        time,
        topic,
        author_id=author,
        author_kind="member",
        title="How do I move my playlists to another account without losing them?",
        space=space,
        tags=["playlists", "account"],
        language="en",
        kind="question",
    )


def reply(id: str, time: datetime, topic: str, reply_id: str, author: str) -> dict[str, Any]:
    """A reply-posted."""
    return envelope(
        "reply-posted",
        id,
        time,
        topic,
        reply_id=reply_id,
        author_id=author,
        author_kind="member",
        visibility="public",
    )


def thread(topic: str, first: int, last: int) -> Iterator[Record]:
    """Replies ``first`` to ``last`` of one topic, a second apart; with the first comes the topic itself."""
    start = START - timedelta(days=30)
    if first == 1:
        yield topic, json.dumps(question(f"{topic}-0", start, topic, "m0", "space-0")).encode()
    for n in range(first, last + 1):
        time = start + timedelta(seconds=n)
        author = f"m{1 + n % 20_000}"
        yield topic, json.dumps(reply(f"{topic}-{n}", time, topic, f"{topic}-r{n}", author)).encode()


def mix(
    events: int, *, seed: int = 1, prefix: str = "t", hot: str | None = "hot", hot_is_there: bool = False
) -> Iterator[Record]:
    """Records of ``events`` events; ``hot`` names a topic that takes 5% of the replies, made first unless it exists."""
    rng = random.Random(seed)
    topics: list[str] = []
    replies: list[tuple[str, str]] = []

    def at(n: int) -> datetime:
        return START + timedelta(seconds=n * 7)

    def record(n: int, event_type: str, topic: str, **data: Any) -> Record:
        return topic, json.dumps(envelope(event_type, f"{prefix}{n}", at(n), topic, **data)).encode()

    def created(n: int, topic: str) -> Record:
        author, space = f"m{rng.randrange(20_000)}", f"space-{rng.randrange(8)}"
        return topic, json.dumps(question(f"{prefix}{n}", at(n), topic, author, space)).encode()

    if hot is not None and not hot_is_there:
        topics.append(hot)
        yield created(0, hot)
    for n in range(1, events + 1 - len(topics)):
        dice = rng.random()
        if dice < 0.20 or not topics:
            topic = f"{prefix}-{n}"
            topics.append(topic)
            yield created(n, topic)
        elif dice < 0.70 or not replies:
            is_hot = hot is not None and rng.random() < HOT_SHARE
            topic = hot if is_hot and hot else topics[-1 - min(int(rng.expovariate(0.01)), len(topics) - 1)]
            reply_id = f"{prefix}r{n}"
            replies.append((topic, reply_id))
            author = f"m{int(rng.paretovariate(0.8)) % 20_000}"
            yield topic, json.dumps(reply(f"{prefix}{n}", at(n), topic, reply_id, author)).encode()
        else:
            topic, reply_id = replies[-1 - min(int(rng.expovariate(0.01)), len(replies) - 1)]
            if dice < 0.75:
                yield record(n, "solution-accepted", topic, reply_id=reply_id)
            else:
                yield record(
                    n,
                    "kudos-given",
                    topic,
                    reply_id=reply_id,
                    kudos_id=f"{prefix}k{n}",
                    giver_id=f"m{rng.randrange(20_000)}",
                )
