"""The JSON interface of the notifier service."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StringConstraints
from starlette.responses import Response

from services.notifier import bounces
from services.notifier.channels.push import SQL as PUSH_SQL
from services.notifier.channels.push import Guard, Unwelcome
from services.notifier.contacts import Contacts
from services.notifier.desk import Desk
from services.notifier.inbox import Inbox
from services.notifier.preferences import Preferences
from services.notifier.rules import CATEGORIES, CHOOSABLE, is_zone
from services.notifier.signing import Signing
from shared.contracts.notifier import LocalTime
from shared.contracts.types import NO_NUL, Email, Id, Instant, Label, Language
from shared.forum.facts import SQL as FACTS_SQL
from shared.runtime import Runtime
from shared.web import Cursor, Limit, Principal, Problem, Role, require
from shared.web.parameters import BLANK_IS_ABSENT, Word

MOST_SUBSCRIPTIONS = 20


def _zone(value: str) -> str:
    if not is_zone(value):
        raise ValueError('a time zone is an IANA name, like "Europe/Stockholm"')
    return value


def _choosable(value: str) -> str:
    if value not in CHOOSABLE:
        raise ValueError(f"categories are {', '.join(CHOOSABLE)}")
    return value


def _base64url(value: str) -> str:
    try:
        base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (ValueError, binascii.Error):
        raise ValueError("not base64url") from None
    return value


State = Annotated[
    Literal["pending", "leased", "sending", "accepted", "retry", "unknown", "bounced", "suppressed", "skipped", "dead"]
    | None,
    BLANK_IS_ABSENT,
    Query(),
]
ChannelWord = Annotated[Literal["email", "push", "inbox"] | None, BLANK_IS_ABSENT, Query()]
Yes = Annotated[bool | None, BLANK_IS_ABSENT, Query()]
Zone = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL), AfterValidator(_zone)]
CategoryName = Annotated[str, StringConstraints(max_length=50), AfterValidator(_choosable)]
Number = Annotated[int, Field(ge=1, le=2**63 - 1)]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Choices(_Said):
    """Channels of a category; what is absent stays as it is."""

    email: StrictBool | None = None
    push: StrictBool | None = None
    inbox: StrictBool | None = None


class Interests(_Said):
    """What is followed, or muted; a list that is absent stays as it is."""

    spaces: Annotated[list[Label], Field(max_length=100)] | None = None
    tags: Annotated[list[Label], Field(max_length=100)] | None = None
    languages: Annotated[list[Language], Field(max_length=50)] | None = None
    topics: Annotated[list[Id], Field(max_length=1000)] | None = None


class QuietIn(_Said):
    """A half-open window of local time that may span midnight; ``time_zone``, where it is given, is the member's."""

    start: LocalTime
    end: LocalTime
    time_zone: Zone | None = None


class DigestIn(_Said):
    """Whether mails come together, and when; what is absent stays as it is."""

    every: Literal["off", "daily", "weekly"] | None = None
    at: LocalTime | None = None
    day: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] | None = None


class PreferencesIn(_Said):
    """What is to change; what is absent stays as it is."""

    locale: Language | None = None
    time_zone: Zone | None = None
    channels: dict[CategoryName, Choices] = {}
    follow: Interests | None = None
    mute: Interests | None = None
    quiet_hours: QuietIn | None = None
    daily_budget: Annotated[int, Field(ge=0, le=1000, strict=True)] | None = Field(None, description="null: no limit")
    digest: DigestIn | None = None
    paused_until: Instant | None = None


class Lists(BaseModel):
    """Spaces, tags, languages and topics."""

    spaces: list[str]
    tags: list[str]
    languages: list[str]
    topics: list[str]


class Quiet(BaseModel):
    """Quiet hours, in the member's zone."""

    start: str
    end: str
    time_zone: str


class Digest(BaseModel):
    """Whether mails come together, and when."""

    every: Literal["off", "daily", "weekly"]
    at: str
    day: str


class PreferencesOut(BaseModel):
    """What a member wants to be told, where and when; with the defaults where they chose nothing."""

    member_id: str
    locale: str | None
    time_zone: str
    channels: dict[str, dict[str, bool]]
    follow: Lists
    mute: Lists
    quiet_hours: Quiet | None
    daily_budget: int | None
    digest: Digest
    paused_until: Instant | None
    quiet_now_until: Instant | None = Field(
        description="when the quiet hours are over that it is now; null outside them"
    )


class ContactIn(_Said):
    """The address to use; null takes the member's own away, and the forum's is used again."""

    email: Email | None


class ContactOut(BaseModel):
    """Where mail goes."""

    member_id: str
    email: str | None
    source: Literal["own", "forum"] | None
    verified: bool
    pending_email: str | None = Field(description="waits for the link in the mail that was sent there")
    suppressed: str | None = Field(description="why nothing is sent to it")


class PushKeys(BaseModel):
    """The browser's keys, base64url."""

    model_config = ConfigDict(extra="ignore")

    p256dh: Annotated[str, StringConstraints(min_length=80, max_length=100), AfterValidator(_base64url)]
    auth: Annotated[str, StringConstraints(min_length=16, max_length=64), AfterValidator(_base64url)]


class PushSubscriptionIn(BaseModel):
    """What the browser's ``PushSubscription.toJSON()`` says."""

    model_config = ConfigDict(extra="ignore")

    endpoint: Annotated[str, StringConstraints(min_length=10, max_length=2048, pattern=NO_NUL)]
    keys: PushKeys


class EndpointIn(BaseModel):
    """Which subscription."""

    model_config = ConfigDict(extra="ignore")

    endpoint: Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=NO_NUL)]


class PushSubscriptionOut(BaseModel):
    """A browser that is told."""

    subscription_id: str
    endpoint: str
    made_at: Instant


class PushKey(BaseModel):
    """The ``applicationServerKey``."""

    public_key: str


class InboxItem(BaseModel):
    """One line of an inbox."""

    notification_id: str
    category: str
    title: str
    text: str
    url: str | None
    why: str
    topic_id: str | None
    at: Instant
    read_at: Instant | None


class InboxPage(BaseModel):
    """A page of an inbox; ``unread`` counts up to 100."""

    items: list[InboxItem]
    unread: int
    next: str | None


class MarkIn(_Said):
    """Which to mark; absent: all. ``read`` false marks as unread."""

    notification_ids: (
        Annotated[list[Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,17}$")]], Field(max_length=500)] | None
    ) = None
    read: StrictBool = True


class Unread(BaseModel):
    """How many are unread, up to 100."""

    unread: int


class HistoryEntry(BaseModel):
    """Something that happened to a delivery."""

    at: Instant
    state: str
    reason: str | None
    detail: str | None
    provider: str | None
    until: Instant | None


class DeliveryOut(BaseModel):
    """The way of a notification over a channel, with its history."""

    delivery_id: str
    notification_id: str
    member_id: str
    channel: str
    category: str
    what: str
    topic_id: str | None
    state: str
    reason: str | None
    address: str | None
    provider: str | None
    attempts: int
    made_at: Instant
    due_at: Instant | None
    expires_at: Instant
    history: list[HistoryEntry]


class DeliveryPage(BaseModel):
    """A page of deliveries."""

    items: list[DeliveryOut]
    next: str | None


class SuppressionOut(BaseModel):
    """An address that nothing is sent to."""

    suppression_id: str
    channel: str
    address: str | None
    member_id: str
    reason: str
    at: Instant


class SuppressionPage(BaseModel):
    """A page of suppressions."""

    items: list[SuppressionOut]
    next: str | None


class ProviderOut(BaseModel):
    """How a provider does."""

    name: str
    channel: str
    state: Literal["open", "closed"] = Field(description="open: nothing is sent over it at the moment")
    failures: int
    open_until: Instant | None
    reason: str | None
    accepted_at: Instant | None
    at: Instant


class ProviderPage(BaseModel):
    """All providers that anything was ever said of."""

    items: list[ProviderOut]
    next: None = None


class MailOut(BaseModel):
    """A mail of the local mailbox."""

    mail_id: str
    member_id: str
    address: str
    subject: str
    category: str
    sent_at: Instant


class MailPage(BaseModel):
    """A page of the local mailbox."""

    items: list[MailOut]
    next: str | None


class MailSource(MailOut):
    """A mail with its source (RFC 5322)."""

    source: str


class BounceOut(BaseModel):
    """What became of the delivery."""

    state: str


class TokenIn(_Said):
    """The token of a link."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=NO_NUL)]


class Verified(BaseModel):
    """Whether the address is verified now."""

    verified: bool


Anyone = Annotated[Principal, Depends(require())]
Staff = Annotated[Principal, Depends(require(Role.STAFF))]


def own_or_staff(principal: Principal, member_id: str) -> None:
    """Raises Problem 403 for everyone but the member and staff."""
    if not principal.owns(member_id) and not principal.has(Role.STAFF):
        raise Problem(403, "That is another member's.")


def router(
    runtime: Runtime,
    preferences: Preferences,
    contacts: Contacts,
    inbox: Inbox,
    desk: Desk,
    signing: Signing,
    guard: Guard,
) -> APIRouter:
    """The routes under ``/notifier/api``."""
    routes = APIRouter(prefix="/api")

    async def member_of(member_id: str) -> str:
        async with runtime.pool.acquire() as connection:
            return await preferences.member(connection, member_id)

    @routes.get("/deliveries", response_model=DeliveryPage)
    async def list_deliveries(
        _: Staff,
        member: Word = None,
        state: State = None,
        channel: ChannelWord = None,
        category: Word = None,
        topic: Word = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Any:
        """Did they get it, and if not, why? Latest first."""
        return await desk.deliveries(
            member=member, state=state, channel=channel, category=category, topic=topic, limit=limit, cursor=cursor
        )

    @routes.get("/deliveries/{delivery_id}", response_model=DeliveryOut)
    async def get_delivery(delivery_id: Number, _: Staff) -> Any:
        """One delivery."""
        return await desk.delivery(delivery_id)

    @routes.post(
        "/deliveries/{delivery_id}/resend", response_model=DeliveryOut, responses={409: {"description": "Under way"}}
    )
    async def resend_delivery(delivery_id: Number, principal: Staff) -> Any:
        """Send it once more."""
        return await desk.resend(delivery_id, principal.member_id or "staff")

    @routes.post(
        "/deliveries/{delivery_id}/cancel", response_model=DeliveryOut, responses={409: {"description": "Too late"}}
    )
    async def cancel_delivery(delivery_id: Number, principal: Staff) -> Any:
        """Do not send it."""
        return await desk.cancel(delivery_id, principal.member_id or "staff")

    @routes.get("/suppressions", response_model=SuppressionPage)
    async def list_suppressions(_: Staff, limit: Limit = 50, cursor: Cursor = None) -> Any:
        """Addresses that nothing is sent to, because nobody is there."""
        return await desk.suppressions(limit, cursor)

    @routes.delete("/suppressions/{suppression_id}", status_code=204)
    async def lift_suppression(suppression_id: Number, _: Staff) -> Response:
        """Send there again."""
        await desk.lift(suppression_id)
        return Response(status_code=204)

    @routes.get("/providers", response_model=ProviderPage)
    async def list_providers(_: Staff) -> Any:
        """How mail servers and push services do."""
        return {"items": await desk.providers()}

    @routes.get("/mails", response_model=MailPage)
    async def list_mails(_: Staff, member: Word = None, limit: Limit = 50, cursor: Cursor = None) -> Any:
        """The local mailbox: what would have gone out where no mail server is named."""
        return await desk.mails(member, limit, cursor)

    @routes.get("/mails/{mail_id}", response_model=MailSource)
    async def get_mail(mail_id: Number, _: Staff) -> Any:
        """A mail of the local mailbox with its source."""
        mail = await desk.mail(mail_id)
        return {**mail, "source": mail["raw"].decode("ascii", "replace")}

    @routes.post(
        "/bounces",
        response_model=BounceOut,
        openapi_extra={
            "requestBody": {"required": True, "content": {"message/rfc822": {"schema": {"type": "string"}}}}
        },
    )
    async def post_bounce(request: Request, _: Staff, to: Word = None) -> Any:
        """A delivery status notification as the mail server got it; `to`: the envelope's recipient."""
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "message/rfc822":
            raise Problem(415, "A bounce is message/rfc822.")
        bounce = bounces.read(await request.body(), (await signing.keys()).tokens, to)
        return BounceOut(state=await bounces.take(runtime.outbox, bounce))

    @routes.get("/members/{member_id}/preferences", response_model=PreferencesOut)
    async def get_preferences(member_id: Id, principal: Anyone) -> Any:
        """What a member wants to be told, where and when."""
        own_or_staff(principal, member_id)
        return await preferences.read(member_id)

    @routes.put("/members/{member_id}/preferences", response_model=PreferencesOut)
    async def put_preferences(member_id: Id, said: PreferencesIn, principal: Anyone) -> Any:
        """Change preferences; what is absent stays as it is."""
        own_or_staff(principal, member_id)
        changes = said.model_dump(exclude_unset=True)
        check(changes, principal)
        return await preferences.change(member_id, changes, staff=known_staff(principal, member_id))

    @routes.get("/members/{member_id}/contact", response_model=ContactOut)
    async def get_contact(member_id: Id, principal: Anyone) -> Any:
        """Where a member's mail goes."""
        own_or_staff(principal, member_id)
        return await contacts.read(member_id)

    @routes.put("/members/{member_id}/contact", response_model=ContactOut)
    async def put_contact(member_id: Id, said: ContactIn, principal: Anyone) -> Any:
        """Ask for another address: it is used once the link in the mail that goes there was used."""
        own_or_staff(principal, member_id)
        return await contacts.ask(member_id, said.email)

    @routes.post("/contact-verifications", response_model=Verified)
    async def post_verification(said: TokenIn) -> Any:
        """Use the token of a verification mail."""
        keys = await signing.keys()
        grant = keys.tokens.read(said.token, "verify")
        return Verified(verified=grant is not None and await contacts.verify(grant))

    @routes.get("/push-key", response_model=PushKey)
    async def get_push_key() -> Any:
        """The key that a browser needs to subscribe."""
        return PushKey(public_key=(await signing.vapid()).public)

    @routes.get("/members/{member_id}/push-subscriptions", response_model=list[PushSubscriptionOut])
    async def get_push_subscriptions(member_id: Id, principal: Anyone) -> Any:
        """The browsers that are told."""
        own_or_staff(principal, member_id)
        rows = await runtime.pool.fetch(PUSH_SQL.of_member, await member_of(member_id))
        return [{**dict(row), "subscription_id": str(row["subscription_id"])} for row in rows]

    @routes.post("/members/{member_id}/push-subscriptions", response_model=PushSubscriptionOut, status_code=201)
    async def post_push_subscription(member_id: Id, said: PushSubscriptionIn, principal: Anyone) -> Any:
        """Tell this browser too. The same endpoint again replaces its keys."""
        own_or_staff(principal, member_id)
        try:
            guard.check(said.endpoint)
        except Unwelcome as error:
            raise Problem(400, f"endpoint: {error}", type="invalid-request") from None
        p256dh, auth = (
            base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)) for key in (said.keys.p256dh, said.keys.auth)
        )
        if len(p256dh) != 65 or p256dh[0] != 4 or len(auth) != 16:
            raise Problem(400, "keys: not those of a browser", type="invalid-request")
        async with runtime.pool.acquire() as connection, connection.transaction():
            # Nobody is erased between the look at the member and what is kept of them.
            await connection.execute(FACTS_SQL.share_lock)
            member = await preferences.member(connection, member_id)
            if await connection.fetchval(PUSH_SQL.count, member) >= MOST_SUBSCRIPTIONS:
                raise Problem(409, f"{MOST_SUBSCRIPTIONS} browsers are told already: remove one.")
            row = await connection.fetchrow(PUSH_SQL.subscribe, member, said.endpoint, p256dh, auth)
        return {**dict(row), "subscription_id": str(row["subscription_id"])}

    @routes.delete("/members/{member_id}/push-subscriptions", status_code=204)
    async def delete_push_subscription(member_id: Id, said: EndpointIn, principal: Anyone) -> Response:
        """Tell this browser no more. One that is not there is gone already."""
        own_or_staff(principal, member_id)
        await runtime.pool.execute(PUSH_SQL.unsubscribe, await member_of(member_id), said.endpoint)
        return Response(status_code=204)

    @routes.get("/members/{member_id}/inbox", response_model=InboxPage)
    async def get_inbox(
        member_id: Id, principal: Anyone, unread: Yes = None, limit: Limit = 50, cursor: Cursor = None
    ) -> Any:
        """What is new for a member, latest first."""
        own_or_staff(principal, member_id)
        return await inbox.page(await member_of(member_id), limit, cursor, unread=bool(unread))

    @routes.post("/members/{member_id}/inbox/marks", response_model=Unread)
    async def post_inbox_marks(member_id: Id, said: MarkIn, principal: Anyone) -> Any:
        """Mark as read, or as unread."""
        own_or_staff(principal, member_id)
        ids = None if said.notification_ids is None else [int(one) for one in said.notification_ids]
        return Unread(unread=await inbox.mark(await member_of(member_id), ids, read=said.read))

    return routes


def check(changes: dict[str, Any], principal: Principal) -> None:
    """What a schema cannot say. Raises Problem 400 or 403."""
    choices = {
        category: {channel: on for channel, on in said.items() if on is not None}
        for category, said in changes.get("channels", {}).items()
    }
    for category, said in choices.items():
        if CATEGORIES[category].staff and any(said.values()) and not principal.has(Role.STAFF):
            raise Problem(403, f"{category} is for staff.")
    if "channels" in changes:
        changes["channels"] = choices
    for name in ("follow", "mute", "digest"):
        if name in changes and changes[name] is None:
            changes[name] = {}
    until = changes.get("paused_until")
    if until is not None and until <= datetime.now(UTC):
        changes["paused_until"] = None


def known_staff(principal: Principal, member_id: str) -> bool | None:
    """Whether the member is known to be staff: only their own token tells."""
    return principal.has(Role.STAFF) if principal.owns(member_id) else None
