"""Errors, OpenAPI and paging: what every service answers alike."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import asyncpg
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, ConfigDict

from shared.web import (
    Cursor,
    Limit,
    Principal,
    Problem,
    Role,
    create_service_app,
    decode_cursor,
    encode_cursor,
    principal_or_none,
    require,
)


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str
    count: int


def make_app() -> FastAPI:
    app = create_service_app("topics", "Topics", "Who waits?", "1.0")
    router = APIRouter(prefix="/api/things")

    @router.get("")
    async def list_things(limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        return {"items": decode_cursor(cursor, str, int) if cursor else [], "limit": limit}

    @router.post("")
    async def create_thing(thing: Thing) -> dict[str, Any]:
        return thing.model_dump()

    @router.delete("", responses={409: {"description": "Time is up"}})
    async def late() -> None:
        raise Problem(409, "The quiz is over.", type="time-is-up", seconds=3)

    @router.get("/mine")
    async def mine(who: Annotated[Principal | None, Depends(principal_or_none)]) -> None: ...

    @router.put("/mine")
    async def set_mine(who: Annotated[Principal, Depends(require(Role.STAR, Role.STAFF))]) -> None: ...

    app.include_router(router)
    return app


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.mark.asyncio
async def test_a_request_that_does_not_fit_is_400_and_says_where_without_repeating_it() -> None:
    async with client(make_app()) as http:
        answer = await http.post("/api/things", json={"count": "many-secrets", "extra": 1})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == 400
    assert {e["location"] for e in body["errors"]} == {"body.title", "body.count", "body.extra"}
    assert all(e["detail"] for e in body["errors"])
    assert "many-secrets" not in answer.text


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff\xfe", b"[" * 20_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"\\ud800": 1}', b'"\\ud800"', b"null", b""],
)
@pytest.mark.asyncio
async def test_a_body_that_is_not_sound_json_is_a_400_problem(body: bytes) -> None:
    async with client(make_app()) as http:
        answer = await http.post("/api/things", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["status"] == 400


@pytest.mark.asyncio
async def test_a_problem_carries_its_type_its_detail_and_its_members() -> None:
    async with client(make_app()) as http:
        answer = await http.delete("/api/things")
    assert answer.status_code == 409
    assert answer.json() == {
        "type": "/problems/time-is-up",
        "title": "Conflict",
        "status": 409,
        "detail": "The quiz is over.",
        "seconds": 3,
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "error", [asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError]
)
async def test_who_had_to_give_way_to_another_is_told_to_try_again(error: type[Exception]) -> None:
    app = make_app()

    @app.put("/busy")
    async def busy() -> None:
        raise error("somebody else was at it")

    async with client(app) as http:
        answer = await http.put("/busy")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["type"] == "/problems/unavailable"
    assert "somebody else was at it" not in answer.text


@pytest.mark.asyncio
async def test_405_names_every_method_of_the_address() -> None:
    async with client(make_app()) as http:
        answer = await http.patch("/api/things")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST", "DELETE"}
    assert answer.json()["title"] == "Method Not Allowed"


@pytest.mark.asyncio
async def test_404_is_a_problem_and_a_slash_at_the_end_redirects_nowhere() -> None:
    async with client(make_app()) as http:
        for path in ("/nothing", "/api/things/"):
            answer = await http.get(path, headers={"host": "evil.example"})
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.asyncio
async def test_the_openapi_document_tells_problems_roles_and_optional_tokens() -> None:
    async with client(make_app()) as http:
        document = (await http.get("/api/openapi.json")).json()
        assert (await http.get("/docs")).status_code == 404
    assert document["servers"] == [{"url": "/topics"}]
    operations = {o["operationId"]: o for item in document["paths"].values() for o in item.values()}
    assert set(operations) == {"list_things", "create_thing", "late", "mine", "set_mine"}
    for operation in operations.values():
        assert {"400", "401", "403", "404", "405", "413", "415", "429", "503"} <= set(operation["responses"])
        assert "422" not in operation["responses"]
    assert "application/problem+json" in operations["late"]["responses"]["409"]["content"]
    either = [{"bearer": ["star"]}, {"bearer": ["staff"]}, {"session": ["star"]}, {"session": ["staff"]}]
    assert operations["set_mine"]["security"] == either
    assert operations["mine"]["security"] == [{}, {"bearer": []}, {"session": []}]
    assert "security" not in operations["list_things"]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "session"}
    assert "HTTPValidationError" not in json.dumps(document)


def test_two_routes_may_not_share_an_operation_id() -> None:
    app = create_service_app("a", "A", "", "1")

    async def same() -> None: ...

    app.get("/one")(same)
    app.get("/two")(same)
    with pytest.warns(UserWarning, match="Duplicate Operation ID"), pytest.raises(ValueError, match="rename one"):
        app.openapi()


@pytest.mark.asyncio
async def test_the_limit_has_bounds() -> None:
    async with client(make_app()) as http:
        assert (await http.get("/api/things?limit=200")).json()["limit"] == 200
        for bad in ("0", "201", "-1", "x", "9" * 5000):
            assert (await http.get(f"/api/things?limit={bad}")).status_code == 400


def test_a_cursor_gives_back_what_went_in() -> None:
    at = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)
    cursor = encode_cursor(["ü/?", 2**53, 1.5, at, None])
    assert cursor.isascii()
    assert not set(cursor) & set("+/=")
    assert decode_cursor(cursor, str, int, float, datetime, str) == ["ü/?", 2**53, 1.5, at, None]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "!!!!",
        "W10",
        encode_cursor(["a"]),
        encode_cursor([1, 2]),
        encode_cursor(["a", True]),
        encode_cursor(["a", 2**63]),
        encode_cursor(["a\x00", 1]),
        encode_cursor(["\ud800", 1]),
        encode_cursor(["a", "b"]),
        "W25hbiwgTmFOXQ",
        "W" * 5000,
    ],
)
def test_a_forged_cursor_is_a_400_problem(cursor: str) -> None:
    with pytest.raises(Problem) as raised:
        decode_cursor(cursor, str, int)
    assert raised.value.status == 400
