"""The pages of the topics service, looked at and used in a real browser."""

import asyncio
import csv
import io
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from playwright.async_api import BrowserContext, Route, expect

from tests.e2e.eye import Eye, check
from tests.e2e.site import Site, ago, asked, eventually, fresh, of, replied

HOSTILE = "<script>alert(1)</script> & “Donaudampfschifffahrtsgesellschaftskapitän” " + "x" * 150


@pytest.fixture(scope="module")
def full(site: Site) -> str:
    """A space with questions of every state; returns its name."""
    space = fresh("Premium & more")
    member = fresh("ada")
    now = datetime.now(UTC)
    events = [
        asked(f"{space}-calm", ago(hours=1), space=space, title="How do I move my playlists?", tags=["playlists"]),
        asked(f"{space}-soon", ago(hours=45), space=space, title="Why does shuffle repeat songs?", author_id=member),
        asked(f"{space}-late", ago(hours=60), space=space, title=HOSTILE, tags=["a" * 100, "b", "c", "d"]),
        asked(f"{space}-met", ago(hours=30), space=space, title="Where is the sleep timer?", language="sv"),
        replied(f"{space}-met", fresh("r"), member, ago(hours=28)),
        asked(f"{space}-missed", ago(hours=100), space=space, title="Offline mode turns itself off"),
        replied(f"{space}-missed", f"{space}-r", member, ago(hours=20)),
        of("solution-accepted", f"{space}-missed", f"{space}-r", ago(hours=19)),
        of("topic-closed", f"{space}-missed", at=ago(hours=2)),
    ]
    for week in range(1, 110):
        start = now - timedelta(weeks=week)
        for n in range(1 + week % 3):
            topic = f"{space}-{week}-{n}"
            events.append(asked(topic, start, space=space))
            if (week + n) % 4:
                events.append(replied(topic, fresh("r"), member, start + timedelta(hours=n * 30 + 1)))
    site.publish(*events)
    site.topic_when(f"{space}-109-0")
    return space


def address(topic_id: str) -> str:
    """Where a question's page is."""
    return f"/topics/questions/{quote(topic_id, safe='')}"


@pytest.mark.parametrize(
    ("name", "path", "how"),
    [
        ("home", "/", {}),
        ("style", "/style", {}),
        ("queue", "/topics/?space={space}", {}),
        ("queue-star", "/topics/?space={space}", {"roles": ["star"], "member": "star"}),
        ("queue-late", "/topics/?space={space}&state=breached", {"roles": ["star"], "member": "star"}),
        ("queue-nothing-fits", "/topics/?space={space}&tag=nobody-uses-it", {}),
        ("question-waiting", "/topics/questions/{space}-soon", {"roles": ["star"], "member": "star"}),
        ("question-late", "/topics/questions/{space}-late", {}),
        ("question-answered", "/topics/questions/{space}-missed", {}),
        ("question-unknown", "/topics/questions/nobody-asked-that", {"expected": 404}),
        ("promise", "/topics/promise?space={space}&every=month", {}),
        ("promise-everywhere", "/topics/promise", {}),
        ("asked", "/topics/asked?space={space}&outcome=met", {}),
        ("search", "/topics/search?q=shuffl", {}),
        ("search-nothing", "/topics/search?q=zzzzzz", {}),
        ("policies", "/topics/policies", {"roles": ["staff"], "member": "staff"}),
        ("nothing", "/nothing-is-here", {"expected": 404}),
        ("sign-in", "/sign-in", {}),
    ],
)
async def test_a_page_is_sound_in_light_and_dark_narrow_and_wide(
    eye: Eye, full: str, name: str, path: str, how: dict[str, object]
) -> None:
    await eye.look(path.format(space=quote(full, safe="")), name, **how)


async def test_a_part_that_does_not_answer_says_so_in_its_place_and_can_be_tried_again(eye: Eye) -> None:
    away = True

    async def prepare(context: BrowserContext) -> None:
        async def answer(route: Route) -> None:
            await (route.abort() if away else route.continue_())

        await context.route("**/topics/due-next", answer)

    async with eye.open("/", prepare=prepare, allowed="ERR_FAILED|fetch") as page:
        await expect(page.get_by_text("This part could not be loaded")).to_be_visible()
        await expect(page.locator(".hero-sentence")).to_be_visible()
        await check(page, "home-broken")
        away = False
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_role("heading", name="Due next")).to_be_visible()


async def test_a_loading_page_shows_that_it_loads(eye: Eye) -> None:
    gate = asyncio.Event()

    async def prepare(context: BrowserContext) -> None:
        async def answer(route: Route) -> None:
            await gate.wait()
            await route.continue_()

        await context.route("**/topics/today", answer)

    async with eye.open("/", prepare=prepare, settled=False) as page:
        await expect(page.locator(".skeleton .hero")).to_be_visible()
        await check(page, "home-loading")
        gate.set()
        await expect(page.locator(".hero-sentence")).to_be_visible()


async def test_a_star_claims_and_releases_without_a_reload_and_others_see_it(eye: Eye, full: str) -> None:
    topic, path = f"{full}-calm", f"/topics/?space={quote(full, safe='')}"
    star = fresh("star")
    async with (
        eye.open(path, roles=["star"], member=star) as page,
        eye.open(path, roles=["star"], member=fresh("other")) as other,
    ):
        row = page.locator("li.question", has_text="move my playlists")
        await row.get_by_role("button", name="Claim").click()
        await expect(row.get_by_role("button", name="Release")).to_be_visible()
        assert (eye.site.topic(topic) or {})["claim"]["member_id"] == star
        # The other one did nothing, and sees it within a few seconds.
        theirs = other.locator("li.question", has_text="move my playlists")
        await expect(theirs).to_contain_text(star, timeout=15_000)
        await row.get_by_role("button", name="Release").click()
        await expect(row.get_by_role("button", name="Claim")).to_be_visible()
        await expect(theirs.get_by_role("button", name="Claim")).to_be_visible(timeout=15_000)


async def test_a_claim_that_fails_says_why(eye: Eye, full: str) -> None:
    holder = eye.site.bearer("star", member=fresh("holder"))
    path = f"/topics/?space={quote(full, safe='')}"
    topic = f"{full}-calm"

    async def prepare(context: BrowserContext) -> None:
        # The list stays as it was, so that the button is there to be pressed too late.
        await context.route(
            "**/topics/?*",
            lambda route: route.abort() if route.request.is_navigation_request() is False else route.continue_(),
        )

    async with eye.open(
        path, roles=["star"], member=fresh("slow"), prepare=prepare, allowed="409|ERR_FAILED|fetch"
    ) as page:
        button = page.locator("li.question", has_text="move my playlists").get_by_role("button", name="Claim")
        await expect(button).to_be_visible()
        assert eye.site.claim(topic, holder).status_code == 200
        try:
            await button.click()
            await expect(page.locator(".toast")).to_contain_text("has it until")
        finally:
            assert eye.site.release(topic, holder).status_code == 200


async def test_the_queue_is_walked_by_keyboard(eye: Eye, full: str) -> None:
    star = fresh("star")
    async with eye.open(f"/topics/?space={quote(full, safe='')}", roles=["star"], member=star) as page:
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("k")
        chosen = page.locator("li[data-chosen]")
        await expect(chosen).to_have_count(1)
        await expect(chosen).to_contain_text("shuffle")
        await page.keyboard.press("c")
        await expect(chosen.get_by_role("button", name="Release")).to_be_visible()
        await page.keyboard.press("j")
        await page.keyboard.press("k")
        await page.keyboard.press("c")
        await expect(
            page.locator("li.question", has_text="shuffle").get_by_role("button", name="Claim")
        ).to_be_visible()
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.type("sleep tim")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("link", name="Where is the sleep timer?").first).to_be_visible()


async def test_filters_stay_in_the_address(eye: Eye, full: str) -> None:
    async with eye.open("/topics/") as page:
        await page.get_by_label("Space", exact=True).select_option(full)
        await page.wait_for_url("**space=*")
        await page.get_by_role("link", name="Late", exact=False).click()
        await page.get_by_role("link", name="Unclaimed").click()
        await page.wait_for_url("**unclaimed=true*")
        assert "space=" in page.url
        assert "state=breached" in page.url
        await page.reload()
        await expect(page.locator("li.question").first).to_contain_text(full)


async def test_the_theme_is_kept(eye: Eye) -> None:
    async with eye.open("/style") as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = await page.evaluate(ground)
        await page.get_by_role("button", name="Light or dark").click()
        dark = await page.evaluate(ground)
        assert dark != light
        await page.goto("/topics/")
        assert await page.evaluate(ground) == dark


async def test_every_point_of_the_promise_opens_the_questions_behind_it(eye: Eye, full: str) -> None:
    async with eye.open(f"/topics/promise?space={quote(full, safe='')}&every=month") as page:
        row = page.locator("table").last.locator("tbody tr").nth(1)
        met = await row.locator("td").nth(1).inner_text()
        await row.locator("td").nth(1).get_by_role("link").click()
        await expect(page.locator("dl.figures")).to_contain_text(met)
        await expect(page.locator("li.found")).to_have_count(int(met))
        await expect(page.locator("li.found").first).to_contain_text("answered in time")


async def test_the_promise_comes_as_csv_that_no_spreadsheet_takes_for_a_formula(site: Site, full: str) -> None:
    space = fresh("=HYPERLINK(1)")
    site.publish(asked(fresh("t"), space=space))
    found = site.client.get("/topics/promise.csv", params={"space": full, "every": "month"})
    assert found.headers["content-type"].startswith("text/csv")
    lines = list(csv.reader(io.StringIO(found.text)))[1:]
    series = site.ask("sla", space=full, every="month")["series"][-len(lines) :]
    assert len(lines) >= 24
    assert [line[:4] for line in lines] == [
        [one["start"][:10], str(one["topics"]), str(one["answered"]), str(one["met"])] for one in series
    ]
    rows = eventually(lambda: site.client.get("/topics/spaces.csv").text, lambda text: space in text)
    names = [row[0] for row in csv.reader(io.StringIO(rows))]
    assert f"'{space}" in names
    assert space not in names


async def test_every_table_of_the_promise_comes_as_csv(site: Site, full: str) -> None:
    def read(path: str, **parameters: str) -> list[dict[str, str]]:
        answer = site.client.get(f"/topics/{path}.csv", params=parameters, headers=site.staff)
        assert answer.status_code == 200, answer.text[:300]
        return list(csv.DictReader(io.StringIO(answer.text)))

    compared = read("compared", space=full, every="month")
    assert [row["period"] for row in compared][2:] == ["a year before", "two years before"]
    met = read("asked", space=full, outcome="met")
    assert len(met) == site.ask("sla", space=full)["met"]
    assert {row["within_target"] for row in met} == {"True"}
    assert {row["scope"] for row in read("policies")} >= {"all"}


async def test_staff_see_what_a_policy_would_have_meant_before_they_save_it(eye: Eye, full: str) -> None:
    async with eye.open("/topics/policies", roles=["staff"], member="staff", allowed="400") as page:
        await page.get_by_label("For", exact=True).select_option(f"space:{full}")
        await page.get_by_label("Answered within").fill("1")
        await page.get_by_label("Objective").fill("50")
        preview = page.locator("#preview")
        await expect(preview.locator("th", has_text="new rule")).to_be_visible()
        figures = eye.site.ask("sla", space=full, from_=(datetime.now(UTC) - timedelta(days=91)).isoformat())
        kept = preview.locator("tr", has_text="Kept").locator("td").first
        await expect(kept).to_have_text(f"{int(figures['attainment'] * 1000) / 10:.1f}%")
        await check(page, "policies-preview")
        await page.get_by_label("Objective").fill("150")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("A share in per cent, more than 0 and at most 100.")).to_be_visible()
        await check(page, "policies-wrong")
        assert all(one["scope"] != f"space:{full}" for one in eye.site.ask("policies")["items"])
        await page.get_by_label("Objective").fill("80")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Saved.")).to_be_visible()
        saved = [one for one in eye.site.ask("policies")["items"] if one["scope"] == f"space:{full}"]
        assert [(one["target_seconds"], one["objective"]) for one in saved] == [(3600, 0.8)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"scope": "space:a\x00b"},
        {"scope": "space:" + "x" * 110},
        {"scope": "language:no such language!"},
        {"objective": "1e-323"},
        {"hours": "inf"},
    ],
)
def test_the_form_of_policies_refuses_what_the_api_refuses(site: Site, wrong: dict[str, str]) -> None:
    form = {"scope": "space:never", "hours": "48", "objective": "90"} | wrong
    before = site.ask("policies")
    assert site.client.post("/topics/policies", data=form, headers=site.staff).status_code == 400
    assert site.ask("policies") == before


async def test_policies_are_for_staff_alone(site: Site) -> None:
    browser = {"Accept": "text/html"}
    answer = site.client.get("/topics/policies", headers=browser)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=")
    for headers in ({}, site.bearer("star", member="s"), site.bearer("member", member="m")):
        assert site.client.get("/topics/policies", headers=headers).status_code in (401, 403)
        assert site.client.post("/topics/policies", headers=headers, data={"scope": "all"}).status_code in (401, 403)
