"""The pages of the applications service, looked at and used in a real browser, from the form to Star Jam."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.e2e.eye import Eye
from tests.e2e.site import Json, Site, ago, asked, event, eventually, fresh, of, replied

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
