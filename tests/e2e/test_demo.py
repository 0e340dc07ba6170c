"""`stars up --demo`: a forum with years of history, which goes on living, is invented once, and gets a Star."""

import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from deploy.demo.living import history
from deploy.demo.world import World
from tests.e2e.eye import Eye
from tests.e2e.site import Json, Program, Site, ago, asked, event, eventually, fresh, of, replied
from tests.oracle.figures import mismatches
from tests.oracle.forum import Forum

SETTINGS = {"STARS_RATE_LIMIT": "0", "NO_COLOR": "1"}


def _up(folder: Path, *more: str) -> Program:
    arguments = ["up", "--demo", "--data", str(folder / "data"), "--port", "0", *more]
    return Program.start(arguments, folder / "log", SETTINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(folder: Path) -> Iterator[Json]:
    """What the first start showed when it said ready, and a moment of its life; then it was killed."""
    program = _up(folder)
    found: Json = {"story": json.loads((folder / "data" / "demo.json").read_text())}
    try:
        with httpx.Client(base_url=program.url, timeout=30) as client:
            found["sla"] = _sla(client, found["story"]["began"])
            found["queue"] = client.get("/topics/api/topics", params={"limit": 100}).json()["items"]
            began = datetime.fromisoformat(found["story"]["began"])
            found["live"] = eventually(lambda: _newest(client), lambda at: at > began + timedelta(seconds=1), 180)
            states = {"open", "closed"}
            found["seasons"] = eventually(
                lambda: client.get("/leaderboard/api/seasons").json()["items"],
                lambda items: {one["state"] for one in items} == states,
                60,
            )
            closed = next(one["season_id"] for one in found["seasons"] if one["state"] == "closed")
            board = client.get("/leaderboard/api/boards/everyone", params={"window": "season", "season": closed})
            found["standings"] = board.json()["entries"]
            found["directory"] = client.get("/applications/api/stars", params={"limit": 100}).json()["items"]
        program.process.send_signal(signal.SIGKILL)
        program.process.wait()
    finally:
        program.stop()
    return found


def _sla(client: httpx.Client, instant: str) -> Json:
    answer = client.get("/topics/api/sla", params=_half_a_year(instant))
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def _half_a_year(until: str) -> dict[str, str]:
    since = datetime.fromisoformat(until) - timedelta(weeks=26)
    return {"from": since.isoformat(), "to": until, "as_of": until, "every": "month"}


def _newest(client: httpx.Client) -> datetime:
    """When the question was asked that has most time left."""
    items: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/topics/api/topics", params={"state": "waiting", "limit": "100", **cursor}).json()
        items += page["items"]
        if page["next"] is None:
            return max(datetime.fromisoformat(item["created_at"]) for item in items)
        cursor = {"cursor": page["next"]}


@pytest.mark.timeout(600)
def test_ready_means_that_the_whole_history_can_be_read_as_an_oracle_has_it(first: Json) -> None:
    began = datetime.fromisoformat(first["story"]["began"])
    world = World(first["story"]["seed"], began)
    # Deletions and corrections count as known now, and "now" was a few seconds after the beginning.
    until = datetime.fromisoformat(first["story"]["until"])
    happened = takewhile(lambda one: one.at <= until, world.happenings())
    forum = Forum(event.model_dump(mode="json", exclude_unset=True) for event in history(happened, until))
    asked = _half_a_year(first["story"]["began"])
    assert mismatches(forum.report(from_=asked.pop("from"), **asked), first["sla"]) == []
    assert first["sla"]["topics"] > 2500
    states = {item["state"] for item in first["queue"]}
    assert states <= {"waiting", "breached"}
    assert "breached" in states


def test_it_lives_on_while_it_runs(first: Json) -> None:
    assert first["live"] > datetime.fromisoformat(first["story"]["began"])


@pytest.mark.timeout(600)
def test_one_season_is_open_and_the_one_before_is_frozen_with_its_standings(first: Json) -> None:
    assert [one["state"] for one in first["seasons"]] == ["open", "closed"]
    assert len(first["standings"]) == 50
    assert [one["rank"] for one in first["standings"][:1]] == [1]


def test_its_stars_are_in_the_directory_with_their_ranks(first: Json) -> None:
    assert len(first["directory"]) > 30
    assert {one["rank"] for one in first["directory"]} == {"rising-star", "rock-star"}
    assert all(one["spaces"] and one["languages"] for one in first["directory"])


def test_another_seed_wants_another_folder(folder: Path, first: Json) -> None:
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="another one needs another --data"):
        _up(folder, "--demo-seed", "2")
    assert time.monotonic() - begun < 120


@pytest.fixture(scope="module")
def second(folder: Path, first: Json) -> Iterator[Json]:
    """The start after the kill: the story before and after, and the installation."""
    file = folder / "data" / "demo.json"
    before = json.loads(file.read_text())
    # As if less than that were known to be in Kafka: what is sent again is the same, and counts once.
    since = datetime.fromisoformat(before["until"]) - timedelta(hours=30)
    file.write_text(json.dumps({**before, "until": since.isoformat()}))
    program = _up(folder)
    try:
        yield {"before": before, "after": json.loads(file.read_text()), "site": Site(program, folder / "data")}
    finally:
        code = program.stop()
    assert code == 0


def test_after_a_kill_a_second_start_invents_nothing_twice_and_goes_on(folder: Path, first: Json, second: Json) -> None:
    assert second["after"]["began"] == second["before"]["began"] == first["story"]["began"]
    assert second["after"]["until"] > second["before"]["until"]
    client = second["site"].client
    found = _sla(client, first["story"]["began"])
    names = ("topics", "answered", "met", "pending")
    assert {name: found[name] for name in names} == {name: first["sla"][name] for name in names}
    began = datetime.now(UTC)
    eventually(lambda: _newest(client), lambda at: at > began, 240)
    said = (folder / "log").read_text()
    count = int(said.partition("the demo's forum: ")[2].partition(" events")[0].replace(",", ""))
    assert 50 < count < 2000, "only what happened since"


@pytest.mark.timeout(600)
async def test_a_member_becomes_a_star_answers_and_is_invited_to_star_jam(browser: Browser, second: Json) -> None:
    """The whole product in one walk, through all four services, as its people see it."""
    site: Site = second["site"]
    eye, walk = Eye(browser, site), Walk(site)
    ada = walk.ada
    as_ada: Json = {"roles": ["member"], "member": ada}
    as_star: Json = {"roles": ["member", "star"], "member": ada}
    as_staff: Json = {"roles": ["staff"], "member": "staff-1"}
    walk.ask_for_a_short_quiz()

    # Criteria are met by what happens in the forum.
    site.publish(
        event("member-registered", {"member_id": ada, "name": "Ada Lindqvist", "email": f"{ada}@mail.example"})
    )
    async with eye.open("/applications/", **as_ada) as page:
        await expect(page.locator("main")).to_contain_text("Are you ready?")
    site.publish(*walk.help_given())
    eventually(lambda: walk.progress()["eligible"], within=60)

    # The form, and the quiz, of which the time runs out once.
    async with eye.open("/applications/", **as_ada, allowed="ERR_|409") as page:
        await expect(page.locator("#ready")).to_have_text("You are ready")
        await page.get_by_role("link", name="Apply").click()
        await page.get_by_label("Why would you like to be a Star?").fill(
            "I like it when music plays again, and I have time in the evenings."
        )
        await page.get_by_label("In which languages can you help?").fill("en")
        await page.get_by_label("An hour a week").check()
        await page.locator("input[name=evidence]").first.check()
        await page.get_by_label("I am 18 or older").check()
        await page.get_by_role("button", name="Hand it in").click()
        await expect(page.locator("h1")).to_have_text("The quiz is next")
        application = page.url
        await page.get_by_role("button", name="Begin the quiz").click()
        await expect(page.locator(".quiz-question")).to_be_visible()
        await walk.let_time_run_out()
        await page.reload()
        await expect(page.locator("h1")).to_contain_text("Time is up", timeout=20_000)
        await page.goto(application)
        await page.get_by_role("button", name="Begin the quiz").click()
        await expect(page.locator(".quiz-question")).to_be_visible()
        await walk.answer_rightly(page)
        await expect(page.locator("h1")).to_contain_text("You passed: 3 of 3 right")

    # Two reviewers, blind to each other, and the decision.
    review = f"/applications/reviews/{application.rpartition('/')[2]}"
    for who in ("staff-1", "staff-2"):
        async with eye.open(review, roles=["staff"], member=who) as page:
            for item in ("help", "tone", "fit"):
                await page.locator(f"input[name=score-{item}][value='5']").check()
            await page.get_by_label("Why").fill("Kind, and right.")
            await page.get_by_role("button", name="Give them").click()
    async with eye.open(review, **as_staff) as page:
        await page.get_by_label("Reason").fill("Welcome among us.")
        await page.get_by_role("button", name="Accept").click()
        await expect(page.locator("main")).to_contain_text("Welcome among us.")
    async with eye.open("/applications/", **as_ada) as page:
        await expect(page.locator("#ready")).to_have_text("You are a Rising Star")

    # The mail says so.
    eventually(lambda: "You are a Star now" in walk.subjects(), within=60)
    async with eye.open(f"/notifier/mailbox?member={ada}", **as_staff) as page:
        await page.get_by_role("link", name="You are a Star now").click()
        await expect(page.locator("main")).to_contain_text(f"{ada}@mail.example")

    # A season begins; Ada claims a question, answers it and more, and stands on the Stars' board.
    async with eye.open("/leaderboard/seasons", **as_staff) as page:
        await page.get_by_label("Name").fill("One day")
        await page.get_by_label("First day").fill(walk.today.isoformat())
        await page.get_by_label("Day after the last").fill((walk.today + timedelta(days=1)).isoformat())
        await page.get_by_role("button", name="Open it").click()
        await page.get_by_role("link", name="One day").click()
        season = page.url
    topic, question = fresh("topic"), "Why does my playlist start again?"
    site.publish(asked(topic, title=question, language="en"))
    site.topic_when(topic)
    async with eye.open(f"/topics/questions/{topic}", **as_star) as page:
        await page.get_by_role("button", name="Claim it").click()
        await expect(page.locator("#question")).to_contain_text("You have it until")
        site.publish(*walk.answers_to(topic))
        site.topic_when(topic, lambda found: found["state"] == "answered")
        await page.reload()
        await expect(page.locator("#question")).to_contain_text("Ada Lindqvist")
    eventually(lambda: walk.rank() == 1, within=60)
    async with eye.open("/leaderboard/?board=stars&window=day", **as_ada) as page:
        first_row = page.locator("table.board tbody tr").first
        await expect(first_row.locator("th")).to_contain_text("you")
        await expect(first_row.locator("td").first).to_have_text("1")

    # The season closes, and its first places are invited to Star Jam.
    async with eye.open(season.removeprefix(site.url), **as_staff) as page:
        await page.get_by_role("button", name="Close it").first.click()
        await page.get_by_role("dialog").get_by_role("button", name="Close it").click()
        await expect(page.locator("main")).to_contain_text("frozen since")
    eventually(lambda: "One day" in site.client.get("/applications/desk/jams", headers=site.staff).text, within=60)
    async with eye.open("/applications/desk/jams", **as_staff) as page:
        await page.get_by_label("Name").fill("Star Jam in Stockholm")
        await page.get_by_label("Place").fill("Stockholm")
        await page.get_by_label("From", exact=True).fill("2099-06-01")
        await page.get_by_label("To", exact=True).fill("2099-06-03")
        await page.get_by_label("Season").select_option(label=await walk.option(page, "One day"))
        await page.get_by_label("Seats").fill("1")
        await page.get_by_role("button", name="Make the shortlist").click()
        await page.get_by_role("button", name="Send 1 invitations").click()
        desk = page.url.removeprefix(site.url)
    assert walk.invited(desk) == [ada]
    async with eye.open("/applications/jams", **as_ada) as page:
        await page.get_by_role("button", name="I cannot come").click()
        await expect(page.locator("main")).to_contain_text("The next on the list is invited.")
    [following] = walk.invited(desk)
    assert following != ada
    async with eye.open("/applications/jams", roles=["member"], member=following) as page:
        await expect(page.locator("main")).to_contain_text("You are invited.")


class Walk:
    """What the walk needs beside the pages: the forum's side of it, and what only the database knows."""

    def __init__(self, site: Site) -> None:
        self.site, self.ada, self.today = site, fresh("ada"), datetime.now(UTC).date()

    def ask_for_a_short_quiz(self) -> None:
        """An edition whose quiz has three questions, and no wait between two attempts."""
        path = "/applications/api/programme/editions"
        document = self.site.client.get(path, headers=self.site.staff).json()["items"][0]["document"]
        document["quiz"] |= {"questions": 3, "pass_mark": 3, "wait_hours": 0}
        answer = self.site.client.post(path, json={"edition": document}, headers=self.site.staff)
        assert answer.status_code == 201, answer.text

    def help_given(self) -> list[Json]:
        """Three months of help that meet every criterion."""
        found = []
        for n in range(50):
            topic, reply, at = fresh("topic"), fresh("reply"), ago(days=3 + 31 * (n % 3), hours=n)
            found += [asked(topic, at - timedelta(hours=1), language="en"), replied(topic, reply, self.ada, at)]
            found += [of("solution-accepted", topic, reply, at)] if n < 6 else []
            found += [of("kudos-given", topic, reply, at, kudos_id=fresh("k"), giver_id="asker")] if n < 30 else []
        return found

    def answers_to(self, topic: str) -> list[Json]:
        """The answer to a question and, so that nobody has more on this day, to many others; one is another Star's."""
        found = []
        for one in (topic, *(fresh("topic") for _ in range(40))):
            reply = fresh("reply")
            found += [asked(one, language="en")] if one != topic else []
            found += [replied(one, reply, self.ada), of("solution-accepted", one, reply)]
        stars = self.site.client.get("/applications/api/stars", params={"limit": 2}).json()["items"]
        another = next(one["member_id"] for one in stars if one["member_id"] != self.ada)
        last = fresh("topic")
        return [*found, asked(last, language="en"), replied(last, fresh("reply"), another)]

    def progress(self) -> Json:
        """How far Ada is."""
        answer = self.site.client.get(
            "/applications/api/programme", headers=self.site.bearer("member", member=self.ada)
        )
        found: Json = answer.json()["progress"]
        return found

    def subjects(self) -> list[str]:
        """What Ada's mails are about."""
        mails = self.site.client.get("/notifier/api/mails", headers=self.site.staff, params={"member": self.ada})
        return [one["subject"] for one in mails.json()["items"]]

    def rank(self) -> int | None:
        """Where Ada stands among the Stars today."""
        answer = self.site.client.get(f"/leaderboard/api/boards/stars/members/{self.ada}", params={"window": "day"})
        return answer.json()["rank"] if answer.status_code == 200 else None

    def invited(self, desk: str) -> list[str]:
        """Who is invited to the Jam of a page of the desk."""
        path = desk.replace("/applications/desk/", "/applications/api/")
        guests = self.site.client.get(path, headers=self.site.staff).json()["guests"]
        return [one["member_id"] for one in guests if one["state"] == "invited"]

    async def option(self, page: Page, name: str) -> str:
        """The option of the season's list that begins with a name."""
        return (await page.locator("option", has_text=name).first.text_content() or "").strip()

    async def let_time_run_out(self) -> None:
        """As if ten minutes had gone by: the clock is the database's."""
        await self._query(
            "UPDATE applications.quiz_attempt SET deadline = clock_timestamp() WHERE finished_at IS NULL"
            " AND application_id IN (SELECT application_id FROM applications.application WHERE member_id = $1)"
        )

    async def answer_rightly(self, page: Page) -> None:
        """Click what is right, which only the database knows, and finish."""
        rows = await self._query(
            "SELECT n, options FROM applications.quiz_question JOIN applications.quiz_attempt USING (attempt_id)"
            " JOIN applications.application USING (application_id)"
            " WHERE member_id = $1 AND finished_at IS NULL ORDER BY n"
        )
        for row in rows:
            await page.locator(".option").nth(row["options"].index(0)).click()
            await expect(page.locator("[data-saved]")).to_have_text("Saved")
            last = row["n"] == len(rows)
            await page.get_by_role("button" if last else "link", name="Finish" if last else "Next").click()

    async def _query(self, sql: str) -> list[Any]:
        connection = await asyncpg.connect(self.site.info.postgres)
        try:
            return await connection.fetch(sql, self.ada)
        finally:
            await connection.close()
