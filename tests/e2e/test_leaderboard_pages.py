"""The leaderboard's pages, looked at and used in a real browser."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from playwright.async_api import BrowserContext, Route, expect

from tests.e2e.eye import Eye, check
from tests.e2e.site import Site, ago, asked, event, eventually, fresh, of, replied

HIDE = """hidden => {
    Object.defineProperty(document, "hidden", {configurable: true, value: hidden});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def helped(site: Site) -> str:
    """A space in which some were helped today; returns its name, with which its members' ids begin."""
    space = fresh("Helped & more")
    events = []
    for n in range(12):
        topic, reply = f"{space}-{n}", f"{space}-r{n}"
        events += [
            asked(topic, ago(hours=3), space=space, title=f"Question {n} <b>"),
            replied(topic, reply, f"{space}-m{n % 4}", ago(hours=2)),
        ]
    events += [
        of("solution-accepted", f"{space}-0", f"{space}-r0", ago(hours=1)),
        of("kudos-given", f"{space}-1", f"{space}-r1", ago(hours=1), kudos_id=fresh("k"), giver_id="asker"),
        of("reply-deleted", f"{space}-2", f"{space}-r2", ago(hours=1)),
        event("member-registered", {"member_id": f"{space}-m0", "status": "active", "name": "Ada <i>Lovelace</i>"}),
    ]
    site.publish(*events)
    eventually(lambda: points(site, space, f"{space}-m0"), lambda found: found == 3 * (1 + 3) + 10)
    return space


def points(site: Site, space: str, member: str) -> int:
    """What a member has on a space's board."""
    path = f"/leaderboard/api/boards/{quote(f'space:{space}', safe='')}/members/{quote(member, safe='')}"
    answer = site.client.get(path)
    return answer.json()["points"] if answer.status_code == 200 else 0


@pytest.mark.parametrize(
    ("name", "path", "how"),
    [
        ("board", "/leaderboard/?board=space%3A{space}&window=all", {}),
        (
            "board-mine",
            "/leaderboard/?board=space%3A{space}&window=week",
            {"member": "{space}-m1", "roles": ["member"]},
        ),
        ("board-unknown", "/leaderboard/?board=space%3Anobody", {}),
        ("member", "/leaderboard/members/{space}-m0", {}),
        ("member-own", "/leaderboard/members/{space}-m2", {"member": "{space}-m2", "roles": ["member"]}),
        ("member-unknown", "/leaderboard/members/nobody-at-all", {"expected": 404}),
        ("rules", "/leaderboard/rules", {}),
        ("seasons-staff", "/leaderboard/seasons", {"roles": ["staff"], "member": "staff"}),
    ],
)
async def test_a_page_is_sound_in_light_and_dark_narrow_and_wide(
    eye: Eye, helped: str, name: str, path: str, how: dict[str, object]
) -> None:
    given = {key: value.format(space=helped) if isinstance(value, str) else value for key, value in how.items()}
    await eye.look(path.format(space=quote(helped, safe="")), f"leaderboard-{name}", **given)


async def test_a_board_moves_by_itself_when_points_arrive(eye: Eye, helped: str) -> None:
    member = f"{helped}-late"
    async with eye.open(f"/leaderboard/?board=space%3A{quote(helped, safe='')}&window=all") as page:
        await expect(page.get_by_role("link", name=member)).to_have_count(0)
        eye.site.publish(replied(f"{helped}-3", fresh("r"), member))
        await expect(page.get_by_role("link", name=member)).to_be_visible(timeout=15_000)


async def test_a_board_shows_what_came_while_nobody_looked_at_its_tab(eye: Eye, helped: str) -> None:
    member = f"{helped}-unseen"
    async with eye.open(f"/leaderboard/?board=space%3A{quote(helped, safe='')}&window=all") as page:
        await page.evaluate(HIDE, True)
        eye.site.publish(replied(f"{helped}-5", fresh("r"), member))
        eventually(lambda: points(eye.site, helped, member))
        await expect(page.get_by_role("link", name=member)).to_have_count(0)
        await page.evaluate(HIDE, False)
        await expect(page.get_by_role("link", name=member)).to_be_visible()


async def test_a_board_shows_what_came_between_the_page_and_its_stream(eye: Eye, helped: str) -> None:
    member = f"{helped}-between"

    async def later(route: Route) -> None:
        eye.site.publish(replied(f"{helped}-6", fresh("r"), member))
        eventually(lambda: points(eye.site, helped, member))
        await route.continue_()

    async def prepare(context: BrowserContext) -> None:
        await context.route("**/stream?*", later)

    async with eye.open(f"/leaderboard/?board=space%3A{quote(helped, safe='')}&window=all", prepare=prepare) as page:
        await expect(page.get_by_role("link", name=member)).to_be_visible()


async def test_a_ledger_says_what_counts_and_why_the_rest_does_not(eye: Eye, helped: str) -> None:
    async with eye.open(f"/leaderboard/members/{quote(f'{helped}-m2', safe='')}") as page:
        ledger = page.locator("li.entry")
        await expect(ledger.filter(has_text="the reply was deleted").first).to_contain_text("would be")
        counted = ledger.filter(has_text="Question 6").filter(has_text="Replied")
        await expect(counted.locator(".points")).to_have_text("+1")
        await counted.get_by_role("link").click()
        await page.wait_for_url("**/topics/questions/**")


async def test_a_member_hides_from_every_board_and_comes_back(eye: Eye, helped: str) -> None:
    member = f"{helped}-m3"
    path = f"/leaderboard/members/{quote(member, safe='')}"
    async with eye.open(path, member=member, roles=["member"]) as page:
        await page.get_by_role("button", name="Hide me").click()
        await expect(page.get_by_text("You are hidden from the boards")).to_be_visible()
        assert points(eye.site, helped, member) == 0
        assert eye.site.client.get(path).status_code == 404
        await check(page, "member-hidden")
        await page.get_by_role("button", name="Show me").click()
        await expect(page.get_by_text("You are on the boards")).to_be_visible()
        assert points(eye.site, helped, member) > 0


async def test_a_season_is_opened_closed_and_then_frozen(eye: Eye, helped: str) -> None:
    today = datetime.now(UTC).date()
    name = fresh("Winter")
    async with eye.open("/leaderboard/seasons", roles=["staff"], member="staff", allowed="400") as page:
        await page.get_by_label("Name").fill(name)
        await page.get_by_label("First day").fill((today - timedelta(days=1)).isoformat())
        await page.get_by_label("Day after the last").fill((today - timedelta(days=2)).isoformat())
        await page.get_by_role("button", name="Open it").click()
        await expect(page.get_by_text("lies after the start")).to_be_visible()
        await page.get_by_label("Day after the last").fill((today + timedelta(days=2)).isoformat())
        await page.get_by_role("button", name="Open it").click()
        await page.get_by_role("link", name=name).click()
        await expect(page.get_by_role("row").nth(1)).to_contain_text("1")
        await page.get_by_role("button", name="Close it").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("for ever")
        await check(page, "season-closing")
        await dialog.get_by_role("button", name="Close it").click()
        await expect(page.get_by_text("frozen since")).to_be_visible()
        await check(page, "season-closed")
        before = await page.locator("table").inner_text()
        eye.site.publish(replied(f"{helped}-4", fresh("r"), f"{helped}-m0"))
        eventually(lambda: points(eye.site, helped, f"{helped}-m0"), lambda found: found == 3 * 4 + 10 + 1)
        await page.reload()
        assert await page.locator("table").inner_text() == before
