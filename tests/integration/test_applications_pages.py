"""The doors of the applications service, its pages and its JSON, without a browser and without a network."""

import json
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from services.applications import api, pages
from shared.settings import Settings
from shared.web import Role
from shared.web.auth import SCOPE_AUTHENTICATOR, Authenticator, issue_token
from shared.web.service import create_service_app
from tests.integration.applications_engine import House, deeds, house, member, unique
from tests.integration.test_membership import jam_of, season
from tests.oracle.cases import ERASURE_KEY

SECRET = "s" * 32
WHY = "Because I like it when somebody's music plays again."


@pytest.fixture
async def home(applications_database: str) -> AsyncIterator[House]:
    async with house(applications_database, ERASURE_KEY) as built:
        yield built


@pytest.fixture
async def door(home: House) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the house's application."""
    app = create_service_app("applications", "Applications", "Who becomes a Star?", "1")
    app.include_router(api.router(home.parts))
    app.include_router(pages.router(home.parts))
    authenticator = Authenticator(Settings(secret=SecretStr(SECRET)))

    async def known(scope: Any, receive: Any, send: Any) -> None:
        scope[SCOPE_AUTHENTICATOR] = authenticator
        await app(scope, receive, send)

    transport = httpx.ASGITransport(known, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def as_(id: str, *roles: Role) -> dict[str, str]:
    """The headers of somebody."""
    return {"Authorization": f"Bearer {issue_token(SECRET, roles or (Role.MEMBER,), id, timedelta(hours=1))}"}


STAFF = as_("staff-a", Role.STAFF)


async def answers(home: House) -> dict[str, Any]:
    """What the one application holds."""
    return dict(json.loads(await home.pool.fetchval("SELECT answers FROM application")))


# --- drafts ----------------------------------------------------------------------------------------------------------


async def test_a_draft_is_finished_on_the_form_in_which_it_began_whatever_is_published_meanwhile(
    home: House, door: httpx.AsyncClient
) -> None:
    first = await home.open_to_everyone()
    ada = as_(unique("ada"))
    await door.post("/apply/draft", data={"why": WHY, "languages": "en"}, headers=ada)
    document = first.document.model_dump(mode="json", exclude_none=True)
    for field in document["form"]:
        field["id"] = {"why": "motivation"}.get(field["id"], field["id"])
    await home.programme.publish(document, None, None)
    page = await door.get("/apply", headers=ada)
    assert 'name="why"' in page.text
    assert WHY.split("'")[0] in page.text
    assert 'name="motivation"' not in page.text
    rest = {"why": WHY, "languages": "en", "time": "some", "consent": ["yes", ""]}
    handed_in = await door.post("/apply", data=rest, headers=ada)
    assert handed_in.status_code == 303, handed_in.text
    assert await home.pool.fetchval("SELECT edition FROM application WHERE submitted_at IS NOT NULL") == first.number
    # Who begins now has the new one.
    assert 'name="motivation"' in (await door.get("/apply", headers=as_(unique("ben")))).text


async def test_what_a_page_did_not_ask_stays_in_the_draft_and_what_is_unticked_goes(
    home: House, door: httpx.AsyncClient
) -> None:
    await home.open_to_everyone()
    ada = as_(unique("ada"))
    await door.post(
        "/apply/draft", data={"why": WHY, "languages": "en, sv", "time": "some", "consent": ["yes", ""]}, headers=ada
    )
    await door.post("/apply/draft", data={"languages": "en", "consent": ""}, headers=ada)
    assert await answers(home) == {"why": WHY, "languages": ["en"], "time": "some", "consent": False}


async def test_evidence_that_was_picked_is_offered_again_however_much_was_written_since(
    home: House, door: httpx.AsyncClient
) -> None:
    id = unique("ada")
    story = deeds(id)
    await home.happen(*story)
    replies = [one for one in story if one["type"] == "reply-posted"]
    oldest = min(replies, key=lambda one: str(one["time"]))["data"]["reply_id"]
    await home.parts.applying.begin(member(id), {"evidence": [oldest]})
    page = await door.get("/apply", headers=as_(id))
    assert page.text.count('name="evidence"') == pages.EVIDENCE + 2  # one is older, and one says that it was asked
    assert f'value="{oldest}" checked' in page.text


# --- what nobody can keep is said to be so ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [r'"\ud800"', r'["\udfff"]', r'"a\u0000b"'])
@pytest.mark.parametrize("field", ["why", "languages"])
async def test_an_answer_that_cannot_be_kept_is_refused_by_its_name(
    home: House, door: httpx.AsyncClient, field: str, answer: str
) -> None:
    await home.open_to_everyone()
    ada = as_(unique("ada")) | {"Content-Type": "application/json"}
    body = f'{{"answers": {{"{field}": {answer}}}}}'
    begun = (await door.post("/api/applications", headers=ada)).json()["application_id"]
    for refused in (
        await door.post("/api/applications", content=body, headers=ada),
        await door.put(f"/api/applications/{begun}", content=body, headers=ada),
    ):
        assert refused.status_code == 400, refused.text
        assert [one["location"] for one in refused.json()["errors"]] == [f"answers.{field}"]


@pytest.mark.parametrize("n", [0, -1, 1000, 99_999_999_999_999, 10**30])
async def test_a_question_that_cannot_be_is_not_found_on_either_door(
    home: House, door: httpx.AsyncClient, n: int
) -> None:
    await home.open_to_everyone()
    ada = unique("ada")
    id = await home.apply(member(ada))
    await home.parts.quiz.open(member(ada), id, "en")
    page = await door.post(f"/application/{id}/quiz/answers/{n}", data={"answer": 1}, headers=as_(ada))
    told = await door.put(f"/api/applications/{id}/quiz/answers/{n}", json={"answer": 1}, headers=as_(ada))
    assert (page.status_code, told.status_code) == (404, 404)


async def test_what_staff_send_that_cannot_be_kept_is_400(home: House, door: httpx.AsyncClient) -> None:
    await home.appoint("ada")
    jam = await jam_of(home, await season(home, "ada"), starts_on=date(2027, 6, 1))
    document = (await home.programme.present(home.pool)).document.model_dump(mode="json", exclude_none=True)
    for path, form in (
        ("/desk/announcements", {"title": "T", "text": "t", "embargo": "9999-12-31T23:59:00-12:00"}),
        ("/stars/ada/leave", {"until": "0001-01-01T00:00:00+10:00"}),
        ("/desk/perks/abc", {"act": "fulfil", "grant_id": "a\x00b"}),
        ("/desk/perks/abc", {"act": "grant", "member_id": "a\x00b"}),
        (f"/desk/jams/{jam}", {"act": "attended", "member_id": "a\x00b"}),
        ("/desk/roster", {"text": "member_id,since\nx,0001-01-01T00:00:00+10:00\n"}),
    ):
        assert (await door.post(path, data=form, headers=STAFF)).status_code == 400, path
    for name in ({"en": "x", "a\x00": "y"}, {"en": "x", "es": "\ud800"}, {"en": "x", "\ud800": "y"}):
        body = json.dumps({"edition": {**document, "name": name}})
        refused = await door.post("/api/programme/editions", content=body, headers=STAFF)
        assert refused.status_code == 400, refused.text
