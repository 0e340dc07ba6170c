"""The notifier's pages, looked at and used in a real browser; its mails too, in light and dark, narrow and wide."""

import json
import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.eye import THEMES, Eye
from tests.e2e.site import Site, event, eventually, fresh
from tests.e2e.streams import write_raw

HOSTILE = 'Ada <b>Lovelace</b>"><script>alert(1)</script>'


@pytest.fixture(scope="module")
async def told(site: Site) -> str:
    """A member who was told something; returns their id."""
    member = fresh("told")
    data = {"member_id": member, "status": "active", "name": HOSTILE, "email": f"{member}@mail.example"}
    site.publish(event("member-registered", data))
    for n, (type_, stream, more) in enumerate(
        (
            ("quiz-passed", "applications.events", {"application_id": "a"}),
            (
                "application-decided",
                "applications.events",
                {"application_id": "a", "outcome": HOSTILE, "reason": HOSTILE},
            ),
            ("milestone-reached", "leaderboard.events", {"board": "everyone", "kind": "first-place"}),
            ("perk-granted", "applications.events", {"grant_id": fresh("g"), "perk": HOSTILE}),
        )
    ):
        made = event(type_, {"member_id": member, **more}) | {"sequence": n + 1}
        await write_raw(site, (stream, member, json.dumps(made).encode()))

    def mails() -> int:
        answer = site.client.get("/notifier/api/mails", headers=site.staff, params={"member": member})
        return len(answer.json()["items"])

    eventually(mails, lambda count: count == 4)
    return member


@pytest.mark.parametrize(
    ("name", "path", "staff"),
    [
        ("inbox", "/notifier/", False),
        ("inbox-unread", "/notifier/?unread=true", False),
        ("preferences", "/notifier/preferences", False),
        ("preferences-staff", "/notifier/preferences", True),
        ("desk", "/notifier/desk?member={member}", True),
        ("desk-nothing", "/notifier/desk?member=nobody-at-all", True),
        ("suppressions", "/notifier/desk/suppressions", True),
        ("mailbox", "/notifier/mailbox?member={member}", True),
        ("letters", "/notifier/letters?what=answer-needed&language=sv", True),
        ("unsubscribe", "/notifier/unsubscribe/x.y.z", False),
    ],
)
async def test_a_page_is_sound_in_light_and_dark_narrow_and_wide(
    eye: Eye, told: str, name: str, path: str, staff: bool
) -> None:
    roles = ["staff"] if staff else ["member"]
    await eye.look(path.format(member=told), f"notifier-{name}", roles=roles, member=told)


async def test_a_delivery_and_a_mail_can_be_looked_into(eye: Eye, site: Site, told: str) -> None:
    found = site.client.get("/notifier/api/deliveries", headers=site.staff, params={"member": told, "channel": "email"})
    await eye.look(
        f"/notifier/desk/{found.json()['items'][0]['delivery_id']}", "notifier-delivery", roles=["staff"], member=told
    )
    mails = site.client.get("/notifier/api/mails", headers=site.staff, params={"member": told}).json()["items"]
    mails = [mail for mail in mails if mail["category"] == "perk"]
    await eye.look(f"/notifier/mailbox/{mails[0]['mail_id']}", "notifier-mail", roles=["staff"], member=told)
    async with eye.open(f"/notifier/mailbox/{mails[0]['mail_id']}", roles=["staff"], member=told) as page:
        await expect(page.frame_locator("iframe").locator("h1")).to_contain_text("There is something for you")


async def test_every_letter_is_readable_and_nothing_in_it_runs(browser: Browser, site: Site, told: str) -> None:
    pictures = os.environ.get("STARS_SCREENSHOTS")
    headers = site.bearer("staff", member=told)
    for width in (700, 340):
        for theme in THEMES:
            context = await browser.new_context(
                base_url=site.url,
                viewport={"width": width, "height": 800},
                extra_http_headers=headers,
                color_scheme=theme,
            )
            page = await context.new_page()
            ran: list[str] = []
            page.on("dialog", lambda dialog, ran=ran: ran.append(dialog.message))
            for what in ("answer-needed", "application-decided", "perk-granted", "announcement", "verification"):
                await page.goto(f"/notifier/letters/html?what={what}&language=en")
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (what, width)
                assert await page.locator("script, img").count() == 0
                if pictures:
                    await page.screenshot(path=Path(pictures) / f"letter-{what}-{theme}-{width}.png", full_page=True)
            assert ran == []
            await context.close()


async def test_a_switch_is_saved_at_once_and_can_be_undone(eye: Eye, site: Site, told: str) -> None:
    own = site.bearer("member", member=told)

    def milestone() -> bool:
        answer = site.client.get(f"/notifier/api/members/{told}/preferences", headers=own)
        return bool(answer.json()["channels"]["milestone"]["email"])

    async with eye.open("/notifier/preferences", roles=["member"], member=told) as page:
        switch = page.get_by_label("Your places on the leaderboard: mail")
        await expect(switch).to_be_checked()
        await switch.uncheck()
        await expect(page.locator("#saved")).to_contain_text("Saved.")
        assert not milestone()
        await page.get_by_role("button", name="Undo").click()
        await page.wait_for_url("**/preferences?saved=true")
        await expect(page.get_by_label("Your places on the leaderboard: mail")).to_be_checked()
        assert milestone()
        await page.get_by_role("button", name="A week").click()
        await expect(page.get_by_text("You are away until")).to_be_visible()
        await page.get_by_role("button", name="I am back").click()
        await expect(page.get_by_text("Away for a while?")).to_be_visible()


async def test_the_unread_count_stands_in_the_shell_of_every_page_and_goes_when_all_is_read(
    eye: Eye, told: str
) -> None:
    async with eye.open("/topics/", roles=["member"], member=told) as page:
        await expect(page.locator(".bell .count")).to_have_text("4")
        await page.locator(".bell").click()
        await page.get_by_role("button", name="Mark all as read").click()
        await expect(page.locator(".bell .count")).to_have_count(0)
        await expect(page.get_by_text("You passed the quiz")).to_be_visible()


async def test_staff_send_once_more_from_the_desk(eye: Eye, site: Site, told: str) -> None:
    found = site.client.get(
        "/notifier/api/deliveries", headers=site.staff, params={"member": told, "channel": "email", "state": "accepted"}
    )
    path = f"/notifier/desk/{found.json()['items'][0]['delivery_id']}"
    async with eye.open(path, roles=["staff"], member=told) as page:
        await page.get_by_role("button", name="Send it once more").click()
        await expect(page.locator(".timeline")).to_contain_text("asked again")


@pytest.mark.parametrize("path", ["/notifier/desk", "/notifier/mailbox", "/notifier/letters", "/notifier/desk/1"])
def test_the_desk_is_for_staff(site: Site, told: str, path: str) -> None:
    assert site.client.get(path, headers=site.bearer("member", member=told)).status_code == 403
    assert site.client.get(path).status_code in (303, 401)
