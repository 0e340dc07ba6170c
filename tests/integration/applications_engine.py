"""The applications service without Kafka: batches straight into its consumer, folded by its projector."""

import json
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from pydantic import SecretStr

from services.applications.api import Parts
from services.applications.app import MIGRATIONS, NAME, consumer_of, facts_of, parts_of
from services.applications.programme import Edition, Programme, shipped_edition
from services.applications.projector import Projector
from services.applications.record import Signer
from services.applications.records import read_records
from services.applications.rules import Record
from services.applications.telling import Telling
from shared.contracts.catalogue import FORUM, MEMBERS, SEASONS, TOPICS
from shared.contracts.codec import StrictReader
from shared.messaging import Batch, Outbox, Transaction
from shared.messaging.consumer import Record as Consumed
from shared.runtime import Runtime
from shared.settings import Settings
from shared.web import Principal, Role
from tests.integration.engine import OneConnection

READER = StrictReader([FORUM, MEMBERS, TOPICS, SEASONS])


class ApplicationsEngine:
    """The consumer and projector of the applications service, on one connection."""

    def __init__(self, connection: asyncpg.Connection, erasure_key: bytes) -> None:
        self.connection = connection
        self.outbox = Outbox(OneConnection(connection), NAME)  # type: ignore[arg-type]
        self.programme = Programme(self.outbox)
        self.projector = Projector("", NAME, self.outbox, self.programme)
        self.facts = facts_of(erasure_key)
        self._consumer = consumer_of(self.facts, Telling(None, None, (), None))  # type: ignore[arg-type]

    async def apply(self, events: Sequence[dict[str, Any]]) -> None:
        """Apply one batch in a transaction of its own."""
        async with self.connection.transaction():
            transaction = Transaction(self.connection, "/constellation/applications")
            appended = datetime(2030, 1, 1, tzinfo=UTC)
            records = [Consumed(READER.read(event), "forum.events", 0, n, appended) for n, event in enumerate(events)]
            await self._consumer.apply(Batch(transaction, records))
            await transaction.write_outbox()

    async def fold(self) -> None:
        """Derive all that waits."""
        while await self.projector.fold(self.connection):
            pass

    async def eligible(self) -> set[str]:
        """Who meets every criterion."""
        return {row["member_id"] for row in await self.connection.fetch("SELECT member_id FROM eligible")}

    async def contributions(self) -> set[tuple[Any, ...]]:
        """Every derived month."""
        return {tuple(row) for row in await self.connection.fetch("SELECT * FROM contribution")}

    async def records(self, members: Iterable[str]) -> dict[str, Record]:
        """What the facts say of members."""
        return await read_records(self.connection, members)


@asynccontextmanager
async def fresh(connection: asyncpg.Connection, erasure_key: bytes) -> AsyncIterator[ApplicationsEngine]:
    """An engine on an empty schema; all that it does is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield ApplicationsEngine(connection, erasure_key)
    finally:
        await transaction.rollback()


def unique(word: str) -> str:
    """A name that nobody else uses."""
    return f"{word}-{uuid.uuid4().hex[:10]}"


STAFF_A = Principal("staff-a", frozenset({Role.STAFF}))
STAFF_B = Principal("staff-b", frozenset({Role.STAFF}))
ANSWERS = {
    "why": "Because I like it when somebody's music plays again, and I have the time.",
    "languages": ["en"],
    "time": "some",
    "consent": True,
}


def member(id: str) -> Principal:
    """A member of the forum, as their token says."""
    return Principal(id, frozenset({Role.MEMBER}))


class House:
    """The applications service on a pool of real connections, as its doors use it; everybody may apply."""

    def __init__(self, dsn: str, erasure_key: bytes, telling: Telling | None = None) -> None:
        settings = Settings(postgres=dsn, kafka="127.0.0.1:1", secret=SecretStr("s" * 32), postgres_pool=10)
        self.runtime = Runtime(NAME, settings, MIGRATIONS)
        self.pool = self.runtime.pool
        self.facts = facts_of(erasure_key)
        self.programme = Programme(self.runtime.outbox)
        self.telling = telling or Telling(self.pool, None, (), None)
        self.parts: Parts = parts_of(self.runtime, self.facts, self.programme, self.telling, Signer(settings))
        self.consumer = consumer_of(self.facts, self.telling)
        self.projector = Projector("", NAME, self.runtime.outbox, self.programme)
        self._n = 0

    async def open_to_everyone(self, **quiz: Any) -> Edition:
        """The next edition: nobody need be eligible nor give evidence, and its quiz is as QUIZ says."""
        document = shipped_edition().model_dump(mode="json", exclude_none=True)
        document["open_to"] = "everyone"
        document["cool_down_days"] = 0
        document["form"] = [one for one in document["form"] if one["kind"] != "evidence"]
        document["quiz"] |= quiz
        return await self.programme.publish(document, None, None)

    async def happen(self, *events: dict[str, Any]) -> None:
        """Events arrive in one batch, and are folded."""
        async with self.runtime.outbox.transaction() as transaction:
            await self.receive(transaction, *events)
        async with self.pool.acquire() as connection:
            while await self.projector.fold(connection):
                pass

    async def receive(self, transaction: Transaction, *events: dict[str, Any]) -> None:
        """Events arrive in one batch, which the projector has not seen yet."""
        records = []
        for event in events:
            self._n += 1
            at = datetime.fromisoformat(event["time"])
            records.append(Consumed(READER.read(event), "forum.events", 0, self._n, at))
        await self.consumer.apply(Batch(transaction, records))

    async def apply(self, who: Principal) -> str:
        """An application that is handed in; returns its id."""
        begun = await self.parts.applying.begin(who, ANSWERS)
        await self.parts.applying.submit(who, begun["application_id"])
        return str(begun["application_id"])

    async def answers_of(self, application_id: str) -> dict[int, int]:
        """By question of the latest attempt the option that is right."""
        rows = await self.pool.fetch(
            "SELECT n, options FROM quiz_question WHERE attempt_id = ("
            "SELECT max(attempt_id) FROM quiz_attempt WHERE application_id = $1)",
            application_id,
        )
        return {row["n"]: row["options"].index(0) for row in rows}

    async def pass_quiz(self, who: Principal, application_id: str) -> None:
        """Take the quiz, and answer all of it rightly."""
        await self.parts.quiz.open(who, application_id, "en")
        for n, right in (await self.answers_of(application_id)).items():
            await self.parts.quiz.answer(who, application_id, n, right)
        assert (await self.parts.quiz.finish(who, application_id))["passed"]

    async def become_star(self, id: str) -> str:
        """The whole way, from the form to the appointment; returns the application's id."""
        application_id = await self.apply(member(id))
        await self.pass_quiz(member(id), application_id)
        for staff in (STAFF_A, STAFF_B):
            await self.parts.reviews.give(staff, application_id, {"help": 5, "tone": 5, "fit": 4}, None, False)
        await self.parts.reviews.decide(STAFF_A, application_id, "accepted", "Welcome!")
        return application_id

    async def appoint(self, *ids: str) -> None:
        """Stars at once, by roster."""
        await self.parts.roster.take(STAFF_A, "\n".join(["member_id", *ids]))

    async def told(self, *kinds: str) -> list[dict[str, Any]]:
        """What was published of these types, in order."""
        rows = await self.pool.fetch("SELECT value FROM outbox ORDER BY id")
        found = [json.loads(row["value"]) for row in rows]
        return [event for event in found if not kinds or event["type"] in kinds]


@asynccontextmanager
async def house(dsn: str, erasure_key: bytes, telling: Telling | None = None) -> AsyncIterator[House]:
    """A house on an empty schema, which is emptied again afterwards."""
    built = House(dsn, erasure_key, telling)
    await built.pool
    await empty(built)
    try:
        yield built
    finally:
        await empty(built)
        await built.pool.close()


async def empty(built: House) -> None:
    """Forget everything."""
    async with built.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'applications'"
            " AND tablename NOT IN ('migration', 'programme')"
        )
        await connection.execute(f"TRUNCATE {', '.join(row['tablename'] for row in rows)} CASCADE")
        await connection.execute("UPDATE programme SET inviting = false, looked_on = NULL")
        await connection.execute(
            "CREATE OR REPLACE FUNCTION quiz_clock() RETURNS timestamptz LANGUAGE sql VOLATILE"
            " AS 'SELECT clock_timestamp()'"
        )


def event(kind: str, data: dict[str, Any], at: datetime, **more: Any) -> dict[str, Any]:
    """An envelope."""
    return {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "/test",
        "type": kind,
        "time": at.isoformat(),
        "data": data,
        **more,
    }


def deeds(who: str, *, replies: int = 50, solutions: int = 5, first: int = 10, kudos: int = 25) -> list[dict[str, Any]]:
    """What makes a member eligible, unless told otherwise: replies over three months, and what became of them."""
    found = []
    now = datetime.now(UTC)
    for n in range(replies):
        topic, reply = unique("topic"), unique("reply")
        at = now - timedelta(days=3 + 31 * (n % 3), hours=n)
        asked = {"topic_id": topic, "author_id": "asker", "author_kind": "member", "title": "How?", "space": "help"}
        found.append(event("topic-created", {**asked, "tags": [], "kind": "question"}, at - timedelta(hours=1)))
        given = {"topic_id": topic, "reply_id": reply, "author_id": who, "author_kind": "member"}
        found.append(event("reply-posted", {**given, "visibility": "public"}, at))
        if n < solutions:
            found.append(event("solution-accepted", {"topic_id": topic, "reply_id": reply}, at))
        if n < first:
            recorded = {"topic_id": topic, "reply_id": reply, "responder_id": who, "responder_kind": "member"}
            recorded |= {"seconds": 3600, "within_target": True, "space": "help", "answered_at": at.isoformat()}
            found.append(event("first-response-recorded", recorded, at, sequence=1))
        if n < kudos:
            told = {"topic_id": topic, "reply_id": reply, "kudos_id": unique("k"), "giver_id": "asker"}
            found.append(event("kudos-given", told, at))
    return found
