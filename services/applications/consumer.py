"""What the applications service makes of a batch: it folds it into the facts, and says whose months that touched."""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from services.applications.projector import SQL
from shared.contracts import topics as clock
from shared.contracts.catalogue import FORUM, MEMBERS, SEASONS, TOPICS
from shared.contracts.leaderboard import SeasonClosed, SeasonOpened
from shared.contracts.members import MemberSuspended
from shared.forum import Facts, Touched
from shared.forum.identity import STAND_IN_PREFIX
from shared.forum.registers import stamp_of
from shared.messaging import Batch, Transaction
from shared.postgres import Queries, arrays

STREAMS = (FORUM, TOPICS, MEMBERS, SEASONS)
RESPONSES = (clock.FirstResponseRecorded, clock.FirstResponseRevoked)
SEASONS_SQL = Queries(Path(__file__).parent / "sql" / "seasons.sql")

Erase = Callable[[Transaction, dict[str, str]], Awaitable[None]]
Answering = Callable[[Transaction, list[Any]], Awaitable[None]]
Regroup = Callable[[Transaction, Iterable[str]], Awaitable[None]]


class ApplicationsConsumer:
    """Applies batches of forum, first-response, member and season events."""

    def __init__(
        self,
        facts: Facts,
        erase: Erase,
        answering: Answering,
        regroup: Regroup,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        self._facts, self._erase, self._answering, self._written = facts, erase, answering, written
        self._regroup = regroup

    async def apply(self, batch: Batch) -> None:
        """Runs in the batch's transaction; whatever it raises undoes all of it."""
        connection = batch.transaction.connection
        touched = await self._facts.fold(batch)
        if touched.gone:
            await self._erase(batch.transaction, touched.gone)
        if touched.members:
            await self._regroup(batch.transaction, touched.members - touched.gone.keys())
        events = [record.event for record in batch.records]
        if not events:
            return
        late = {id(event) for event in touched.late}
        suspended = [one for one in events if isinstance(one, MemberSuspended) and id(one) not in late]
        suspended = [one for one in suspended if one.data.member_id not in touched.gone]
        if suspended:
            ids, times = [one.data.member_id for one in suspended], [one.time for one in suspended]
            await connection.execute(SQL.fold_suspensions, ids, times)
        await _fold_seasons(connection, events, self._facts)
        live = [one for one in events if not one.backfill]
        if 0 < len(live) < len(events):
            news, history = _parted(touched, live)
            await _touch(connection, news, False)
            await _touch(connection, history, True)
        else:
            await _touch(connection, touched, not live)
        await self._tell_of_claims(batch.transaction, [one for one in live if isinstance(one, clock.TopicClaimed)])
        batch.transaction.after_commit(self._written)

    async def _tell_of_claims(self, transaction: Transaction, claims: list[clock.TopicClaimed]) -> None:
        """Say who answers now: not who did once, and nobody who is erased."""
        if not claims:
            return
        now = await transaction.connection.fetchval("SELECT now()")
        known_as = await self._facts.known_as(transaction.connection, [one.data.member_id for one in claims])
        told = [
            one
            for one in claims
            if one.data.until > now and not known_as.get(one.data.member_id, "").startswith(STAND_IN_PREFIX)
        ]
        if told:
            await self._answering(transaction, told)


def _parted(touched: Touched, live: Iterable[Any]) -> tuple[Touched, Touched]:
    """What live events touched, and the rest: what history alone did, and what hangs on a merge without being named."""
    about = {one for event in live for one in _about(event)}

    def part(is_news: bool) -> Touched:
        def belongs(what: str, id: str) -> bool:
            return ((what, id) in about) is is_news

        return Touched(
            topics={id for id in touched.topics if belongs("topic", id)},
            replies=[row for row in touched.replies if belongs("reply", row["reply_id"])],
            acceptances={pair for pair in touched.acceptances if belongs("reply", pair[1])},
            kudos=[row for row in touched.kudos if belongs("kudos", row["kudos_id"])],
            responses={id for id in touched.responses if belongs("response", id)},
            members={id for id in touched.members if belongs("member", id)},
            erased=touched.erased,
        )

    return part(True), part(False)


def _about(event: Any) -> list[tuple[str, str]]:
    """What an event may touch: the smallest thing that it names, and what that is merged into."""
    data = event.data
    if isinstance(event, RESPONSES):
        return [("response", data.topic_id)]
    if isinstance(event, MEMBERS.events):
        return [("member", id) for id in (data.member_id, getattr(data, "into_member_id", None)) if id is not None]
    if not isinstance(event, FORUM.events):
        return []
    for what in ("kudos", "reply"):
        if (id := getattr(data, f"{what}_id", None)) is not None:
            return [(what, id)]
    return [("topic", id) for id in (data.topic_id, getattr(data, "into_topic_id", None)) if id is not None]


async def _touch(connection: Any, touched: Touched, backfill: bool) -> None:
    """Queue the months of whoever's replies may count otherwise now."""
    sides = {
        (row[f"{side}author_id"], row[f"{side}posted_at"])
        for row in touched.replies
        for side in ("left_", "")
        if row[f"{side}author_id"] is not None and row[f"{side}posted_at"] is not None
    }
    if sides:
        await connection.execute(SQL.touch_replies, *arrays(sides), backfill)
    topics = touched.topics | touched.responses
    if topics:
        await connection.execute(SQL.touch_topics, list(topics), backfill)
    accepted = {topic_id for topic_id, _ in touched.acceptances}
    if accepted:
        await connection.execute(SQL.touch_solutions, list(accepted), backfill)
    hung_on = {id for row in touched.kudos for id in (row["left_reply_id"], row["reply_id"]) if id is not None}
    if hung_on:
        await connection.execute(SQL.touch_replies_by_id, list(hung_on), backfill)
    members = touched.members - touched.erased.keys()
    if members:
        await connection.execute(SQL.touch_members, list(members), backfill)


async def _fold_seasons(connection: Any, events: list[Any], facts: Facts) -> None:
    """Keep each season as its latest events say it."""
    opened = _latest(event for event in events if isinstance(event, SeasonOpened))
    if opened:
        rows = [
            (id, one.data.name, one.data.board, one.data.opens_at, one.data.closes_at, stamp_of(one))
            for id, one in opened.items()
        ]
        await connection.execute(SEASONS_SQL.opened, *arrays(rows))
    closed = _latest(event for event in events if isinstance(event, SeasonClosed))
    if not closed:
        return
    ends = [(id, one.time, stamp_of(one)) for id, one in closed.items()]
    changed = [row["season_id"] for row in await connection.fetch(SEASONS_SQL.closed, *arrays(ends))]
    standings = [(id, place, one) for id in changed for place, one in enumerate(closed[id].data.standings)]
    # Who was erased before this came reads as their stand-in here, too.
    known_as = await facts.known_as(connection, [one.member_id for _, _, one in standings])
    erased = {id: root for id, root in known_as.items() if root.startswith(STAND_IN_PREFIX)}
    await connection.execute(SEASONS_SQL.clear_standings, changed)
    if standings:
        places = [
            (id, place, erased.get(one.member_id, one.member_id), one.rank, one.points, one.solutions)
            for id, place, one in standings
        ]
        await connection.execute(SEASONS_SQL.write_standings, *arrays(places))


def _latest(events: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for event in events:
        known = found.get(event.data.season_id)
        if known is None or stamp_of(event) > stamp_of(known):
            found[event.data.season_id] = event
    return found
