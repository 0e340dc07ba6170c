"""Review: a queue, scores that are blind to each other until all are in, a discussion, a decision with a reason."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from services.applications.applying import change, progress_of
from services.applications.members import Members, names_of, spaces_of
from services.applications.membership import Appointment, Membership
from services.applications.programme import Edition, Programme
from services.applications.records import read_records
from services.applications.rules import Action, State
from shared.messaging import Outbox, Transaction
from shared.postgres import Queries
from shared.web import Principal, Problem, decode_cursor, encode_cursor

SQL = Queries(Path(__file__).parent / "sql" / "reviews.sql")
LOWEST, HIGHEST = 1, 5


class Reviews:
    """What staff do with applications, each step under the application's lock."""

    def __init__(self, outbox: Outbox, members: Members, programme: Programme, membership: Membership) -> None:
        self._outbox, self._members, self._programme, self._membership = outbox, members, programme, membership

    async def queue(self, principal: Principal, state: str, limit: int, cursor: str | None) -> dict[str, Any]:
        """Applications, those that wait longest first; ``state`` in-review, or one that is closed."""
        after = decode_cursor(cursor, datetime, str) if cursor else [None, None]
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            me = await self._members.reading(connection, principal)
            ids = [] if me is None else await self._members.ids(connection, me)
            rows = await connection.fetch(SQL.queue, state, ids, after[0], after[1], limit + 1)
            names = await names_of(connection, [row["member_id"] for row in rows])
            editions = {row["edition"] for row in rows}
            needed = {
                one: (await self._programme.edition(connection, one)).document.review.reviewers for one in editions
            }
        shown = rows[:limit]
        return {
            "items": [
                {
                    "application_id": row["application_id"],
                    "member_id": row["member_id"],
                    "name": names[row["member_id"]],
                    "state": row["state"],
                    "edition": row["edition"],
                    "since": row["since"],
                    "due_at": row["review_due"],
                    "late": row["late"],
                    "reviews": row["reviews"],
                    "needed": needed[row["edition"]],
                    "reviewed_by_me": row["mine"],
                    "conflict": row["conflict"],
                    "own": row["member_id"] in ids,
                }
                for row in shown
            ],
            "next": encode_cursor([shown[-1]["since"], shown[-1]["application_id"]]) if len(rows) > limit else None,
        }

    async def dossier(self, principal: Principal, application_id: str) -> dict[str, Any]:
        """All that a reviewer looks at: the answers, the record from facts, others' scores once they may be seen.

        Of one's own application it says no more than the applicant is told: who said and decided what is for reviewers.
        """
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            row = await connection.fetchrow(SQL.application, application_id)
            if row is None:
                raise Problem(404, "There is no such application.")
            me = await self._members.reading(connection, principal)
            return await self._dossier(connection, row, me)

    async def _dossier(self, connection: Any, row: Any, me: str | None) -> dict[str, Any]:
        id = row["application_id"]
        edition = await self._programme.edition(connection, row["edition"])
        member = await self._members.root(connection, row["member_id"])
        ids = await self._members.ids(connection, member)
        record = (await read_records(connection, [member]))[member]
        given = await connection.fetch(SQL.reviews, id)
        scored = [one for one in given if not one["conflict"]]
        complete = len(scored) >= edition.document.review.reviewers
        own = me is not None and me == member
        open_to_me = complete and not own
        mine = next((one for one in given if me is not None and one["reviewer_id"] == me and not own), None)
        discussion = await connection.fetch(SQL.discussion, id) if open_to_me else []
        decided_by = None if own else row["decided_by"]
        answers = json.loads(row["answers"])
        evidence = [
            item
            for one in edition.document.form
            if one.kind == "evidence"
            for item in answers.get(one.id, [])
            if isinstance(item, str)
        ]
        earlier = await connection.fetch(SQL.earlier, ids, id)
        reviewers = [] if own else [one["reviewer_id"] for one in given]
        people = [member, *reviewers, *(one["author_id"] for one in discussion), decided_by]
        return {
            "application_id": id,
            "member_id": member,
            "names": await names_of(connection, people),
            "state": row["state"],
            "edition": row["edition"],
            "answers": answers,
            "submitted_at": row["submitted_at"],
            "since": row["review_since"],
            "due_at": row["review_due"],
            "outcome": row["outcome"],
            "reason": row["reason"],
            "decided_by": decided_by,
            "closed_at": row["closed_at"],
            "progress": progress_of(edition, record, await connection.fetchval("SELECT now()")),
            "joined_at": record.joined_at,
            "spaces": [dict(one) for one in await spaces_of(connection, member)],
            "evidence": [dict(one) for one in await connection.fetch(SQL.evidence, evidence)],
            "quiz": [dict(one) for one in await connection.fetch(SQL.attempts, id)],
            "earlier": [dict(one) for one in earlier],
            "needed": edition.document.review.reviewers,
            "given": len(scored),
            "complete": complete,
            "own": own,
            "mine": None if mine is None else _review(mine),
            "reviews": [_review(one) for one in scored] if open_to_me else [],
            "discussion": [dict(one) for one in discussion],
        }

    async def give(
        self,
        principal: Principal,
        application_id: str,
        scores: Mapping[str, int],
        note: str | None,
        conflict: bool,
    ) -> dict[str, Any]:
        """Give, or until all are in change, one's own scores; or say, at any time, that one stands too near.

        Raises Problem 400, 403, 404 or 409.
        """
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            row, me, edition = await self._judging(transaction, principal, application_id)
            given = await connection.fetch(SQL.reviews, application_id)
            scored = [one for one in given if not one["conflict"]]
            mine = next((one for one in given if one["reviewer_id"] == me), None)
            if mine is not None and mine["conflict"] and not conflict:
                raise Problem(409, "You have said that you stand too near to this.", type="conflict-of-interest")
            if mine is not None and not conflict and len(scored) >= edition.document.review.reviewers:
                raise Problem(
                    409, "All scores are in and open to see: yours stay as they are.", type="reviews-complete"
                )
            if not conflict:
                _check_scores(edition, scores)
            await connection.execute(
                SQL.give, application_id, me, None if conflict else json.dumps(dict(scores)), note, conflict
            )
            return await self._dossier(connection, row, me)

    async def discuss(self, principal: Principal, application_id: str, text: str) -> dict[str, Any]:
        """Say something to the other reviewers, once their scores can no longer be swayed. Raises 403, 404, 409."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            row, me, edition = await self._judging(transaction, principal, application_id)
            await self._complete(connection, application_id, me, edition)
            await connection.execute(SQL.discuss, application_id, me, text)
            return await self._dossier(connection, row, me)

    async def decide(self, principal: Principal, application_id: str, outcome: str, reason: str) -> dict[str, Any]:
        """Decide, with a reason that the applicant reads; an accepted one is a Star at once. Raises 403, 404, 409."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            row, me, edition = await self._judging(transaction, principal, application_id)
            await self._complete(connection, application_id, me, edition)
            action = Action.ACCEPT if outcome == "accepted" else Action.DECLINE
            await change(transaction, row, action, by=me, reason=reason)
            if action is Action.ACCEPT:
                answers = json.loads(row["answers"])
                by_kind = {one.kind: answers.get(one.id) for one in edition.document.form}
                member = await self._members.root(connection, row["member_id"])
                new = Appointment(member, spaces=by_kind.get("spaces") or [], languages=by_kind.get("languages") or [])
                await self._membership.appoint(transaction, [new], by=me)
            return await self._dossier(connection, await connection.fetchrow(SQL.application, application_id), me)

    async def _judging(
        self, transaction: Transaction, principal: Principal, application_id: str
    ) -> tuple[Any, str, Edition]:
        """The application, its row locked, and who judges it: never the applicant."""
        connection = transaction.connection
        me = await self._members.acting(connection, principal, alone=False)
        row = await connection.fetchrow(SQL.lock, application_id)
        if row is None:
            raise Problem(404, "There is no such application.")
        if await self._members.root(connection, row["member_id"]) == me:
            raise Problem(403, "Nobody judges their own application.", type="conflict-of-interest")
        if State(row["state"]) is not State.IN_REVIEW:
            raise Problem(
                409,
                f"The application is {row['state'].replace('-', ' ')}, not in review.",
                type="wrong-state",
                state=row["state"],
            )
        return row, me, await self._programme.edition(connection, row["edition"])

    async def _complete(self, connection: Any, application_id: str, me: str, edition: Edition) -> None:
        given = await connection.fetch(SQL.reviews, application_id)
        if any(one["conflict"] and one["reviewer_id"] == me for one in given):
            raise Problem(403, "You have said that you stand too near to this.", type="conflict-of-interest")
        there, needed = sum(not one["conflict"] for one in given), edition.document.review.reviewers
        if there < needed:
            raise Problem(
                409, f"{there} of {needed} reviews are in.", type="reviews-missing", given=there, needed=needed
            )


def _check_scores(edition: Edition, scores: Mapping[str, int]) -> None:
    asked = {one.id for one in edition.document.review.rubric}
    if scores.keys() != asked:
        raise Problem(400, f"The rubric asks for {', '.join(sorted(asked))}.", type="invalid-scores")
    if not all(LOWEST <= value <= HIGHEST for value in scores.values()):
        raise Problem(400, f"Scores go from {LOWEST} to {HIGHEST}.", type="invalid-scores")


def _review(row: Any) -> dict[str, Any]:
    return {
        "reviewer_id": row["reviewer_id"],
        "scores": None if row["scores"] is None else json.loads(row["scores"]),
        "note": row["note"],
        "conflict": row["conflict"],
        "given_at": row["given_at"],
    }
