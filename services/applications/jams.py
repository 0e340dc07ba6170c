"""Star Jam: a shortlist explained name by name, invitations with a deadline, a waiting list that moves by itself."""

import uuid
from datetime import date
from pathlib import Path
from typing import Any

from services.applications import rules
from services.applications.members import Members, names_of
from services.applications.rules import Candidate
from shared.contracts import applications as events
from shared.contracts.catalogue import APPLICATIONS
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox, Outgoing, Transaction
from shared.observability import current_traceparent
from shared.postgres import Queries, arrays
from shared.web import Principal, Problem, Role

SQL = Queries(Path(__file__).parent / "sql" / "jams.sql")
LAPSED_AT_ONCE = 20
NOTES_KEPT_DAYS = 30
"""For so long after a Jam its travel notes are kept."""


async def fill(transaction: Transaction, jam: Any) -> list[str]:
    """Give free seats to the first on the list who may have one. The Jam's row is locked. Returns who was invited."""
    connection = transaction.connection
    if jam["state"] != "inviting" or jam["has_begun"]:
        return []
    # Who has left since the list was made is no Star to invite; who was invited elsewhere meanwhile rests. No two Jams
    # invite at once: each sees whom the other has.
    await connection.execute(SQL.pass_over_who_left, jam["jam_id"])
    await connection.execute(SQL.lock_inviting)
    lately = await connection.fetch(SQL.invited_lately, jam["jam_id"], jam["starts_on"], jam["rest_editions"])
    if lately:
        await connection.execute(SQL.pass_over_who_rests, jam["jam_id"], *arrays(lately))
    rows = await connection.fetch(SQL.guests, jam["jam_id"])
    chosen = rules.next_invited(
        [(row["member_id"], row["state"], row["space"]) for row in rows], jam["seats"], jam["most_per_space"]
    )
    if not chosen:
        return []
    for row in await connection.fetch(SQL.invite, jam["jam_id"], chosen, jam["answer_days"], jam["starts_on"]):
        data = events.JamData(member_id=row["member_id"], jam_id=jam["jam_id"], answer_by=row["answer_by"])
        transaction.publish(
            Outgoing(APPLICATIONS, events.JamInvited, data, row["invited_at"], traceparent=current_traceparent())
        )
    return chosen


async def erase_guests(transaction: Transaction, erased: dict[str, str]) -> None:
    """Take erased members off every list, and give their seats on."""
    connection = transaction.connection
    left = [row["jam_id"] for row in await connection.fetch(SQL.erase, list(erased))]
    for jam in await connection.fetch(SQL.lock_several, left) if left else ():
        await fill(transaction, jam)


class Jams:
    """Each step holds the Jam's row, so that no two give the same seat."""

    def __init__(self, outbox: Outbox, members: Members) -> None:
        self._outbox, self._members = outbox, members

    async def make(
        self,
        *,
        name: str,
        place: str,
        starts_on: date,
        ends_on: date,
        season_id: str,
        seats: int,
        answer_days: int,
        rest_editions: int,
        most_per_space: int | None,
        consent: str,
    ) -> str:
        """Plan a Jam from a closed season; returns its id. Raises Problem 400 or 409."""
        if ends_on < starts_on:
            raise Problem(400, "It ends after it starts.", type="invalid-jam")
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            if not await connection.fetchval(SQL.season_is_closed, season_id):
                raise Problem(409, "That season is not closed, or not known here.", type="season-not-closed")
            id = uuid.uuid4().hex
            values = (name, place, starts_on, ends_on, season_id, seats, answer_days, rest_editions, most_per_space)
            await connection.execute(SQL.make, id, *values, consent)
            await self._list(connection, await connection.fetchrow(SQL.lock, id))
            return id

    async def shortlist(self, jam_id: str) -> None:
        """Make the list again, while nobody is invited. Raises Problem 404 or 409."""
        async with self._outbox.transaction() as transaction:
            jam = await self._locked(transaction, jam_id)
            if jam["state"] != "planned":
                raise Problem(409, "Invitations are out: the list stays as it is.", type="wrong-state")
            await self._list(transaction.connection, jam)

    async def _list(self, connection: Any, jam: Any) -> None:
        rows = await connection.fetch(SQL.standings, jam["season_id"])
        lately = await connection.fetch(SQL.invited_lately, jam["jam_id"], jam["starts_on"], jam["rest_editions"])
        named = rules.shortlist(
            [Candidate(row["member_id"], row["rank"], row["points"], row["space"]) for row in rows],
            {row["member_id"] for row in rows if row["is_star"]},
            {row["member_id"]: row["name"] for row in lately},
            jam["most_per_space"],
        )
        await connection.execute(SQL.clear, jam["jam_id"])
        listed = [
            (
                one.candidate.member_id,
                place,
                one.candidate.rank,
                one.candidate.points,
                one.candidate.space,
                "waiting" if one.may_be_invited else "passed-over",
                one.why,
            )
            for place, one in enumerate(named, 1)
        ]
        if listed:
            await connection.execute(SQL.write_guests, jam["jam_id"], *arrays(listed))

    async def invite(self, jam_id: str) -> int:
        """Send the invitations; from now on the list moves by itself. Returns how many. Raises Problem 404 or 409."""
        async with self._outbox.transaction() as transaction:
            jam = await self._locked(transaction, jam_id)
            if jam["state"] != "planned":
                raise Problem(409, "That was done before.", type="wrong-state")
            if jam["has_begun"]:
                raise Problem(409, "It has begun: nobody could come any more.", type="wrong-state")
            await transaction.connection.execute(SQL.set_state, jam_id, "inviting")
            return len(await fill(transaction, {**jam, "state": "inviting"}))

    async def set_seats(self, jam_id: str, seats: int) -> None:
        """More seats invite more; fewer take nothing back. Raises Problem 404."""
        async with self._outbox.transaction() as transaction:
            jam = await self._locked(transaction, jam_id)
            await transaction.connection.execute(SQL.set_seats, jam_id, seats)
            await fill(transaction, {**jam, "seats": seats})

    async def end(self, jam_id: str) -> None:
        """The Jam is over: nobody is invited any more. Raises Problem 404."""
        async with self._outbox.transaction() as transaction:
            await self._locked(transaction, jam_id)
            await transaction.connection.execute(SQL.set_state, jam_id, "over")

    async def answer(
        self, principal: Principal, jam_id: str, *, accept: bool, consent: bool, travel_notes: str | None
    ) -> dict[str, Any]:
        """Accept or decline one's own invitation; an accepted one can still be declined. Raises 400, 404 or 409."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            me = await self._members.acting(connection, principal, alone=False)
            jam = await connection.fetchrow(SQL.lock, jam_id)
            ids = await self._members.ids(connection, me)
            row = None if jam is None else await connection.fetchrow(SQL.invited, jam_id, ids)
            if jam is None or row is None:
                raise Problem(404, "You have no invitation to this.")
            if jam["state"] == "over":
                raise Problem(409, "It is over.", type="wrong-state")
            late = row["state"] == "lapsed" or (row["state"] == "invited" and row["late"])
            if not late:
                if row["state"] == "declined" or (row["state"] == "accepted" and accept):
                    raise Problem(409, f"You have {row['state']} already.", type="answered-already")
                if accept and not row["is_star"]:
                    raise Problem(409, "Star Jam is for Stars.", type="no-star")
                if accept and not consent:
                    raise Problem(400, "To come you have to agree to the terms.", type="consent-needed")
                state = "accepted" if accept else "declined"
                at = await connection.fetchval(
                    SQL.answer,
                    jam_id,
                    row["member_id"],
                    state,
                    consent if accept else None,
                    travel_notes if accept else None,
                )
                event = events.JamAccepted if accept else events.JamDeclined
                kind = events.JamData if accept else events.JamDeclinedData
                data = kind(member_id=row["member_id"], jam_id=jam_id)
                transaction.publish(Outgoing(APPLICATIONS, event, data, at, traceparent=current_traceparent()))
                if not accept:
                    await fill(transaction, jam)
                return await self._invitation(connection, jam_id, ids)
            await _lapse(transaction, jam)
        raise Problem(409, "The time to answer is over, and the place went on.", type="too-late")

    async def lapse_due(self) -> int:
        """Let invitations lapse that nobody answered in time, and invite the next. Returns how many Jams were due."""
        async with self._outbox.transaction() as transaction:
            await transaction.connection.execute(FACTS_SQL.share_lock)
            jams = await transaction.connection.fetch(SQL.due, LAPSED_AT_ONCE)
            for jam in jams:
                await _lapse(transaction, jam)
            return len(jams)

    async def end_due(self) -> int:
        """End the Jams whose last day is over. Returns how many."""
        async with self._outbox.transaction() as transaction:
            return len(await transaction.connection.fetch(SQL.end_due))

    async def forget_notes(self) -> int:
        """Erase the travel notes of Jams that were over long enough ago. Returns how many Jams."""
        async with self._outbox.transaction() as transaction:
            return len(await transaction.connection.fetch(SQL.forget_notes, NOTES_KEPT_DAYS))

    async def attend(self, jam_id: str, member_id: str, attended: bool) -> None:
        """Who was there. Raises Problem 404."""
        async with self._outbox.transaction() as transaction:
            await self._locked(transaction, jam_id)
            member = await self._members.root(transaction.connection, member_id)
            ids = await self._members.ids(transaction.connection, member)
            if not await transaction.connection.fetchval(SQL.attend, jam_id, ids, attended):
                raise Problem(404, "They did not accept an invitation to this.")

    async def all(self, principal: Principal | None) -> list[dict[str, Any]]:
        """Every Jam, the latest first, with one's own invitation."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            me = await self._members.reading(connection, principal)
            ids = [] if me is None else await self._members.ids(connection, me)
            staff = principal is not None and principal.has(Role.STAFF)
            found = []
            for row in await connection.fetch(SQL.jams, ids, staff):
                own = None
                if row["own_state"] is not None:
                    own = {
                        "state": row["own_state"],
                        "answer_by": row["own_answer_by"],
                        "answered_at": row["own_answered_at"],
                        "travel_notes": row["own_notes"],
                    }
                found.append(_shown(row, staff) | {"invitation": own})
            return found

    async def desk(self, jam_id: str) -> dict[str, Any]:
        """A Jam with its whole list, name by name; for staff. Raises Problem 404."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            jam = await connection.fetchrow(SQL.jam, jam_id)
            if jam is None:
                raise Problem(404, "There is no such Star Jam.")
            rows = await connection.fetch(SQL.guests, jam_id)
            names = await names_of(connection, [row["member_id"] for row in rows])
        return {
            **_shown(jam, True),
            "guests": [
                {
                    "member_id": row["member_id"],
                    "name": names[row["member_id"]],
                    "place": row["place"],
                    "rank": row["rank"],
                    "points": row["points"],
                    "space": row["space"],
                    "state": row["state"],
                    "why": row["why"],
                    "invited_at": row["invited_at"],
                    "answer_by": row["answer_by"],
                    "answered_at": row["answered_at"],
                    "consented": row["consented"],
                    "travel_notes": row["travel_notes"],
                    "attended": row["attended"],
                }
                for row in rows
            ],
        }

    async def _invitation(self, connection: Any, jam_id: str, ids: list[str]) -> dict[str, Any]:
        row = await connection.fetchrow(SQL.invited, jam_id, ids)
        return {
            "jam_id": jam_id,
            "state": row["state"],
            "answer_by": row["answer_by"],
            "answered_at": row["answered_at"],
            "travel_notes": row["travel_notes"],
        }

    async def _locked(self, transaction: Transaction, jam_id: str) -> Any:
        await transaction.connection.execute(FACTS_SQL.share_lock)
        jam = await transaction.connection.fetchrow(SQL.lock, jam_id)
        if jam is None:
            raise Problem(404, "There is no such Star Jam.")
        return jam


async def _lapse(transaction: Transaction, jam: Any) -> None:
    for row in await transaction.connection.fetch(SQL.lapse, jam["jam_id"]):
        data = events.JamDeclinedData(
            member_id=row["member_id"], jam_id=jam["jam_id"], answer_by=row["answer_by"], lapsed=True
        )
        transaction.publish(Outgoing(APPLICATIONS, events.JamDeclined, data, row["answered_at"]))
    await fill(transaction, jam)


def _shown(row: Any, staff: bool) -> dict[str, Any]:
    return {
        "jam_id": row["jam_id"],
        "name": row["name"],
        "place": row["place"],
        "starts_on": row["starts_on"],
        "ends_on": row["ends_on"],
        "season_id": row["season_id"],
        "state": row["state"],
        "seats": row["seats"],
        "answer_days": row["answer_days"],
        "rest_editions": row["rest_editions"],
        "most_per_space": row["most_per_space"],
        "consent": row["consent"],
        "accepted": row["accepted"] if staff else None,
        "invited": row["invited"] if staff else None,
        "waiting": row["waiting"] if staff else None,
    }
