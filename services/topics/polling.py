"""Polls a Discourse, by one process at a time."""

import asyncio
import logging

import httpx

from services.topics.discourse import Categories, PostgresPollStore, make_client, poll
from services.topics.discourse.poller import Publish
from services.topics.ingestion import now
from shared.forum import Facts
from shared.postgres.singleton import held_alone
from shared.settings import Settings
from shared.web import Problem

log = logging.getLogger(__name__)


class Poller:
    """Asks the Discourse of the settings again and again for what its webhooks never say."""

    def __init__(
        self,
        dsn: str,
        service: str,
        url: str,
        categories: Categories,
        pause: float,
        publish: Publish,
        facts: Facts,
    ) -> None:
        self._dsn, self._service, self._url, self._facts = dsn, service, url, facts
        self._categories, self._pause, self._publish = categories, pause, publish

    @classmethod
    def of(cls, settings: Settings, service: str, publish: Publish, facts: Facts) -> "Poller | None":
        """The poller that the settings ask for; None where they name no Discourse, or no category of it."""
        dsn = settings.postgres_of(service)
        if not settings.discourse_url or not settings.discourse_mapping or not dsn:
            return None
        categories = Categories.load(settings.discourse_mapping)
        return cls(dsn, service, settings.discourse_url, categories, settings.discourse_poll_seconds, publish, facts)

    async def run(self) -> None:
        """Run until cancelled."""
        async with held_alone(self._dsn, self._service, "discourse") as connection, make_client(self._url) as client:
            store = PostgresPollStore(connection, self._facts)
            while True:
                try:
                    await poll(store, client, self._categories, self._publish, now)
                except (httpx.HTTPError, Problem) as error:
                    log.warning("the Discourse could not be polled, it is asked again: %s", error)
                await asyncio.sleep(self._pause)
