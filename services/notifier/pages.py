"""The pages of the notifier service: the inbox, what I am told, the desk, the local mailbox, letters on real data."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi import Path as InPath
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from services.notifier.api import ChannelWord, Choices, Number, PreferencesIn, State, check
from services.notifier.channels import Ready
from services.notifier.contacts import Contacts
from services.notifier.desk import STATES, Desk
from services.notifier.inbox import SQL as INBOX_SQL
from services.notifier.inbox import Inbox
from services.notifier.letters import CATEGORY_WORDS, WHATS, web_address
from services.notifier.mail import Composer
from services.notifier.preferences import SQL as PREFERENCES_SQL
from services.notifier.preferences import WEEKDAYS, Preferences
from services.notifier.rules import CATEGORIES, CHANNELS, CHOOSABLE, Recipient, is_zone
from services.notifier.signing import Signing
from services.notifier.words import LANGUAGES, language_of
from shared.runtime import Runtime
from shared.web import Cursor, Pages, Principal, Problem, Role, signed_in
from shared.web.parameters import Word

PAGE, LATELY = 50, 30
HERE = Path(__file__).parent
Mine = Annotated[Principal, Depends(signed_in())]
Staff = Annotated[Principal, Depends(signed_in(Role.STAFF))]

# A mail is somebody else's HTML: shown in a frame that may do nothing at all, and by nobody but our own pages.
FRAMED = {
    "Content-Security-Policy": "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none';"
    " style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "Cache-Control": "private, no-store",
}


def router(
    runtime: Runtime,
    preferences: Preferences,
    contacts: Contacts,
    inbox: Inbox,
    desk: Desk,
    signing: Signing,
    composer: Callable[[], Awaitable[Composer]],
) -> APIRouter:
    """The routes of pages under ``/notifier``."""
    routes = APIRouter(include_in_schema=False)
    pages = Pages(HERE / "templates")

    async def member_of(principal: Principal) -> str:
        if principal.member_id is None:
            raise Problem(403, "The token names no member.")
        async with runtime.pool.acquire() as connection:
            return await preferences.member(connection, principal.member_id)

    # --- inbox --------------------------------------------------------------------------------------------------

    @routes.get("/")
    async def inbox_page(
        request: Request, principal: Mine, unread: Annotated[bool, Query()] = False, cursor: Cursor = None
    ) -> Response:
        """What is new for me?"""
        member = await member_of(principal)
        found = await inbox.page(member, PAGE, cursor, unread=unread)
        days = [(day, list(items)) for day, items in groupby(found["items"], key=lambda item: item["at"].date())]
        return pages.render(
            request, "inbox.html", section="inbox", days=days, found=found, unread=unread, first=cursor is None
        )

    @routes.get("/open/{notification_id}")
    async def open_line(notification_id: Number, principal: Mine) -> Response:
        """Go where a line of my inbox leads; it is read then."""
        member = await member_of(principal)
        found = await inbox.line(member, notification_id)
        if found is None:
            raise Problem(404, "There is nothing of that kind in your inbox.")
        await inbox.mark(member, [notification_id], read=True)
        return RedirectResponse(web_address(found["url"]) or "/notifier/", 303)

    @routes.post("/marks")
    async def mark(principal: Mine, notification_id: Annotated[int | None, Form(ge=1, lt=2**63)] = None) -> Response:
        """Mark one as read, or all."""
        member = await member_of(principal)
        await inbox.mark(member, None if notification_id is None else [notification_id], read=True)
        return RedirectResponse("/notifier/", 303)

    @routes.get("/bell")
    async def bell(request: Request, principal: Mine) -> Response:
        """How many are unread, for the shell of every page."""
        return pages.render(request, "bell.html", unread=await inbox.unread(await member_of(principal)))

    # --- preferences --------------------------------------------------------------------------------------------

    async def shown(request: Request, member: str, staff: bool, **more: Any) -> Response:
        found = await preferences.read(member)
        names = choosable(staff)
        return pages.render(
            request,
            "preferences.html",
            section="preferences",
            found=found,
            contact=await contacts.read(member),
            names=names,
            words={name: CATEGORY_WORDS[name](str) for name in names},
            channels=CHANNELS,
            weekdays=WEEKDAYS,
            languages=LANGUAGES,
            language=language_of(found["locale"]),
            zones=sorted(available_timezones() | {found["time_zone"]}),
            push_key=(await signing.vapid()).public,
            **{"saved": False, "undo": None, "wrong": {}} | more,
        )

    @routes.get("/preferences")
    async def preferences_page(request: Request, principal: Mine, saved: Annotated[bool, Query()] = False) -> Response:
        """What will I be told, where and when?"""
        member = await member_of(principal)
        return await shown(request, member, principal.has(Role.STAFF), saved=saved)

    @routes.post("/preferences")
    async def save(request: Request, principal: Mine) -> Response:
        """Save at once what was changed, and offer to undo it."""
        member = await member_of(principal)
        before = await preferences.read(member)
        form = await request.form(max_fields=500)
        said = {name: str(value) for name, value in form.multi_items()}
        changes, wrong = read_form(said, before, principal.has(Role.STAFF))
        if wrong and "hx-request" in request.headers:
            return pages.render(request, "saved.html", wrong=wrong)
        if wrong:
            return await shown(request, member, principal.has(Role.STAFF), wrong=wrong)
        stored = await runtime.pool.fetchrow(PREFERENCES_SQL.lock, member)
        undo = json.dumps(_before(changes, before, stored), ensure_ascii=False)
        await preferences.change(member, changes, staff=principal.has(Role.STAFF))
        if "hx-request" in request.headers:
            return pages.render(request, "saved.html", undo=undo, wrong={})
        return await shown(request, member, principal.has(Role.STAFF), saved=True, undo=undo)

    @routes.post("/preferences/undo")
    async def undo(principal: Mine, before: Annotated[str, Form(max_length=200_000)]) -> Response:
        """Take a change back."""
        member = await member_of(principal)
        try:
            changes = Before.model_validate_json(before).model_dump(exclude_unset=True)
        except ValueError:
            raise Problem(400, "That cannot be undone any more.") from None
        channels = changes.pop("channels", {})
        check(changes, principal)
        await preferences.change(member, changes)
        # By themselves, and last: whoever chooses when digests come takes back that they declined them.
        names = {*choosable(principal.has(Role.STAFF)), "digest"}
        await preferences.change(member, {"channels": {name: channels[name] for name in channels if name in names}})
        return RedirectResponse("/notifier/preferences?saved=true", 303)

    @routes.post("/preferences/pause")
    async def pause(principal: Mine, days: Annotated[int, Form(ge=0, le=366)]) -> Response:
        """Be away for some days; none: be back."""
        until = datetime.now(UTC) + timedelta(days=days) if days else None
        await preferences.change(await member_of(principal), {"paused_until": until})
        return RedirectResponse("/notifier/preferences?saved=true", 303)

    @routes.post("/preferences/contact")
    async def contact(request: Request, principal: Mine, email: Annotated[str, Form(max_length=320)] = "") -> Response:
        """Ask for another address."""
        member = await member_of(principal)
        try:
            await contacts.ask(member, email.strip() or None)
        except Problem as problem:
            return await shown(request, member, principal.has(Role.STAFF), wrong={"email": problem.detail})
        return RedirectResponse("/notifier/preferences?saved=true", 303)

    @routes.get("/preferences/last-week")
    async def last_week(request: Request, principal: Mine) -> Response:
        """What would I have got last week, as I want it now?"""
        member = await member_of(principal)
        return pages.render(request, "last_week.html", rows=await inbox.lately(member, LATELY))

    @routes.get("/push.js")
    async def push_script() -> Response:
        """What subscribes this browser."""
        return FileResponse(
            HERE / "static" / "push.js", media_type="text/javascript", headers={"Cache-Control": "no-cache"}
        )

    @routes.get("/service-worker.js")
    async def service_worker() -> Response:
        """What shows a push when no page is open. Served here, so that it has a say under this prefix alone."""
        return _script("service-worker.js")

    # --- desk ---------------------------------------------------------------------------------------------------

    @routes.get("/desk")
    async def desk_page(
        request: Request,
        _: Staff,
        member: Word = None,
        topic: Word = None,
        state: State = None,
        channel: ChannelWord = None,
        cursor: Cursor = None,
    ) -> Response:
        """Did they get it, and if not, why?"""
        found = await desk.deliveries(
            member=member, topic=topic, state=state, channel=channel, limit=PAGE, cursor=cursor
        )
        return pages.render(
            request,
            "desk.html",
            section="deliveries",
            found=found,
            providers=await desk.providers(),
            waiting=await desk.waiting(),
            states=STATES,
            channels=CHANNELS,
            chosen={"member": member, "topic": topic, "state": state, "channel": channel},
        )

    @routes.get("/desk/suppressions")
    async def suppressions_page(request: Request, _: Staff, cursor: Cursor = None) -> Response:
        """Where is nothing sent any more?"""
        found = await desk.suppressions(PAGE, cursor)
        return pages.render(request, "suppressions.html", section="deliveries", found=found)

    @routes.post("/desk/suppressions/{suppression_id}/lift")
    async def lift(suppression_id: Number, _: Staff) -> Response:
        """Send there again."""
        await desk.lift(suppression_id)
        return RedirectResponse("/notifier/desk/suppressions", 303)

    @routes.get("/desk/{delivery_id}")
    async def delivery_page(request: Request, delivery_id: Number, _: Staff) -> Response:
        """A delivery's whole life."""
        return pages.render(request, "delivery.html", section="deliveries", one=await desk.delivery(delivery_id))

    @routes.post("/desk/{delivery_id}/{what}")
    async def act(
        delivery_id: Number, what: Annotated[str, InPath(pattern="^(resend|cancel)$")], principal: Staff
    ) -> Response:
        """Send once more, or do not send."""
        by = principal.member_id or "staff"
        await (desk.resend(delivery_id, by) if what == "resend" else desk.cancel(delivery_id, by))
        return RedirectResponse(f"/notifier/desk/{delivery_id}", 303)

    # --- mailbox and letters ------------------------------------------------------------------------------------

    @routes.get("/mailbox")
    async def mailbox_page(request: Request, _: Staff, member: Word = None, cursor: Cursor = None) -> Response:
        """Every mail that would have gone out."""
        found = await desk.mails(member, PAGE, cursor)
        return pages.render(request, "mailbox.html", section="mailbox", found=found, member=member)

    @routes.get("/mailbox/{mail_id}")
    async def mail_page(request: Request, mail_id: Number, _: Staff) -> Response:
        """One mail: as HTML, as text, as its source."""
        mail = await desk.mail(mail_id)
        source = mail["raw"].decode("ascii", "replace")
        return pages.render(
            request, "mail.html", section="mailbox", mail=mail, text=_part(mail["raw"], "plain"), source=source
        )

    @routes.get("/mailbox/{mail_id}/html")
    async def mail_html(mail_id: Number, _: Staff) -> Response:
        """The HTML part alone, for the frame."""
        return HTMLResponse(_part((await desk.mail(mail_id))["raw"], "html"), headers=FRAMED)

    async def letter(what: str, language: str) -> tuple[Ready, bool]:
        row = await runtime.pool.fetchrow(INBOX_SQL.latest_of_kind, what)
        now = datetime.now(UTC)
        category = next((name for name in CATEGORIES if name == what), None) or _category_of(what)
        data = _SAMPLE | (json.loads(row["data"]) if row else {})
        if row and row["title"]:
            data |= {"title": row["title"], "url": row["url"]}
        recipient = Recipient("somebody", ZoneInfo("UTC"), language, "Somebody", email="somebody@mail.example")
        ready = Ready(
            delivery_id=1,
            fence=0,
            notification_id=1,
            member_id="somebody",
            channel="email",
            target=0,
            category=CATEGORIES[category],
            what=what,
            data=data,
            at=now,
            topic_id=(row["topic_id"] if row else "topic")
            if category in ("answer-needed", "claimed", "breach")
            else None,
            actor_id=None,
            actor_name=(row["actor_name"] if row else None) or "Ada Lovelace",
            recipient=recipient,
            attempts=0,
            expires_at=now,
            made_at=now,
            traceparent=None,
            address="somebody@mail.example",
        )
        return ready, row is not None

    @routes.get("/letters")
    async def letters_page(request: Request, _: Staff, what: Word = None, language: Word = None) -> Response:
        """How is each kind of news written, in each language, on the latest real data?"""
        what, language = what if what in WHATS else WHATS[0], language if language in LANGUAGES else LANGUAGES[0]
        ready, real = await letter(what, language)
        mail = (await composer()).mail(ready)
        return pages.render(
            request,
            "letters.html",
            section="letters",
            whats=WHATS,
            languages=[(one, one) for one in LANGUAGES],
            what=what,
            language=language,
            real=real,
            subject=mail.subject,
            text=_part(mail.raw, "plain"),
        )

    @routes.get("/letters/html")
    async def letters_html(_: Staff, what: Word = None, language: Word = None) -> Response:
        """A letter's HTML alone, for the frame."""
        ready, _real = await letter(what if what in WHATS else WHATS[0], language or LANGUAGES[0])
        return HTMLResponse(_part((await composer()).mail(ready).raw, "html"), headers=FRAMED)

    return routes


_SAMPLE: dict[str, Any] = {
    "title": "How do I move my playlists to another account?",
    "url": "https://forum.example/t/4711",
    "space": "help",
    "stage": "new",
    "due_at": "2026-11-26T10:00:00+00:00",
    "until": "2026-11-24T14:00:00+00:00",
    "answer_by": "2026-12-01T12:00:00+00:00",
    "board": "everyone",
    "kind": "entered-top-10",
    "rank": 3,
    "points": 1234,
    "solutions": 17,
    "outcome": "accepted",
    "perk": "A year of Premium",
    "text": "Two paragraphs.\n\nThis is the second.",
    "week": "2026-W47",
    "met": 912,
    "missed": 88,
    "email": "somebody@mail.example",
}


def _category_of(what: str) -> str:
    prefixes = {
        "application": "application",
        "quiz": "application",
        "star": "appointment",
        "perk": "perk",
        "jam": "jam",
    }
    return prefixes.get(what.split("-")[0], "announcement")


def _script(name: str) -> Response:
    return FileResponse(HERE / "static" / name, media_type="text/javascript", headers={"Cache-Control": "no-cache"})


def _part(raw: bytes, kind: str) -> str:
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body((kind,))
    return "" if body is None else str(body.get_content())


class Before(PreferencesIn):
    """What a change was made from, to go back to. A browser keeps it: nothing in it is more than a member may say."""

    channels: dict[str, Choices] = {}


def choosable(staff: bool) -> list[str]:
    """The categories that a member finds on their page."""
    return [name for name in CHOOSABLE if staff or not CATEGORIES[name].staff]


def _names(text: str) -> list[str]:
    """Names in a field, one a line: they may have commas in them."""
    return [name for name in dict.fromkeys(line.strip() for line in text.split("\n")) if name]


def read_form(said: dict[str, str], shown: dict[str, Any], staff: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """What the form of preferences says, as ``Preferences.change`` takes it; and what is wrong with it, by field.

    A page may show less than is known (``sv`` for ``sv-SE``, UTC for a zone that is none), or what the member never
    chose: a language, zone or list that says what the page had shown is left as it is. ``shown``: what it was made of.
    """
    wrong: dict[str, str] = {}
    changes: dict[str, Any] = {
        "channels": {
            name: {channel: f"on:{name}:{channel}" in said for channel in CHANNELS} for name in choosable(staff)
        }
    }
    start, end = said.get("quiet_start", ""), said.get("quiet_end", "")
    changes["quiet_hours"] = {"start": start[:5], "end": end[:5]} if start and end and "quiet" in said else None
    for name, text in (("quiet_start", start), ("quiet_end", end), ("digest_at", said.get("digest_at", ""))):
        if text and not _is_time(text):
            wrong[name] = "A time looks like 22:00."
    zone = said.get("time_zone", "")
    if zone and not is_zone(zone):
        wrong["time_zone"] = "There is no such time zone."
    elif zone and zone != shown["time_zone"]:
        changes["time_zone"] = zone
    language = said.get("locale", "")
    if language in LANGUAGES and language != language_of(shown["locale"]):
        changes["locale"] = language
    budget = said.get("daily_budget", "").strip()
    if budget and not (budget.isdecimal() and len(budget) < 5 and int(budget) <= 1000):
        wrong["daily_budget"] = "A number up to 1000, or nothing for as many as there are."
    else:
        changes["daily_budget"] = int(budget) if budget else None
    every, day = said.get("digest", "off"), said.get("digest_day", "monday")
    changes["digest"] = {
        "every": every if every in ("off", "daily", "weekly") else "off",
        "day": day if day in WEEKDAYS else "monday",
        **({"at": said["digest_at"][:5]} if said.get("digest_at") and "digest_at" not in wrong else {}),
    }
    for key, most in _LISTS.items():
        muted: list[str] = []
        # What is both followed and muted is muted.
        for name in ("mute", "follow"):
            field, was = f"{name}_{key}", _names("\n".join(shown[name][key]))
            names = _names(said[field])[:most] if field in said else was
            names = [one for one in names if one not in muted]
            muted = names
            if names == was:
                continue
            if any(len(one) > 100 for one in names):
                wrong[field] = "That is too long for a name."
            if key == "languages" and any(not one.replace("-", "").isalnum() or not one.isascii() for one in names):
                wrong[field] = "Languages are codes, like en or pt-BR, one a line."
            changes.setdefault(name, {})[key] = names
    return changes, wrong


_LISTS = {"spaces": 100, "tags": 100, "languages": 50}
"""Of what is followed and muted what the form has, and how many names of each at most."""


def _is_time(text: str) -> bool:
    try:
        datetime.strptime(text[:5], "%H:%M").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def _before(changes: dict[str, Any], shown: dict[str, Any], stored: Any) -> dict[str, Any]:
    """What CHANGES replace, as ``Before``. What the member had never chosen is null: it was the forum's, or a default.
    ``stored``: the row of their preferences, None where there was none."""
    chosen = json.loads(stored["channels"]) if stored else {}
    channels = {
        name: {one: chosen.get(name, {}).get(one) for one in ones} for name, ones in changes["channels"].items()
    }
    quiet, digest = shown["quiet_hours"], shown["digest"]
    own = {
        "locale": stored and stored["locale"],
        "time_zone": stored and stored["time_zone"],
        "channels": channels | ({"digest": chosen["digest"]} if "digest" in chosen else {}),
        "quiet_hours": quiet and {"start": quiet["start"], "end": quiet["end"]},
        "daily_budget": shown["daily_budget"],
        "digest": {name: digest[name] for name in changes["digest"]},
    }
    lists = {name: {key: shown[name][key] for key in changes.get(name, {})} for name in ("follow", "mute")}
    return {name: value for name, value in (own | lists).items() if name in changes}
