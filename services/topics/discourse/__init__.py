"""The adapter for Discourse (https://www.discourse.org): webhooks, and a poller for what they never say.

Both make the same envelopes with the same ids, and hand them to the strict door as any forum would.
"""

from services.topics.discourse.categories import Categories, MappingError, Place
from services.topics.discourse.hook import router
from services.topics.discourse.mapping import Mapped, Unreadable, events_of
from services.topics.discourse.poller import PollStore, PostgresPollStore, erase_polled, make_client, poll, poll_once

__all__ = [
    "Categories",
    "Mapped",
    "MappingError",
    "Place",
    "PollStore",
    "PostgresPollStore",
    "Unreadable",
    "erase_polled",
    "events_of",
    "make_client",
    "poll",
    "poll_once",
    "router",
]
