"""The pages of the topics service: the queue, a question, the promise, policies, and the parts of the start page."""

import csv
import io
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from services.topics import promise, rules
from services.topics.api import Every, Moment, PolicyIn, State, Yes
from services.topics.claims import Claims
from services.topics.derive import load_policies
from services.topics.policies import read_policies, write_policy
from services.topics.promise import SPANS
from services.topics.queue import (
    Chosen,
    Numbers,
    Outcome,
    QueueState,
    read_asked,
    read_names,
    read_queue,
    read_topic,
    search,
)
from services.topics.report import Every as Step
from services.topics.report import Report, Scope
from shared.contracts.types import Id
from shared.runtime import Runtime
from shared.web import Cursor, Pages, Principal, Problem, Role, principal_or_none, require, signed_in
from shared.web.formats import spreadsheet_cell
from shared.web.pages import path_segment
from shared.web.parameters import BLANK_IS_ABSENT, Word

PAGE, NEXT, SPACES, FOUND, MOST_ROWS = 50, 5, 12, 50, 10_000
QUARTER = timedelta(days=91)

Anyone = Annotated[Principal | None, Depends(principal_or_none)]
Staff = Annotated[Principal, Depends(signed_in(Role.STAFF))]
OutcomeParameter = Annotated[Outcome | None, BLANK_IS_ABSENT, Query()]


def router(runtime: Runtime, report: Report, claims: Claims) -> APIRouter:
    """The routes of pages under ``/topics``."""
    routes = APIRouter(include_in_schema=False)
    pages = Pages(Path(__file__).parent / "templates")
    pool = runtime.pool
    numbers = Numbers(pool)

    async def goal(now: datetime, space: str | None = None, language: str | None = None) -> rules.Policy:
        async with pool.acquire() as connection:
            return (await load_policies(connection)).at(now, space, language)

    async def names_of(items: Sequence[dict[str, Any]]) -> dict[str, str]:
        holders = [item["claim"]["member_id"] for item in items if item["claim"]]
        return await read_names(pool, [*(item["author_id"] for item in items), *holders])

    @routes.get("/")
    async def queue_page(
        request: Request,
        principal: Anyone,
        state: State = None,
        space: Word = None,
        language: Word = None,
        tag: Word = None,
        mine: Yes = None,
        unclaimed: Yes = None,
        cursor: Cursor = None,
    ) -> Response:
        """What should I answer now? Asked by htmx, only the list."""
        me = await _me(principal)
        claimed_by = me if mine else None
        # What can still be kept comes first; the late ones stand apart.
        chosen = Chosen(state or QueueState.waiting, space, language, tag, claimed_by, bool(unclaimed))
        over = chosen.state is not QueueState.waiting
        queue = await read_queue(pool, chosen, PAGE, cursor, latest_first=over)
        counts = await numbers.read()
        last = None
        if not queue["items"]:
            _, last = await report.pulse(datetime.now(UTC))
        return pages.render(
            request,
            "queue_list.html" if "hx-request" in request.headers else "queue.html",
            section="questions",
            queue=queue,
            chosen=chosen,
            mine=claimed_by is not None,
            narrowed=bool(space or language or tag or claimed_by or unclaimed),
            counts=counts,
            last_answer=last,
            names=await names_of(queue["items"]),
            me=me,
            may_claim=await claims.may(principal),
        )

    async def _me(principal: Principal | None) -> str | None:
        """Whom the reader's account stands for."""
        if principal is None or principal.member_id is None:
            return None
        return await claims.member_of(principal.member_id)

    @routes.get("/questions/{topic_id}")
    async def question_page(request: Request, topic_id: Id, principal: Anyone) -> Response:
        """What happened, and what is still owed?"""
        return await _question(request, topic_id, principal)

    async def _question(request: Request, topic_id: str, principal: Principal | None) -> Response:
        topic = await read_topic(pool, topic_id)
        if topic is None:
            raise Problem(404, "There is no question of this id here. If the forum has it, it was not published yet.")
        who = [entry.get("member_id") for entry in topic["timeline"]]
        response = topic["first_response"]
        stages = rules.instants(topic["created_at"], topic["due_at"] - topic["created_at"])
        return pages.render(
            request,
            "question_body.html" if "hx-request" in request.headers else "question.html",
            section="questions",
            topic=topic,
            stages={stage.name: instant for stage, instant in stages.items()},
            names=await read_names(pool, [topic["author_id"], *who, response and response["responder_id"]])
            | await names_of([topic]),
            me=await _me(principal),
            may_claim=await claims.may(principal),
        )

    @routes.post("/questions/{topic_id}/claim")
    async def claim(request: Request, topic_id: Id, principal: Annotated[Principal, Depends(require())]) -> Response:
        """Take it on, and show the row or the question again."""
        await claims.take(topic_id, principal)
        return await _again(request, topic_id, principal)

    @routes.post("/questions/{topic_id}/release")
    async def release(request: Request, topic_id: Id, principal: Annotated[Principal, Depends(require())]) -> Response:
        """Give it back, and show the row or the question again."""
        await claims.release(topic_id, principal)
        return await _again(request, topic_id, principal)

    async def _again(request: Request, topic_id: str, principal: Principal) -> Response:
        if "hx-request" not in request.headers:
            return RedirectResponse(f"/topics/questions/{path_segment(topic_id)}", 303)
        if request.query_params.get("as") != "row":
            return await _question(request, topic_id, principal)
        topic = await read_topic(pool, topic_id)
        assert topic is not None
        return pages.render(
            request,
            "queue_row.html" if topic["state"] in ("waiting", "breached") else "found_row.html",
            item=topic,
            names=await names_of([topic]),
            me=await _me(principal),
            may_claim=True,
        )

    @routes.get("/search")
    async def search_page(request: Request, q: Annotated[str, Query(max_length=200)] = "") -> Response:
        """Questions by title or id."""
        found = await search(pool, q, FOUND) if q.strip() else []
        return pages.render(
            request, "search.html", section="questions", text=q, found=found, names=await names_of(found), most=FOUND
        )

    @routes.get("/asked")
    async def asked_page(
        request: Request,
        since: Annotated[Moment, Query(alias="from")] = None,
        until: Annotated[Moment, Query(alias="to")] = None,
        space: Word = None,
        language: Word = None,
        outcome: OutcomeParameter = None,
        cursor: Cursor = None,
    ) -> Response:
        """The questions behind a point of the report."""
        now = datetime.now(UTC)
        start, end = since or datetime(1970, 1, 1, tzinfo=UTC), until or now
        scope = Scope(start, end, space, language)
        found = await read_asked(pool, scope, start, end, outcome, PAGE, cursor)
        return pages.render(
            request,
            "asked.html",
            section="promise",
            scope=scope,
            outcome=outcome,
            found=found,
            figures=await report.answer(scope, now, None),
            names=await names_of(found["items"]),
        )

    @routes.get("/asked.csv")
    async def asked_csv(
        since: Annotated[Moment, Query(alias="from")] = None,
        until: Annotated[Moment, Query(alias="to")] = None,
        space: Word = None,
        language: Word = None,
        outcome: OutcomeParameter = None,
    ) -> Response:
        """The questions behind a point of the report, as a table for spreadsheets; at most some ten thousand."""
        start, end = since or datetime(1970, 1, 1, tzinfo=UTC), until or datetime.now(UTC)
        found = await read_asked(pool, Scope(start, end, space, language), start, end, outcome, MOST_ROWS, None)
        plain = ("topic_id", "title", "url", "space", "language", "author_id", "created_at", "due_at", "state")
        rows = [
            {key: item[key] for key in plain}
            | {key: (item["first_response"] or {}).get(key) for key in ("responder_id", "seconds", "within_target")}
            for item in found["items"]
        ]
        return _csv("questions", rows)

    @routes.get("/promise")
    async def promise_page(
        request: Request, every: Every = None, space: Word = None, language: Word = None
    ) -> Response:
        """Did we keep it, where not, and is it getting better?"""
        now = datetime.now(UTC)
        step = every or "week"
        policy = await goal(now, space, language)
        scope = Scope(promise.shown_since(now, step), None, space, language)
        answer = await report.answer(scope, now, step)
        ends = _ends(answer["series"], now)
        rows = await _periods(now, step, space, language)
        # All over the same time, so that they can be compared.
        whole = Scope(answer["series"][0]["start"] if answer["series"] else None, now, None, language)
        spaces = await report.by_space(whole, now, step, SPACES) if not space else []
        spaces.sort(key=lambda one: (one[1]["attainment"] is None, one[1]["attainment"] or 0, one[0]))
        return pages.render(
            request,
            "promise.html",
            section="promise",
            every=step,
            scope=scope,
            policy=policy,
            answer=answer,
            compared=promise.compare(rows),
            spaces=spaces,
            spans=SPANS,
            languages=await report.languages(),
            promise=promise,
            ends=ends,
            links=[_behind(one["start"], end, scope) for one, end in zip(answer["series"], ends, strict=True)],
        )

    async def _periods(
        now: datetime, step: Step, space: str | None, language: str | None
    ) -> list[tuple[str, dict[str, Any]]]:
        return [
            (name, await report.answer(Scope(one.since, one.until, space, language), as_of, None))
            for name, one, as_of in promise.periods(now, step)
        ]

    @routes.get("/compared.csv")
    async def compared_csv(every: Every = None, space: Word = None, language: Word = None) -> Response:
        """The present period beside earlier ones, as a table for spreadsheets."""
        rows = promise.compare(await _periods(datetime.now(UTC), every or "week", space, language))
        return _csv(
            "promise-compared",
            [
                {"period": row.name, "growth": row.growth}
                | {key: value for key, value in row.figures.items() if key != "series"}
                for row in rows
            ],
        )

    @routes.get("/policies.csv", dependencies=[Depends(signed_in(Role.STAFF))])
    async def policies_csv() -> Response:
        """Every version of every policy, as a table for spreadsheets."""
        return _csv("policies", await read_policies(pool))

    @routes.get("/promise.csv")
    async def promise_csv(every: Every = None, space: Word = None, language: Word = None) -> Response:
        """The series as a table for spreadsheets."""
        now = datetime.now(UTC)
        step = every or "week"
        scope = Scope(promise.shown_since(now, step), None, space, language)
        answer = await report.answer(scope, now, step)
        return _csv(f"promise-by-{step}", [one | {"start": one["start"].date()} for one in answer["series"]])

    @routes.get("/spaces.csv")
    async def spaces_csv(every: Every = None, language: Word = None) -> Response:
        """The spaces compared, as a table for spreadsheets."""
        now = datetime.now(UTC)
        step = every or "week"
        scope = Scope(promise.shown_since(now, step), None, None, language)
        found = await report.by_space(scope, now, None, 10_000)
        rows = [{"space": name} | {key: answer[key] for key in answer if key != "series"} for name, answer in found]
        return _csv("promise-by-space", rows)

    @routes.get("/policies")
    async def policies_page(request: Request, principal: Staff, saved: Yes = None) -> Response:
        """Which promise holds where, since when?"""
        return await _policies(request, {}, {}, saved=bool(saved))

    async def _policies(
        request: Request, form: dict[str, str], wrong: dict[str, str], *, saved: bool = False, status: int = 200
    ) -> Response:
        return pages.render(
            request,
            "policies.html",
            status=status,
            section="policies",
            policies=await read_policies(pool),
            saved=saved,
            form={"scope": "all", "hours": "", "objective": "", "from": ""} | form,
            wrong=wrong,
            spaces=[name for name, _ in await report.by_space(Scope(), datetime.now(UTC), None, 200)],
            languages=await report.languages(),
        )

    @routes.get("/policies/preview")
    async def policies_preview(
        request: Request,
        principal: Staff,
        scope: Word = None,
        hours: Annotated[str, Query(max_length=20)] = "",
        objective: Annotated[str, Query(max_length=20)] = "",
    ) -> Response:
        """Last quarter's figures under the new rule beside the old."""
        now = datetime.now(UTC)
        policy = _policy(scope or "all", hours, objective)
        if isinstance(policy, dict):
            return pages.render(request, "policies_preview.html", wrong=policy, preview=None)
        existing = await read_policies(pool)
        own = {one["scope"] for one in existing if one["scope"] not in ("all", policy.scope)}
        period = Scope(since=now - QUARTER, until=now)
        kind, _, name = policy.scope.partition(":")
        return pages.render(
            request,
            "policies_preview.html",
            wrong={},
            preview=await report.preview(policy.scope, policy.target, own, period, now),
            policy=policy,
            today=await goal(now, name if kind == "space" else None, name if kind == "language" else None),
            period=period,
        )

    @routes.post("/policies")
    async def policies_save(
        request: Request,
        principal: Staff,
        scope: Annotated[str, Form(max_length=120)] = "all",
        hours: Annotated[str, Form(max_length=20)] = "",
        objective: Annotated[str, Form(max_length=20)] = "",
        since: Annotated[str, Form(alias="from", max_length=40)] = "",
    ) -> Response:
        """Promise something else from now or from a later day on."""
        wrong: dict[str, str] = {}
        policy = _policy(scope, hours, objective)
        if isinstance(policy, dict):
            wrong = policy
        else:
            try:
                start = datetime.combine(date.fromisoformat(since), datetime.min.time(), UTC) if since else None
            except ValueError:
                wrong = {"from": "A date looks like 2026-11-30."}
        if not wrong and isinstance(policy, rules.Policy):
            try:
                await write_policy(
                    runtime.outbox,
                    claims.facts,
                    policy.scope,
                    int(policy.target.total_seconds()),
                    policy.objective,
                    start,
                    principal.member_id,
                )
            except Problem:
                wrong = {"from": "That is in the past. A promise holds for questions that are yet to come."}
        if not wrong:
            return RedirectResponse("/topics/policies?saved=true", 303)
        form = {"scope": scope, "hours": hours, "objective": objective, "from": since}
        return await _policies(request, form, wrong, status=400)

    @routes.get("/today")
    async def today_part(request: Request) -> Response:
        """How the promise stands, for the start page."""
        now = datetime.now(UTC)
        policy = await goal(now)
        week = await report.answer(promise.last_week(now), now, None)
        ever = await report.answer(Scope(), now, None)
        line = await report.answer(Scope(promise.shown_since(now, "week")), now, "week")
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        answered, last = await report.pulse(midnight)
        before, _ = await report.pulse(midnight - timedelta(days=1))
        return pages.render(
            request,
            "today.html",
            sentence=promise.sentence(week, ever, policy),
            series=line["series"],
            policy=policy,
            promise=promise,
            counts=await numbers.read(),
            answered=answered,
            yesterday=before - answered,
            last_answer=last,
        )

    @routes.get("/due-next")
    async def due_next_part(request: Request) -> Response:
        """The questions that are due next, for the start page."""
        queue = await read_queue(pool, Chosen(QueueState.waiting), NEXT, None)
        _, last = await report.pulse(datetime.now(UTC)) if not queue["items"] else (0, None)
        return pages.render(
            request, "due_next.html", items=queue["items"], names=await names_of(queue["items"]), last_answer=last
        )

    return routes


_WRONG = {
    "scope": ("scope", "Everything, a space or a language."),
    "target_seconds": ("hours", "A number of hours, such as 48."),
    "objective": ("objective", "A share in per cent, more than 0 and at most 100."),
}


def _policy(scope: str, hours: str, objective: str) -> rules.Policy | dict[str, str]:
    """The policy of a form, or what is wrong with it by field: what the API refuses, too."""
    target, share = _decimal(hours), _decimal(objective)
    given = {
        "scope": scope,
        "target_seconds": None if target is None else round(target * 3600),
        "objective": None if share is None else share / 100,
    }
    try:
        policy = PolicyIn.model_validate(given)
    except ValidationError as error:
        return dict(_WRONG[str(part["loc"][0])] for part in error.errors())
    return rules.Policy(policy.scope, None, timedelta(seconds=policy.target_seconds), policy.objective)


def _decimal(text: str) -> float | None:
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _behind(since: datetime, until: datetime, scope: Scope) -> str:
    """The address of the questions behind a point."""
    named = {"from": since.isoformat(), "to": until.isoformat(), "space": scope.space, "language": scope.language}
    return "/topics/asked?" + urlencode({name: value for name, value in named.items() if value is not None})


def _ends(series: Sequence[dict[str, Any]], now: datetime) -> list[datetime]:
    """Where each bucket ends: where the next one starts."""
    return [*(one["start"] for one in series[1:]), now][: len(series)]


def _csv(name: str, rows: Sequence[dict[str, Any]]) -> Response:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows({key: spreadsheet_cell(value) for key, value in row.items()} for row in rows)
    return Response(
        text.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "private, no-store"},
    )
