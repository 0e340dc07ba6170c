"""Claims: a Star says "I take this one", for four hours."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from services.topics.derive import end_claims
from services.topics.rules import CLAIM_LASTS, CLAIMS_AT_ONCE, Waiting
from shared.contracts import topics as events
from shared.contracts.catalogue import TOPICS
from shared.forum import Facts
from shared.forum.facts import SQL as FACTS_SQL
from shared.forum.identity import STAND_IN_PREFIX
from shared.messaging import Outbox, Outgoing
from shared.observability import current_traceparent
from shared.postgres import Queries
from shared.web import Principal, Problem, Role

SQL = Queries(Path(__file__).parent / "sql" / "claims.sql")


class Claims:
    """Taking and giving back, each in one transaction under the topic's lock."""

    def __init__(self, outbox: Outbox, facts: Facts) -> None:
        self._outbox, self.facts = outbox, facts

    async def take(self, topic_id: str, principal: Principal) -> dict[str, Any]:
        """Claim a topic. The same Star again gets the claim that stands. Raises Problem 403, 404 or 409."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            member = await self._member(connection, principal)
            topic = await connection.fetchrow(SQL.lock_topic, topic_id)
            if topic is None:
                raise Problem(404, "There is no such topic.")
            await connection.execute(SQL.lock_member, member)
            claim = await connection.fetchrow(SQL.claim_of_topic, topic["topic_id"])
            if claim is not None and claim["until"] > topic["now"]:
                if claim["member_id"] != member:
                    raise Problem(
                        409,
                        f"{claim['member_id']} has it until {claim['until'].isoformat()}.",
                        type="claimed",
                        topic_id=topic["topic_id"],
                        member_id=claim["member_id"],
                        until=claim["until"].isoformat(),
                    )
                return _answer(claim, topic["topic_id"])
            if not topic["waiting"]:
                raise Problem(409, "Nobody waits for an answer to it.", type="not-waiting", topic_id=topic["topic_id"])
            if member in {row["member_id"] for row in await connection.fetch(SQL.askers, topic["topic_id"])}:
                raise Problem(409, "It is your own question.", type="own-topic", topic_id=topic["topic_id"])
            if claim is not None:
                await end_claims(transaction, {claim["claim_id"]: "ran-out"})
            if await connection.fetchval(SQL.claims_of_member, member) >= CLAIMS_AT_ONCE:
                raise Problem(
                    409, f"{CLAIMS_AT_ONCE} at once are the most: answer or release one first.", type="claim-limit"
                )
            row = await connection.fetchrow(SQL.write_claim, topic["topic_id"], member, CLAIM_LASTS)
            data = events.ClaimData(topic_id=row["topic_id"], member_id=member, until=row["until"])
            transaction.publish(
                Outgoing(TOPICS, events.TopicClaimed, data, row["claimed_at"], traceparent=current_traceparent())
            )
            await self._look_again(connection, topic, row["until"])
            return _answer(row, topic["topic_id"])

    async def release(self, topic_id: str, principal: Principal) -> dict[str, Any]:
        """Give a claim back: one's own, even where one is no Star any more, or as staff anyone's.

        Raises Problem 403, 404 or 409.
        """
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            topic = await connection.fetchrow(SQL.lock_topic, topic_id)
            if topic is None:
                raise Problem(404, "There is no such topic.")
            claim = await connection.fetchrow(SQL.claim_of_topic, topic["topic_id"])
            holder = None if claim is None else claim["member_id"]
            own = principal.member_id is not None and holder == await self._root(connection, principal)
            may = own or principal.has(Role.STAFF)
            if not may:
                await self._member(connection, principal)
            if claim is None:
                raise Problem(409, "Nobody has claimed it.", type="not-claimed", topic_id=topic["topic_id"])
            if not may:
                raise Problem(
                    409,
                    f"{claim['member_id']} has it, not you.",
                    type="claimed",
                    topic_id=topic["topic_id"],
                    member_id=claim["member_id"],
                    until=claim["until"].isoformat(),
                )
            await end_claims(transaction, {claim["claim_id"]: "released"})
            await self._look_again(connection, topic, None)
            return _answer(claim, topic["topic_id"])

    async def may(self, principal: Principal | None) -> bool:
        """Whether someone may claim topics at all: a Star, or staff."""
        if principal is None or principal.member_id is None:
            return False
        if principal.has(Role.STAR, Role.STAFF):
            return True
        async with self._outbox.transaction() as transaction:
            known_as = await self.facts.known_as(transaction.connection, [principal.member_id])
            member = known_as.get(principal.member_id, principal.member_id)
            return bool(await transaction.connection.fetchval(SQL.is_star, member))

    async def member_of(self, member_id: str) -> str:
        """The member whom an account's id stands for."""
        async with self._outbox.transaction() as transaction:
            return (await self.facts.known_as(transaction.connection, [member_id])).get(member_id, member_id)

    async def _member(self, connection: Any, principal: Principal) -> str:
        """The member who asks, as the one that their account stands for; a Star, or staff."""
        if principal.member_id is None:
            raise Problem(403, "The token names no member.")
        member = await self._root(connection, principal)
        if member.startswith(STAND_IN_PREFIX):
            raise Problem(403, "This account was erased.")
        if not principal.has(Role.STAR, Role.STAFF) and not await connection.fetchval(SQL.is_star, member):
            raise Problem(403, "Stars claim topics; you are none yet.")
        return member

    async def _root(self, connection: Any, principal: Principal) -> str:
        """Whom the account of a principal that names a member stands for."""
        assert principal.member_id is not None
        known_as = await self.facts.known_as(connection, [principal.member_id])
        return known_as.get(principal.member_id, principal.member_id)

    async def _look_again(self, connection: Any, topic: Any, claimed_until: datetime | None) -> None:
        if topic["waiting"]:
            told = await connection.fetchval(SQL.told, topic["topic_id"]) or 0
            target = timedelta(microseconds=topic["target_us"])
            waiting = Waiting(topic["created_at"], target, topic["appended_at"], topic["backfill"], told, claimed_until)
            await connection.execute(SQL.write_next, topic["topic_id"], waiting.next_at())


def _answer(claim: Any, topic_id: str) -> dict[str, Any]:
    return {"topic_id": topic_id, "member_id": claim["member_id"], "until": claim["until"]}
