"""The JSON interface of the leaderboard service."""

import re
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from services.leaderboard.boards import ask, read_board, read_member
from services.leaderboard.members import Members
from services.leaderboard.seasons import Seasons
from services.leaderboard.stream import Watch
from services.leaderboard.windows import Window
from services.leaderboard.zones import set_time_zone
from shared.contracts.types import NO_NUL, Id, Instant, Name
from shared.forum import Facts
from shared.runtime import Runtime
from shared.web import Cursor, Limit, Principal, Problem, Role, principal_or_none, require
from shared.web.parameters import BLANK_IS_ABSENT

Which = Annotated[Window, Query(description="An entry is in a window when its local date in the board's time zone is")]
At = Annotated[
    date | None,
    BLANK_IS_ABSENT,
    Query(description="A local date that the window holds; default today"),
]
SeasonOf = Annotated[
    Annotated[str, StringConstraints(max_length=255, pattern=NO_NUL)] | None,
    BLANK_IS_ABSENT,
    Query(description="Of `window=season` which one; default the one that opened last"),
]
Board = Annotated[
    str,
    StringConstraints(min_length=1, max_length=120, pattern=NO_NUL),
    Path(description="everyone, stars, space:NAME or language:CODE"),
]
_A_BOARD = r"^(everyone|stars|space:[^\x00]{1,100}|language:[A-Za-z0-9_-]{1,35})$"
ABoard = Annotated[str, StringConstraints(pattern=_A_BOARD)]


class Standing(BaseModel):
    """A line of a board; of a closed season, who was erased or opted out since is called `withdrawn`."""

    rank: int
    member_id: str
    name: str
    points: int
    solutions: int


class BoardPage(BaseModel):
    """A page of a board. ``start`` and ``end`` are local dates, the end excluded; null for all time."""

    board: str
    window: Window
    start: date | None
    end: date | None
    entries: list[Standing]
    next: str | None


class BoardPlace(BaseModel):
    """A member's place on a board of so many members, and their neighbours, themselves among them."""

    board: str
    window: Window
    start: date | None
    end: date | None
    member_id: str
    rank: int
    points: int
    solutions: int
    members: int
    around: list[Standing]


class CauseOut(BaseModel):
    """What an entry is about."""

    topic_id: str
    reply_id: str
    kudos_id: str | None


class EntryOut(BaseModel):
    """An entry of a ledger; ``points`` is what the rule gives, and counts if the status is effective."""

    entry_id: str
    rule: Literal["reply", "first-response", "solution", "kudos"]
    points: int
    status: Literal["effective", "capped", "quarantined", "superseded", "revoked", "void"]
    reason: str | None = Field(description="why it does not count; null where the status says it all")
    cause: CauseOut
    space: str | None
    at: Instant


class LedgerPage(BaseModel):
    """A page of a member's ledger, the latest first; ``points`` is their total of all time."""

    member_id: str
    points: int
    entries: list[EntryOut]
    next: str | None


class Visibility(BaseModel):
    """Whether a member is seen on boards."""

    member_id: str
    visible: bool


class VisibilityIn(BaseModel):
    """Whether to be seen on boards from now on."""

    model_config = ConfigDict(extra="forbid")

    visible: StrictBool


class TimeZoneIn(BaseModel):
    """A time zone of the IANA database, such as Europe/Berlin."""

    model_config = ConfigDict(extra="forbid")

    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL)]


class TimeZone(BaseModel):
    """A board's time zone."""

    board: str
    time_zone: str


class Season(BaseModel):
    """A season: local dates of its board, the end excluded."""

    season_id: str
    name: str | None
    board: str
    start: date
    end: date
    state: Literal["open", "closed"]
    opened_at: Instant
    closed_at: Instant | None


class SeasonPage(BaseModel):
    """Seasons, the latest first."""

    items: list[Season]
    next: str | None


class SeasonIn(BaseModel):
    """A season to open."""

    model_config = ConfigDict(extra="forbid")

    season_id: Id | None = Field(None, description="absent: one is made up")
    name: Name | None = None
    board: ABoard = Field("everyone", description="whose first places season-closed tells")
    start: date = Field(validation_alias=AliasChoices("start", "opens_on"))
    end: date = Field(validation_alias=AliasChoices("end", "closes_on"), description="the day after the last")


def router(runtime: Runtime, facts: Facts, members: Members, seasons: Seasons, watch: Watch) -> APIRouter:
    """The routes under ``/leaderboard/api``."""
    routes = APIRouter(prefix="/api")
    anyone = Depends(principal_or_none)

    @routes.get("/boards/{board}", response_model=BoardPage)
    async def get_board(
        board: Board,
        window: Which = Window.all,
        at: At = None,
        season: SeasonOf = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Any:
        """A page of a board: by points, then solutions, then who reached the total first, then member id."""
        asked = await ask(runtime.pool, board, window, at, season)
        return await read_board(runtime.pool, asked, limit, cursor)

    @routes.put("/boards/{board}", response_model=TimeZone)
    async def put_board(
        board: Board, zone: TimeZoneIn, principal: Annotated[Principal, Depends(require(Role.STAFF))]
    ) -> Any:
        """Put a board on a time zone; it is derived again."""
        return await set_time_zone(
            runtime.pool, runtime.outbox, facts, _a_board(board), zone.time_zone, principal.member_id
        )

    @routes.get("/boards/{board}/members/{member_id}", response_model=BoardPlace)
    async def get_board_member(
        board: Board, member_id: Id, window: Which = Window.all, at: At = None, season: SeasonOf = None
    ) -> Any:
        """A member's rank, and who is around them."""
        asked = await ask(runtime.pool, board, window, at, season)
        found = None if await members.is_erased(member_id) else await read_member(runtime.pool, asked, member_id)
        if found is None:
            raise Problem(404, "That member is not on this board.")
        return found

    @routes.get(
        "/boards/{board}/stream",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"}},
    )
    async def watch_board(
        board: Board,
        window: Which = Window.all,
        at: At = None,
        season: SeasonOf = None,
        last_event_id: Annotated[str | None, Header(max_length=40)] = None,
    ) -> Any:
        """Changes as they come, at most one message a second: `changed` with members' new places, or `reload`."""
        asked = await ask(runtime.pool, board, window, at, season)
        plain = (last_event_id or "").strip()
        seen = int(plain) if plain.isascii() and plain.isdecimal() and len(plain) < 19 else None
        return StreamingResponse(
            watch.messages(asked, seen), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    @routes.get("/members/{member_id}/ledger", response_model=LedgerPage)
    async def get_ledger(
        member_id: Id,
        limit: Limit = 50,
        cursor: Cursor = None,
        principal: Annotated[Principal | None, anyone] = None,
    ) -> Any:
        """Why exactly that many points: every rule and cause, whether it counts or not."""
        return await members.ledger(member_id, principal, limit, cursor)

    @routes.get("/members/{member_id}/visibility", response_model=Visibility)
    async def get_visibility(member_id: Id, principal: Annotated[Principal, Depends(require())]) -> Any:
        """Whether a member is seen on boards."""
        return await members.visibility(member_id, principal)

    @routes.put("/members/{member_id}/visibility", response_model=Visibility)
    async def put_visibility(
        member_id: Id, visibility: VisibilityIn, principal: Annotated[Principal, Depends(require())]
    ) -> Any:
        """Appear on boards, or vanish from them; the ranks of the others close up."""
        return await members.set_visibility(member_id, principal, visibility.visible)

    @routes.get("/seasons", response_model=SeasonPage)
    async def get_seasons(limit: Limit = 50, cursor: Cursor = None) -> Any:
        """Every season."""
        return await seasons.list(limit, cursor)

    @routes.post(
        "/seasons",
        status_code=201,
        response_model=Season,
        responses={409: {"description": "There is one of this id"}},
        dependencies=[Depends(require(Role.STAFF))],
    )
    async def post_season(season: SeasonIn) -> Any:
        """Open a season."""
        if season.end <= season.start:
            raise Problem(400, "end: it is the day after the last one, and lies after start.", type="invalid-request")
        return await seasons.open(season.season_id, season.name, season.board, season.start, season.end)

    @routes.post(
        "/seasons/{season_id}/close",
        response_model=Season,
        responses={409: {"description": "It is closed"}},
        dependencies=[Depends(require(Role.STAFF))],
    )
    async def close_season(season_id: Id) -> Any:
        """Close a season: its standings are frozen for ever."""
        return await seasons.close(season_id)

    return routes


def _a_board(name: str) -> str:
    if not re.fullmatch(_A_BOARD, name):
        raise Problem(400, "A board is everyone, stars, space:NAME or language:CODE.", type="invalid-request")
    return name
