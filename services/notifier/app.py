"""The notifier service, wired: who gets told what, where and when?"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path

from services.notifier import api, pages
from services.notifier.channels import Channel
from services.notifier.channels.mailbox import MailboxChannel
from services.notifier.channels.push import Guard, PushChannel
from services.notifier.channels.smtp import Account, SmtpChannel
from services.notifier.consumer import STREAMS, NotifierConsumer
from services.notifier.contacts import Contacts
from services.notifier.desk import Desk, ProviderBook
from services.notifier.inbox import Inbox
from services.notifier.links import links
from services.notifier.mail import Composer
from services.notifier.pipeline import Pipeline
from services.notifier.preferences import Preferences
from services.notifier.signing import Signing
from services.notifier.timers import Timers
from shared import messaging
from shared.forum import Facts, migrations
from shared.postgres import UNAVAILABLE, Migrations
from shared.runtime import Runtime
from shared.settings import Settings
from shared.web import Service, create_service_app

NAME = "notifier"
MIGRATIONS = (
    messaging.MIGRATIONS,
    migrations("members", "topics", "stars"),
    Migrations.of_folder(NAME, Path(__file__).parent / "migrations"),
)


def build(
    settings: Settings, version: str, *, http: bool = True, worker: bool = True, guard: Guard | None = None
) -> Service:
    """The service, ready to run: its HTTP side, its workers (consumer, relay, timers, pipeline), or both.

    ``guard``: where pushes may go, other than to the push services that browsers use.
    """
    runtime = Runtime(NAME, settings, MIGRATIONS)
    facts = Facts(settings.erasure_key_bytes(), topics=True, stars=True)
    guard = guard or Guard()
    accounts = [Account.of(url) for url in (settings.smtp.get_secret_value().split() if settings.smtp else ())]
    contact = settings.push_contact or f"mailto:{parseaddr(settings.mail_from)[1]}"
    signing = Signing(runtime.pool, contact)
    preferences = Preferences(runtime.outbox, facts)
    contacts = Contacts(runtime.outbox, facts, preferences)
    inbox = Inbox(runtime.pool, settings.public_url)
    timers = Timers(runtime.outbox, facts, lambda: runtime.messaging.cluster)
    books = {name: ProviderBook(runtime.pool, name) for name in ("email", "push")}

    async def composer() -> Composer:
        return Composer((await signing.keys()).tokens, settings.public_url, settings.mail_from, settings.mail_bounces)

    async def channels() -> Sequence[Channel]:
        writer = await composer()
        email: Channel = MailboxChannel(writer)
        if accounts:
            email = SmtpChannel(accounts, writer, books["email"].changed)
        push = PushChannel(
            runtime.pool, writer, await signing.vapid(), guard, books["push"].changed, books["push"].accepted
        )
        return email, push

    async def pipeline() -> None:
        await runtime.migrated()
        lease = timedelta(seconds=settings.delivery_lease)
        await Pipeline(runtime.pool, runtime.outbox, await channels(), lease).run()

    async def jobs() -> None:
        await runtime.migrated()
        await timers.run_jobs()

    async def clock() -> None:
        await runtime.migrated()
        await timers.run_clock()

    async def providers() -> None:
        while True:
            for book in books.values():
                try:
                    await book.write()
                except UNAVAILABLE:
                    pass  # what was not written is written at the next change
            await asyncio.sleep(1)

    app = create_service_app(
        NAME,
        "Constellation: notifier",
        "Who gets told what, where and when: preferences, contacts, the inbox, deliveries.",
        version,
    )
    if http:
        desk = Desk(runtime.pool, runtime.outbox, facts)
        app.include_router(api.router(runtime, preferences, contacts, inbox, desk, signing, guard))
        app.include_router(pages.router(runtime, preferences, contacts, inbox, desk, signing, composer))
        app.include_router(links(signing, preferences, contacts))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        consumer = NotifierConsumer(facts)
        async with runtime.running(
            STREAMS,
            consumer.apply if worker else None,
            [pipeline, jobs, clock, providers] if worker else [],
        ):
            yield

    return Service(NAME, app, lifespan, runtime.problems)
