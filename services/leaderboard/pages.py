"""The pages of the leaderboard service: boards, a member's points, rules, seasons, and a part of the start page."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from services.leaderboard import standings
from services.leaderboard.boards import ask, read_board, read_member, read_moved
from services.leaderboard.derive import load_epochs
from services.leaderboard.members import Members
from services.leaderboard.seasons import Seasons
from services.leaderboard.windows import Window
from shared.contracts.types import Id
from shared.postgres import Queries
from shared.runtime import Runtime
from shared.web import Cursor, Pages, Principal, Problem, Role, principal_or_none, require, signed_in
from shared.web.pages import path_segment
from shared.web.parameters import BLANK_IS_ABSENT, Word

SQL = Queries(Path(__file__).parent / "sql" / "pages.sql")

PAGE, ENTRIES, FIRST, MOST_BOARDS, MOST_TIES = 50, 30, 5, 200, 50

Anyone = Annotated[Principal | None, Depends(principal_or_none)]
Staff = Annotated[Principal, Depends(signed_in(Role.STAFF))]
At = Annotated[date | None, BLANK_IS_ABSENT, Query()]


def router(runtime: Runtime, members: Members, seasons: Seasons) -> APIRouter:
    """The routes of pages under ``/leaderboard``."""
    routes = APIRouter(include_in_schema=False)
    pages = Pages(Path(__file__).parent / "templates")
    pool = runtime.pool

    async def today_of(board: str) -> tuple[str, date]:
        zone: str = await pool.fetchval(SQL.time_zone, board)
        return zone, datetime.now(ZoneInfo(zone)).date()

    @routes.get("/")
    async def board_page(
        request: Request,
        principal: Anyone,
        board: Word = None,
        window: Window = Window.month,
        at: At = None,
        season: Word = None,
        cursor: Cursor = None,
    ) -> Response:
        """Who helps most, and where am I? Asked by htmx, only the board."""
        name = board or "everyone"
        if name not in ("everyone", "stars") and not name.startswith(("space:", "language:")):
            raise Problem(404, "There is no such board.")
        asked = await ask(pool, name, window, at, season)
        found = await read_board(pool, asked, PAGE, cursor)
        zone, today = await today_of(name)
        period = asked.period(at or today)
        mine = None
        if (
            principal is not None
            and principal.member_id is not None
            and not await members.is_erased(principal.member_id)
        ):
            mine = await read_member(pool, asked, principal.member_id)
        earlier = standings.before(period) if window not in (Window.all, Window.season) else None
        places: dict[str, int] = {}
        if earlier is not None:
            ids = [entry["member_id"] for entry in [*found["entries"], *(mine["around"] if mine else ())]]
            moved, _ = await read_moved(pool, replace(asked, at=earlier), ids)
            places = {one["member_id"]: one["rank"] for one in moved}
        boards = [row["board"] for row in await pool.fetch(SQL.boards, MOST_BOARDS)]
        return pages.render(
            request,
            "board_body.html" if "hx-request" in request.headers else "board.html",
            section="leaderboard",
            board=name,
            window=window,
            windows=standings.WINDOWS,
            found=found,
            mine=mine,
            places=places,
            compares=earlier is not None,
            period=period,
            earlier=earlier,
            earlier_words=standings.window_name(window, asked.period(earlier), today) if earlier else "",
            words=standings.window_name(window, period, today),
            zone=zone,
            season=asked.season,
            spaces=[one.removeprefix("space:") for one in boards if one.startswith("space:")],
            languages=sorted(one.removeprefix("language:") for one in boards if one.startswith("language:")),
            at=at,
            next_at=period.end if period.end and period.end <= today else None,
        )

    @routes.get("/members/{member_id}")
    async def member_page(request: Request, member_id: Id, principal: Anyone, cursor: Cursor = None) -> Response:
        """Why exactly that many points?"""
        ledger = await members.ledger(member_id, principal, ENTRIES, cursor)
        who = ledger["member_id"]
        own = principal is not None and principal.member_id is not None and principal.owns(who)
        titles = await _titles([entry["cause"]["topic_id"] for entry in ledger["entries"]])
        months = await pool.fetch(SQL.points_by_month, who)
        async with pool.acquire() as connection:
            rules = (await load_epochs(connection)).current.book
        totals: dict[str, tuple[int, int]] = {}
        for row in months:
            points, entries = totals.get(row["rule"], (0, 0))
            totals[row["rule"]] = (points + row["points"], entries + row["entries"])
        ranks = []
        for window in (Window.week, Window.month, Window.all):
            place = await read_member(pool, await ask(pool, "everyone", window, None, None), who)
            ranks.append((window, place))
        return pages.render(
            request,
            "member.html",
            section="leaderboard",
            who=who,
            name=await pool.fetchval(SQL.name_of, who) or who,
            own=own,
            ledger=ledger,
            titles=titles,
            totals=totals,
            rule_names=standings.RULES,
            chart=standings.points_chart(months),
            standings=standings,
            rules=rules,
            ranks=ranks,
            seasons=await pool.fetch(SQL.seasons_of, who),
            visible=(await members.visibility(who, principal))["visible"]
            if principal is not None and (own or principal.is_staff)
            else None,
        )

    async def _titles(topic_ids: Sequence[str]) -> dict[str, str]:
        rows = await pool.fetch(SQL.titles, sorted(set(topic_ids)))
        return {row["topic_id"]: row["title"] for row in rows}

    @routes.post("/members/{member_id}/visibility")
    async def set_visibility(
        request: Request,
        member_id: Id,
        principal: Annotated[Principal, Depends(require())],
        visible: Annotated[str, Form(max_length=5)] = "",
    ) -> Response:
        """Be seen on boards, or not."""
        await members.set_visibility(member_id, principal, visible == "on")
        return RedirectResponse(f"/leaderboard/members/{path_segment(member_id)}", 303)

    @routes.get("/rules")
    async def rules_page(request: Request) -> Response:
        """What gives points, in plain words."""
        async with pool.acquire() as connection:
            book = (await load_epochs(connection)).current.book
        return pages.render(
            request, "rules.html", section="leaderboard", versions=book.versions, rules=book.at(datetime.now(UTC))
        )

    @routes.get("/seasons")
    async def seasons_page(request: Request, principal: Anyone, cursor: Cursor = None) -> Response:
        """Who was invited to the last Star Jam, and why?"""
        return await _seasons(request, cursor, {}, {})

    async def _seasons(
        request: Request, cursor: str | None, form: dict[str, str], wrong: dict[str, str], status: int = 200
    ) -> Response:
        listed = await seasons.list(PAGE, cursor)
        first: dict[str, list[dict[str, Any]]] = {}
        for season in listed["items"][:6]:
            asked = await ask(pool, season["board"], Window.season, None, season["season_id"])
            first[season["season_id"]] = (await read_board(pool, asked, 3, None))["entries"]
        _, today = await today_of("everyone")
        return pages.render(
            request,
            "seasons.html",
            status=status,
            section="leaderboard",
            seasons=listed,
            first=first,
            today=today,
            form={"name": "", "start": "", "end": ""} | form,
            wrong=wrong,
        )

    @routes.post("/seasons")
    async def open_season(
        request: Request,
        principal: Staff,
        name: Annotated[str, Form(max_length=100)] = "",
        start: Annotated[str, Form(max_length=20)] = "",
        end: Annotated[str, Form(max_length=20)] = "",
    ) -> Response:
        """Open a season of everyone's board."""
        form = {"name": name, "start": start, "end": end}
        wrong, days = {}, {}
        for field in ("start", "end"):
            try:
                days[field] = date.fromisoformat(form[field])
            except ValueError:
                wrong[field] = "A date, such as 2026-12-01."
        if not wrong and days["end"] <= days["start"]:
            wrong["end"] = "It is the day after the last one, and lies after the start."
        if wrong:
            return await _seasons(request, None, form, wrong, 400)
        await seasons.open(None, name.strip() or None, "everyone", days["start"], days["end"])
        return RedirectResponse("/leaderboard/seasons", 303)

    @routes.get("/seasons/{season_id}")
    async def season_page(request: Request, season_id: Id, principal: Anyone, cursor: Cursor = None) -> Response:
        """A season's standings: moving while it is open, frozen with the evidence once it is closed."""
        listed = await ask(pool, "everyone", Window.season, None, season_id)
        season = listed.season
        asked = replace(listed, board=season["board"])
        found = await read_board(pool, asked, PAGE, cursor)
        closed = season["closed_at"] is not None
        ties = (
            await pool.fetch(SQL.frozen_ties, season["season_no"], season["board"], MOST_TIES)
            if closed and not cursor
            else []
        )
        zone, today = await today_of(season["board"])
        return pages.render(
            request,
            "season.html",
            section="leaderboard",
            season=season,
            found=found,
            ties={row["place"]: row for row in ties},
            closed=closed,
            today=today,
            zone=zone,
        )

    @routes.post("/seasons/{season_id}/close")
    async def close_season(season_id: Id, principal: Staff) -> Response:
        """Freeze it."""
        await seasons.close(season_id)
        return RedirectResponse(f"/leaderboard/seasons/{path_segment(season_id)}", 303)

    @routes.get("/first-five")
    async def first_five_part(request: Request) -> Response:
        """This month's first helpers, for the start page."""
        asked = await ask(pool, "everyone", Window.month, None, None)
        found = await read_board(pool, asked, FIRST, None)
        return pages.render(request, "first_five.html", entries=found["entries"])

    return routes
