"""Telling: news and members in, notifications and deliveries out, whole batches at a time."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from services.notifier.news import News
from services.notifier.rules import CATEGORIES, Quiet, Recipient, TopicNow, decide, gone, mutes, zone_of
from shared.forum import Facts
from shared.forum.identity import STAND_IN_PREFIX
from shared.postgres import Queries, arrays, as_json

SQL = Queries(Path(__file__).parent / "sql" / "notify.sql")


@dataclass(frozen=True, slots=True)
class Telling:
    """One piece of news for one member."""

    member_id: str
    news: News


async def recipients_of(connection: Any, member_ids: Iterable[str]) -> dict[str, Recipient]:
    """What telling each member depends on, by the id that was asked for (which may be a merged account's)."""
    ids = sorted(set(member_ids))
    if not ids:
        return {}
    return {row["asked_for"]: _recipient(row) for row in await connection.fetch(SQL.recipients, ids)}


def with_topics(query: str) -> str:
    """A query of rows ``n`` that have a topic, with what is known of it."""
    return query.replace("{topic_columns}", SQL.topic_columns).replace("{topic_joins}", SQL.topic_joins)


TOPICS = with_topics(SQL.topics)


async def _topics(connection: Any, topic_ids: Iterable[str]) -> dict[str, Any]:
    """What is known of topics."""
    ids = sorted(topic_ids)
    return {row["topic_id"]: row for row in await connection.fetch(TOPICS, ids)} if ids else {}


def topic_now(row: Any) -> TopicNow:
    """How its topic stands, of a row that has one."""
    return TopicNow(
        answered=row["answered_at"] is not None,
        closed=row["closed"],
        deleted=row["deleted"],
        merged=row["merged"],
        claimed_by=row["claimed_by"],
        claimed_until=row["claimed_until"],
    )


def about(row: Any) -> dict[str, Any]:
    """What its topic is about, as far as it can be followed or muted."""
    return {
        "space": row["space"],
        "language": row["language"],
        "tags": [] if row["tags"] is None else json.loads(row["tags"]),
    }


def _recipient(row: Any) -> Recipient:
    quiet = None if row["quiet_start"] is None else Quiet(row["quiet_start"], row["quiet_end"])
    return Recipient(
        member_id=row["member_id"],
        zone=zone_of(row["time_zone"]),
        locale=row["locale"],
        name=row["name"],
        suspended=row["status"] == "suspended",
        channels=json.loads(row["channels"]),
        quiet=quiet,
        daily_budget=row["daily_budget"],
        digest=row["digest"],
        digest_at=row["digest_at"],
        digest_day=row["digest_day"],
        paused_until=row["paused_until"],
        staff=row["staff"],
        muted=frozenset((what, value) for what, value in json.loads(row["muted"])),
        email=row["email"],
        suppressed=row["suppressed"],
        push=tuple(row["push"]),
    )


async def tell(connection: Any, facts: Facts, tellings: Sequence[Telling], now: datetime) -> int:
    """Make notifications and their deliveries; what was told before is not told again. Returns how many are new.

    Whoever calls it holds the facts' shared lock, so that nobody is erased meanwhile. Of the deliveries those are
    left out that nobody asked for (a channel that is off by default); those that the member declined are kept as
    skipped, with the reason.
    """
    known_as = await facts.known_as(connection, {t.member_id for t in tellings} | _nevers(tellings))
    wanted: dict[Any, Telling] = {}
    for telling in tellings:
        member = known_as.get(telling.member_id, telling.member_id)
        news = telling.news
        never = news.never and known_as.get(news.never, news.never)
        if member.startswith(STAND_IN_PREFIX) or member == never or news.until() <= now:
            continue
        wanted.setdefault(news.key(member), Telling(member, news))
    recipients = await recipients_of(connection, (telling.member_id for telling in wanted.values()))
    topics = await _topics(connection, {t.news.topic_id for t in wanted.values() if t.news.topic_id is not None})
    inbox = {key: _decide(telling, recipients, topics, "inbox", now) for key, telling in wanted.items()}
    rows = [
        (
            key,
            telling.member_id,
            telling.news.category,
            telling.news.what,
            telling.news.topic_id,
            telling.news.actor_id,
            as_json(telling.news.data),
            telling.news.at,
            telling.news.until(),
            inbox[key] == (None, "accepted"),
            telling.news.traceparent,
        )
        for key, telling in sorted(wanted.items())
    ]
    if not rows:
        return 0
    made = await connection.fetch(SQL.write_notifications, *arrays(rows))
    deliveries = []
    for row in made:
        telling = wanted[row["dedupe_key"]]
        recipient = recipients[telling.member_id]
        category = CATEGORIES[telling.news.category]
        common = (row["notification_id"], telling.member_id, category.priority, now, telling.news.until())
        targets = [("inbox", 0), ("email", 0), *(("push", target) for target in recipient.push)]
        for channel, target in targets:
            if channel not in category.defaults and not recipient.chose(category.name, channel):
                continue
            reason, state = _decide(telling, recipients, topics, channel, now)
            deliveries.append((*common, channel, target, state, reason))
    if deliveries:
        await connection.execute(SQL.write_deliveries, *arrays(deliveries))
    return len(made)


def _nevers(tellings: Sequence[Telling]) -> set[str]:
    return {telling.news.never for telling in tellings if telling.news.never is not None}


def _decide(
    telling: Telling, recipients: Mapping[str, Recipient], topics: Mapping[str, Any], channel: str, now: datetime
) -> tuple[str | None, str]:
    """What is known already when the notification is made: the reason and state of the delivery's row."""
    news, recipient = telling.news, recipients[telling.member_id]
    category = CATEGORIES[news.category]
    if category.mandatory and channel not in category.defaults:
        return "preference", "skipped"
    topic = topics.get(news.topic_id or "")
    decision = decide(
        category,
        channel,
        recipient,
        now,
        news.until(),
        muted=mutes(recipient, news.topic_id, news.data if topic is None else about(topic) | news.data),
        gone=None if topic is None else gone(category.name, recipient.member_id, topic_now(topic), news.actor_id, now),
    )
    if decision.action == "skip" and decision.reason != "over-budget":
        return decision.reason, "skipped"
    return None, "accepted" if channel == "inbox" else "pending"
