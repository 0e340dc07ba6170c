"""The topics service on real PostgreSQL: what a timeline shows and what it must not, and how the report keeps up."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.topics.queue import read_topic
from services.topics.report import Report
from shared.web import Principal, Role
from tests.integration.engine import HOUR, Stage


@pytest.fixture
async def stage(topics_database: str) -> AsyncIterator[Stage]:
    async with Stage.on(topics_database) as stage:
        yield stage


async def _timeline(stage: Stage, topic_id: str) -> list[dict[str, Any]]:
    topic = await read_topic(stage.pool, topic_id)
    assert topic is not None
    return list(topic["timeline"])


def _reply(stage: Stage, reply_id: str, author: str, age: timedelta, visibility: str = "public") -> dict[str, Any]:
    return stage.event(
        "reply-posted",
        datetime.now(UTC) - age,
        topic_id="t",
        reply_id=reply_id,
        author_id=author,
        author_kind="staff" if visibility == "internal" else "member",
        visibility=visibility,
    )


async def test_nothing_of_an_internal_reply_is_shown_whatever_happens_to_it(stage: Stage) -> None:
    await stage.ask("t", 3 * HOUR)
    await stage.apply(
        _reply(stage, "whisper", "secret", 2 * HOUR, "internal"),
        stage.event("solution-accepted", topic_id="t", reply_id="whisper"),
        stage.event("reply-deleted", topic_id="t", reply_id="whisper"),
    )
    assert [entry["what"] for entry in await _timeline(stage, "t")] == ["asked"]
    await stage.apply(
        stage.event("reply-restored", topic_id="t", reply_id="whisper"),
        stage.event("solution-revoked", topic_id="t", reply_id="whisper"),
    )
    assert [entry["what"] for entry in await _timeline(stage, "t")] == ["asked"]


async def test_of_public_replies_deletions_and_acceptances_are_shown_until_they_are_undone(stage: Stage) -> None:
    await stage.ask("t", 3 * HOUR)
    await stage.apply(
        _reply(stage, "gone", "ben", 2 * HOUR),
        _reply(stage, "back", "eve", HOUR),
        stage.event("solution-accepted", topic_id="t", reply_id="back"),
        *(stage.event("reply-deleted", topic_id="t", reply_id=reply) for reply in ("gone", "back")),
    )
    await stage.apply(stage.event("reply-restored", topic_id="t", reply_id="back"))
    told = [(entry["what"], entry.get("reply_id")) for entry in await _timeline(stage, "t")]
    assert told == [("asked", None), ("answered", "back"), ("accepted", "back"), ("reply-deleted", "gone")]


async def test_the_answer_is_shown_however_often_the_question_was_claimed(stage: Stage) -> None:
    await stage.ask("t", 3 * HOUR)
    star = Principal("ben", frozenset({Role.STAR}))
    for _ in range(101):
        await stage.claims.take("t", star)
        await stage.claims.release("t", star)
    await stage.apply(_reply(stage, "r", "ben", timedelta(seconds=-1)))
    assert "answered" in [entry["what"] for entry in await _timeline(stage, "t")]


async def test_a_first_response_that_is_revoked_by_a_move_out_of_history_is_history(stage: Stage) -> None:
    for topic in ("from", "to", "other"):
        await stage.ask(topic, 5 * HOUR)
    answer = {"reply_id": "r", "author_id": "ben", "author_kind": "member", "visibility": "public"}
    await stage.happen("reply-posted", "from", datetime.now(UTC) - HOUR, **answer)
    moved = stage.event("reply-moved", topic_id="to", from_topic_id="from", reply_id="r", backfill=True)
    live = stage.event("topic-edited", topic_id="other", title="Another title")
    await stage.apply(moved, live)
    revoked = [event for event in await stage.said("from") if event["type"] == "first-response-revoked"]
    assert [event.get("backfill", False) for event in revoked] == [True]


async def test_the_report_of_a_database_that_was_restored_elsewhere_reads_everything_once(stage: Stage) -> None:
    await stage.ask("old", HOUR)
    # As the old cluster numbered its transactions, which this one has not begun yet.
    await stage.pool.execute("UPDATE topic_state SET changed = '900000000000'")
    report = Report(stage.pool)
    assert await report.follow() == 1
    assert await report.follow() == 0
    await stage.ask("new", HOUR)
    assert await report.follow() == 1
