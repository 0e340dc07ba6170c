"""Leases, fences, budgets, digests, retries: the pipeline against real PostgreSQL."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.notifier.channels import Outcome, Ready
from services.notifier.channels.mailbox import MailboxChannel
from services.notifier.rules import ORDINARY, URGENT
from services.notifier.tokens import Grant
from shared.postgres import Pool
from tests.notifier import Scripted, World, composer, running

HOUR = timedelta(hours=1)


async def ask(world: World, *topics: str, member: str = "ada") -> None:
    await world.happen(*(world.asked(topic, member) for topic in topics))


# --- Leases and fences -----------------------------------------------------------------------------------------------


async def test_two_replicas_claim_different_deliveries(notifier: World) -> None:
    other = World(notifier.pool)
    for n in range(40):
        await notifier.member(f"m{n}")
    await notifier.happen(*(notifier.asked("t1", f"m{n}") for n in range(40)))
    mine, theirs = await asyncio.gather(
        notifier.pipeline.claim("email", ORDINARY, 25), other.pipeline.claim("email", ORDINARY, 25)
    )
    ids = [ready.delivery_id for ready in (*mine[1], *theirs[1])]
    assert len(ids) == len(set(ids))
    assert len(ids) >= 25


async def test_a_lease_that_ran_out_goes_back_and_the_zombie_can_do_nothing_more(notifier_pool: Pool) -> None:
    zombie = World(notifier_pool, [channel := Scripted()])
    await zombie.member("ada")
    await ask(zombie, "t1")
    _, [held] = await zombie.pipeline.claim("email", ORDINARY, 10)
    await zombie.pool.execute("UPDATE delivery SET lease_until = now() - interval '1 s' WHERE state = 'leased'")
    assert not await zombie.pipeline.begin(held), "a lease that ran out is no lease"
    await zombie.timers.tick()
    assert await zombie.states("ada") == [("pending", None)]
    other = World(notifier_pool, [theirs := Scripted()])
    await other.turn()
    assert len(theirs.sent) == 1
    # It wakes up: neither may it send, nor does its result count.
    assert not await zombie.pipeline.begin(held)
    await zombie.pipeline.finish(held, Outcome("bounced", "550", address="ada@mail.example", suppress=True))
    await zombie.pipeline._finish.drained()
    assert await zombie.states("ada") == [("accepted", None)]
    assert await zombie.pool.fetchval("SELECT count(*) FROM suppression") == 0
    assert channel.sent == []


@pytest.mark.parametrize(
    ("category", "event", "state"),
    [
        ("application", {"type_": "quiz-passed", "application_id": "a"}, "retry"),
        ("milestone", {"type_": "milestone-reached", "board": "everyone", "kind": "first-place"}, "unknown"),
    ],
)
async def test_what_died_while_it_was_sent_is_unknown_and_its_category_says_what_then(
    notifier_pool: Pool, category: str, event: dict[str, Any], state: str
) -> None:
    world = World(notifier_pool, [channel := Scripted()])
    await world.member("ada")
    await world.happen(world.event(event.pop("type_"), member_id="ada", **event))
    _, [held] = await world.pipeline.claim("email", (*URGENT, *ORDINARY), 10)
    assert await world.pipeline.begin(held)
    await world.pool.execute("UPDATE delivery SET lease_until = now() - interval '1 s' WHERE state = 'sending'")
    await world.timers.tick()
    assert await world.states("ada") == [(state, "died-while-sending")]
    [one] = await world.deliveries("ada", channel="email")
    assert [entry["state"] for entry in one["history"]] == ["pending", "sending", "unknown"]
    await world.turn()
    assert len(channel.sent) == (1 if state == "retry" else 0)
    failed = [e for e in await world.published("notifier.events") if e["type"] == "notification-failed"]
    assert len(failed) == (0 if state == "retry" else 1)


async def test_a_result_that_comes_after_all_is_better_than_what_had_to_be_supposed(notifier_pool: Pool) -> None:
    world = World(notifier_pool, [Scripted()])
    await world.member("ada")
    await world.happen(world.event("milestone-reached", member_id="ada", board="everyone", kind="first-place"))
    _, [held] = await world.pipeline.claim("email", ORDINARY, 10)
    assert await world.pipeline.begin(held)
    await world.pool.execute("UPDATE delivery SET lease_until = now() - interval '1 s' WHERE state = 'sending'")
    await world.timers.tick()
    assert await world.states("ada") == [("unknown", "died-while-sending")]
    await world.pipeline.finish(held, Outcome("accepted", address="ada@mail.example"))
    await world.pipeline._finish.drained()
    assert await world.states("ada") == [("accepted", None)]


async def test_as_long_as_a_process_lives_its_leases_do(notifier_pool: Pool) -> None:
    class Slow(Scripted):
        async def deliver(self, batch: Any, attempts: Any, *, urgent: bool) -> None:
            await asyncio.sleep(2.5)
            await super().deliver(batch, attempts, urgent=urgent)

    world = World(notifier_pool, [channel := Slow()], lease=1)
    await world.member("ada")
    await ask(world, "t1")

    async def told() -> bool:
        await world.timers._sweep()
        return await world.states("ada") == [("accepted", None)]

    await running(world.pipeline, told)
    assert len(channel.sent) == 1
    [one] = await world.deliveries("ada", channel="email")
    assert [entry["state"] for entry in one["history"]] == ["pending", "sending", "accepted"]


async def test_what_a_stopping_process_has_not_begun_goes_back_at_once(notifier_pool: Pool) -> None:
    class Stuck(Scripted):
        async def deliver(self, batch: Any, attempts: Any, *, urgent: bool) -> None:
            await asyncio.Event().wait()

    world = World(notifier_pool, [Stuck()])
    await world.member("ada")
    await ask(world, "t1")

    async def leased() -> bool:
        return await world.states("ada") == [("leased", None)]

    await running(world.pipeline, leased)
    assert await world.states("ada") == [("pending", None)]


async def test_an_application_goes_out_while_a_hundred_digests_are_stuck(notifier_pool: Pool) -> None:
    class Stuck(Scripted):
        async def deliver(self, batch: Any, attempts: Any, *, urgent: bool) -> None:
            if not urgent:
                await asyncio.Event().wait()
            await super().deliver(batch, attempts, urgent=urgent)

    world = World(notifier_pool, [channel := Stuck()])
    for n in range(30):
        await world.member(f"m{n}")
    await world.happen(*(world.asked("t1", f"m{n}") for n in range(30)))

    async def stuck() -> bool:
        return bool(await world.pool.fetchval("SELECT count(*) FROM delivery WHERE state = 'leased'"))

    await running(world.pipeline, stuck)
    await world.happen(world.event("application-decided", member_id="m1", application_id="a", outcome="accepted"))

    async def told() -> bool:
        return bool(channel.sent)

    await running(world.pipeline, told)
    assert [ready.what for ready in channel.sent] == ["application-decided"]


# --- Retries ---------------------------------------------------------------------------------------------------------


async def test_a_retry_keeps_its_message_id_and_ends_at_its_age_limit(notifier_pool: Pool) -> None:
    world = World(notifier_pool, [channel := Scripted(script=lambda r: Outcome("retry", "451 4.3.0"))])
    await world.member("ada")
    await ask(world, "t1")
    await world.turn()
    [one] = await world.deliveries("ada", channel="email")
    assert (one["state"], one["reason"], one["attempts"]) == ("retry", "451 4.3.0", 1)
    assert timedelta() < one["due_at"] - datetime.now(UTC) < HOUR
    await world.make_due()
    await world.turn()
    first, second = (composer().mail(ready).raw.split(b"Message-ID: ")[1].split(b"\r\n")[0] for ready in channel.sent)
    assert first == second
    await world.pool.execute("UPDATE delivery SET due_at = now(), expires_at = now() + interval '1 s'")
    await world.turn()
    assert await world.states("ada") == [("dead", "451 4.3.0")]
    [failed] = [e for e in await world.published("notifier.events") if e["type"] == "notification-failed"]
    assert failed["data"]["reason"] == "451 4.3.0"


@pytest.mark.parametrize(
    ("outcome", "state", "published"),
    [
        (Outcome("accepted", address="x@y.example"), "accepted", "notification-accepted"),
        (Outcome("bounced", "552 5.2.2", address="x@y.example"), "bounced", "notification-failed"),
        (Outcome("unknown", "no-reply-after-dot"), "unknown", "notification-failed"),
        (Outcome("dead", "413"), "dead", "notification-failed"),
        (Outcome("released"), "pending", None),
        (Outcome("skipped", "subscription-gone"), "skipped", None),
        (Outcome("retry", "x\x00y", "a\x00b\ud800"), "retry", None),
    ],
)
async def test_an_outcome_becomes_a_state_and_an_event(
    notifier_pool: Pool, outcome: Outcome, state: str, published: str | None
) -> None:
    world = World(notifier_pool, [Scripted(script=lambda ready: outcome)])
    await world.member("ada")
    await world.happen(world.event("milestone-reached", member_id="ada", board="everyone", kind="first-place"))
    _, batch = await world.pipeline.claim("email", ORDINARY, 10)
    await world.channels[0].deliver(batch, world.pipeline, urgent=False)
    await world.pipeline._finish.drained()
    [one] = await world.deliveries("ada", channel="email")
    assert one["state"] == state
    assert [e["type"] for e in await world.published("notifier.events")] == ([published] if published else [])


async def test_a_hard_bounce_suppresses_the_address_until_somebody_lifts_it(notifier_pool: Pool) -> None:
    bounce = Outcome(
        "bounced", "550 5.1.1", "550 5.1.1 <ada@mail.example> who?", address="Ada@mail.example", suppress=True
    )
    world = World(notifier_pool, [channel := Scripted(script=lambda ready: bounce)])
    await world.member("ada", "Ada@mail.example")
    await ask(world, "t1")
    await world.turn()
    assert await world.states("ada") == [("bounced", "550 5.1.1")]
    await ask(world, "t2")
    await world.turn()
    assert (await world.states("ada"))[1] == ("suppressed", "550 5.1.1")
    assert len(channel.sent) == 1
    types = [event["type"] for event in await world.published("notifier.events")]
    assert types == ["notification-failed", "contact-suppressed"]
    assert "ada@mail" not in json.dumps(await world.published("notifier.events")).lower()
    [suppression] = (await world.desk.suppressions(10, None))["items"]
    assert suppression["address"] == "a…@mail.example"
    await world.desk.lift(int(suppression["suppression_id"]))
    [_, second] = await world.deliveries("ada", channel="email")
    await world.desk.resend(int(second["delivery_id"]), "sue")
    await world.turn()
    assert len(channel.sent) == 2


# --- Quiet hours, budgets, digests -----------------------------------------------------------------------------------


def around_now(minutes: int = 60) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "start": f"{now - timedelta(minutes=minutes):%H:%M}",
        "end": f"{now + timedelta(minutes=minutes):%H:%M}",
        "time_zone": "UTC",
    }


async def test_quiet_hours_put_off_and_a_changed_zone_decides_anew(notifier: World) -> None:
    await notifier.member("ada")
    await notifier.preferences.change("ada", {"quiet_hours": around_now()})
    await ask(notifier, "t1")
    await notifier.turn()
    [one] = await notifier.deliveries("ada", channel="email")
    assert (one["state"], one["reason"]) == ("pending", "quiet-hours")
    assert timedelta(minutes=58) < one["due_at"] - datetime.now(UTC) <= timedelta(minutes=60)
    await notifier.turn()
    assert await notifier.mails("ada") == []
    # Half a day away from here it is not night.
    await notifier.preferences.change("ada", {"time_zone": "Etc/GMT-12"})
    await notifier.turn()
    assert len(await notifier.mails("ada")) == 1


async def test_what_is_critical_passes_quiet_hours_and_budget(notifier: World) -> None:
    await notifier.member("ada")
    await notifier.preferences.change(
        "ada", {"quiet_hours": around_now(), "daily_budget": 0, "digest": {"every": "daily"}}
    )
    await notifier.happen(notifier.event("quiz-passed", member_id="ada", application_id="a"))
    await notifier.turn()
    assert [mail["subject"] for mail in await notifier.mails("ada")] == ["You passed the quiz"]


async def test_the_budget_is_one_for_all_channels_and_what_is_over_comes_together(notifier_pool: Pool) -> None:
    push = Scripted("push")
    world = World(notifier_pool, [MailboxChannel(composer()), push])
    await world.member("ada")
    await world.pool.execute(
        "INSERT INTO push_subscription (member_id, endpoint, p256dh, auth) VALUES ('ada', 'https://e', '', '')"
    )
    await world.preferences.change("ada", {"daily_budget": 2})
    await ask(world, *(f"t{n}" for n in range(5)))
    await world.turn()
    assert len(await world.mails("ada")) == 2
    assert sorted(await world.states("ada")) == sorted([("accepted", None)] * 2 + [("skipped", "over-budget")] * 3)
    assert {ready.notification_id for ready in push.sent} == {
        row["notification_id"]
        for row in await world.pool.fetch(
            "SELECT notification_id FROM delivery WHERE channel = 'email' AND state = 'accepted'"
        )
    }
    await world.pool.execute("UPDATE digest SET closes_at = now()")
    await world.everything()
    *_, last = await world.mails("ada")
    assert last["subject"] == "3 pieces of news for you"


async def test_two_lanes_cannot_both_spend_the_last_of_a_budget(notifier_pool: Pool) -> None:
    worlds = [World(notifier_pool, [MailboxChannel(composer())]) for _ in range(4)]
    await worlds[0].member("ada")
    await worlds[0].preferences.change("ada", {"daily_budget": 3})
    await ask(worlds[0], *(f"t{n}" for n in range(24)))

    async def turn(world: World) -> None:
        while (claimed := await world.pipeline.claim("email", ORDINARY, 3))[0]:
            await world.channels[0].deliver(claimed[1], world.pipeline, urgent=False)
            await world.pipeline._finish.drained()

    await asyncio.gather(*map(turn, worlds))
    assert len(await worlds[0].mails("ada")) == 3


async def test_a_digest_is_told_once_at_its_hour_without_what_is_gone(notifier: World) -> None:
    await notifier.member("ada")
    at = (datetime.now(UTC) + 2 * HOUR).replace(minute=0)
    await notifier.preferences.change("ada", {"digest": {"every": "daily", "at": f"{at:%H:%M}"}, "time_zone": "UTC"})
    await ask(notifier, "t1", "t2", "t3")
    await notifier.everything()
    assert await notifier.mails("ada") == []
    closes = await notifier.pool.fetchval("SELECT closes_at FROM digest")
    assert f"{closes:%H:%M}" == f"{at:%H:%M}"
    await notifier.happen(notifier.event("topic-deleted", topic_id="t2"))
    await notifier.pool.execute("UPDATE digest SET closes_at = now()")
    # Several at once, and once more afterwards.
    await asyncio.gather(*(notifier.timers._close_digests() for _ in range(4)))
    await notifier.everything()
    await notifier.everything()
    [mail] = await notifier.mails("ada")
    assert mail["subject"] == "2 pieces of news for you"


async def test_an_empty_digest_is_not_sent_and_a_single_item_is_sent_as_itself(notifier: World) -> None:
    for name, topics in (("ada", ("t1",)), ("ben", ("t2", "t3"))):
        await notifier.member(name)
        await notifier.preferences.change(name, {"digest": {"every": "weekly", "day": "sunday"}})
        await ask(notifier, *topics, member=name)
    await notifier.turn()
    await notifier.happen(
        notifier.event("topic-deleted", topic_id="t2"), notifier.event("topic-deleted", topic_id="t3")
    )
    await notifier.pool.execute("UPDATE digest SET closes_at = now()")
    await notifier.everything()
    [mail] = await notifier.mails("ada")
    assert mail["subject"] == "A question for you: Title of t1"
    raw = (await notifier.desk.mail(int(mail["mail_id"])))["raw"]
    assert b"List-Id: <answer-needed." in raw, "unsubscribing from it is from questions, not from digests"
    assert await notifier.mails("ben") == []
    assert (await notifier.states("ben"))[-1] == ("skipped", "empty-digest")


async def test_a_weekly_digest_tells_of_the_whole_week(notifier: World) -> None:
    await notifier.member("ada")
    await notifier.preferences.change("ada", {"digest": {"every": "weekly", "day": "sunday"}})
    await ask(notifier, "t1")
    week = {"board": "everyone", "kind": "first-place"}
    await notifier.happen(notifier.event("milestone-reached", member_id="ada", **week))
    for answer_by, jam in ((datetime.now(UTC) + HOUR, "over"), (datetime.now(UTC) + 240 * HOUR, "open")):
        invited = {"jam_id": jam, "answer_by": answer_by.isoformat()}
        await notifier.happen(notifier.event("jam-invited", member_id="ada", **invited))
    await notifier.turn()
    await notifier.pool.execute(
        "UPDATE notification SET at = at - interval '6 days', expires_at = expires_at - interval '6 days'"
    )
    past = (datetime.now(UTC) - HOUR).isoformat()
    await notifier.pool.execute(
        "UPDATE notification SET data = data || jsonb_build_object('answer_by', $1::text)"
        " WHERE data ->> 'jam_id' = 'over'",
        past,
    )
    await notifier.pool.execute("UPDATE digest SET closes_at = now()")
    await notifier.everything()
    [mail] = await notifier.mails("ada")
    assert mail["subject"] == "3 pieces of news for you"


async def test_no_more_digests_means_no_more_mails_and_leaves_the_rest_as_it_is(notifier: World) -> None:
    await notifier.member("ada")
    await notifier.preferences.change("ada", {"digest": {"every": "weekly"}, "daily_budget": 2})
    await notifier.preferences.act(Grant("unsubscribe", "ada", "digest", "email"))
    await ask(notifier, *(f"t{n}" for n in range(5)))
    await notifier.turn()
    await notifier.pool.execute("UPDATE digest SET closes_at = now()")
    await notifier.everything()
    assert await notifier.mails("ada") == []
    assert (await notifier.states("ada"))[-1] == ("skipped", "preference")
    found = await notifier.preferences.read("ada")
    assert (found["daily_budget"], found["digest"]["every"], found["digest"]["declined"]) == (2, "weekly", True)
    await notifier.preferences.change("ada", {"digest": {"every": "daily"}})
    assert not (await notifier.preferences.read("ada"))["digest"]["declined"]


async def test_a_week_s_pause_does_not_shorten_a_longer_one(notifier: World) -> None:
    await notifier.member("ada")
    until = datetime.now(UTC) + 60 * 24 * HOUR
    await notifier.preferences.change("ada", {"paused_until": until})
    await notifier.preferences.act(Grant("pause", "ada", "appointment", "email"))
    assert (await notifier.preferences.read("ada"))["paused_until"] == until


async def test_a_long_digest_shows_some_and_says_how_many_more(notifier_pool: Pool) -> None:
    world = World(notifier_pool, [channel := Scripted()])
    await world.member("ada")
    await world.preferences.change("ada", {"digest": {"every": "daily"}})
    await ask(world, *(f"t{n}" for n in range(33)))
    await world.turn()
    await world.pool.execute("UPDATE digest SET closes_at = now()")
    await world.everything()
    [digest] = channel.sent
    assert (len(digest.items), digest.more) == (20, 13)
    letter, _ = composer().letter(digest)
    assert letter.subject == "33 pieces of news for you"
    assert letter.paragraphs == ["And 13 more in your inbox."]


async def test_what_staff_send_again_goes_out_after_a_failed_attempt_too(notifier_pool: Pool) -> None:
    outcomes = iter([Outcome("bounced", "550"), Outcome("retry", "450")])
    world = World(notifier_pool, [channel := Scripted(script=lambda ready: next(outcomes, Outcome("accepted")))])
    await world.member("ada")
    await ask(world, "t1")
    await world.turn()
    await world.preferences.change("ada", {"paused_until": datetime.now(UTC) + 24 * HOUR, "quiet_hours": around_now()})
    [one] = await world.deliveries("ada", channel="email")
    await world.desk.resend(int(one["delivery_id"]), "sue")
    await world.turn()
    await world.make_due()
    await world.turn()
    assert await world.states("ada") == [("accepted", None)]
    assert len(channel.sent) == 3


async def test_what_is_given_up_is_published(notifier_pool: Pool) -> None:
    world = World(notifier_pool, [Scripted(script=lambda ready: Outcome("retry", "450"))])
    await world.member("ada")
    await ask(world, "t1")
    await world.turn()
    await world.pool.execute("UPDATE delivery SET expires_at = now() WHERE channel = 'email'")
    await world.make_due()
    await world.turn()
    assert await world.states("ada") == [("dead", "gave-up")]
    [failed] = [one for one in await world.published("notifier.events") if one["type"] == "notification-failed"]
    assert failed["data"]["reason"] == "gave-up"


async def test_the_desk_finds_what_was_sent_before_a_merge_under_either_account(notifier: World) -> None:
    for name in ("old", "new"):
        await notifier.member(name)
        await notifier.happen(notifier.event("quiz-passed", member_id=name, application_id=f"of-{name}"))
    await notifier.everything()
    await notifier.happen(notifier.event("member-merged", member_id="old", into_member_id="new", status="merged"))
    for asked in ("old", "new"):
        assert len((await notifier.desk.deliveries(member=asked, channel="email"))["items"]) == 2
        assert len((await notifier.desk.mails(asked, 10, None))["items"]) == 2


async def test_a_pause_skips_and_the_inbox_goes_on(notifier: World) -> None:
    await notifier.member("ada")
    await notifier.preferences.change("ada", {"paused_until": datetime.now(UTC) + 24 * HOUR})
    await ask(notifier, "t1")
    await notifier.turn()
    assert await notifier.states("ada") == [("skipped", "paused")]
    assert (await notifier.inbox.page("ada", 10, None))["unread"] == 1


# --- The desk --------------------------------------------------------------------------------------------------------


async def test_staff_cancel_what_waits_and_send_again_what_is_over(notifier_pool: Pool) -> None:
    world = World(notifier_pool, [channel := Scripted()])
    await world.member("ada")
    await ask(world, "t1")
    [one] = await world.deliveries("ada", channel="email")
    cancelled = await world.desk.cancel(int(one["delivery_id"]), "sue")
    assert (cancelled["state"], cancelled["reason"]) == ("skipped", "cancelled")
    await world.turn()
    assert channel.sent == []
    await world.preferences.change("ada", {"quiet_hours": around_now(), "daily_budget": 0})
    await world.desk.resend(int(one["delivery_id"]), "sue")
    await world.turn()
    assert [ready.delivery_id for ready in channel.sent] == [int(one["delivery_id"])]
    found = await world.desk.delivery(int(one["delivery_id"]))
    assert [entry["state"] for entry in found["history"]] == ["pending", "skipped", "pending", "sending", "accepted"]


async def test_what_is_cancelled_under_a_lease_is_not_sent(notifier_pool: Pool) -> None:
    world = World(notifier_pool, [Scripted()])
    await world.member("ada")
    await ask(world, "t1")
    _, [held] = await world.pipeline.claim("email", ORDINARY, 10)
    await world.desk.cancel(held.delivery_id, "sue")
    assert not await world.pipeline.begin(held)


async def test_the_desk_finds_by_topic_state_channel_and_page_by_page(notifier: World) -> None:
    for name in ("ada", "ben"):
        await notifier.member(name)
    await notifier.happen(notifier.asked("t1", "ada", "ben"), notifier.asked("t2", "ada"))
    await notifier.turn()
    assert len(await notifier.deliveries(topic="t1")) == 4
    assert len(await notifier.deliveries("ada", state="accepted", channel="email")) == 2
    first = await notifier.desk.deliveries(limit=4)
    second = await notifier.desk.deliveries(limit=4, cursor=first["next"])
    assert len({d["delivery_id"] for d in (*first["items"], *second["items"])}) == 6
    assert second["next"] is None


def sent_addresses(sent: list[Ready]) -> list[str | None]:
    return [ready.address for ready in sent]


# --- Addresses -------------------------------------------------------------------------------------------------------


async def test_an_own_address_is_used_once_it_is_verified_and_outranks_the_forums(notifier_pool: Pool) -> None:
    world = World(notifier_pool, [channel := Scripted()])
    await world.member("ada", "forum@mail.example")
    answer = await world.contacts.ask("ada", "own@mail.example")
    assert (answer["email"], answer["source"], answer["pending_email"]) == (
        "forum@mail.example",
        "forum",
        "own@mail.example",
    )
    await ask(world, "t1")
    await world.turn()
    assert sorted(map(str, sent_addresses(channel.sent))) == ["forum@mail.example", "own@mail.example"]
    [mail] = [composer().letter(ready)[0] for ready in channel.sent if ready.what == "verification"]
    assert mail.action is not None
    token = mail.action[1].rpartition("/")[2]
    from tests.notifier import TOKENS

    grant = TOKENS.read(token, "verify")
    assert grant is not None
    assert await world.contacts.verify(grant)
    assert await world.contacts.verify(grant), "whoever uses it twice finds it verified"
    await world.happen(world.event("contact-changed", member_id="ada", email="new-forum@mail.example"))
    await ask(world, "t2")
    await world.turn()
    assert channel.sent[-1].address == "own@mail.example"
    assert (await world.contacts.ask("ada", None))["email"] == "new-forum@mail.example"
    assert not await world.contacts.verify(grant), "an old link brings nothing back"


async def test_a_stranger_is_not_flooded_with_verification_mails(notifier: World) -> None:
    from shared.web import Problem

    for n in range(5):
        await notifier.contacts.ask("ada", f"victim{n}@mail.example")
    with pytest.raises(Problem) as problem:
        await notifier.contacts.ask("ada", "victim@mail.example")
    assert problem.value.status == 429


async def test_a_late_contact_does_not_overwrite_a_newer_one(notifier: World) -> None:
    now = datetime.now(UTC)
    await notifier.happen(
        notifier.event("contact-changed", now, member_id="ada", email="new@mail.example"),
        notifier.event("contact-changed", now - HOUR, member_id="ada", email="old@mail.example"),
    )
    await notifier.happen(notifier.event("contact-changed", now - HOUR, member_id="ada", email="old@mail.example"))
    assert (await notifier.contacts.read("ada"))["email"] == "new@mail.example"


async def test_an_address_that_comes_while_its_delivery_is_decided_without_it_is_not_missed(
    notifier_pool: Pool,
) -> None:
    world = World(notifier_pool, [channel := Scripted()])
    await world.member("ada", None)
    await ask(world, "t1")
    written = asyncio.Event()
    go_on = asyncio.Event()
    inner = world.pipeline._roll

    async def slowly(*arguments: Any) -> None:
        # Decided to wait, not yet committed.
        written.set()
        await go_on.wait()
        await inner(*arguments)

    world.pipeline._roll = slowly  # type: ignore[method-assign]
    claiming = asyncio.create_task(world.pipeline.claim("email", ORDINARY, 10))
    await written.wait()
    coming = asyncio.create_task(
        world.happen(world.event("contact-changed", member_id="ada", email="ada@mail.example"))
    )
    await asyncio.sleep(0.3)
    go_on.set()
    await claiming
    await coming
    await world.turn()
    assert len(channel.sent) == 1
