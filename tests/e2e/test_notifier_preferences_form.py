"""The page of preferences changes what a member changed on it and no more, and says whether this browser is told."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.async_api import BrowserContext, Page, expect

from services.notifier.channels.push import raw_public_key, unpadded
from tests.e2e.eye import Eye
from tests.e2e.site import Json, Site, event, eventually, fresh

COMMAS = "Music, Podcasts & Audiobooks"
SWITCH = "Your places on the leaderboard: mail"


class Member:
    """A member whom the forum told us of."""

    def __init__(self, site: Site, **known: Any) -> None:
        self.site, self.id = site, fresh("chooser")
        self.own = site.bearer("member", member=self.id)
        data = {"member_id": self.id, "status": "active", "name": "Ada", "email": f"{self.id}@mail.example", **known}
        site.publish(event("member-registered", data))
        if "locale" in known:
            eventually(lambda: self.preferences()["locale"], lambda found: found == known["locale"])

    def preferences(self) -> Json:
        """Theirs, as they are now."""
        found: Json = self.site.client.get(self.path("preferences"), headers=self.own).json()
        return found

    def choose(self, **what: Any) -> Json:
        """Change them by the interface."""
        answer = self.site.client.put(self.path("preferences"), headers=self.own, json=what)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def path(self, what: str) -> str:
        """Where the interface has something of theirs."""
        return f"/notifier/api/members/{self.id}/{what}"

    def moves(self, **known: Any) -> None:
        """The forum says that they speak or live elsewhere: whoever chose nothing themselves goes with it."""
        self.site.publish(event("member-updated", {"member_id": self.id, "status": "active", **known}))
        eventually(lambda: {name: self.preferences()[name] for name in known}, lambda found: found == known)


@asynccontextmanager
async def saving(page: Page) -> AsyncIterator[None]:
    """Something on the page is changed, and saved at once."""
    async with page.expect_response(
        lambda answer: answer.request.method == "POST" and answer.url.endswith("/notifier/preferences")
    ):
        yield
    await expect(page.get_by_role("button", name="Undo")).to_be_visible()


async def write(page: Page, field: str, text: str) -> None:
    """Fill a field in and leave it."""
    async with saving(page):
        await page.locator(field).fill(text)
        await page.locator(field).blur()


async def undo(page: Page) -> None:
    """Take the change back."""
    await page.get_by_role("button", name="Undo").click()
    await page.wait_for_url("**/preferences?saved=true")


@pytest.mark.parametrize(("locale", "shown"), [("sv-SE", "sv"), ("es-MX", "es"), ("pt-PT", "pt-BR"), ("fi", "en")])
async def test_a_switch_changes_neither_the_language_nor_the_time_zone(
    eye: Eye, site: Site, locale: str, shown: str
) -> None:
    member = Member(site, locale=locale, time_zone="Mars/Olympus")
    before = member.preferences()
    async with eye.open("/notifier/preferences", roles=["member"], member=member.id) as page:
        await expect(page.get_by_label("Language of mails")).to_have_value(shown)
        await expect(page.get_by_label("Time zone")).to_have_value("UTC")
        async with saving(page):
            await page.get_by_label(SWITCH).uncheck()
        after = member.preferences()
        assert not after["channels"]["milestone"]["email"]
        assert after | {"channels": None} == before | {"channels": None}
        await undo(page)
    assert member.preferences() == before
    member.moves(locale="es", time_zone="Europe/Stockholm")


async def test_a_language_and_a_time_zone_are_stored_where_they_are_chosen_and_undo_restores_that_none_was(
    eye: Eye, site: Site
) -> None:
    member = Member(site, locale="sv-SE", time_zone="Europe/Stockholm")
    before = member.preferences()
    async with eye.open("/notifier/preferences", roles=["member"], member=member.id) as page:
        async with saving(page):
            await page.get_by_label("Language of mails").select_option("es")
        assert member.preferences()["locale"] == "es"
        await undo(page)
        assert member.preferences() == before
        async with saving(page):
            await page.get_by_label("Time zone").select_option("America/Lima")
        assert member.preferences()["time_zone"] == "America/Lima"
        await undo(page)
    assert member.preferences() == before
    member.moves(locale="pt-PT", time_zone="Europe/Lisbon")


async def test_undo_restores_what_was_stored_even_where_the_form_could_not_say_it(eye: Eye, site: Site) -> None:
    member = Member(site)
    before = member.choose(
        locale="pt-PT",
        follow={"spaces": [COMMAS, " help "], "languages": ["pt_PT"]},
        mute={"tags": ["a, b"], "topics": ["t1"]},
        quiet_hours={"start": "21:15", "end": "06:45", "time_zone": "Europe/Lisbon"},
        digest={"every": "weekly", "at": "08:30", "day": "friday"},
        channels={"milestone": {"email": False}, "claimed": {"email": True}},
        daily_budget=None,
    )
    async with eye.open("/notifier/preferences", roles=["member"], member=member.id) as page:
        for label, value in (("Language of mails", "sv"), ("Mails together", "daily"), ("Time zone", "UTC")):
            async with saving(page):
                await page.get_by_label(label).select_option(value)
            await undo(page)
            assert member.preferences() == before, label
        for field, value in (("daily_budget", "7"), ("quiet_start", "20:00"), ("follow_spaces", "lounge")):
            await write(page, f"[name={field}]", value)
            assert member.preferences() != before
            await undo(page)
            assert member.preferences() == before, field


async def test_names_with_commas_in_them_stay_one_name_each(eye: Eye, site: Site) -> None:
    member = Member(site)
    member.choose(follow={"spaces": [COMMAS, "Devices"]}, mute={"tags": ["a, b"]})
    async with eye.open("/notifier/preferences", roles=["member"], member=member.id) as page:
        await expect(page.locator("#follow-spaces")).to_have_value(f"Devices\n{COMMAS}")
        async with saving(page):
            await page.get_by_label(SWITCH).uncheck()
        await write(page, "#follow-spaces", f"{COMMAS}\n\n  Help, now \n{COMMAS}")
        await write(page, "#follow-tags", "a, b\nc")
    found = member.preferences()
    assert found["follow"]["spaces"] == ["Help, now", COMMAS]
    assert found["follow"]["tags"] == ["c"], "what is both followed and muted is muted"
    assert found["mute"]["tags"] == ["a, b"]
    spaces = [COMMAS, "W" * 100, *(f"space {n}" for n in range(20))]
    member.choose(follow={"spaces": spaces, "languages": ["en", "sv", "pt-BR"]})
    await eye.look("/notifier/preferences", "notifier-preferences-lists", roles=["member"], member=member.id)


async def test_whatever_says_that_it_undoes_does_no_more_than_the_member_may(site: Site) -> None:
    member = Member(site)
    before = member.preferences()

    def said(what: Any) -> int:
        data = {"before": what if isinstance(what, str) else json.dumps(what)}
        return site.client.post("/notifier/preferences/undo", headers=member.own, data=data).status_code

    fax = {"channels": {"milestone": {"fax": True}}}
    for nonsense in ("", "null", "[]", fax, {"locale": 1}, {"time_zone": "Mars"}, {"follow": {"spaces": [""]}}):
        assert said(nonsense) == 400, nonsense
    choices = {"email": True, "push": True, "inbox": True}
    assert said({"channels": {"breach": choices, "verification": choices, "nothing": choices}}) == 303
    assert said({"digest": None, "follow": None, "mute": None}) == 303
    assert member.preferences() == before


# --- This browser ---------------------------------------------------------------------------------------------------

PUSHED = """
const held = () => JSON.parse(localStorage.getItem("held") || "null");
const subscription = () => held() && { endpoint: held().endpoint, toJSON: held,
  unsubscribe: async () => localStorage.removeItem("held") };
const pushManager = {
  getSubscription: async () => subscription(),
  subscribe: async () => {
    if (!held()) localStorage.setItem("held", JSON.stringify({ endpoint: `ENDPOINT${Math.random()}`, keys: KEYS }));
    return subscription();
  },
};
const serviceWorker = { register: async () => ({ pushManager }), ready: Promise.resolve() };
Object.defineProperty(navigator, "serviceWorker", { value: serviceWorker });
window.PushManager ??= class {};
"""
"""A browser that can be pushed to, but for the push service that Chromium does not reach from here."""


async def able(context: BrowserContext) -> None:
    """Make a browser one that can be pushed to."""
    public = unpadded(raw_public_key(ec.generate_private_key(ec.SECP256R1())))
    keys = json.dumps({"p256dh": public, "auth": unpadded(b"a" * 16)})
    endpoint = f"https://fcm.googleapis.com/fcm/send/{fresh('e')}"
    await context.add_init_script(PUSHED.replace("KEYS", keys).replace("ENDPOINT", endpoint))


async def test_a_browser_is_told_only_where_we_know_it_as_this_member_s(eye: Eye, site: Site) -> None:
    member, other = Member(site), Member(site)

    def told() -> list[str]:
        answer = site.client.get(member.path("push-subscriptions"), headers=member.own)
        return [one["endpoint"] for one in answer.json()]

    async with eye.open("/notifier/preferences", roles=["member"], member=member.id, prepare=able) as page:
        state, button = page.locator("#push [data-state]"), page.locator("#push button")
        await expect(state).to_have_text("This browser is not told.")
        await button.click()
        await expect(state).to_have_text("This browser is told.")
        [first] = told()
        await page.reload()
        await expect(state).to_have_text("This browser is told.")

        # Its push service said that it is gone, or the next one at this browser was told there.
        site.client.request(
            "DELETE", member.path("push-subscriptions"), headers=member.own, json={"endpoint": first}
        ).raise_for_status()
        await page.reload()
        await expect(state).to_have_text("This browser is not told.")
        await expect(button).to_have_text("Tell this browser too")
        await button.click()
        await expect(state).to_have_text("This browser is told.")
        [second] = told()
        assert second != first, "the old one may be dead"

        await page.context.set_extra_http_headers(other.own)
        await page.reload()
        await expect(state).to_have_text("This browser is not told.")
        await page.context.set_extra_http_headers(member.own)
        await page.reload()
        await button.click()
        await expect(state).to_have_text("This browser is not told.")
        assert told() == []


async def test_what_cannot_be_is_said_on_the_page_and_nothing_is_changed(eye: Eye, site: Site) -> None:
    member = Member(site)
    before = member.preferences()
    async with eye.open("/notifier/preferences", roles=["member"], member=member.id) as page:
        await page.locator("[name=follow_languages]").fill("not a code!")
        await page.locator("[name=follow_languages]").blur()
        await expect(page.locator("#saved")).to_contain_text("Nothing was changed. Languages are codes")
        await expect(page.locator("h1")).to_have_count(1)
    assert member.preferences() == before
