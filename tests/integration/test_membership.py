"""Membership, perks, Star Jam and what others are told, against real PostgreSQL and several at once."""

import asyncio
import base64
import hashlib
import hmac
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import asyncpg
import httpx
import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.applications import rules
from services.applications.programme import SQL as PROGRAMME_SQL
from services.applications.rules import Candidate, Criterion, Month, Rank, Record, Standing
from services.applications.telling import Group, Telling, pause_after
from shared.forum.facts import SQL as FACTS_SQL
from shared.web import Principal, Role
from tests.integration.applications_engine import STAFF_A, House, deeds, event, house, member, unique
from tests.integration.test_applications import outcomes, refused
from tests.oracle.cases import ERASURE_KEY

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
async def home(applications_database: str) -> AsyncIterator[House]:
    async with house(applications_database, ERASURE_KEY) as built:
        yield built


# --- ranks and terms -------------------------------------------------------------------------------------------------

RANKS = (
    Rank("low", 6, (Criterion("replies", at_least=10, months=6),)),
    Rank("high", 12, (Criterion("replies", at_least=100, months=12),)),
)
GRACE = timedelta(days=30)


def record(replies: int) -> Record:
    return Record([Month(date(2026, 5, 1), "help", "en", replies, 0, 0, 0)])


@pytest.mark.parametrize(
    ("standing", "replies", "what", "rank"),
    [
        (Standing("active", "low", NOW - timedelta(days=1)), 10, "renewed", "low"),
        (Standing("active", "low", NOW), 100, "promoted", "high"),
        (Standing("active", "high", NOW), 99, "warned", "high"),
        (Standing("grace", "high", NOW, NOW), 99, "demoted", "low"),
        (Standing("grace", "high", NOW, NOW), 100, "renewed", "high"),
        (Standing("grace", "low", NOW, NOW), 9, "retired", None),
        (Standing("active", "low", NOW + timedelta(seconds=1)), 0, None, None),
        (Standing("active", "low", None), 0, None, None),
        (Standing("leave", "low", NOW, None, NOW - timedelta(days=40), NOW), 0, "returned", "low"),
    ],
)
def test_a_term_is_renewed_warned_of_or_ended_by_what_was_done(
    standing: Standing, replies: int, what: str | None, rank: str | None
) -> None:
    judged = rules.judge(standing, RANKS, record(replies), NOW, GRACE)
    assert (judged.what if judged else None) == what
    assert (judged.standing.rank if judged and judged.standing else None) == rank


@given(
    away=st.integers(1, 366),
    left=st.integers(0, 400),
    state=st.sampled_from(["active", "grace"]),
    replies=st.integers(0, 200),
)
def test_leave_takes_nothing_of_a_term_and_a_judged_membership_is_not_due_again(
    away: int, left: int, state: Any, replies: int
) -> None:
    since = NOW - timedelta(days=away)
    back = rules.returned(Standing("leave", "low", since + timedelta(days=left), None, since, NOW), NOW)
    assert back.term_ends == NOW + timedelta(days=left)
    due = Standing(state, "low", NOW - timedelta(days=1), NOW if state == "grace" else None)
    judged = rules.judge(due, RANKS, record(replies), NOW, GRACE)
    assert judged is not None
    assert judged.standing is None or rules.judge(judged.standing, RANKS, record(replies), NOW, GRACE) is None


@given(away=st.integers(1, 366), left=st.integers(0, 30))
def test_leave_takes_nothing_of_grace_and_gives_none(away: int, left: int) -> None:
    since = NOW - timedelta(days=away)
    ended = since - timedelta(days=3)
    back = rules.returned(Standing("leave", "low", ended, since + timedelta(days=left), since, NOW), NOW)
    assert back == Standing("grace", "low", ended, NOW + timedelta(days=left))


async def test_a_leave_in_grace_is_no_way_out_of_it(home: House) -> None:
    ada = unique("ada")
    await home.appoint(ada)
    await home.pool.execute("UPDATE membership SET term_ends = now()")
    await home.parts.membership.judge_due()
    left = "SELECT round(extract(epoch FROM grace_ends - now()) / 86400)::int FROM membership"
    assert await home.pool.fetchval(left) == 30
    await home.pool.execute("UPDATE membership SET grace_ends = grace_ends - interval '29 days'")
    for back in (False, True):
        await home.parts.membership.take_leave(member(ada), ada, datetime.now(UTC) + timedelta(days=9))
        assert (await home.parts.membership.read(STAFF_A, ada))["state"] == "leave"
        if back:
            await home.parts.membership.come_back(member(ada), ada)
        else:
            await home.pool.execute("UPDATE membership SET leave_until = now()")
            await home.parts.membership.judge_due()
        assert (await home.parts.membership.read(STAFF_A, ada))["state"] == "grace"
        assert await home.pool.fetchval(left) == 1
    await home.pool.execute("UPDATE membership SET grace_ends = now()")
    await home.parts.membership.judge_due()
    assert (await home.parts.membership.read(STAFF_A, ada))["state"] == "retired"


async def test_terms_run_out_for_each_member_once_however_many_replicas_look(
    home: House, applications_database: str
) -> None:
    idle, busy = [unique("idle") for _ in range(5)], unique("busy")
    await home.happen(*deeds(busy))
    await home.appoint(*idle, busy)
    other = House(applications_database, ERASURE_KEY)
    await other.pool
    try:
        for what in ("warned", "retired"):
            await home.pool.execute(
                "UPDATE membership SET term_ends = now() WHERE state = 'active';"
                "UPDATE membership SET grace_ends = now() WHERE state = 'grace'"
            )
            judges = [at.parts.membership.judge_due() for at in (home, other) * 3]
            while sum(await asyncio.gather(*judges)):
                judges = [home.parts.membership.judge_due()]
            rows = await home.pool.fetch("SELECT member_id FROM membership_change WHERE what = $1", what)
            assert sorted(row["member_id"] for row in rows) == sorted(idle)
        assert sorted(one["data"]["member_id"] for one in await home.told("star-retired")) == sorted(idle)
        assert (await home.parts.membership.read(STAFF_A, busy))["state"] == "active"
        history = (await home.parts.membership.read(STAFF_A, idle[0]))["history"]
        assert [one["what"] for one in history] == ["appointed", "warned", "retired"]
    finally:
        await other.pool.close()


async def test_whoever_gets_another_rank_is_told_of_to_the_other_services_once(home: House) -> None:
    ada = unique("ada")
    await home.happen(*deeds(ada))
    await home.appoint(ada)
    for _ in range(2):
        await home.parts.membership.set_rank(STAFF_A, ada, "rock-star")
    # They did not do enough for that lately: the timer demotes once grace is over.
    for _ in range(2):
        await home.pool.execute("UPDATE membership SET term_ends = now(), grace_ends = now()")
        while await home.parts.membership.judge_due():
            pass
    said = [(one["data"]["member_id"], one["data"]["rank"]) for one in await home.told("star-ranked")]
    assert said == [(ada, "rock-star"), (ada, "rising-star")]


async def test_the_directory_shows_only_who_wants_to_be_found(home: House) -> None:
    shy, open_ = unique("shy"), unique("open")
    await home.appoint(shy, open_)
    await home.parts.membership.describe(
        member(open_), open_, listed=True, about="Playlists", spaces=["help"], languages=["en"]
    )
    seen = await home.parts.membership.directory(None, None, None, 50, None)
    assert [one["member_id"] for one in seen["items"]] == [open_]
    assert (await home.parts.membership.directory(None, "elsewhere", None, 50, None))["items"] == []
    assert len((await home.parts.membership.directory(STAFF_A, None, None, 50, None))["items"]) == 2
    await refused(home.parts.membership.read(member(open_), shy), 404)
    await refused(
        home.parts.membership.describe(member(shy), open_, listed=False, about=None, spaces=[], languages=[]), 404
    )


async def test_a_record_can_be_verified_by_anybody_and_changed_by_nobody(home: House) -> None:
    who = unique("ada")
    await home.happen(*deeds(who))
    await home.appoint(who)
    told = await home.parts.records.read(member(who), who)
    assert told["total"] == {"replies": 50, "solutions": 5, "first_responses": 10, "kudos": 25}
    signed = home.parts.records.signer.sign(told, datetime.now(UTC))
    [key] = home.parts.records.signer.keys()["keys"]
    assert key.keys() == {"kty", "crv", "x", "kid", "use", "alg"}  # the public half alone
    assert jwt.decode(signed, jwt.PyJWK(key).key, algorithms=["EdDSA"])["record"] == json.loads(json.dumps(told))
    head, body, mac = signed.split(".")
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(body + "==").replace(b'"replies":50', b'"replies":99'))
    assert forged.rstrip(b"=").decode() != body
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{head}.{forged.rstrip(b'=').decode()}.{mac}", jwt.PyJWK(key).key, algorithms=["EdDSA"])
    await refused(home.parts.records.read(member(unique("other")), who), 404)


async def test_a_roster_comes_in_whole_or_not_at_all_and_is_history(home: House) -> None:
    ada, ben = unique("ada"), unique("ben")
    text = f"member_id,since,rank\n{ada},2020-05-01,rock-star\n{ben},2999-01-01,\n{ben},,captain\n"
    problem = await refused(home.parts.roster.take(STAFF_A, text), 400, "invalid-roster")
    assert [one["index"] for one in problem.members["errors"]] == [3, 4]
    assert await home.pool.fetchval("SELECT count(*) FROM membership") == 0
    lines = (
        "\ufeffmember_id,since,rank,spaces,languages,listed",
        f"{ada},2020-05-01,rock-star,help;premium,en,yes",
        f"{ben},,,,,",
    )
    text = "\r\n".join(lines)
    assert (await home.parts.roster.take(STAFF_A, text))["appointed"] == 2
    assert (await home.parts.roster.take(STAFF_A, text)) == {
        "lines": 2,
        "appointed": 0,
        "stars_already": 2,
        "erased": 0,
    }
    told = {one["data"]["member_id"]: one for one in await home.told("star-appointed")}
    assert told[ada]["time"] == "2020-05-01T00:00:00Z"
    assert all(one["backfill"] for one in told.values())
    for bad in ("", "name\nada", 'member_id\n"ada', "member_id,rank\nada", "member_id\n" + "x" * 300):
        await refused(home.parts.roster.take(STAFF_A, bad), 400, "invalid-roster")


async def test_a_long_roster_takes_no_more_statements_than_a_short_one(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for name in ("fetch", "fetchrow", "fetchval", "execute"):
        ask = getattr(asyncpg.Connection, name)

        def counted(connection: Any, query: str, *args: Any, _ask: Any = ask, **more: Any) -> Any:
            asked.append(query)
            return _ask(connection, query, *args, **more)

        monkeypatch.setattr(asyncpg.Connection, name, counted)
    counts = []
    for n in (1, 1, 300):
        del asked[:]
        lines = "".join(f"{unique('star')},help\n" for _ in range(n))
        assert (await home.parts.roster.take(STAFF_A, "member_id,spaces\n" + lines))["appointed"] == n
        counts.append(len(asked))
    assert counts[1] == counts[2] > 0


async def test_a_roster_names_a_member_once_whatever_accounts_they_have(home: House) -> None:
    old, new, gone = unique("a-old"), unique("b-new"), unique("gone")
    merged = {"member_id": old, "status": "merged", "into_member_id": new}
    await home.happen(event("member-merged", merged, datetime.now(UTC)))
    await home.happen(event("member-erased", {"member_id": gone, "status": "erased"}, datetime.now(UTC)))
    text = f"member_id,since,rank\n{new},2021-01-01,\n{old},2020-01-01,rock-star\n{gone},,\n"
    found = await home.parts.roster.take(STAFF_A, text)
    assert found == {"lines": 3, "appointed": 1, "stars_already": 1, "erased": 1}
    [told] = await home.told("star-appointed")
    assert (told["data"], told["time"]) == ({"member_id": new, "rank": "rock-star"}, "2020-01-01T00:00:00Z")


async def test_a_roster_that_is_only_checked_waits_for_nobody(home: House) -> None:
    async with home.pool.acquire() as connection, connection.transaction():
        await connection.execute(FACTS_SQL.share_lock)
        async with asyncio.timeout(30):
            checked = await home.parts.roster.take(STAFF_A, "member_id\nada\n", dry_run=True)
            await refused(home.parts.roster.take(STAFF_A, "member_id,rank\nada,captain\n"), 400, "invalid-roster")
    assert checked == {"lines": 1, "appointed": 0, "stars_already": 0, "erased": 0}


# --- accounts that are merged ----------------------------------------------------------------------------------------


def merge(id: str, into: str, seconds: int = 0) -> dict[str, Any]:
    data = {"member_id": id, "status": "merged", "into_member_id": into}
    return event("member-merged", data, datetime.now(UTC) + timedelta(seconds=seconds))


async def test_two_stars_who_are_one_are_listed_once_and_retire_as_one(home: House) -> None:
    old, new = unique("old"), unique("new")
    for who, since in ((old, "2020-01-01"), (new, "2021-01-01")):
        await home.parts.roster.take(STAFF_A, f"member_id,since,spaces,listed\n{who},{since},{who},yes")
    await home.happen(merge(old, new))

    async def listed(who: Principal | None = None, space: str | None = None) -> list[str]:
        items = (await home.parts.membership.directory(who, space, None, 50, None))["items"]
        return [one["member_id"] for one in items]

    assert await listed() == await listed(STAFF_A) == await listed(None, new) == [new]
    assert await listed(None, old) == []
    # The other way round, and taken back.
    active = {"member_id": old, "status": "active"}
    await home.happen(event("member-updated", active, datetime.now(UTC) + timedelta(seconds=1)))
    assert await listed() == [old, new]
    await home.happen(merge(new, old, 2))
    assert await listed() == [old]
    assert (await home.parts.membership.retire(member(old), new, None))["state"] == "retired"
    assert (await home.parts.membership.read(STAFF_A, old))["state"] == "retired"
    assert await listed(STAFF_A) == []
    assert {one["data"]["member_id"] for one in await home.told("star-retired")} == {old, new}


async def test_a_person_with_two_accounts_is_judged_once_by_the_later_membership(home: House) -> None:
    old, new = unique("old"), unique("new")
    for who, since in ((old, "2020-01-01"), (new, "2021-01-01")):
        await home.parts.roster.take(STAFF_A, f"member_id,since\n{who},{since}")
    await home.happen(merge(old, new))
    await home.pool.execute("UPDATE membership SET term_ends = now() WHERE member_id = $1", old)
    assert await home.parts.membership.judge_due() == 0
    await home.pool.execute("UPDATE membership SET state = 'grace', grace_ends = now() WHERE member_id = $1", new)
    assert await home.parts.membership.judge_due() == 1
    assert await home.pool.fetchval("SELECT count(*) FROM membership WHERE state = 'retired'") == 2
    assert await home.parts.membership.judge_due() == 0


async def test_who_is_a_star_by_a_merged_account_is_not_invited_to_apply(home: House) -> None:
    old, new = unique("old"), unique("new")
    await home.pool.execute("UPDATE programme SET inviting = true")
    await home.appoint(old)
    await home.happen(merge(old, new))
    await home.happen(*deeds(new))
    assert await home.told("programme-invited") == []
    edition = await home.programme.present(home.pool)
    [found] = await home.pool.fetch(PROGRAMME_SQL.eligible, edition.number, None, None, 10)
    assert (found["member_id"], found["is_star"]) == (new, True)


async def test_a_roster_makes_a_star_again_of_who_retired_and_every_other_service_sees_it_so(home: House) -> None:
    ada = unique("ada")
    text = f"member_id,since\n{ada},2024-01-01"
    for _ in range(2):
        await home.parts.roster.take(STAFF_A, text)
        await home.parts.membership.retire(STAFF_A, ada, None)
    await home.parts.roster.take(STAFF_A, text)
    star = await home.parts.membership.read(STAFF_A, ada)
    assert star["state"] == "active"
    told = await home.told("star-appointed", "star-retired")
    in_time = sorted(told, key=lambda one: datetime.fromisoformat(one["time"]))
    assert [one["type"] for one in in_time] == ["star-appointed", "star-retired"] * 2 + ["star-appointed"]
    assert len({one["time"] for one in told}) == len(told)
    assert [one["what"] for one in star["history"]] == ["appointed", "retired"] * 2 + ["appointed"]
    assert all(one.get("backfill") for one in told if one["type"] == "star-appointed")


# --- perks -----------------------------------------------------------------------------------------------------------


async def test_whatever_perk_can_be_made_can_be_given_and_sent(home: House) -> None:
    ada = unique("ada")
    await home.appoint(ada)
    name = "A" * 200
    perk = await home.parts.perks.make(name, "Access", "access", [], None, True)
    grant = await home.parts.perks.grant(member(ada), perk, None)
    await home.parts.perks.fulfil(grant["grant_id"])
    assert grant["perk"] == name
    assert [one["data"]["perk"] for one in await home.told("perk-granted", "perk-fulfilled")] == ["A" * 100] * 2


async def test_stock_is_never_given_twice_and_addresses_stay_only_until_used(
    home: House, applications_database: str
) -> None:
    stars = [unique("star") for _ in range(8)]
    await home.appoint(*stars)
    perk = await home.parts.perks.make("Shirt", "A shirt", "swag", [], 3, True)
    other = House(applications_database, ERASURE_KEY)
    await other.pool
    try:
        works = [at.parts.perks.grant(member(who), perk, None) for who in stars for at in (home, other)]
        found = await outcomes(*works)
    finally:
        await other.pool.close()
    granted = [one for one in found if isinstance(one, dict)]
    assert len({one["member_id"] for one in granted}) == len(granted) == 3
    assert set(Counter(one for one in found if isinstance(one, str))) <= {"out-of-stock", "granted-already"}
    assert await home.pool.fetchval("SELECT left_in_stock FROM perk") == 0
    [grant, *_] = granted
    await refused(home.parts.perks.fulfil(grant["grant_id"]), 409, "address-missing")
    stranger = next(one for one in stars if one != grant["member_id"])
    await refused(home.parts.perks.address(member(stranger), grant["grant_id"], "1 Long Street, Somewhere"), 404)
    await home.parts.perks.address(member(grant["member_id"]), grant["grant_id"], "=1 Long Street, Somewhere")
    assert "'=1 Long Street" in await home.parts.perks.export(perk)
    assert "Long Street" not in json.dumps(await home.parts.perks.grants(perk), default=str)
    await home.parts.perks.fulfil(grant["grant_id"])
    assert await home.pool.fetchval("SELECT count(*) FROM perk_grant WHERE address IS NOT NULL") == 0
    assert "Long Street" not in await home.parts.perks.export(perk)
    assert Counter(one["type"] for one in await home.told("perk-granted", "perk-fulfilled")) == {
        "perk-granted": 3,
        "perk-fulfilled": 1,
    }
    await refused(home.parts.perks.grant(member(unique("nobody")), perk, None), 409, "no-star")


# --- Star Jam --------------------------------------------------------------------------------------------------------

GUESTS = st.lists(
    st.tuples(
        st.sampled_from(["waiting", "invited", "accepted", "declined", "lapsed", "passed-over"]),
        st.sampled_from([None, "a", "b", "c"]),
    ),
    max_size=25,
)


@given(guests=GUESTS, seats=st.integers(1, 12), most=st.none() | st.integers(1, 4), seed=st.integers())
@settings(max_examples=300)
def test_the_waiting_list_moves_in_order_within_seats_and_quota(
    guests: list[tuple[Any, str | None]], seats: int, most: int | None, seed: int
) -> None:
    named = [(str(n), state, space) for n, (state, space) in enumerate(guests)]
    rng = random.Random(seed)
    for _ in range(12):
        held = [one for one in named if one[1] in ("invited", "accepted")]
        chosen = rules.next_invited(named, seats, most)
        assert len(held) + len(chosen) <= max(seats, len(held))
        places = [int(one) for one in chosen]
        assert places == sorted(places)
        assert all(named[n][1] == "waiting" for n in places)
        after = [(id, "invited" if id in chosen else state, space) for id, state, space in named]
        if most is not None:
            before = Counter(one[2] for one in held)
            for space, count in Counter(one[2] for one in after if one[1] in ("invited", "accepted")).items():
                assert space is None or count <= max(most, before[space])
        # Nobody who waits could have been invited besides, nor instead of somebody behind them.
        taken = Counter(one[2] for one in after if one[1] in ("invited", "accepted"))
        for _, state, space in after:
            fits = most is None or space is None or taken[space] < most
            if state == "waiting" and fits:
                assert len([one for one in after if one[1] in ("invited", "accepted")]) >= seats
        assert rules.next_invited(after, seats, most) == []
        # Somebody declines, or lets it lapse.
        able = [n for n, one in enumerate(after) if one[1] in ("invited", "accepted")]
        if able:
            n = rng.choice(able)
            after[n] = (after[n][0], rng.choice(["declined", "lapsed"]), after[n][2])
        named = after


def test_a_shortlist_says_of_every_name_why() -> None:
    standings = [Candidate("ada", 1, 90, "help"), Candidate("ben", 2, 80, None), Candidate("ada", 3, 70, "help")]
    standings.append(Candidate("cy", 3, 70, "help"))
    named = rules.shortlist(standings, {"ada", "cy"}, {"cy": "Star Jam 2025"}, 2)
    assert [(one.candidate.member_id, one.may_be_invited, one.why) for one in named] == [
        ("ada", True, "Place 1 with 90 points; helps mostly in help"),
        ("ben", False, "Place 2 with 80 points, but no Star at the moment"),
        ("cy", False, "Place 3 with 70 points, but invited to Star Jam 2025"),
    ]


async def season(home: House, *members: str) -> str:
    """A closed season with these in its first places."""
    id = unique("season")
    standings = [{"rank": n + 1, "member_id": one, "points": 100 - n, "solutions": 1} for n, one in enumerate(members)]
    await home.happen(event("season-closed", {"season_id": id, "standings": standings}, datetime.now(UTC)))
    return id


async def jam_of(home: House, season_id: str, **more: Any) -> str:
    values = {"name": "Star Jam", "place": "Stockholm", "starts_on": date(2027, 6, 1), "ends_on": date(2027, 6, 3)}
    values |= {"seats": 2, "answer_days": 7, "rest_editions": 1, "most_per_space": None, "consent": "I agree."}
    return await home.parts.jams.make(**(values | more), season_id=season_id)


async def states(home: House, jam: str) -> dict[str, str]:
    """Of everybody on the list."""
    return {one["member_id"]: one["state"] for one in (await home.parts.jams.desk(jam))["guests"]}


async def test_who_declines_lapses_retires_or_is_erased_makes_way_for_the_next(home: House) -> None:
    stars = [unique(f"star{n}") for n in range(6)]
    nobody = unique("nobody")
    await home.appoint(*stars)
    jam = await jam_of(home, await season(home, stars[0], nobody, *stars[1:]))
    assert (await states(home, jam))[nobody] == "passed-over"
    await refused(home.parts.jams.answer(member(stars[0]), jam, accept=True, consent=True, travel_notes=None), 404)
    await home.parts.jams.invite(jam)
    await refused(home.parts.jams.invite(jam), 409, "wrong-state")

    async def invited() -> list[str]:
        found = await states(home, jam)
        return [one for one in stars if found.get(one) in ("invited", "accepted")]

    assert await invited() == stars[:2]
    no = await home.parts.jams.answer(member(stars[0]), jam, accept=False, consent=False, travel_notes=None)
    assert no["state"] == "declined"
    assert await invited() == stars[1:3]
    await home.pool.execute("UPDATE jam_guest SET answer_by = now() WHERE member_id = $1", stars[1])
    late = home.parts.jams.answer(member(stars[1]), jam, accept=True, consent=True, travel_notes=None)
    await refused(late, 409, "too-late")
    assert await invited() == stars[2:4]
    await refused(
        home.parts.jams.answer(member(stars[2]), jam, accept=True, consent=False, travel_notes=None),
        400,
        "consent-needed",
    )
    await home.parts.jams.answer(member(stars[2]), jam, accept=True, consent=True, travel_notes="A window seat")
    await home.parts.membership.retire(member(stars[4]), stars[4], "No time")
    await home.happen(event("member-erased", {"member_id": stars[3], "status": "erased"}, datetime.now(UTC)))
    assert await invited() == [stars[2], stars[5]]
    assert (await states(home, jam))[stars[4]] == "passed-over"
    told = [(one["type"], one["data"]["member_id"], one["data"].get("lapsed")) for one in await home.told()]
    assert [one for one in told if one[0] == "jam-declined"] == [
        ("jam-declined", stars[0], None),
        ("jam-declined", stars[1], True),
    ]
    assert [one[1] for one in told if one[0] == "jam-invited" and not one[1].startswith("erased:")] == [
        *stars[:3],
        stars[5],
    ]
    # Rest: who was invited to this one is passed over for the next.
    later = await jam_of(home, await season(home, *stars), starts_on=date(2028, 6, 1), ends_on=date(2028, 6, 2))
    assert {one for one, state in (await states(home, later)).items() if state == "waiting"} == set()
    await home.pool.execute("UPDATE jam SET ends_on = '2020-01-02', starts_on = '2020-01-01' WHERE jam_id = $1", jam)
    await home.parts.jams.forget_notes()
    assert await home.pool.fetchval("SELECT count(*) FROM jam_guest WHERE travel_notes IS NOT NULL") == 0


async def test_nobody_is_asked_to_answer_after_a_jam_began_nor_invited_to_one_that_did(home: House) -> None:
    stars = [unique(f"star{n}") for n in range(4)]
    await home.appoint(*stars)
    closed, today = await season(home, *stars), datetime.now(UTC).date()
    days = {"starts_on": today + timedelta(days=2), "ends_on": today + timedelta(days=3)}
    jam = await jam_of(home, closed, **days, seats=1, answer_days=14)
    await home.parts.jams.invite(jam)
    first, *_ = (await home.parts.jams.desk(jam))["guests"]
    assert first["answer_by"] == datetime(*days["starts_on"].timetuple()[:3], tzinfo=UTC)
    await home.pool.execute("UPDATE jam SET starts_on = $1, ends_on = $1", today)
    await home.pool.execute("UPDATE jam_guest SET answer_by = now() WHERE state = 'invited'")
    assert await home.parts.jams.lapse_due() == 1
    await home.parts.jams.set_seats(jam, 3)
    assert list((await states(home, jam)).values()) == ["lapsed", "waiting", "waiting", "waiting"]
    assert await home.parts.jams.end_due() == 0
    await home.pool.execute("UPDATE jam SET starts_on = $1, ends_on = $1", today - timedelta(days=1))
    assert [await home.parts.jams.end_due() for _ in range(2)] == [1, 0]
    assert (await home.parts.jams.desk(jam))["state"] == "over"
    begun = await jam_of(home, closed, starts_on=today, ends_on=today)
    await refused(home.parts.jams.invite(begun), 409, "wrong-state")


async def test_who_is_a_star_no_more_cannot_accept_but_can_decline(home: House) -> None:
    gone, kept = unique("gone"), unique("kept")
    await home.appoint(gone, kept)
    jam = await jam_of(home, await season(home, gone, kept), seats=1)
    await home.parts.jams.invite(jam)
    await home.parts.membership.retire(STAFF_A, gone, None)
    yes = home.parts.jams.answer(member(gone), jam, accept=True, consent=True, travel_notes=None)
    await refused(yes, 409, "no-star")
    await home.parts.jams.answer(member(gone), jam, accept=False, consent=False, travel_notes=None)
    assert await states(home, jam) == {gone: "declined", kept: "invited"}


async def test_who_was_invited_to_another_jam_since_the_list_was_made_rests(home: House) -> None:
    stars = [unique(f"star{n}") for n in range(4)]
    await home.appoint(*stars)
    closed = await season(home, *stars)
    spring = await jam_of(home, closed, seats=1)
    autumn = await jam_of(home, closed, seats=1, starts_on=date(2027, 9, 1), ends_on=date(2027, 9, 2))
    await home.parts.jams.invite(spring)
    await home.parts.jams.invite(autumn)
    assert list((await states(home, autumn)).values()) == ["passed-over", "invited", "waiting", "waiting"]
    # The waiting list moves by itself, and looks again, too.
    await home.parts.jams.set_seats(spring, 3)
    await home.parts.jams.answer(member(stars[1]), autumn, accept=False, consent=False, travel_notes=None)
    assert list((await states(home, autumn)).values()) == ["passed-over", "declined", "passed-over", "invited"]
    assert (await home.parts.jams.desk(autumn))["guests"][2]["why"].endswith("; invited to Star Jam since then")


async def test_jams_that_invite_at_once_never_invite_the_same(home: House, applications_database: str) -> None:
    stars = [unique(f"star{n:02}") for n in range(12)]
    await home.appoint(*stars)
    closed = await season(home, *stars)
    jams = [await jam_of(home, closed, seats=3, rest_editions=3) for _ in range(4)]
    other = House(applications_database, ERASURE_KEY)
    await other.pool
    try:
        invited = await outcomes(*(at.parts.jams.invite(jam) for jam, at in zip(jams, (home, other) * 2, strict=True)))
    finally:
        await other.pool.close()
    assert invited == [3] * 4
    assert sorted(one["data"]["member_id"] for one in await home.told("jam-invited")) == stars


async def test_many_answers_at_once_never_give_more_seats_than_there_are(
    home: House, applications_database: str
) -> None:
    stars = [unique(f"star{n:02}") for n in range(14)]
    await home.appoint(*stars)
    jam = await jam_of(home, await season(home, *stars), seats=4)
    await home.parts.jams.invite(jam)
    other = House(applications_database, ERASURE_KEY)
    await other.pool
    rng = random.Random(3)
    try:
        for _ in range(4):
            await home.pool.execute(
                "UPDATE jam_guest SET answer_by = now() WHERE member_id = (SELECT member_id FROM jam_guest"
                " WHERE state = 'invited' ORDER BY place LIMIT 1)"
            )
            asked = [one for one, state in (await states(home, jam)).items() if state == "invited"]
            works: list[Any] = [
                at.parts.jams.answer(member(who), jam, accept=rng.random() < 0.3, consent=True, travel_notes=None)
                for who in asked
                for at in (home, other)
            ]
            works += [at.parts.jams.lapse_due() for at in (home, other)]
            await outcomes(*works)
            found = Counter((await states(home, jam)).values())
            assert found["invited"] + found["accepted"] == min(4, 14 - found["declined"] - found["lapsed"])
    finally:
        await other.pool.close()
    invited = Counter(one["data"]["member_id"] for one in await home.told("jam-invited"))
    assert set(invited.values()) == {1}
    assert sorted(invited) == stars[: len(invited)]


# --- what others are told --------------------------------------------------------------------------------------------


class Forum:
    """A Discourse's admin API, as its documentation has it: adding twice, or removing who is not there, is refused."""

    def __init__(self) -> None:
        self.group: set[int] = set()
        self.asked: list[str] = []
        self.broken = 0
        self.hooks: list[httpx.Request] = []

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "hooks.example":
            self.hooks.append(request)
            return httpx.Response(500 if len(self.hooks) == 1 else 204)
        self.asked.append(f"{request.method} {request.url.path}")
        if self.broken:
            self.broken -= 1
            raise httpx.ConnectError("away")
        assert request.headers["api-key"] == "key"
        assert request.headers["api-username"] == "system"
        if request.method == "GET":
            number = int(request.url.path.split("/")[3].removesuffix(".json"))
            if number == 404:
                return httpx.Response(404, json={"errors": ["not found"]})
            groups = [{"id": 10}, *([{"id": 41}] if number in self.group else [])]
            return httpx.Response(200, json={"id": number, "groups": groups})
        number = int(parse_qs(request.content.decode())["user_ids"][0])
        if (number in self.group) == (request.method == "PUT"):
            return httpx.Response(422, json={"errors": ["is already, or is not, a member"]})
        self.group ^= {number}
        return httpx.Response(200, json={"success": "OK"})


async def test_the_forums_group_and_webhooks_follow_who_is_a_star(applications_database: str) -> None:
    forum = Forum()
    async with house(applications_database, ERASURE_KEY) as home:
        group = Group("https://forum.example", 41, "key", "system", forum.transport())
        telling = Telling(home.pool, group, ["https://hooks.example/in"], b"secret", forum.transport())
        home.parts.membership._told = telling.star  # type: ignore[method-assign]
        home.consumer._answering = telling.answering
        await home.open_to_everyone()
        ada = "forum.example:u:7"
        forum.broken = 1
        await home.become_star(ada)
        await telling.tick()
        assert forum.group == set()
        assert "does not answer" in await home.pool.fetchval("SELECT problem FROM group_member")
        for _ in range(3):
            await home.pool.execute("UPDATE group_member SET next_at = now(); UPDATE webhook SET next_at = now()")
            await telling.tick()
        assert forum.group == {7}
        assert forum.asked.count("PUT /groups/41/members.json") == 1
        assert await home.pool.fetchval("SELECT count(*) FROM webhook") == 0
        # Both tries carry the same id, and a signature that holds.
        first, second = forum.hooks
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        signed = f"{second.headers['webhook-id']}.{second.headers['webhook-timestamp']}.{second.content.decode()}"
        mac = base64.b64encode(hmac.new(b"secret", signed.encode(), hashlib.sha256).digest()).decode()
        assert second.headers["webhook-signature"] == f"v1,{mac}"
        assert json.loads(second.content)["type"] == "star-appointed"
        claim = {"topic_id": "t", "member_id": ada, "until": (datetime.now(UTC) + timedelta(hours=4)).isoformat()}
        await home.happen(event("topic-claimed", claim, datetime.now(UTC), sequence=1))
        await telling.tick()
        assert json.loads(forum.hooks[-1].content)["type"] == "star-answering"
        # Somebody has put them in by hand, took them out, or asks twice: it is looked at first.
        await home.pool.execute("UPDATE group_member SET is_in = NULL, next_at = now()")
        await telling.tick()
        assert forum.asked.count("PUT /groups/41/members.json") == 1
        await home.parts.membership.retire(member(ada), ada, None)
        await asyncio.gather(telling.tick(), telling.tick(), telling.tick())
        assert forum.group == set()
        assert forum.asked.count("DELETE /groups/41/members.json") == 1
        await home.appoint("forum.example:u:404", "somebody-else")
        hooks = len(forum.hooks)
        await telling.tick()
        rows = await home.pool.fetch("SELECT member_id, problem FROM group_member WHERE is_in ORDER BY member_id")
        assert [row["problem"] for row in rows] == ["the account is gone", "no account of this forum"]
        assert len(forum.hooks) == hooks  # a roster is history


async def test_the_forums_group_hears_of_merges_and_of_stars_from_before_it_was_set(
    applications_database: str,
) -> None:
    forum = Forum()
    async with house(applications_database, ERASURE_KEY) as home:
        one, two, three = (f"forum.example:u:{n}" for n in (1, 2, 3))
        await home.appoint(one, two)
        await home.parts.membership.retire(member(two), two, None)
        group = Group("https://forum.example", 41, "key", "system", forum.transport())
        telling = Telling(home.pool, group, [], None)
        home.parts.membership._told = telling.star  # type: ignore[method-assign]
        home.consumer._regroup = telling.regroup
        await telling.regroup_everyone()
        await telling.tick()
        assert forum.group == {1}
        await home.happen(merge(one, three))
        await telling.tick()
        assert forum.group == {3}
        await home.parts.membership.retire(member(three), three, None)
        await telling.tick()
        assert forum.group == set()
        asked = len(forum.asked)
        await telling.regroup_everyone()
        assert (await telling.tick(), len(forum.asked)) == (0, asked)


async def test_a_slow_change_of_the_group_that_comes_after_another_is_put_right(applications_database: str) -> None:
    forum, gate = Forum(), asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            await gate.wait()
        return forum._answer(request)

    async with house(applications_database, ERASURE_KEY) as home:
        group = Group("https://forum.example", 41, "key", "system", httpx.MockTransport(answer))
        telling = Telling(home.pool, group, [], None)
        home.parts.membership._told = telling.star  # type: ignore[method-assign]
        ada = "forum.example:u:7"
        await home.appoint(ada)
        slow = asyncio.create_task(telling.tick())
        while "GET /admin/users/7.json" not in forum.asked:
            await asyncio.sleep(0.01)
        await home.parts.membership.retire(member(ada), ada, None)
        await telling.tick()  # Another replica: they are not in the group, and there is nothing to do.
        gate.set()
        await slow
        while await telling.tick():
            pass
        assert forum.group == set()


async def test_nobody_hears_of_an_answer_that_is_long_over_or_of_who_was_erased(applications_database: str) -> None:
    async with house(applications_database, ERASURE_KEY) as home:
        telling = Telling(home.pool, None, ["https://hooks.example/in"], b"secret")
        home.consumer._answering = telling.answering
        now = datetime.now(UTC)
        star, gone, merged = unique("star"), unique("gone"), unique("merged")
        into = {"member_id": merged, "status": "merged", "into_member_id": gone}
        await home.happen(event("member-merged", into, now))

        async def claim(who: str, hours: int, **more: Any) -> list[str]:
            data = {"topic_id": unique("t"), "member_id": who, "until": (now + timedelta(hours=hours)).isoformat()}
            claimed = event("topic-claimed", data, now, sequence=1, **more)
            erased = event("member-erased", {"member_id": gone, "status": "erased"}, now)
            await home.happen(claimed, *([erased] if who != star else []))
            return [row["member_id"] for row in await home.pool.fetch("SELECT member_id FROM webhook")]

        assert await claim(star, -1) == []
        assert await claim(star, 4, backfill=True) == []
        assert await claim(gone, 4) == []
        assert await claim(gone, 4) == []
        assert await claim(merged, 4) == []
        assert await claim(star, 4) == [star]


def test_pauses_grow_and_have_an_end() -> None:
    assert pause_after(1) < pause_after(4) < pause_after(30) <= 3600 * 1.2


async def test_an_embargo_holds_for_all_but_the_stars_whom_it_is_for(home: House) -> None:
    rock, rising, reader = unique("rock"), unique("rising"), member(unique("reader"))
    await home.parts.roster.take(STAFF_A, f"member_id,rank\n{rock},rock-star\n{rising},rising-star")
    until = datetime.now(UTC) + timedelta(days=1)
    for audience in ("everyone", "stars", "rank:rock-star"):
        await home.parts.announcements.publish(STAFF_A, audience, "Text", audience, until)
    await refused(home.parts.announcements.publish(STAFF_A, "x", "y", "rank:captain", None), 400, "no-such-audience")

    async def read(who: Principal | None) -> set[str]:
        return {one["title"] for one in (await home.parts.announcements.page(who, 50, None))["items"]}

    assert await read(None) == await read(reader) == set()
    assert await read(member(rising)) == {"everyone", "stars"}
    assert await read(member(rock)) == await read(STAFF_A) == {"everyone", "stars", "rank:rock-star"}
    # Who is a Star by their token alone has no rank.
    assert await read(Principal(unique("star"), frozenset({Role.STAR}))) == {"everyone", "stars"}
    assert await read(Principal(None, frozenset({Role.STAR}))) == {"everyone", "stars"}
    assert await read(Principal(rock, frozenset({Role.STAR}))) == {"everyone", "stars", "rank:rock-star"}
    await home.pool.execute("UPDATE announcement SET embargo_until = now()")
    assert await read(None) == await read(reader) == {"everyone"}
    [told, *_] = await home.told("announcement-published")
    assert told["data"]["embargo_until"] is not None
