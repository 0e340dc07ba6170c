"""The pages of the applications service, looked at and used in a real browser, from the form to Star Jam."""

import subprocess
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from playwright.async_api import Route, expect

from tests.e2e.eye import Eye, check
from tests.e2e.site import Json, Site, ago, asked, event, eventually, fresh, of, problem, replied

HOSTILE = "<script>alert(1)</script> & “Donaudampfschifffahrtsgesellschaftskapitän” " + "x" * 120
API = "/applications/api"
SCORES = {"help": 5, "tone": 4, "fit": 5}


class Programme:
    """The applications service as its clients see it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.staff = site.bearer("staff", member="staff")
        self.other_staff = site.bearer("staff", member="other-staff")

    def as_(self, member: str) -> dict[str, str]:
        """The header of a member."""
        return self.site.bearer("member", member=member)

    def call(self, method: str, path: str, who: dict[str, str] | None, json: Any = None, status: int = 200) -> Any:
        """Ask, and expect a status."""
        answer = self.site.client.request(method, f"{API}{path}", headers=who or {}, json=json)
        assert answer.status_code == status, f"{method} {path} -> {answer.status_code} {answer.text[:600]}"
        return answer.json() if answer.content else None

    def edition(self, **quiz: Any) -> int:
        """Publish an edition that is open to everyone."""
        document: Json = self.call("GET", "/programme/editions", self.staff)["items"][0]["document"]
        document |= {"open_to": "everyone", "cool_down_days": 0}
        for one in document["form"]:
            one["required"] = one["kind"] != "evidence" and one.get("required", True)
        document["quiz"] |= {"seconds": 600, "attempts": 3, "wait_hours": 0, **quiz}
        number: int = self.call("POST", "/programme/editions", self.staff, {"edition": document}, 201)["edition"]
        return number

    def applied(self, member: str, why: str = "I like it when music plays again, and I have the time.") -> str:
        """An application that is handed in; its id."""
        answers = {"why": why, "languages": ["en"], "spaces": ["help"], "time": "some", "consent": True}
        begun = self.call("POST", "/applications", self.as_(member), {"answers": answers}, 201)
        id: str = begun["application_id"]
        self.call("POST", f"/applications/{id}/submit", self.as_(member))
        return id

    async def passed(self, member: str, id: str) -> None:
        """The quiz, passed: what is right is only in the database."""
        who = self.as_(member)
        self.call("POST", f"/applications/{id}/quiz", who, {"language": "en"})
        connection = await asyncpg.connect(self.site.info.postgres)
        rows = await connection.fetch(
            "SELECT n, options FROM applications.quiz_question JOIN applications.quiz_attempt USING (attempt_id)"
            " WHERE application_id = $1 AND finished_at IS NULL",
            id,
        )
        await connection.close()
        for row in rows:
            self.call("PUT", f"/applications/{id}/quiz/answers/{row['n']}", who, {"answer": row["options"].index(0)})
        assert self.call("POST", f"/applications/{id}/quiz/finish", who)["passed"]

    def reviewed(self, id: str) -> None:
        """Both scores."""
        for who in (self.staff, self.other_staff):
            self.call("POST", f"/applications/{id}/reviews", who, {"scores": SCORES, "note": "Kind and right."})

    def roster(self, *lines: str) -> None:
        """Stars by roster."""
        text = "\n".join(["member_id,since,rank,spaces,languages,listed", *lines])
        answer = self.site.client.post(
            f"{API}/stars/roster", content=text, headers={**self.staff, "Content-Type": "text/csv"}
        )
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def programme(site: Site) -> Programme:
    return Programme(site)


def helped(member: str, count: int = 50, space: str = "help") -> list[Json]:
    """The forum's side of a member who meets every criterion."""
    found = [event("member-registered", {"member_id": member, "name": f"Ada {member[-4:]}", "languages": ["en"]})]
    for n in range(count):
        topic, reply = fresh("topic"), fresh("reply")
        at = ago(days=3 + 31 * (n % 3), hours=n)
        found += [
            asked(topic, at - timedelta(hours=1), space=space, title=f"How do I do this, {n}?"),
            replied(topic, reply, member, at),
        ]
        if n < 6:
            found.append(of("solution-accepted", topic, reply, at))
        if n < 30:
            found.append(of("kudos-given", topic, reply, at, kudos_id=fresh("k"), giver_id="asker"))
    return found


@pytest.fixture(scope="module")
async def full(site: Site, programme: Programme) -> Json:
    """Members, applications of every state, Stars, a Jam, perks and announcements; returns their ids."""
    ready, hopeful = fresh("ready"), fresh("hopeful")
    site.publish(*helped(ready), *helped(hopeful, 20))
    eventually(lambda: programme.call("GET", "/programme", programme.as_(ready))["progress"]["eligible"])
    edition = programme.edition()
    ids: Json = {"ready": ready, "hopeful": hopeful, "edition": edition}
    for name in ("quiz", "review", "scored", "declined", "open"):
        ids[name] = fresh(name)
        ids[f"{name}-id"] = programme.applied(
            ids[name], HOSTILE if name == "scored" else "I would like to help others, as I was helped."
        )
    for name in ("review", "scored", "declined"):
        await programme.passed(ids[name], ids[f"{name}-id"])
    for name in ("scored", "declined"):
        programme.reviewed(ids[f"{name}-id"])
    programme.call("POST", f"/applications/{ids['scored-id']}/discussion", programme.staff, {"text": HOSTILE})
    reason = {"outcome": "declined", "reason": "Write a little more about what you did."}
    programme.call("POST", f"/applications/{ids['declined-id']}/decision", programme.staff, reason)
    programme.call("POST", f"/applications/{ids['open-id']}/quiz", programme.as_(ids["open"]), {})
    programme.call("POST", f"/applications/{ids['quiz-id']}/quiz", programme.as_(ids["quiz"]), {"language": "es"})
    programme.call("POST", f"/applications/{ids['quiz-id']}/quiz/finish", programme.as_(ids["quiz"]))
    stars = [fresh("star") for _ in range(4)]
    programme.roster(
        f"{stars[0]},2021-03-01,rock-star,help;premium,en;es,yes",
        *(f"{one},2024-01-01,,help,en,yes" for one in stars[1:]),
    )
    ids["stars"] = stars
    about = {"listed": True, "about": HOSTILE[:200], "spaces": ["help", "a" * 90], "languages": ["en"]}
    programme.call("PUT", f"/stars/{stars[1]}", programme.as_(stars[1]), about)
    perk = {"name": "A shirt", "about": "With a star on it.", "kind": "swag", "stock": 3, "claimable": True}
    ids["perk"] = programme.call("POST", "/perks", programme.staff, perk, 201)["id"]
    programme.call(
        "POST", "/perks", programme.staff, {"name": HOSTILE[:100], "about": "Early access", "kind": "access"}, 201
    )
    programme.call("POST", f"/perks/{ids['perk']}/grants", programme.staff, {"member_id": stars[0]}, 201)
    told = {"title": "The new search", "text": "It comes next month.", "audience": "stars"}
    programme.call("POST", "/announcements", programme.staff, told | {"embargo_until": "2099-01-01T00:00:00Z"}, 201)
    connection = await asyncpg.connect(site.info.postgres)
    season = fresh("season")
    await connection.execute(
        "INSERT INTO applications.season (season_id, name, closed_at, closed_stamp) VALUES ($1, 'Spring', now(), 'x')",
        season,
    )
    await connection.executemany(
        "INSERT INTO applications.season_standing VALUES ($1, $2, $3, $4, $5, 1)",
        [(season, n, one, n + 1, 100 - n) for n, one in enumerate([*stars, "no-star"])],
    )
    await connection.close()
    jam = {
        "name": "Star Jam",
        "place": "Stockholm",
        "starts_on": "2027-06-01",
        "ends_on": "2027-06-03",
        "season_id": season,
    }
    ids["jam"] = programme.call("POST", "/jams", programme.staff, {**jam, "seats": 2}, 201)["id"]
    programme.call("POST", f"/jams/{ids['jam']}/invite", programme.staff)
    return ids


@pytest.mark.parametrize(
    ("name", "path", "who"),
    [
        ("programme", "/applications/", None),
        ("programme-ready", "/applications/", "ready"),
        ("programme-hopeful", "/applications/", "hopeful"),
        ("programme-applied", "/applications/", "review"),
        ("apply", "/applications/apply", "ready"),
        ("application-quiz", "/applications/application/{quiz-id}", "quiz"),
        ("application-review", "/applications/application/{review-id}", "review"),
        ("application-declined", "/applications/application/{declined-id}", "declined"),
        ("quiz", "/applications/application/{open-id}/quiz?n=2", "open"),
        ("quiz-over", "/applications/application/{quiz-id}/quiz", "quiz"),
        ("stars", "/applications/stars", None),
        ("star", "/applications/stars/{stars[1]}", None),
        ("star-own", "/applications/stars/{stars[0]}", "stars"),
        ("record", "/applications/stars/{stars[0]}/record", "stars"),
        ("jams", "/applications/jams", "stars"),
        ("perks", "/applications/perks", "stars"),
        ("announcements", "/applications/announcements", "stars"),
        ("reviews", "/applications/reviews", "staff"),
        ("review", "/applications/reviews/{review-id}", "staff"),
        ("review-scored", "/applications/reviews/{scored-id}", "staff"),
        ("review-declined", "/applications/reviews/{declined-id}", "staff"),
        ("desk-programme", "/applications/desk/programme", "staff"),
        ("desk-quiz", "/applications/desk/quiz", "staff"),
        ("desk-jams", "/applications/desk/jams", "staff"),
        ("desk-jam", "/applications/desk/jams/{jam}", "staff"),
        ("desk-perks", "/applications/desk/perks?perk={perk}", "staff"),
        ("desk-announcements", "/applications/desk/announcements", "staff"),
        ("desk-roster", "/applications/desk/roster", "staff"),
    ],
)
async def test_a_page_is_sound_in_light_and_dark_narrow_and_wide(
    eye: Eye, full: Json, name: str, path: str, who: str | None
) -> None:
    how: dict[str, Any] = {}
    if who == "staff":
        how = {"roles": ["staff"], "member": "staff"}
    elif who is not None:
        member = full[who]
        how = {"roles": ["member"], "member": member[0] if isinstance(member, list) else member}
    await eye.look(path.format(**full), f"stars-{name}", **how)


async def test_the_quiz_is_taken_with_a_thumb_on_a_bad_line_and_time_is_up_whatever_the_browser_does(
    eye: Eye, programme: Programme, full: Json
) -> None:
    member = fresh("thumb")
    programme.edition(questions=3, pass_mark=3)
    id = programme.applied(member)
    page_of = f"/applications/application/{id}"
    async with eye.open(page_of, roles=["member"], member=member, allowed="ERR_|409") as page:
        await page.set_viewport_size({"width": 390, "height": 780})
        await page.get_by_role("button", name="Begin the quiz").click()
        await expect(page.locator(".quiz-question")).to_be_visible()
        # Everything that is needed is in reach: four answers and the way on, without scrolling.
        for shown in (page.locator(".option").last, page.get_by_role("link", name="Next")):
            await expect(shown).to_be_in_viewport()
        # The line is bad: the answer is sent again until it is heard.
        lost = 0

        async def lose(route: Route) -> None:
            nonlocal lost
            lost += 1
            await (route.abort() if lost == 1 else route.continue_())

        await page.route("**/quiz/answers/*", lose)
        await page.locator(".option").nth(2).click()
        await expect(page.locator("[data-saved]")).to_contain_text("tried again")
        await expect(page.locator("[data-saved]")).to_have_text("Saved")
        saved = programme.call("GET", f"/applications/{id}/quiz", programme.as_(member))["answers"]
        assert saved == {"1": 2}
        await page.get_by_role("link", name="Next").click()
        await expect(page.get_by_text("Question 2 of 3")).to_be_visible()
        await page.locator(".option").nth(0).click()
        await expect(page.locator("[data-saved]")).to_have_text("Saved")
        # A reload and a second tab find all of it, and the same clock.
        await page.reload()
        await expect(page.locator("[data-quiz] input:checked")).to_have_value("0")
        await check(page, "stars-quiz-saved")
        await expect(page.locator("[data-countdown]")).not_to_have_attribute("data-last", "")
        connection = await asyncpg.connect(programme.site.info.postgres)
        await connection.execute(
            "UPDATE applications.quiz_attempt SET deadline = clock_timestamp() + interval '6 seconds'"
            " WHERE application_id = $1",
            id,
        )
        await connection.close()
        await page.reload()
        await expect(page.locator("[data-countdown][data-last]")).to_be_visible()
        await expect(page.locator(".quiz-up")).to_contain_text("Time is up", timeout=20_000)
        await expect(page.locator("h1")).to_contain_text("Time is up", timeout=20_000)
        await expect(page.locator("main")).to_contain_text("2 more attempts")
    answer = programme.site.client.put(
        f"{API}/applications/{id}/quiz/answers/1", json={"answer": 1}, headers=programme.as_(member)
    )
    problem(answer, 409, "time-is-up")


async def test_a_form_keeps_itself_says_what_is_missing_and_is_handed_in(
    eye: Eye, programme: Programme, full: Json
) -> None:
    programme.edition()
    how = {"roles": ["member"], "member": full["ready"]}
    async with eye.open("/applications/apply", **how, allowed="400") as page:
        await page.get_by_label("Why would you like to be a Star?").fill("Short.")
        await expect(page.locator("#kept")).to_contain_text("Kept as a draft")
        await page.reload()
        await expect(page.get_by_label("Why would you like to be a Star?")).to_have_value("Short.")
        await page.get_by_role("button", name="Hand it in").click()
        await expect(page.locator(".wrong").first).to_contain_text("At least 40 characters")
        await check(page, "stars-apply-missing")
        await page.get_by_label("Why would you like to be a Star?").fill(
            "I like to help, and I have time in the evenings."
        )
        await page.get_by_label("In which languages can you help?").fill("en, es")
        await page.get_by_label("An hour a week").check()
        await page.locator("input[name=evidence]").first.check()
        await page.get_by_label("I am 18 or older").check()
        await page.get_by_role("button", name="Hand it in").click()
        await expect(page.locator("h1")).to_have_text("The quiz is next")


async def test_reviewers_score_blind_discuss_and_decide(eye: Eye, programme: Programme, full: Json) -> None:
    programme.edition()
    member = fresh("ada")
    id = programme.applied(member)
    await programme.passed(member, id)
    for who in ("staff", "other-staff"):
        async with eye.open(f"/applications/reviews/{id}", roles=["staff"], member=who) as page:
            await expect(page.locator("main")).to_contain_text("Others’ scores show once all are.")
            for item in ("help", "tone", "fit"):
                await page.locator(f"input[name=score-{item}][value='4']").check()
            await page.get_by_label("Why").fill(f"Thoughts of {who}")
            await page.get_by_role("button", name="Give them").click()
            await expect(page.locator("main")).not_to_contain_text(
                f"Thoughts of {'other-staff' if who == 'staff' else 'x'}"
            )
    async with eye.open(f"/applications/reviews/{id}", roles=["staff"], member="staff") as page:
        await expect(page.locator("main")).to_contain_text("Thoughts of other-staff")
        await page.get_by_label("Reason").fill("Welcome among us.")
        await page.get_by_role("button", name="Accept").click()
        await expect(page.locator("main")).to_contain_text("Welcome among us.")
    async with eye.open("/applications/", roles=["member"], member=member) as page:
        await expect(page.locator("h2").first).to_have_text("You are a Rising Star")
    # For the whole product: whoever was appointed may claim questions now, by what topics has heard.
    topic = fresh("topic")
    programme.site.publish(asked(topic))
    programme.site.topic_when(topic)
    headers = programme.as_(member)
    eventually(lambda: programme.site.claim(topic, headers).status_code == 200)


async def test_an_invitation_is_declined_and_the_next_one_is_invited(
    eye: Eye, programme: Programme, full: Json
) -> None:
    first, third = full["stars"][0], full["stars"][2]
    async with eye.open("/applications/jams", roles=["member"], member=first) as page:
        await page.get_by_role("button", name="I cannot come").click()
        await expect(page.locator("main")).to_contain_text("The next on the list is invited.")
    desk = programme.call("GET", f"/jams/{full['jam']}", programme.staff)
    assert {one["member_id"]: one["state"] for one in desk["guests"]} == {
        first: "declined",
        full["stars"][1]: "invited",
        third: "invited",
        full["stars"][3]: "waiting",
        "no-star": "passed-over",
    }
    async with eye.open("/applications/jams", roles=["member"], member=third) as page:
        await page.get_by_label("I come at my own will").check()
        await page.get_by_role("button", name="I come", exact=True).click()
        await expect(page.locator("main")).to_contain_text("See you there!")


def test_doors_are_shut_to_whom_they_are_not_for(programme: Programme, full: Json, site: Site) -> None:
    stranger = programme.as_(fresh("stranger"))
    id = full["review-id"]
    for who, status in ((None, 401), (stranger, 404)):
        programme.call("GET", f"/applications/{id}", who, status=status)
        programme.call("POST", f"/applications/{id}/withdraw", who, status=status)
        programme.call("GET", f"/applications/{id}/quiz", who, status=status)
        programme.call("PUT", f"/applications/{id}/quiz/answers/1", who, {"answer": 0}, status)
        programme.call("GET", f"/stars/{full['stars'][0]}/record", who, status=status)
    closed = [
        ("GET", "/reviews"),
        ("GET", f"/applications/{id}/reviews"),
        ("POST", f"/applications/{id}/reviews"),
        ("POST", f"/applications/{id}/decision"),
        ("GET", "/programme/editions"),
        ("GET", "/programme/eligible"),
        ("GET", "/quiz/questions"),
        ("POST", "/stars/roster"),
        ("POST", "/perks"),
        ("GET", f"/perks/{full['perk']}/export"),
        ("GET", f"/perks/{full['perk']}/grants"),
        ("POST", "/jams"),
        ("GET", f"/jams/{full['jam']}"),
        ("POST", "/announcements"),
    ]
    for method, path in closed:
        for who, status in ((None, 401), (stranger, 403)):
            answer = site.client.request(method, f"{API}{path}", headers=who or {}, json={})
            assert answer.status_code == status, (method, path, answer.status_code)
    for desk in (
        "reviews",
        "desk/programme",
        "desk/quiz",
        "desk/jams",
        "desk/perks",
        "desk/announcements",
        "desk/roster",
    ):
        assert site.client.get(f"/applications/{desk}", headers=stranger).status_code == 403
    # What is told to anyone names nobody's state.
    assert {one["state"] for one in programme.call("GET", "/stars", None)["items"]} == {None}


def test_a_command_takes_a_roster_in(site: Site, tmp_path: Any) -> None:
    who = fresh("roster")
    file = tmp_path / "roster.csv"
    file.write_text(f"member_id,since,rank,listed\n{who},2022-02-02,rock-star,yes\n")
    command = [
        sys.executable,
        "-c",
        "from deploy.cli import main; main()",
        "import",
        "roster",
        str(file),
        "--data",
        str(site.data),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 appointed, 0 were Stars already" in done.stderr
    star = site.client.get(f"{API}/stars/{quote(who)}").json()
    assert (star["rank"], star["since"]) == ("rock-star", "2022-02-02T00:00:00Z")
    file.write_text("member_id,since\nada,tomorrow\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Line 2: since is a date" in done.stderr
