"""Membership: who is a Star, by which rank and for how long; leave, renewal, retirement, and the directory."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from services.applications import rules
from services.applications.members import Members, check_owner, names_of, spaces_of
from services.applications.programme import EditionDocument, Programme
from services.applications.records import read_records
from services.applications.rules import Standing
from shared.contracts import applications as events
from shared.contracts.catalogue import APPLICATIONS
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox, Outgoing, Transaction
from shared.observability import current_traceparent
from shared.postgres import Queries, arrays
from shared.web import Principal, Problem, Role, decode_cursor, encode_cursor

SQL = Queries(Path(__file__).parent / "sql" / "membership.sql")
JUDGED_AT_ONCE = 100
MOST_LEAVE = timedelta(days=366)

Told = Callable[[Transaction, Mapping[str, datetime], bool, bool], Awaitable[None]]
"""Who else hears that members became Stars, or are none any more, since when; and whether that is news."""


@dataclass(frozen=True, slots=True)
class Appointment:
    """Who becomes a Star: by the lowest rank unless another is named.

    ``since``: a past instant, for the roster of a programme that is there already; then it is history, which tells no
    one.
    """

    member_id: str
    rank: str | None = None
    since: datetime | None = None
    spaces: Sequence[str] = ()
    languages: Sequence[str] = ()
    listed: bool = False


class Membership:
    """Every change is a row of the member's history, and what others must know an event in the same transaction."""

    def __init__(self, outbox: Outbox, members: Members, programme: Programme, told: Told) -> None:
        self._outbox, self._members, self._programme, self._told = outbox, members, programme, told

    async def appoint(self, transaction: Transaction, named: Sequence[Appointment], *, by: str | None) -> int:
        """Make members Stars, each by whom their accounts stand for. Returns how many were none before.

        Whoever was a Star before is one again from after their retirement. The caller holds the members' locks or runs
        alone.
        """
        connection = transaction.connection
        now: datetime = await connection.fetchval("SELECT now()")
        known = {row["person"]: row for row in await connection.fetch(SQL.of_each, [one.member_id for one in named])}
        ranks = (await self._programme.present(connection)).document.rules_of_ranks()
        rows = []
        told: dict[bool, dict[str, datetime]] = {True: {}, False: {}}
        for one in named:
            row = known.get(one.member_id)
            if row is not None and row["state"] != "retired":
                continue
            own = next((each for each in ranks if each.id == one.rank), ranks[0])
            # A term that began long ago is over: one that begins now gives the time to see who they are.
            term_ends = rules.new_term(own, now).term_ends
            at = one.since or now
            if row is not None:
                # The later of both holds for everyone: what lies before the retirement would appoint nobody.
                at = max(at, row["retired_at"] + timedelta(microseconds=1))
            key = one.member_id if row is None else row["member_id"]
            spaces, languages = json.dumps(list(one.spaces)), json.dumps(list(one.languages))
            rows.append((key, own.id, at, term_ends, spaces, languages, one.listed))
            told[one.since is None][key] = at
            data = events.StarAppointedData(member_id=key, rank=own.id)
            transaction.publish(
                Outgoing(
                    APPLICATIONS,
                    events.StarAppointed,
                    data,
                    at,
                    backfill=one.since is not None,
                    traceparent=current_traceparent(),
                )
            )
        if not rows:
            return 0
        columns = arrays(rows)
        await connection.execute(SQL.appoint, *columns)
        await connection.execute(SQL.log_appointed, *columns[:3], by)
        for news, since in told.items():
            if since:
                await self._told(transaction, since, True, news)
        return len(rows)

    async def retire(self, principal: Principal, member_id: str, reason: str | None) -> dict[str, Any]:
        """End a membership, with thanks: one's own, or as staff anybody's. Raises Problem 404."""
        async with self._outbox.transaction() as transaction:
            row, by = await self._locked(transaction, principal, member_id)
            await self._retire(transaction, await self._members.root(transaction.connection, member_id), by, reason)
            return await self._view(transaction.connection, row["member_id"])

    async def _retire(self, transaction: Transaction, member: str, by: str | None, reason: str | None) -> None:
        connection = transaction.connection
        for row in await connection.fetch(SQL.retire, await self._members.ids(connection, member)):
            key, now = row["member_id"], row["retired_at"]
            await connection.execute(SQL.log, key, now, "retired", row["rank"], by, reason)
            data = events.StarRetiredData(member_id=key, reason=reason)
            transaction.publish(
                Outgoing(APPLICATIONS, events.StarRetired, data, now, traceparent=current_traceparent())
            )
            await self._told(transaction, {key: now}, False, True)

    async def take_leave(self, principal: Principal, member_id: str, until: datetime) -> dict[str, Any]:
        """Be away until an instant: nobody is judged meanwhile, and the term goes on after it. Raises 400, 404, 409."""
        async with self._outbox.transaction() as transaction:
            row, by = await self._locked(transaction, principal, member_id)
            now = await transaction.connection.fetchval("SELECT now()")
            if not now < until <= now + MOST_LEAVE:
                raise Problem(400, "A leave ends in the future, within a year.", type="invalid-leave")
            if row["state"] == "leave":
                raise Problem(409, "You are away already; come back first.", type="on-leave")
            await transaction.connection.execute(SQL.leave, row["member_id"], until)
            await transaction.connection.execute(
                SQL.log, row["member_id"], now, "left", row["rank"], by, until.isoformat()
            )
            return await self._view(transaction.connection, row["member_id"])

    async def come_back(self, principal: Principal, member_id: str) -> dict[str, Any]:
        """End a leave now. Raises Problem 404 or 409."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            row, by = await self._locked(transaction, principal, member_id)
            if row["state"] != "leave":
                raise Problem(409, "You are not away.", type="not-on-leave")
            now = await connection.fetchval("SELECT now()")
            await self._write(connection, row["member_id"], rules.returned(_standing(row), now))
            await connection.execute(SQL.log, row["member_id"], now, "returned", row["rank"], by, None)
            return await self._view(connection, row["member_id"])

    async def set_rank(self, principal: Principal, member_id: str, rank: str) -> dict[str, Any]:
        """Give a rank, by staff, with a whole term of it. Raises Problem 400 or 404."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            row, by = await self._locked(transaction, principal, member_id)
            document = (await self._programme.present(connection)).document
            chosen = next((one for one in document.rules_of_ranks() if one.id == rank), None)
            if chosen is None:
                raise Problem(400, "The programme has no such rank.", type="no-such-rank")
            now = await connection.fetchval("SELECT now()")
            await self._write(connection, row["member_id"], rules.new_term(chosen, now))
            await connection.execute(SQL.log, row["member_id"], now, "ranked", rank, by, None)
            _tell_rank(transaction, row, rank, now)
            return await self._view(connection, row["member_id"])

    async def describe(
        self,
        principal: Principal,
        member_id: str,
        *,
        listed: bool,
        about: str | None,
        spaces: Sequence[str],
        languages: Sequence[str],
    ) -> dict[str, Any]:
        """What a Star says of themselves, and whether the directory may show it. Raises Problem 404."""
        async with self._outbox.transaction() as transaction:
            row, _ = await self._locked(transaction, principal, member_id)
            await transaction.connection.execute(
                SQL.describe,
                row["member_id"],
                listed,
                about or None,
                json.dumps(list(dict.fromkeys(spaces))),
                json.dumps(list(dict.fromkeys(languages))),
            )
            return await self._view(transaction.connection, row["member_id"])

    async def judge_due(self) -> int:
        """Renew, promote, warn, demote or thank whoever's term, grace or leave is over. Returns how many."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            rows = await connection.fetch(SQL.due, JUDGED_AT_ONCE)
            if not rows:
                return 0
            document = (await self._programme.present(connection)).document
            root_of = await self._members.facts.known_as(connection, [row["member_id"] for row in rows])
            records = await read_records(connection, [root_of.get(row["member_id"], row["member_id"]) for row in rows])
            now: datetime = await connection.fetchval("SELECT now()")
            grace, ranks = timedelta(days=document.grace_days), document.rules_of_ranks()
            count = 0
            for row in rows:
                member = row["member_id"]
                person = root_of.get(member, member)
                judged = rules.judge(_standing(row), ranks, records[person], now, grace)
                if judged is None:
                    continue
                count += 1
                if judged.standing is None:
                    await self._retire(transaction, person, None, "Thank you for all that you did.")
                    continue
                await self._write(connection, member, judged.standing)
                await connection.execute(SQL.log, member, now, judged.what, judged.standing.rank, None, None)
                _tell_rank(transaction, row, judged.standing.rank, now)
            return count

    async def directory(
        self, principal: Principal | None, space: str | None, language: str | None, limit: int, cursor: str | None
    ) -> dict[str, Any]:
        """The Stars who want to be found; staff see all of them."""
        after = decode_cursor(cursor, datetime, str) if cursor else [None, None]
        everyone = principal is not None and principal.has(Role.STAFF)
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            document = (await self._programme.present(connection)).document
            rows = await connection.fetch(SQL.directory, everyone, space, language, *after, limit + 1)
            names = await names_of(connection, [row["person"] for row in rows])
        shown = rows[:limit]
        more = len(rows) > limit
        return {
            "items": [_listed(row, row["person"], names, document, everyone) for row in shown],
            "next": encode_cursor([shown[-1]["since"], shown[-1]["member_id"]]) if more else None,
        }

    async def read(self, principal: Principal | None, member_id: str) -> dict[str, Any]:
        """A Star: what the directory shows to anyone, all of it to themselves and staff. Raises Problem 404."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            member = await self._members.root(connection, member_id)
            row = await connection.fetchrow(SQL.of_members, await self._members.ids(connection, member))
            if row is None:
                raise Problem(404, "There is no such Star.")
            if not (row["listed"] and row["state"] != "retired"):
                check_owner(member, await self._members.reading(connection, principal), principal)
            return await self._view(connection, row["member_id"])

    async def root(self, connection: Any, member_id: str) -> str:
        """Whom an account's id stands for."""
        return await self._members.root(connection, member_id)

    async def of_member(self, connection: Any, member: str) -> dict[str, Any] | None:
        """A member's membership, if they ever had one."""
        row = await connection.fetchrow(SQL.of_members, await self._members.ids(connection, member))
        return None if row is None else await self._view(connection, row["member_id"])

    async def _locked(self, transaction: Transaction, principal: Principal, member_id: str) -> tuple[Any, str | None]:
        """A membership that goes on, its row locked, for its owner and for staff; and who acts."""
        connection = transaction.connection
        await connection.execute(FACTS_SQL.share_lock)
        me = await self._members.reading(connection, principal)
        member = await self._members.root(connection, member_id)
        check_owner(member, me, principal)
        row = await connection.fetchrow(SQL.lock, await self._members.ids(connection, member))
        if row is None:
            raise Problem(404, "There is no such Star.")
        return row, me

    async def _write(self, connection: Any, member: str, standing: Standing) -> None:
        await connection.execute(
            SQL.write, member, standing.state, standing.rank, standing.term_ends, standing.grace_ends
        )

    async def _view(self, connection: Any, key: str) -> dict[str, Any]:
        row = await connection.fetchrow(SQL.of_members, [key])
        document = (await self._programme.present(connection)).document
        member = await self._members.root(connection, key)
        helps = await spaces_of(connection, member)
        names = await names_of(connection, [member])
        history = await connection.fetch(SQL.history, await self._members.ids(connection, member))
        return {
            **_listed(row, member, names, document, True),
            "term_ends": row["term_ends"],
            "grace_ends": row["grace_ends"],
            "leave_until": row["leave_until"],
            "retired_at": row["retired_at"],
            "helps_in": [dict(one) for one in helps],
            "history": [
                {"at": one["at"], "what": one["what"], "rank": one["rank"], "detail": one["detail"]} for one in history
            ],
        }


def _tell_rank(transaction: Transaction, row: Any, rank: str, now: datetime) -> None:
    """Say which rank a Star has from now on, where it is another than before."""
    if rank != row["rank"]:
        data = events.StarRankedData(member_id=row["member_id"], rank=rank)
        transaction.publish(Outgoing(APPLICATIONS, events.StarRanked, data, now, traceparent=current_traceparent()))


def _standing(row: Any) -> Standing:
    return Standing(
        row["state"], row["rank"], row["term_ends"], row["grace_ends"], row["leave_since"], row["leave_until"]
    )


def _listed(
    row: Any, member: str, names: dict[str, str], document: EditionDocument, everything: bool
) -> dict[str, Any]:
    return {
        "member_id": member,
        "name": names[member],
        "rank": row["rank"],
        "rank_name": document.rank_name(row["rank"]),
        "since": row["since"],
        "about": row["about"],
        "spaces": json.loads(row["spaces"]),
        "languages": json.loads(row["languages"]),
        "state": row["state"] if everything else None,
        "listed": row["listed"] if everything else None,
    }
