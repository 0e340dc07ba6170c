"""Whose browser it is: what waits for one member is not shown to another, and an erased one subscribes no more."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute

from services.notifier.api import PushKeys, PushSubscriptionIn, router
from services.notifier.channels.push import PushChannel, Vapid, unpadded
from services.notifier.signing import Signing
from shared.messaging import Batch, Record
from shared.postgres import Pool
from shared.runtime import Runtime
from shared.web import Principal, Problem, Role
from tests.integration.test_notifier_pipeline import around_now
from tests.integration.test_notifier_push import KEY, LOOPBACK, Browser, push_service
from tests.notifier import READER, World, composer

Subscribe = Callable[[str, str, Browser], Awaitable[dict[str, Any]]]


def subscribing(world: World) -> Subscribe:
    """What the interface does when a member's browser asks to be told at an endpoint."""
    runtime = cast(Runtime, SimpleNamespace(pool=world.pool, outbox=world.outbox))
    signing = Signing(world.pool, "mailto:ops@stars.example")
    made = router(runtime, world.preferences, world.contacts, world.inbox, world.desk, signing, LOOPBACK)
    [route] = [one for one in made.routes if isinstance(one, APIRoute) and one.name == "post_push_subscription"]

    async def subscribe(member: str, endpoint: str, browser: Browser) -> dict[str, Any]:
        keys = PushKeys(p256dh=unpadded(browser.p256dh), auth=unpadded(browser.auth))
        said = PushSubscriptionIn(endpoint=endpoint, keys=keys)
        found: dict[str, Any] = await route.endpoint(member, said, Principal(member, frozenset({Role.MEMBER})))
        return found

    return subscribe


async def test_what_was_put_off_for_one_member_does_not_go_to_the_next_at_the_same_browser(notifier_pool: Pool) -> None:
    async with push_service() as service:
        channel = PushChannel(notifier_pool, composer(), Vapid(KEY, "mailto:ops@stars.example"), LOOPBACK)
        world = World(notifier_pool, [channel])
        subscribe, browser, endpoint = subscribing(world), Browser(), f"{service.origin}/push/shared"
        for name in ("ada", "ben"):
            await world.member(name)
        await subscribe("ada", endpoint, browser)
        await world.preferences.change("ada", {"quiet_hours": around_now()})
        milestone: dict[str, Any] = {"board": "everyone", "kind": "first-place"}
        await world.happen(world.event("milestone-reached", member_id="ada", **milestone))
        await world.turn()
        assert await world.states("ada", "push") == [("pending", "quiet-hours")]

        await subscribe("ben", endpoint, browser)
        await world.preferences.change("ada", {"quiet_hours": None})
        await world.turn()
        assert service.requests == []
        assert await world.states("ada", "push") == [("skipped", "subscription-gone")]

        await world.happen(world.event("milestone-reached", member_id="ben", **milestone))
        await world.turn()
        assert await world.states("ben", "push") == [("accepted", None)]
        assert len(service.requests) == 1
        await channel.close()


async def test_a_browser_keeps_its_subscription_until_it_is_another_member_s(notifier: World) -> None:
    subscribe, endpoint = subscribing(notifier), "http://localhost/push/shared"
    for name in ("ada", "ben"):
        await notifier.member(name)
    first = await subscribe("ada", endpoint, Browser())
    assert await subscribe("ada", endpoint, again := Browser()) == first
    row = await notifier.pool.fetchrow("SELECT * FROM push_subscription")
    assert (row["p256dh"], row["auth"]) == (again.p256dh, again.auth)
    taken = await subscribe("ben", endpoint, Browser())
    assert taken["subscription_id"] != first["subscription_id"]
    [row] = await notifier.pool.fetch("SELECT * FROM push_subscription")
    assert (row["member_id"], str(row["subscription_id"])) == ("ben", taken["subscription_id"])


async def test_a_browser_of_a_member_who_is_being_erased_is_not_kept(notifier: World) -> None:
    await notifier.member("ada")
    subscribe = subscribing(notifier)
    erased = READER.read(notifier.event("member-erased", member_id="ada", status="erased"))
    async with notifier.outbox.transaction() as transaction:
        await notifier.consumer.apply(Batch(transaction, [Record(erased, "members.events", 0, 0, datetime.now(UTC))]))
        asked = asyncio.ensure_future(subscribe("ada", "http://localhost/push/ada", Browser()))
        await asyncio.wait({asked}, timeout=0.5)
    with pytest.raises(Problem) as problem:
        await asked
    assert problem.value.status == 404
    assert await notifier.pool.fetchval("SELECT count(*) FROM push_subscription") == 0
