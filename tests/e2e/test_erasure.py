"""member-erased: nothing of the member stays, the others' totals do, and nobody comes back."""

import asyncio
import json
import time
from collections.abc import Iterable

import asyncpg

from deploy.services import NAMES
from tests.e2e.site import Json, Site, ago, asked, event, eventually, fresh, of, replied
from tests.e2e.streams import records_of, write_raw

A_MINUTE = 60
_TEXTUAL = ("text", "character varying", "character", "name", "json", "jsonb", "ARRAY", "xml", "USER-DEFINED")


async def _places(connection: asyncpg.Connection, needles: Iterable[str]) -> list[str]:
    """Every column of every table of the four schemas in which one of the needles stands."""
    columns = await connection.fetch(
        "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = ANY($1::text[]) AND table_type = 'BASE TABLE' ORDER BY 1, 2, ordinal_position",
        list(NAMES),
    )
    assert {row["table_schema"] for row in columns} == set(NAMES)
    assert {"bytea", "jsonb", "text"} <= {row["data_type"] for row in columns}
    found = []
    for row in columns:
        table, column = f'"{row["table_schema"]}"."{row["table_name"]}"', f'"{row["column_name"]}"'
        for needle in needles:
            if row["data_type"] == "bytea":
                there = await connection.fetchval(
                    f"SELECT count(*) FROM {table} WHERE position($1::bytea IN {column}) > 0", needle.encode()
                )
            elif row["data_type"] in _TEXTUAL:
                there = await connection.fetchval(
                    f"SELECT count(*) FROM {table} WHERE position($1 IN {column}::text) > 0", needle
                )
            else:
                continue
            if there:
                found.append(f"{table}.{column}: {needle} in {there} rows")
    return found


async def _gone(connection: asyncpg.Connection, needles: list[str]) -> float:
    """Wait until nothing names them any more, at most the minute that is promised; returns how long it took."""
    began = time.monotonic()
    while places := await _places(connection, needles):
        assert time.monotonic() - began < A_MINUTE, places
        await asyncio.sleep(0.2)
    return time.monotonic() - began


def _board(site: Site, space: str) -> dict[str, int]:
    answer = site.client.get(f"/leaderboard/api/boards/space:{space}").raise_for_status()
    return {one["member_id"]: one["points"] for one in answer.json()["entries"]}


def _total(site: Site, space: str) -> Json:
    return site.ask("sla", space=space, as_of=ago().isoformat())


async def test_an_erased_member_is_wiped_everywhere_and_stays_away(site: Site) -> None:
    member, other, name, space = fresh("mortal"), fresh("merged"), fresh("Quentin"), fresh("space")
    mine, theirs, claimed, policy = fresh("topic"), fresh("topic"), fresh("topic"), f"space:{fresh('promise')}"
    helping, helped = fresh("r"), fresh("r")
    star, staff = site.bearer("star", member=member), site.bearer("staff", member=member)
    told = {"member_id": member, "name": name, "email": f"{name}@mail.example"}
    first = [
        event("member-registered", told),
        asked(mine, ago(hours=5), author_id=member, space=space),
        asked(theirs, ago(hours=5), space=space),
        asked(claimed, ago(hours=5), space=space),
        replied(theirs, helping, member, ago(hours=4)),
        replied(mine, helped, "helper", ago(hours=3)),
        of("solution-accepted", mine, "r", accepted_by=member),
        event("kudos-given", {"topic_id": theirs, "kudos_id": fresh("k"), "giver_id": member}),
        event("kudos-given", {"topic_id": mine, "reply_id": helped, "kudos_id": fresh("k"), "giver_id": member}),
        event("kudos-given", {"topic_id": theirs, "reply_id": helping, "kudos_id": fresh("k"), "giver_id": "helper"}),
        event("member-merged", {"member_id": other, "status": "merged", "into_member_id": member, "name": name}),
    ]
    site.publish(*first)
    for topic, state in ((mine, "answered"), (theirs, "answered"), (claimed, "waiting")):
        site.topic_when(topic, lambda found, state=state: found["state"] == state)
    assert site.claim(claimed, star).status_code == 200
    assert site.put_policy({"scope": policy, "target_seconds": 60, "objective": 0.5}, staff).status_code == 200
    # The member's reply in time and its kudos; the helper's, and the member's kudos on it.
    eventually(lambda: _board(site, space), lambda found: found == {member: 6, "helper": 6})
    zone = {"time_zone": "Europe/Vienna"}
    site.client.put(f"/leaderboard/api/boards/space:{space}", json=zone, headers=staff).raise_for_status()
    season = {"season_id": fresh("season"), "board": f"space:{space}", "start": "2020-01-01", "end": "2100-01-01"}
    site.client.post("/leaderboard/api/seasons", json=season, headers=staff).raise_for_status()
    site.client.post(f"/leaderboard/api/seasons/{season['season_id']}/close", headers=staff).raise_for_status()
    unreadable = json.dumps({"type": "reply-posted", "data": {"author_id": member, "name": name}}).encode()
    await write_raw(site, ("forum.events", fresh("t"), unreadable), ("members.events", member, name.encode()))
    before = _total(site, space)
    assert (before["topics"], before["met"]) == (3, 2)

    connection = await asyncpg.connect(site.info.postgres)
    try:
        # That the search finds what is there; also that each service knows the member.
        while len([place for place in await _places(connection, [name]) if '"dead_letter"' in place]) < 4:
            await asyncio.sleep(0.1)
        places = await _places(connection, [member, name])
        for schema in NAMES:
            assert any(place.startswith(f'"{schema}"."member"') for place in places), places
        assert any('"topics"."claim"' in place for place in places), places
        assert any('"topics"."policy"' in place for place in places), places
        for table in ("ledger", "standing", "season_standing", "sequence", "time_zone", "milestone"):
            assert any(f'"leaderboard"."{table}"' in place for place in places), (table, places)

        site.publish(event("member-erased", {"member_id": member}), event("member-erased", {"member_id": other}))
        assert await _gone(connection, [member, other, name]) < A_MINUTE
        assert _total(site, space) == before
        assert eventually(lambda: _board(site, space), lambda found: member not in found) == {"helper": 6}
        for topic, state in ((mine, "answered"), (theirs, "answered"), (claimed, "waiting")):
            found = site.topic(topic)
            assert found is not None
            assert found["state"] == state
            assert not any(word in json.dumps(found) for word in (member, other, name))
        author, stand_in = site.topic(mine)["author_id"], site.topic(theirs)["first_response"]["responder_id"]
        assert author == stand_in
        assert author.startswith("erased:")
        assert len(author) == len("erased:") + 32

        # Late and repeated events that name them, and tokens that they still hold.
        late = fresh("topic")
        site.publish(*first)
        site.publish(
            asked(late, ago(hours=1), author_id=member, space=fresh("space")),
            replied(late, fresh("r"), other),
            event("member-updated", {"member_id": member, "name": name}),
            event("member-merged", {"member_id": other, "status": "merged", "into_member_id": member, "name": name}),
            event("member-merged", {"member_id": fresh("m"), "status": "merged", "into_member_id": member}),
        )
        assert site.topic_when(late, lambda found: found["replies"] == 1)["author_id"] == author
        assert site.claim(claimed, site.bearer("star", member=other)).status_code == 403
        site.put_policy({"scope": policy, "target_seconds": 90, "objective": 0.5}, staff).raise_for_status()
        site.ask("topics", star, mine="true")
        await asyncio.sleep(2)
        assert await _places(connection, [member, other, name]) == []
        assert _total(site, space) == before
        audit = [await connection.fetchval(f'SELECT count(*) FROM "{schema}".erased') for schema in NAMES]
        assert min(audit) >= 2
    finally:
        await connection.close()


async def test_the_contacts_stream_forgets_an_erased_members_address(site: Site) -> None:
    member = fresh("mortal")
    site.publish(event("member-registered", {"member_id": member, "email": f"{member}@mail.example"}))
    site.publish(event("member-erased", {"member_id": member}))
    assert _types(await records_of(site, "members.contacts", member, 2)) == ["contact-changed", "member-erased"]


async def test_a_late_address_is_not_the_last_word_of_the_contacts_stream(site: Site) -> None:
    member = fresh("mortal")
    site.publish(event("member-erased", {"member_id": member}))
    assert _types(await records_of(site, "members.contacts", member, 1)) == ["member-erased"]
    site.publish(event("member-updated", {"member_id": member, "email": f"{member}@mail.example"}))
    await asyncio.sleep(2)
    assert _types(await records_of(site, "members.contacts", member, 1))[-1] == "member-erased"


def _types(records: list[bytes]) -> list[str]:
    return [json.loads(record)["type"] for record in records]
