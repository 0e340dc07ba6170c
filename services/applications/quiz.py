"""The quiz: attempts against PostgreSQL's clock. What is right never leaves this service before an attempt ended."""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from services.applications import rules
from services.applications.applying import SQL as APPLYING_SQL
from services.applications.applying import change
from services.applications.members import Members, check_owner
from services.applications.programme import Bank, Edition, Programme, Question
from services.applications.rules import Action, State
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox, Transaction
from shared.postgres import Queries
from shared.web import Principal, Problem, Role

SQL = Queries(Path(__file__).parent / "sql" / "quiz.sql")
CLOSED_AT_ONCE = 200


class Quiz:
    """Every step holds the application's row, so that two tabs and two replicas go one after the other.

    The time is asked for once the row is held, and an attempt that has ended stays ended: a clock that jumps back opens
    nothing again.
    """

    def __init__(
        self, outbox: Outbox, members: Members, programme: Programme, rng: Callable[[], Random] = SystemRandom
    ) -> None:
        self._outbox, self._members, self._programme, self._rng = outbox, members, programme, rng

    async def open(self, principal: Principal, application_id: str, language: str | None) -> dict[str, Any]:
        """The open attempt, or a new one. Raises Problem 404, or 409: wrong-state, wait, no-attempts-left."""
        async with self._outbox.transaction() as transaction:
            application = await self._locked(transaction, principal, application_id)
            return await self._open(transaction, application, language)

    async def _open(self, transaction: Transaction, application: Any, language: str | None) -> dict[str, Any]:
        connection, id = transaction.connection, application["application_id"]
        edition = await self._programme.edition(connection, application["edition"])
        attempt, now = await self._latest(connection, id)
        if attempt is not None and attempt["finished_at"] is None:
            if now < attempt["deadline"]:
                return await self._view(connection, edition, attempt, now)
            state = await self._close(transaction, application, edition, attempt, "time")
            application = {**application, "state": str(state)}
            attempt, now = await self._latest(connection, id)
        if State(application["state"]) is not State.SUBMITTED:
            raise Problem(
                409,
                "There is no quiz to take: the application is " + application["state"].replace("-", " ") + ".",
                type="wrong-state",
                state=application["state"],
            )
        taken = 0 if attempt is None else attempt["number"]
        if attempt is not None:
            if taken >= edition.document.quiz.attempts:
                raise Problem(409, "Every attempt is used.", type="no-attempts-left")
            again = attempt["finished_at"] + edition.document.quiz_wait
            if now < again:
                raise Problem(
                    409, f"The next attempt can begin at {again.isoformat()}.", type="wait", until=again.isoformat()
                )
        bank = await self._programme.bank(connection, edition.bank)
        options = {one.id: len(one.texts["en"].options) for one in bank.questions}
        drawn = rules.draw(options, edition.document.quiz.questions, self._rng())
        attempt = await connection.fetchrow(
            SQL.begin, id, taken + 1, _language(bank, language), now, edition.document.quiz.seconds
        )
        await connection.execute(
            SQL.write_questions,
            attempt["attempt_id"],
            list(range(1, len(drawn) + 1)),
            [one.question_id for one in drawn],
            ["{" + ",".join(map(str, one.options)) + "}" for one in drawn],
        )
        return await self._view(connection, edition, attempt, now)

    async def read(self, principal: Principal, application_id: str) -> dict[str, Any]:
        """The latest attempt: questions, saved answers, remaining seconds; after its end the explanations."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            application = await connection.fetchrow(APPLYING_SQL.lock, application_id)
            if application is None:
                raise Problem(404, "There is no such application, or it is not yours.")
            owner = await self._members.root(connection, application["member_id"])
            check_owner(owner, await self._members.reading(connection, principal), principal)
            edition = await self._programme.edition(connection, application["edition"])
            attempt, now = await self._latest(connection, application_id)
            if attempt is None:
                raise Problem(404, "No attempt has begun.")
            if attempt["finished_at"] is None and now >= attempt["deadline"]:
                await self._close(transaction, application, edition, attempt, "time")
                attempt, now = await self._latest(connection, application_id)
            if attempt["finished_at"] is None and principal.has(Role.STAFF) and not principal.owns(owner):
                # Nobody looks over somebody's shoulder.
                raise Problem(409, "The attempt is still going on.", type="attempt-open")
            return await self._view(connection, edition, attempt, now)

    async def answer(self, principal: Principal, application_id: str, n: int, answer: int | None) -> dict[str, Any]:
        """Save one answer; of several the last before the deadline holds. Raises Problem 400, 404, 409."""
        if not 0 < n < 1000:
            raise Problem(404, "The attempt has no such question.")
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            application = await self._locked(transaction, principal, application_id)
            attempt, now = await self._latest(connection, application_id)
            if attempt is None:
                raise Problem(404, "No attempt has begun.")
            if attempt["finished_at"] is None and now < attempt["deadline"]:
                options = await connection.fetchval(SQL.options, attempt["attempt_id"], n)
                if options is None:
                    raise Problem(404, "The attempt has no such question.")
                if answer is not None and not 0 <= answer < len(options):
                    raise Problem(400, "The question has no such option.", type="no-such-option")
                await connection.execute(SQL.save, attempt["attempt_id"], n, answer, now)
                return {"n": n, "answer": answer, "remaining_seconds": rules.seconds_left(attempt["deadline"], now)}
            if attempt["finished_at"] is None:
                edition = await self._programme.edition(connection, application["edition"])
                await self._close(transaction, application, edition, attempt, "time")
            by_time = attempt["ended_by"] in (None, "time")
        if by_time:
            raise time_is_up()
        raise Problem(409, "This attempt has ended.", type="attempt-over")

    async def finish(self, principal: Principal, application_id: str) -> dict[str, Any]:
        """End the open attempt; asked again, its result. After the deadline it ends as time has ended it."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            application = await self._locked(transaction, principal, application_id)
            edition = await self._programme.edition(connection, application["edition"])
            attempt, now = await self._latest(connection, application_id)
            if attempt is None:
                raise Problem(404, "No attempt has begun.")
            if attempt["finished_at"] is None:
                by = "member" if now < attempt["deadline"] else "time"
                await self._close(transaction, application, edition, attempt, by)
                attempt, now = await self._latest(connection, application_id)
            return await self._view(connection, edition, attempt, now)

    async def close_due(self) -> int:
        """Close attempts that nobody came back to. Any number of replicas may do so at once. Returns how many."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            count = 0
            for row in await connection.fetch(SQL.due, CLOSED_AT_ONCE):
                attempt, now = await self._latest(connection, row["application_id"])
                if attempt["finished_at"] is None and attempt["deadline"] <= now:
                    edition = await self._programme.edition(connection, row["edition"])
                    await self._close(transaction, row, edition, attempt, "time")
                    count += 1
            return count

    async def statistics(self, connection: Any) -> list[dict[str, Any]]:
        """How each question of the present bank fares, the worst first.

        ``right`` is the share of those who saw it in attempts that ended; ``apart`` how much better those who passed
        did than the others: a question that tells nothing is near nought, one below it misleads.
        """
        edition = await self._programme.present(connection)
        bank = (await self._programme.bank(connection, edition.bank)).by_id()
        chosen: dict[str, dict[int, int]] = defaultdict(dict)
        for row in await connection.fetch(SQL.chosen):
            chosen[row["question_id"]][row["option"]] = row["count"]
        found = []
        for row in await connection.fetch(SQL.statistics):
            question = bank.get(row["question_id"])
            if question is None:
                continue
            text = question.texts["en"]
            apart = None
            if row["passed_seen"] and row["failed_seen"]:
                apart = row["passed_right"] / row["passed_seen"] - row["failed_right"] / row["failed_seen"]
            found.append(
                {
                    "question_id": question.id,
                    "question": text.question,
                    "seen": row["seen"],
                    "right": row["right"] / row["seen"],
                    "blank": row["blank"] / row["seen"],
                    "apart": apart,
                    "chosen": [
                        {"option": words, "share": chosen[question.id].get(n, 0) / row["seen"]}
                        for n, words in enumerate(text.options)
                    ],
                }
            )
        return found

    async def _locked(self, transaction: Transaction, principal: Principal, application_id: str) -> Any:
        connection = transaction.connection
        member = await self._members.acting(connection, principal, alone=False)
        row = await connection.fetchrow(APPLYING_SQL.lock, application_id)
        if row is None or await self._members.root(connection, row["member_id"]) != member:
            raise Problem(404, "There is no such application, or it is not yours.")
        return row

    async def _latest(self, connection: Any, application_id: str) -> tuple[Any, datetime]:
        """The latest attempt, None where there is none, and what PostgreSQL's clock says."""
        row = await connection.fetchrow(SQL.latest, application_id)
        return (None if row["attempt_id"] is None else row), row["now"]

    async def _close(
        self, transaction: Transaction, application: Any, edition: Edition, attempt: Any, by: str
    ) -> State:
        """Grade what was saved. The application's row is held."""
        connection, quiz = transaction.connection, edition.document.quiz
        rows = await connection.fetch(SQL.questions, attempt["attempt_id"])
        points = rules.score((row["options"], row["answer"]) for row in rows)
        passed = points >= quiz.pass_mark
        await connection.execute(SQL.finish, attempt["attempt_id"], by, points, passed)
        last = attempt["number"] >= quiz.attempts
        action = Action.PASS if passed else Action.EXHAUST if last else Action.FAIL
        return await change(
            transaction,
            application,
            action,
            reason=None if passed or not last else "The quiz was not passed in any of its attempts.",
            detail=f"{points}/{len(rows)}" + (" time-is-up" if by == "time" else ""),
            review_days=edition.document.review.service_days,
        )

    async def _view(self, connection: Any, edition: Edition, attempt: Any, now: datetime) -> dict[str, Any]:
        bank = (await self._programme.bank(connection, edition.bank)).by_id()
        rows = await connection.fetch(SQL.questions, attempt["attempt_id"])
        over = attempt["finished_at"] is not None
        quiz = edition.document.quiz
        left = quiz.attempts - attempt["number"] if over and not attempt["passed"] else None
        return {
            "attempt": attempt["number"],
            "attempts": quiz.attempts,
            "state": "finished" if over else "open",
            "language": attempt["language"],
            "started_at": attempt["started_at"],
            "deadline": attempt["deadline"],
            "remaining_seconds": 0.0 if over else rules.seconds_left(attempt["deadline"], now),
            "pass_mark": quiz.pass_mark,
            "questions": [_shown(bank[row["question_id"]], row, attempt["language"], over) for row in rows],
            "answers": {str(row["n"]): row["answer"] for row in rows if row["answer"] is not None},
            "score": attempt["score"],
            "passed": attempt["passed"],
            "ended_by": attempt["ended_by"],
            "next_at": attempt["finished_at"] + edition.document.quiz_wait if left else None,
        }


def time_is_up() -> Problem:
    """What an answer hears that comes too late."""
    return Problem(409, "Time is up. What was saved before counts.", type="time-is-up")


def _language(bank: Bank, wanted: str | None) -> str:
    """The language to ask in: the one that is wanted, where every question is there in it."""
    known = bank.languages()
    for code in (wanted or "", (wanted or "").split("-")[0]):
        if code in known:
            return code
    return "en"


def _shown(question: Question, row: Any, language: str, over: bool) -> dict[str, Any]:
    text = question.text(language)
    shown: dict[str, Any] = {
        "n": row["n"],
        "question": text.question,
        "options": [text.options[option] for option in row["options"]],
        "answer": row["answer"],
        "correct": None,
        "explanation": None,
    }
    if over:
        shown |= {"correct": row["options"].index(0), "explanation": text.explanation}
    return shown
