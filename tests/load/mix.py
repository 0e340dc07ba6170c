"""The mix of events that benchmarks apply: 20% topics, 50% replies, 5% accepts, 25% kudos, and one hot topic."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any


HOT_SHARE = 0.05


def mix(events: int, *, seed: int = 1, prefix: str = "t", hot: str | None = "hot") -> Iterator[tuple[str, bytes]]:
    """Records (key, value) of ``events`` events; ``hot`` names a topic that takes 5% of the replies."""
    rng = random.Random(seed)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    topics: list[str] = []
    replies: list[tuple[str, str]] = []

    def record(n: int, event_type: str, topic: str, **data: Any) -> tuple[str, bytes]:
        time = (start + timedelta(seconds=n * 7)).isoformat().replace("+00:00", "Z")
        return topic, json.dumps(
            {
                "specversion": "1.0",
                "id": f"{prefix}{n}",
                "source": "/load",
                "type": event_type,
                "time": time,
                "datacontenttype": "application/json",
                "data": {"topic_id": topic, **data},
            }
        ).encode()

    def created(n: int, topic: str) -> tuple[str, bytes]:
        return record(
            n,
            "topic-created",
            topic,
            author_id=f"m{rng.randrange(20_000)}",
            author_kind="member",
            title="How do I move my playlists to another account without losing them?",
            space=f"space-{rng.randrange(8)}",
            tags=["playlists", "account"],
            language="en",
            kind="question",
        )

    if hot is not None:
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
            reply = f"{prefix}r{n}"
            replies.append((topic, reply))
            yield record(
                n,
                "reply-posted",
                topic,
                reply_id=reply,
                author_id=f"m{int(rng.paretovariate(0.8)) % 20_000}",
                author_kind="member",
                visibility="public",
            )
        else:
            topic, reply = replies[-1 - min(int(rng.expovariate(0.01)), len(replies) - 1)]
            if dice < 0.75:
                yield record(n, "solution-accepted", topic, reply_id=reply)
            else:
                yield record(
                    n,
                    "kudos-given",
                    topic,
                    reply_id=reply,
                    kudos_id=f"{prefix}k{n}",
                    giver_id=f"m{rng.randrange(20_000)}",
                )
