"""Applications: drafts, submitting, withdrawing, and the one way through the table of states."""

import json
import uuid
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from services.applications import rules
from services.applications.members import Members, check_owner
from services.applications.programme import Edition, Programme
from services.applications.records import read_records
from services.applications.rules import Action, Record, State
from shared.contracts import applications as events
from shared.contracts.catalogue import APPLICATIONS
from shared.messaging import Outbox, Outgoing, Transaction
from shared.observability import current_traceparent
from shared.postgres import Queries
from shared.web import Principal, Problem, Role

SQL = Queries(Path(__file__).parent / "sql" / "applying.sql")

_EVENTS: Mapping[str, type[Any]] = {
    "application-submitted": events.ApplicationSubmitted,
    "application-withdrawn": events.ApplicationWithdrawn,
    "quiz-passed": events.QuizPassed,
    "quiz-failed": events.QuizFailed,
    "application-decided": events.ApplicationDecided,
}
_OUTCOME = {
    State.ACCEPTED: "accepted",
    State.DECLINED: "declined",
    State.FAILED: "failed",
    State.WITHDRAWN: "withdrawn",
}


async def change(
    transaction: Transaction,
    application: Any,
    action: Action,
    *,
    by: str | None = None,
    reason: str | None = None,
    detail: str | None = None,
    review_days: float | None = None,
) -> State:
    """Take an application, whose row is locked, to where the table says, and tell of it.

    Raises Problem 409 where the table knows no such step. Whoever appoints a Star does that by themselves.
    """
    state = State(application["state"])
    way = rules.follow(state, action)
    if way is None:
        raise Problem(
            409,
            f"The application is {state.replace('-', ' ')}: that cannot be done any more, or not yet.",
            type="wrong-state",
            state=str(state),
        )
    connection = transaction.connection
    outcome = _OUTCOME.get(way.to)
    now: datetime = await connection.fetchval(
        SQL.change,
        application["application_id"],
        way.to,
        outcome,
        reason,
        by if way.by == "staff" else None,
        review_days if way.to is State.IN_REVIEW else None,
    )
    if action is Action.SAVE:
        return way.to
    await connection.execute(SQL.log, application["application_id"], now, action, way.to, by, detail)
    common = {"member_id": application["member_id"], "application_id": application["application_id"]}
    for name in way.events:
        if name not in _EVENTS:
            continue
        data: Any = events.ApplicationData.model_validate(common)
        if name == "application-decided":
            data = events.ApplicationDecidedData.model_validate({**common, "outcome": outcome, "reason": reason})
        transaction.publish(Outgoing(APPLICATIONS, _EVENTS[name], data, now, traceparent=current_traceparent()))
    return way.to


class Applying:
    """What applicants do, each in one transaction under their own lock."""

    def __init__(self, outbox: Outbox, members: Members, programme: Programme) -> None:
        self._outbox, self.members, self.programme = outbox, members, programme

    async def begin(self, principal: Principal, answers: Mapping[str, Any]) -> dict[str, Any]:
        """A draft of the present edition; who has an open application gets that one. Raises Problem 400 or 409."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            member = await self.members.acting(connection, principal)
            ids = await self.members.ids(connection, member)
            edition = await self.programme.present(connection)
            own = await connection.fetch(SQL.of_members, ids)
            opened = next((row for row in own if row["closed_at"] is None), None)
            if opened is not None:
                if answers and State(opened["state"]) is State.DRAFT:
                    await self._save(transaction, opened, answers)
                return await self._view(connection, opened["application_id"])
            if await connection.fetchval(SQL.is_star, ids):
                raise Problem(409, "You are a Star already.", type="already-a-star")
            if any(row["edition"] == edition.number and row["submitted_at"] for row in own):
                raise Problem(
                    409,
                    "You have applied in this edition of the programme; once is what it takes.",
                    type="applied-already",
                    earlier=[_earlier(row) for row in own],
                )
            last = max((row["closed_at"] for row in own if row["submitted_at"]), default=None)
            again = rules.may_apply_from(last, edition.document.cool_down)
            now = await connection.fetchval("SELECT now()")
            if again is not None and again > now:
                raise Problem(
                    409,
                    f"You can apply again from {again.isoformat()} on.",
                    type="cool-down",
                    until=again.isoformat(),
                    earlier=[_earlier(row) for row in own],
                )
            _check_draft(edition, answers)
            id = uuid.uuid4().hex
            await connection.execute(SQL.forget_drafts, ids)
            await connection.execute(SQL.begin, id, member, edition.number, json.dumps(dict(answers)))
            return await self._view(connection, id)

    async def save(self, principal: Principal, application_id: str, answers: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a draft: answers that are named replace those of before. Raises Problem 400, 404 or 409."""
        async with self._outbox.transaction() as transaction:
            application = await self._locked(transaction, principal, application_id)
            await self._save(transaction, application, answers)
            return await self._view(transaction.connection, application_id)

    async def submit(self, principal: Principal, application_id: str) -> dict[str, Any]:
        """Hand it in, once an edition. Raises Problem 400 with what is missing, 404, or 409."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            application = await self._locked(transaction, principal, application_id)
            if State(application["state"]) is not State.DRAFT:
                await change(transaction, application, Action.SUBMIT)
            edition = await self.programme.edition(connection, application["edition"])
            ids = await self.members.ids(connection, await self.members.root(connection, application["member_id"]))
            if await connection.fetchval(SQL.submitted_in, ids, edition.number):
                raise Problem(409, "You have applied in this edition of the programme.", type="applied-already")
            record = (await read_records(connection, ids[:1]))[ids[0]]
            if record.is_suspended:
                raise Problem(409, "A suspended account cannot apply.", type="not-eligible")
            if edition.document.open_to == "eligible":
                shown = progress_of(edition, record, await connection.fetchval("SELECT now()"))
                if not shown["eligible"]:
                    raise Problem(
                        409,
                        f"{shown['met']} of {shown['of']} criteria are met so far.",
                        type="not-eligible",
                        progress=shown,
                    )
            answers = json.loads(application["answers"])
            fields = [one.rule() for one in edition.document.form]
            named = [id for one in fields if one.kind == "evidence" for id in answers.get(one.id, [])]
            own = {row["reply_id"] for row in await connection.fetch(SQL.own_among, ids, named)} if named else set()
            wrong = rules.check_answers(fields, answers, own)
            if wrong:
                raise Problem(
                    400,
                    "Some answers are missing or not right yet.",
                    type="incomplete",
                    errors=[{"location": f"answers.{id}", "detail": why} for id, why in wrong.items()],
                )
            await change(transaction, application, Action.SUBMIT, by=ids[0])
            return await self._view(connection, application_id)

    async def withdraw(self, principal: Principal, application_id: str) -> dict[str, Any]:
        """Take it back. Raises Problem 404 or 409."""
        async with self._outbox.transaction() as transaction:
            application = await self._locked(transaction, principal, application_id)
            # An attempt that is open ends with it: its questions are seen, its answers are nobody's any more.
            await transaction.connection.execute(SQL.abandon_attempt, application_id)
            await change(transaction, application, Action.WITHDRAW, by=application["member_id"])
            return await self._view(transaction.connection, application_id)

    async def read(self, principal: Principal, application_id: str) -> dict[str, Any]:
        """An application with its timeline, for its owner, and for staff once it was handed in. Raises Problem 404."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            row = await connection.fetchrow(SQL.application, application_id)
            if row is None:
                raise Problem(404, "There is no such application, or it is not yours.")
            owner = await self.members.root(connection, row["member_id"])
            me = await self.members.reading(connection, principal)
            check_owner(owner, me, principal if row["submitted_at"] is not None else None)
            found = await self._view(connection, application_id)
            if me == owner or not principal.has(Role.STAFF):
                # Who decided is the programme, and no person whom one could be angry with.
                for one in found["timeline"]:
                    if one["by"] != found["member_id"]:
                        one["by"] = None
            return found

    async def of_member(self, connection: Any, member: str) -> list[dict[str, Any]]:
        """Every application of a member, the latest first."""
        ids = await self.members.ids(connection, member)
        return [_earlier(row) for row in await connection.fetch(SQL.of_members, ids)]

    async def own_replies(self, connection: Any, member: str, limit: int, picked: Collection[str]) -> list[Any]:
        """A member's latest replies that can be picked as evidence, and those that are PICKED already, however old.

        Rows reply_id, topic_id, title, url, space, posted_at, the latest first.
        """
        ids = await self.members.ids(connection, member)
        rows: list[Any] = await connection.fetch(SQL.own_replies, ids, limit, list(picked))
        return rows

    async def _locked(self, transaction: Transaction, principal: Principal, application_id: str) -> Any:
        """One's own application, its row locked."""
        connection = transaction.connection
        member = await self.members.acting(connection, principal)
        row = await connection.fetchrow(SQL.lock, application_id)
        if row is None or await self.members.root(connection, row["member_id"]) != member:
            raise Problem(404, "There is no such application, or it is not yours.")
        return row

    async def _save(self, transaction: Transaction, application: Any, answers: Mapping[str, Any]) -> None:
        await change(transaction, application, Action.SAVE)
        edition = await self.programme.edition(transaction.connection, application["edition"])
        merged = json.loads(application["answers"]) | answers
        _check_draft(edition, merged)
        await transaction.connection.execute(SQL.save, application["application_id"], json.dumps(merged))

    async def _view(self, connection: Any, application_id: str) -> dict[str, Any]:
        row = await connection.fetchrow(SQL.application, application_id)
        attempts = await connection.fetch(SQL.attempts, application_id)
        edition = await self.programme.edition(connection, row["edition"])
        return {
            "application_id": application_id,
            "member_id": await self.members.root(connection, row["member_id"]),
            "edition": row["edition"],
            "state": row["state"],
            "answers": json.loads(row["answers"]),
            "created_at": row["created_at"],
            "submitted_at": row["submitted_at"],
            "review_due": row["review_due"],
            "closed_at": row["closed_at"],
            "outcome": row["outcome"],
            "reason": row["reason"],
            "quiz": {
                "attempts": len(attempts),
                "attempts_left": max(0, edition.document.quiz.attempts - len(attempts)),
                "open": any(one["finished_at"] is None for one in attempts),
                "passed": any(one["passed"] for one in attempts),
                "next_at": _next_at(edition, attempts),
            },
            "timeline": [
                {
                    "at": one["at"],
                    "action": one["action"],
                    "state": one["state"],
                    "by": one["by_id"],
                    "detail": one["detail"],
                }
                for one in await connection.fetch(SQL.changes, application_id)
            ],
        }


def _next_at(edition: Edition, attempts: list[Any]) -> datetime | None:
    """From when on another attempt can begin; None: at any time, or no more at all."""
    if not attempts or len(attempts) >= edition.document.quiz.attempts or attempts[-1]["finished_at"] is None:
        return None
    return attempts[-1]["finished_at"] + edition.document.quiz_wait  # type: ignore[no-any-return]


def _earlier(row: Any) -> dict[str, Any]:
    return {
        "application_id": row["application_id"],
        "edition": row["edition"],
        "state": row["state"],
        "created_at": row["created_at"],
        "submitted_at": row["submitted_at"],
        "closed_at": row["closed_at"],
        "outcome": row["outcome"],
        "reason": row["reason"],
    }


def _check_draft(edition: Edition, answers: Mapping[str, Any]) -> None:
    wrong = rules.check_draft([one.rule() for one in edition.document.form], answers)
    if wrong:
        raise Problem(
            400,
            "Some answers cannot be kept.",
            type="invalid-answers",
            errors=[{"location": f"answers.{id}", "detail": why} for id, why in wrong.items()],
        )


def progress_of(edition: Edition, record: Record, now: datetime, language: str | None = None) -> dict[str, Any]:
    """How far a member is: each criterion with its figure, "3 of 5 met", and the one next step."""
    found = rules.progress(edition.document.rules_of_criteria(), record, now.date())
    shown = [
        {
            "id": document.id,
            "label": document.label.in_(language),
            "value": one.value,
            "at_least": document.at_least,
            "at_most": document.at_most,
            "met": one.met,
        }
        for document, one in zip(edition.document.criteria, found, strict=True)
    ]
    missing = [(one.part, n) for n, one in enumerate(found) if not one.met]
    return {
        "met": sum(one.met for one in found),
        "of": len(found),
        "eligible": not missing,
        # The nearest goal is the next step.
        "next": shown[max(missing)[1]]["id"] if missing else None,
        "criteria": shown,
    }
