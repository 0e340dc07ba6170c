"""What whoever watches a board is told, and what not: nothing of the hidden, nothing false of what is over."""

import json
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import asyncpg
import pytest

from services.leaderboard import boards, stream
from services.leaderboard.boards import Asked
from services.leaderboard.projector import SQL
from services.leaderboard.stream import Watch
from services.leaderboard.windows import Window
from tests.integration.ledger_engine import LedgerEngine, fresh
from tests.oracle.cases import ERASURE_KEY
from tests.oracle.envelopes import Story, at

EVERYONE = Asked("everyone", Window.all)
HELP = Asked("space:help", Window.all)


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat comes soon where there is nothing to say, and nothing before it has to wait."""
    monkeypatch.setattr(stream, "THROTTLE_SECONDS", 0.0)
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)


@pytest.fixture
async def engine(leaderboard_connection: asyncpg.Connection) -> AsyncIterator[LedgerEngine]:
    """A leaderboard with Ada (3 points) and Ben (1)."""
    story = Story().member("ada", "registered", at()).member("ben", "registered", at())
    story.topic("t", at(), "asker", kind="discussion").reply("t", "r1", at(1), "ada").reply("t", "r2", at(2), "ben")
    async with fresh(leaderboard_connection, ERASURE_KEY) as found:
        await found.apply(story.kudos("t", "r1", "k1", at(3), "giver").events)
        await found.fold()
        yield found


async def seen(engine: LedgerEngine) -> int:
    """What whoever watches until now has seen."""
    latest: int = await engine.connection.fetchval(boards.SQL.latest_fold)
    return latest


async def heard(messages: AsyncIterator[bytes]) -> list[tuple[str, dict[str, Any]]]:
    """The messages until there is nothing more to say, as (event, data)."""
    found = []
    async for message in messages:
        if message == stream.STILL_HERE:
            break
        _, event, data = message.decode().strip().split("\n")
        found.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def told(engine: LedgerEngine, asked: Asked, last: int) -> list[tuple[str, dict[str, Any]]]:
    """What somebody is told who comes back and has seen the LAST."""
    return await heard(Watch(engine.pool).messages(asked, last))


async def reply(engine: LedgerEngine, *members: str, topic: str = "t") -> None:
    """Each of these replies, and it is folded."""
    story = Story()
    for member in members:
        story.reply(topic, f"{topic}-{member}", at(5), member, id_=f"{topic}-{member}")
    await engine.apply(story.events)
    await engine.fold()


async def test_whoever_watches_learns_nothing_of_a_hidden_member_who_earns_points(engine: LedgerEngine) -> None:
    await engine.show("ada", False)
    before = await seen(engine)
    await reply(engine, "ada")
    assert await told(engine, EVERYONE, before) == []
    await reply(engine, "ben")
    [(event, data)] = await told(engine, EVERYONE, before)
    assert (event, [one["member_id"] for one in data["entries"]], data["gone"]) == ("changed", ["ben"], [])


async def test_an_erasure_is_told_on_every_board_without_a_name(engine: LedgerEngine) -> None:
    before = await seen(engine)
    await engine.apply(Story().tell("member-erased", at(9), id_="erased", member_id="ada").events)
    for asked in (EVERYONE, HELP):
        assert await told(engine, asked, before) == [("reload", {"board": asked.board, "window": "all"})]
    before = await seen(engine)
    await engine.fold()
    assert await told(engine, EVERYONE, before) == []


async def test_whoever_missed_what_is_forgotten_by_now_is_told_to_read_the_board_again(engine: LedgerEngine) -> None:
    before = await seen(engine)
    await reply(engine, "carl")
    await engine.apply(Story().topic("u", at(5), "asker", kind="discussion", space="other", id_="u").events)
    await reply(engine, "carl", topic="u")
    await engine.connection.execute("UPDATE board_change SET folded_at = now() - interval '6 minutes'")
    await engine.connection.execute(SQL.forget_changes)
    assert await told(engine, HELP, before) == [("reload", {"board": "space:help", "window": "all"})]
    before = await seen(engine)
    assert await told(engine, HELP, before) == [], "nothing was missed"
    await reply(engine, "dora")
    assert [event for event, _ in await told(engine, HELP, before)] == ["changed"], "nor after a quiet while"


async def test_a_season_that_closes_is_read_again_once_and_nobody_is_said_to_be_gone(engine: LedgerEngine) -> None:
    await engine.seasons.open("s", None, "everyone", date(2020, 1, 1), date(2040, 1, 1))
    asked = await boards.ask(engine.pool, "everyone", Window.season, None, "s")
    before = await seen(engine)
    watch = Watch(engine.pool)
    messages = watch.messages(asked, None)

    def wake() -> None:
        for moved in watch._watchers["everyone"]:
            moved.set()

    assert [event for event, _ in await heard(messages)] == ["watching"]
    await engine.seasons.close("s")
    assert await told(engine, EVERYONE, before) == [("reload", {"board": "everyone", "window": "all"})], "it is told"
    wake()
    assert [event for event, _ in await heard(messages)] == ["reload"]
    await reply(engine, "ada", "ben")
    wake()
    assert await heard(messages) == []
    assert [event for event, _ in await told(engine, asked, before)] == ["reload"]
    late = watch.messages(asked, None)
    assert [event for event, _ in await heard(late)] == ["watching"]
    wake()
    assert await heard(late) == []
