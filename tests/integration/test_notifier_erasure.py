"""member-erased wipes a member from the notifier, the local mailbox included, and brings nobody back."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from services.notifier.channels.mailbox import MailboxChannel
from services.notifier.rules import ORDINARY
from shared.postgres import Pool
from shared.web import Problem
from tests.notifier import World, composer


async def places(pool: Pool, *needles: str) -> list[str]:
    """Every column of the schema in which one of the needles stands, the outbox and its erasures aside."""
    columns = await pool.fetch(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'notifier'"
    )
    found = []
    for row in columns:
        for needle in needles:
            cast = "convert_from({}, 'LATIN1')" if row["data_type"] == "bytea" else "{}::text"
            what = cast.format(f'"{row["column_name"]}"')
            condition = " AND stream <> 'notifier.availability'" if row["table_name"] == "outbox" else ""
            query = f'SELECT count(*) FROM "{row["table_name"]}" WHERE position($1 IN {what}) > 0{condition}'
            if await pool.fetchval(query, needle):
                found.append(f"{row['table_name']}.{row['column_name']}: {needle}")
    return found


async def test_nothing_of_an_erased_member_stays_and_nothing_brings_them_back(notifier: World) -> None:
    mortal, address, name = "mortal-member", "quentin@mail.example", "Quentin Mortal"
    await notifier.member(mortal, address, name=name, time_zone="Europe/Stockholm")
    await notifier.member("ada")
    await notifier.happen(notifier.event("star-appointed", datetime.now(UTC) - timedelta(days=30), member_id=mortal))
    await notifier.preferences.change(mortal, {"follow": {"spaces": ["help"]}, "digest": {"every": "daily"}})
    await notifier.contacts.ask(mortal, "own-quentin@mail.example")
    await notifier.pool.execute(
        "INSERT INTO push_subscription (member_id, endpoint, p256dh, auth) VALUES ($1, 'https://q', '', '')", mortal
    )
    await notifier.pool.execute(
        "INSERT INTO suppression (channel, address, member_id, reason) VALUES ('email', $1, $2, 'x')", "old@q", mortal
    )
    until = (datetime.now(UTC) + timedelta(hours=4)).isoformat()
    await notifier.happen(
        notifier.asked("t1", mortal, "ada"),
        notifier.asked("t2", author_id=mortal),
        notifier.event("quiz-passed", member_id=mortal, application_id="a"),
    )
    await notifier.preferences.change("ada", {"channels": {"claimed": {"email": True}}})
    await notifier.everything()
    await notifier.happen(notifier.event("topic-claimed", topic_id="t1", member_id=mortal, until=until))
    await notifier.everything()
    assert any(name in mail["subject"] for mail in await notifier.mails("ada"))
    before = await places(notifier.pool, mortal, address, name)
    for table in ("mail", "delivery", "notification", "contact", "preference", "interest", "digest", "job", "outbox"):
        assert any(place.startswith(f"{table}.") for place in before), (table, before)
    # One of theirs is in somebody's hands at this moment.
    await notifier.happen(notifier.asked("t3", mortal))
    await notifier.preferences.change(mortal, {"digest": {"every": "off"}})
    _, held = await notifier.pipeline.claim("email", ORDINARY, 10)
    assert held

    erased = notifier.event("member-erased", member_id=mortal, status="erased")
    await notifier.happen(erased)
    await notifier.channels[0].deliver(held, notifier.pipeline, urgent=False)
    await notifier.pipeline._finish.drained()
    left = await places(notifier.pool, mortal, address, "own-quentin@mail.example", name, "https://q", "old@q")
    assert left == []
    availability = await notifier.published("notifier.availability")
    assert availability[-1]["type"] == "member-erased"
    assert availability[-1]["data"] == {"member_id": mortal, "status": "erased"}
    assert (await notifier.inbox.page("ada", 10, None))["items"][0]["title"].startswith("Somebody takes it on")

    await notifier.happen(
        notifier.event("contact-changed", member_id=mortal, email=address),
        notifier.event("member-updated", member_id=mortal, status="active", name=name),
        notifier.asked("t4", mortal, "ada"),
        notifier.event("quiz-passed", member_id=mortal, application_id="b"),
        notifier.event("topic-claimed", topic_id="t4", member_id=mortal, until=until),
    )
    for attempt in (
        notifier.preferences.read(mortal),
        notifier.preferences.change(mortal, {"daily_budget": 3}),
        notifier.contacts.ask(mortal, address),
        notifier.contacts.read(mortal),
    ):
        with pytest.raises(Problem) as problem:
            await attempt
        assert problem.value.status == 404
    await notifier.everything()
    assert await places(notifier.pool, mortal, address, name) == []


async def test_a_mail_to_another_that_names_the_erased_goes_too(notifier_pool: Pool) -> None:
    world = World(notifier_pool, [MailboxChannel(composer())])
    for name in ("ada", "eve"):
        await world.member(name)
    await world.preferences.change("ada", {"channels": {"claimed": {"email": True}}})
    await world.happen(world.asked("t1", "ada"))
    await world.everything()
    until = (datetime.now(UTC) + timedelta(hours=4)).isoformat()
    await world.happen(world.event("topic-claimed", topic_id="t1", member_id="eve", until=until))
    await world.everything()
    assert len(await world.mails("ada")) == 2
    await world.happen(world.event("member-erased", member_id="eve", status="erased"))
    assert [mail["category"] for mail in await world.mails("ada")] == ["answer-needed"]
    assert "eve" not in json.dumps(await world.deliveries("ada"), default=str)


async def test_an_erasure_on_the_contacts_stream_alone_wipes_as_well(notifier: World) -> None:
    await notifier.member("ada")
    event = notifier.event("member-erased", member_id="ada", status="erased")
    from shared.messaging import Batch, Record
    from tests.notifier import READER

    async with notifier.outbox.transaction() as transaction:
        record = Record(READER.read(event), "members.contacts", 0, 0, datetime.now(UTC))
        await notifier.consumer.apply(Batch(transaction, [record]))
    assert await places(notifier.pool, "ada@mail.example") == []
    assert await notifier.published("notifier.availability") == []


async def test_staff_who_are_erased_are_named_in_no_delivery_of_others(notifier: World) -> None:
    for name in ("ada", "sue-of-staff", "tom-of-staff"):
        await notifier.member(name)
    await notifier.happen(notifier.event("quiz-passed", member_id="ada", application_id="a"))
    await notifier.everything()
    [one] = await notifier.deliveries("ada", channel="email")
    await notifier.desk.resend(int(one["delivery_id"]), "sue-of-staff")
    await notifier.desk.cancel(int(one["delivery_id"]), "tom-of-staff")
    [one] = await notifier.deliveries("ada", channel="email")
    assert [entry["detail"] for entry in one["history"][-2:]] == ["by sue-of-staff", "by tom-of-staff"]
    await notifier.happen(
        *(notifier.event("member-erased", member_id=name, status="erased") for name in ("sue-of-staff", "tom-of-staff"))
    )
    assert await places(notifier.pool, "sue-of-staff", "tom-of-staff") == []
    [one] = await notifier.deliveries("ada", channel="email")
    assert all(entry["detail"].startswith("by erased:") for entry in one["history"][-2:])


async def test_an_account_that_was_merged_into_an_erased_member_is_wiped_too(notifier: World) -> None:
    await notifier.member("old-account", "old-account@mail.example")
    await notifier.member("new-account", "new-account@mail.example")
    await notifier.happen(notifier.event("quiz-passed", member_id="old-account", application_id="a"))
    await notifier.everything()
    await notifier.happen(
        notifier.event("member-merged", member_id="old-account", into_member_id="new-account", status="merged")
    )
    await notifier.happen(notifier.event("member-erased", member_id="new-account", status="erased"))
    await notifier.happen(notifier.event("contact-changed", member_id="old-account", email="old-account@mail.example"))
    left = await places(notifier.pool, "old-account@mail.example", "new-account")
    assert left == []
    for table in ("contact", "delivery", "notification", "mail"):
        assert not await notifier.pool.fetchval(f"SELECT count(*) FROM {table} WHERE member_id = 'old-account'")


async def test_an_account_that_turns_out_to_be_an_erased_members_is_wiped_as_well(notifier: World) -> None:
    await notifier.member("second-account", "second@mail.example")
    await notifier.preferences.change("second-account", {"follow": {"spaces": ["help"]}})
    await notifier.happen(notifier.event("member-erased", member_id="mortal", status="erased"))
    merged = {"member_id": "second-account", "status": "merged", "into_member_id": "mortal"}
    await notifier.happen(notifier.event("member-merged", **merged))
    assert await places(notifier.pool, "second@mail.example") == []
    for table in ("preference", "interest", "contact"):
        assert not await notifier.pool.fetchval(f"SELECT count(*) FROM {table} WHERE member_id = 'second-account'")
