"""Applications against real PostgreSQL: the table of states, and what two at once must never do."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.applications.programme import shipped_edition
from services.applications.rules import FINAL, State
from shared.messaging import Transaction
from shared.web import Principal, Problem, Role
from tests.integration.applications_engine import (
    ANSWERS,
    STAFF_A,
    STAFF_B,
    House,
    deeds,
    event,
    house,
    member,
    unique,
)
from tests.oracle.cases import ERASURE_KEY

SCORES = {"help": 5, "tone": 4, "fit": 3}


@pytest.fixture
async def home(applications_database: str) -> AsyncIterator[House]:
    async with house(applications_database, ERASURE_KEY) as built:
        yield built


async def refused(work: Any, status: int, slug: str | None = None) -> Problem:
    """The problem that the work must end with."""
    with pytest.raises(Problem) as caught:
        await work
    assert (caught.value.status, caught.value.type) == (status, slug), caught.value.detail
    return caught.value


async def outcomes(*works: Any) -> list[Any]:
    """What each of several at once gave: a result, or the slug of its problem. Nothing else may go wrong."""
    found = await asyncio.gather(*works, return_exceptions=True)
    for one in found:
        assert not isinstance(one, BaseException) or isinstance(one, Problem), one
    return [one.type if isinstance(one, Problem) else one for one in found]


async def test_only_who_meets_every_criterion_hands_in_an_application(home: House) -> None:
    ada, near = member(unique("ada")), unique("near")
    begun = await home.parts.applying.begin(ada, {})
    id = begun["application_id"]
    problem = await refused(home.parts.applying.submit(ada, id), 409, "not-eligible")
    assert problem.members["progress"]["met"] == 1  # nobody was suspended
    await home.happen(*deeds(ada.member_id or ""), *deeds(near, replies=49))
    eligible = [row["member_id"] for row in await home.pool.fetch("SELECT member_id FROM eligible")]
    assert eligible == [ada.member_id]
    problem = await refused(home.parts.applying.submit(ada, id), 400, "incomplete")
    assert {one["location"] for one in problem.members["errors"]} >= {"answers.why", "answers.consent"}
    replies: dict[str, list[str]] = {}
    for row in await home.pool.fetch("SELECT author_id, reply_id FROM reply ORDER BY reply_id"):
        replies.setdefault(row["author_id"], []).append(row["reply_id"])
    others, own = replies[near][:2], replies[str(ada.member_id)][:2]
    await home.parts.applying.save(ada, id, {**ANSWERS, "evidence": others})
    problem = await refused(home.parts.applying.submit(ada, id), 400, "incomplete")
    assert [one["location"] for one in problem.members["errors"]] == ["answers.evidence"]
    await home.parts.applying.save(ada, id, {"evidence": own})
    found = await home.parts.applying.submit(ada, id)
    assert found["state"] == "submitted"
    assert [one["type"] for one in await home.told()] == ["application-submitted"]


async def test_a_suspended_account_hands_nothing_in_even_where_everyone_may_apply(home: House) -> None:
    await home.open_to_everyone()
    ada = member(unique("ada"))
    suspended = {"member_id": ada.member_id, "status": "suspended"}
    await home.happen(event("member-suspended", suspended, datetime.now(UTC)))
    begun = await home.parts.applying.begin(ada, ANSWERS)
    await refused(home.parts.applying.submit(ada, begun["application_id"]), 409, "not-eligible")


async def test_drafts_that_were_given_up_do_not_pile_up(home: House) -> None:
    await home.open_to_everyone()
    ada = member(unique("ada"))
    for n in range(3):
        begun = await home.parts.applying.begin(ada, {"why": f"Draft {n}"})
        id = begun["application_id"]
        assert (await home.parts.applying.withdraw(ada, id))["state"] == "withdrawn"
        assert (await home.parts.applying.read(ada, id))["answers"] == {"why": f"Draft {n}"}
    assert await home.pool.fetchval("SELECT count(*) FROM application") == 1
    kept = await home.apply(ada)
    await home.parts.applying.withdraw(ada, kept)
    await home.open_to_everyone()
    await home.parts.applying.begin(ada, {})
    rows = await home.pool.fetch("SELECT state FROM application WHERE application_id = $1", kept)
    assert [row["state"] for row in rows] == ["withdrawn"]


async def test_an_edition_whose_commit_failed_is_served_by_nobody(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    document = shipped_edition().model_dump(mode="json", exclude_none=True)

    async def fails(transaction: Transaction) -> int:
        raise ConnectionResetError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "write_outbox", fails)
        with pytest.raises(ConnectionResetError):
            await home.programme.publish(document | {"cool_down_days": 1}, None, None)
    published = await home.programme.publish(document | {"cool_down_days": 365}, None, None)
    async with home.pool.acquire() as connection:
        present = await home.programme.present(connection)
    assert present == published
    assert present.document.cool_down_days == 365


async def test_a_suspension_counts_until_it_is_long_ago_and_outlives_a_later_record(home: House) -> None:
    who = unique("ada")
    await home.happen(*deeds(who))
    at = datetime.now(UTC) - timedelta(days=40)
    suspended = {"member_id": who, "status": "suspended"}
    await home.happen(event("member-suspended", suspended, at))
    await home.happen(event("member-reinstated", {"member_id": who, "status": "active"}, at + timedelta(days=1)))
    assert not await home.pool.fetchval("SELECT EXISTS (SELECT FROM eligible)")
    other = unique("ben")
    await home.happen(*deeds(other))
    await home.happen(event("member-suspended", suspended | {"member_id": other}, at - timedelta(days=400)))
    await home.happen(event("member-reinstated", {"member_id": other, "status": "active"}, at))
    assert [row["member_id"] for row in await home.pool.fetch("SELECT member_id FROM eligible")] == [other]


async def test_eligible_members_are_invited_once_when_staff_say_so_and_never_by_history(home: House) -> None:
    early, history, late = unique("early"), unique("history"), unique("late")
    await home.happen(*deeds(early))
    await home.pool.execute("UPDATE programme SET inviting = true")
    await home.happen(*({**one, "backfill": True} for one in deeds(history)))
    assert await home.told("programme-invited") == []
    story = deeds(late)
    await home.happen(*story)
    gone = story[1]["data"]
    away = {"topic_id": gone["topic_id"], "reply_id": gone["reply_id"]}
    await home.happen(event("reply-deleted", away, datetime.now(UTC)))
    await home.happen(event("reply-restored", away, datetime.now(UTC) + timedelta(seconds=1)))
    assert [one["data"]["member_id"] for one in await home.told("programme-invited")] == [late]


@pytest.mark.parametrize("news_first", [False, True])
async def test_history_beside_news_in_one_batch_invites_nobody_and_the_news_does(home: House, news_first: bool) -> None:
    await home.pool.execute("UPDATE programme SET inviting = true")
    old, new = unique("old"), unique("new")
    registered = {"member_id": old, "status": "active", "name": "Old", "languages": []}
    history = [*deeds(old), event("member-registered", registered, datetime.now(UTC) - timedelta(days=900))]
    history = [{**one, "backfill": True} for one in history]
    news = deeds(new, kudos=30)
    # A live reply to a topic that is history makes no news of the others there, and neither does a claim.
    topic = history[0]["data"]["topic_id"]
    given = {"topic_id": topic, "reply_id": unique("r"), "author_id": new, "author_kind": "member"}
    news.append(event("reply-posted", {**given, "visibility": "public"}, datetime.now(UTC)))
    claim = {"topic_id": topic, "member_id": new, "until": (datetime.now(UTC) + timedelta(hours=4)).isoformat()}
    news.append(event("topic-claimed", claim, datetime.now(UTC), sequence=1))
    await home.happen(*(news + history if news_first else history + news))
    eligible = {row["member_id"] for row in await home.pool.fetch("SELECT member_id FROM eligible")}
    assert eligible == {old, new}
    assert [one["data"]["member_id"] for one in await home.told("programme-invited")] == [new]


async def of_age(home: House, months: int) -> None:
    """The next edition: it asks for nothing but that one joined so many months ago."""
    document = (await home.programme.present(home.pool)).document.model_dump(mode="json", exclude_none=True)
    label = {"en": "Months since you joined"}
    document["criteria"] = [{"id": "age", "fact": "months-since-joined", "at_least": months, "label": label}]
    await home.programme.publish(document, None, None)


async def look_again(home: House) -> None:
    """The projector's daily look at everyone."""
    async with home.pool.acquire() as connection:
        await home.projector.look_again_today(connection)
        while await home.projector.fold(connection):
            pass


def joined(who: str, days_ago: int) -> dict[str, Any]:
    """A member who joined so many days ago, and never wrote anything."""
    now = datetime.now(UTC)
    data = {"member_id": who, "status": "active", "name": who, "languages": []}
    return event("member-registered", {**data, "joined_at": (now - timedelta(days=days_ago)).isoformat()}, now)


async def test_whoever_becomes_eligible_by_time_alone_is_invited_once_but_not_by_the_first_look(home: House) -> None:
    await of_age(home, 3)
    await home.pool.execute("UPDATE programme SET inviting = true")
    old, young = unique("old"), unique("young")
    await home.happen(*({**one, "backfill": True} for one in (joined(old, 500), joined(young, 40))))
    await home.pool.execute("DELETE FROM eligible")
    await look_again(home)
    assert await home.told("programme-invited") == []
    # Months go by.
    await home.pool.execute("UPDATE member SET joined_at = joined_at - interval '90 days'")
    await home.pool.execute("UPDATE programme SET looked_on = looked_on - 1")
    for _ in range(2):
        await look_again(home)
    assert [one["data"]["member_id"] for one in await home.told("programme-invited")] == [young]


async def test_history_that_waits_for_the_projector_is_no_news_to_the_daily_look(home: House) -> None:
    who = unique("ada")
    await home.happen(joined(who, 10))
    await home.pool.execute("UPDATE programme SET inviting = true, looked_on = current_date - 7")
    async with home.runtime.outbox.transaction() as transaction:
        await home.receive(transaction, *({**one, "backfill": True} for one in deeds(who)))
    await look_again(home)
    assert [row["member_id"] for row in await home.pool.fetch("SELECT member_id FROM eligible")] == [who]
    assert await home.told("programme-invited") == []


async def test_an_edition_that_asks_for_no_replies_forgets_nobody_who_never_wrote_one(home: House) -> None:
    await of_age(home, 1)
    old, young = unique("old"), unique("young")
    await home.happen(joined(old, 90), joined(young, 2))
    eligible = "SELECT member_id FROM eligible WHERE edition = (SELECT max(edition) FROM edition) ORDER BY member_id"

    async def found() -> list[str]:
        return [row["member_id"] for row in await home.pool.fetch(eligible)]

    assert await found() == [old]
    await of_age(home, 1)
    async with home.pool.acquire() as connection:
        while await home.projector.fold(connection):
            pass
    assert await found() == [old]
    await home.pool.execute("UPDATE member SET joined_at = joined_at - interval '60 days'")
    await look_again(home)
    assert await found() == [old, young]


async def test_nobody_but_its_author_reads_a_draft_not_even_when_it_was_withdrawn(home: House) -> None:
    await home.open_to_everyone()
    ada = member(unique("ada"))
    id = (await home.parts.applying.begin(ada, {"why": "Nobody knows this."}))["application_id"]
    await refused(home.parts.applying.read(STAFF_A, id), 404)
    await home.parts.applying.withdraw(ada, id)
    await refused(home.parts.applying.read(STAFF_A, id), 404)
    assert (await home.parts.reviews.queue(STAFF_A, "withdrawn", 50, None))["items"] == []
    assert (await home.parts.applying.read(ada, id))["state"] == "withdrawn"
    id = await home.apply(ada)
    assert (await home.parts.applying.read(STAFF_A, id))["state"] == "submitted"
    await home.parts.applying.withdraw(ada, id)
    assert [one["application_id"] for one in (await home.parts.reviews.queue(STAFF_A, "withdrawn", 50, None))["items"]]


async def test_the_whole_way_from_the_form_to_the_appointment(home: House) -> None:
    await home.open_to_everyone()
    who = unique("ada")
    id = await home.become_star(who)
    assert [one["type"] for one in await home.told()] == [
        "application-submitted",
        "quiz-passed",
        "application-decided",
        "star-appointed",
    ]
    found = await home.parts.applying.read(member(who), id)
    assert (found["state"], found["reason"]) == ("accepted", "Welcome!")
    assert [one["action"] for one in found["timeline"]] == ["begin", "submit", "pass-quiz", "accept"]
    assert found["timeline"][-1]["by"] is None  # the programme decides, not a person
    assert (await home.parts.membership.read(member(who), who))["rank"] == "rising-star"
    await refused(home.parts.applying.begin(member(who), {}), 409, "already-a-star")


async def test_reviews_are_blind_until_all_are_in_and_nobody_judges_themselves(home: House) -> None:
    await home.open_to_everyone()
    ada = Principal(unique("ada"), frozenset({Role.STAFF, Role.MEMBER}))
    id = await home.apply(ada)
    await refused(home.parts.reviews.give(STAFF_A, id, SCORES, None, False), 409, "wrong-state")
    await home.pass_quiz(ada, id)
    await refused(home.parts.reviews.give(ada, id, SCORES, None, False), 403, "conflict-of-interest")
    await refused(home.parts.reviews.give(STAFF_A, id, {"help": 5}, None, False), 400, "invalid-scores")
    await home.parts.reviews.give(STAFF_A, id, SCORES, "secret thought", False)
    seen = await home.parts.reviews.dossier(STAFF_B, id)
    assert (seen["given"], seen["complete"], seen["reviews"], seen["mine"]) == (1, False, [], None)
    assert "secret thought" not in json.dumps(seen, default=str)
    await refused(home.parts.reviews.decide(STAFF_A, id, "accepted", "Now!"), 409, "reviews-missing")
    await refused(home.parts.reviews.discuss(STAFF_B, id, "What do you think?"), 409, "reviews-missing")
    third = Principal("staff-c", frozenset({Role.STAFF}))
    await home.parts.reviews.give(third, id, {}, "We are neighbours", True)
    await refused(home.parts.reviews.give(third, id, SCORES, None, False), 409, "conflict-of-interest")
    seen = await home.parts.reviews.give(STAFF_B, id, SCORES, None, False)
    assert [one["note"] for one in seen["reviews"]] == ["secret thought", None]
    await refused(home.parts.reviews.give(STAFF_B, id, {**SCORES, "help": 1}, None, False), 409, "reviews-complete")
    await refused(home.parts.reviews.decide(third, id, "declined", "No."), 403, "conflict-of-interest")
    await refused(home.parts.reviews.decide(ada, id, "accepted", "I am good."), 403, "conflict-of-interest")
    await home.parts.reviews.discuss(STAFF_B, id, "I agree")
    done = await home.parts.reviews.decide(STAFF_B, id, "declined", "Not yet.")
    assert (done["outcome"], [one["text"] for one in done["discussion"]]) == ("declined", ["I agree"])


async def test_staff_who_applied_never_see_who_said_or_decided_what_of_them(home: House) -> None:
    await home.open_to_everyone()
    ada = Principal(unique("ada"), frozenset({Role.STAFF, Role.MEMBER}))
    id = await home.apply(ada)
    await home.pass_quiz(ada, id)
    for staff in (STAFF_A, STAFF_B):
        await home.parts.reviews.give(staff, id, SCORES, "secret thought", False)
    await home.parts.reviews.discuss(STAFF_A, id, "secret word")
    await home.parts.reviews.decide(STAFF_A, id, "declined", "Not yet.")
    seen = await home.parts.reviews.dossier(ada, id)
    assert (seen["own"], seen["reviews"], seen["discussion"], seen["mine"]) == (True, [], [], None)
    assert (seen["decided_by"], seen["reason"], set(seen["names"])) == (None, "Not yet.", {ada.member_id})
    told = json.dumps([seen, await home.parts.applying.read(ada, id)], default=str)
    assert not [word for word in ("secret", "staff-a", "staff-b") if word in told]
    other = await home.parts.reviews.dossier(STAFF_B, id)
    assert (len(other["reviews"]), len(other["discussion"]), other["decided_by"]) == (2, 1, "staff-a")


async def test_reviews_are_counted_by_person_and_by_the_applications_own_edition(home: House) -> None:
    edition = await home.open_to_everyone()
    ada = member(unique("ada"))
    id = await home.apply(ada)
    await home.pass_quiz(ada, id)
    one, two = (Principal(unique("staff"), frozenset({Role.STAFF})) for _ in range(2))
    for staff in (one, two):
        await home.parts.reviews.give(staff, id, SCORES, staff.member_id, False)
    merged = {"member_id": two.member_id, "status": "merged", "into_member_id": one.member_id}
    await home.happen(event("member-merged", merged, datetime.now(UTC)))
    document = edition.document.model_dump(mode="json", exclude_none=True)
    document["review"]["reviewers"] = 5
    await home.programme.publish(document, None, None)
    seen = await home.parts.reviews.dossier(STAFF_A, id)
    assert (seen["given"], seen["needed"], seen["complete"]) == (1, 2, False)
    [queued] = (await home.parts.reviews.queue(STAFF_A, "in-review", 50, None))["items"]
    assert (queued["reviews"], queued["needed"]) == (1, 2)
    await refused(home.parts.reviews.decide(one, id, "accepted", "Yes"), 409, "reviews-missing")
    seen = await home.parts.reviews.give(STAFF_A, id, SCORES, None, False)
    assert [each["note"] for each in seen["reviews"]] == [two.member_id, None]
    # Who stands too near by one account does by the other.
    seen = await home.parts.reviews.give(two, id, {}, None, True)
    assert (seen["given"], seen["complete"]) == (1, False)
    assert (await home.parts.reviews.queue(STAFF_A, "in-review", 50, None))["items"][0]["reviews"] == 1


async def test_a_reviewer_may_find_that_they_stand_too_near_once_all_scores_are_in(home: House) -> None:
    await home.open_to_everyone()
    ada = member(unique("ada"))
    id = await home.apply(ada)
    await home.pass_quiz(ada, id)
    for staff in (STAFF_A, STAFF_B):
        await home.parts.reviews.give(staff, id, SCORES, None, False)
    seen = await home.parts.reviews.give(STAFF_A, id, {}, "My sister", True)
    assert (seen["given"], seen["complete"], seen["reviews"]) == (1, False, [])
    await refused(home.parts.reviews.decide(STAFF_A, id, "accepted", "Yes"), 403, "conflict-of-interest")
    await refused(home.parts.reviews.decide(STAFF_B, id, "accepted", "Yes"), 409, "reviews-missing")


async def test_a_merged_account_is_the_applicant_too(home: House) -> None:
    await home.open_to_everyone()
    ada, second = unique("ada"), unique("ada-second")
    id = await home.apply(member(ada))
    await home.pass_quiz(member(ada), id)
    now = datetime.now(UTC)
    await home.happen(event("member-merged", {"member_id": second, "status": "merged", "into_member_id": ada}, now))
    me = Principal(second, frozenset({Role.STAFF}))
    assert (await home.parts.applying.read(member(second), id))["application_id"] == id
    await refused(home.parts.reviews.give(me, id, SCORES, None, False), 403, "conflict-of-interest")
    assert (await home.parts.applying.begin(member(second), {}))["application_id"] == id


async def test_once_an_edition_and_after_the_cool_down_with_the_earlier_reasons(home: House) -> None:
    edition = await home.open_to_everyone()
    ada = member(unique("ada"))
    id = await home.apply(ada)
    await home.parts.applying.withdraw(ada, id)
    await refused(home.parts.applying.begin(ada, {}), 409, "applied-already")
    document = edition.document.model_dump(mode="json", exclude_none=True) | {"cool_down_days": 30}
    await home.programme.publish(document, None, None)
    problem = await refused(home.parts.applying.begin(ada, {}), 409, "cool-down")
    assert [one["state"] for one in problem.members["earlier"]] == ["withdrawn"]
    await home.pool.execute("UPDATE application SET closed_at = closed_at - interval '31 days'")
    again = await home.parts.applying.begin(ada, ANSWERS)
    assert again["edition"] == edition.number + 1


async def test_an_application_keeps_the_edition_in_which_it_began(home: House) -> None:
    first = await home.open_to_everyone(questions=3, pass_mark=3)
    ada = member(unique("ada"))
    id = await home.apply(ada)
    await home.open_to_everyone(questions=7, pass_mark=7)
    assert len((await home.parts.quiz.open(ada, id, None))["questions"]) == 3
    assert (await home.parts.applying.read(ada, id))["edition"] == first.number


async def test_two_tabs_and_two_replicas_never_have_two_applications_or_attempts(
    home: House, applications_database: str
) -> None:
    await home.open_to_everyone()
    other = House(applications_database, ERASURE_KEY)
    await other.pool
    try:
        ada = member(unique("ada"))
        begun = await outcomes(*(at.parts.applying.begin(ada, ANSWERS) for at in (home, other) * 4))
        [id] = {one["application_id"] for one in begun}
        handed_in = await outcomes(*(at.parts.applying.submit(ada, id) for at in (home, other) * 4))
        assert next(one for one in handed_in if not isinstance(one, str))["state"] == "submitted"
        assert [one for one in handed_in if isinstance(one, str)] == ["wrong-state"] * 7
        opened = await outcomes(*(at.parts.quiz.open(ada, id, "en") for at in (home, other) * 4))
        assert {one["attempt"] for one in opened} == {1}
        assert len({json.dumps(one["questions"]) for one in opened}) == 1
        finished = await outcomes(
            *(at.parts.quiz.finish(ada, id) for at in (home, other) * 2),
            *(at.parts.quiz.answer(ada, id, 1, 0) for at in (home, other) * 2),
            *(at.parts.applying.withdraw(ada, id) for at in (home, other)),
        )
        assert sum(isinstance(one, dict) and one.get("state") == "withdrawn" for one in finished) == 1
        assert [one["type"] for one in await home.told("application-submitted", "application-withdrawn")] == [
            "application-submitted",
            "application-withdrawn",
        ]
        assert await home.pool.fetchval("SELECT count(*) FROM quiz_attempt") == 1
    finally:
        await other.pool.close()


async def test_two_reviewers_at_once_decide_once(home: House, applications_database: str) -> None:
    await home.open_to_everyone()
    other = House(applications_database, ERASURE_KEY)
    await other.pool
    try:
        for _ in range(5):
            ada = member(unique("ada"))
            id = await home.apply(ada)
            await home.pass_quiz(ada, id)
            given = await outcomes(
                *(
                    at.parts.reviews.give(staff, id, SCORES, None, False)
                    for at in (home, other)
                    for staff in (STAFF_A, STAFF_B)
                )
            )
            assert set(map(type, given)) <= {dict, str}
            assert await home.pool.fetchval("SELECT count(*) FROM review WHERE application_id = $1", id) == 2
            decided = await outcomes(
                home.parts.reviews.decide(STAFF_A, id, "accepted", "Yes"),
                other.parts.reviews.decide(STAFF_B, id, "declined", "No"),
                other.parts.reviews.decide(STAFF_B, id, "accepted", "Yes"),
                home.parts.applying.withdraw(ada, id),
            )
            assert sorted(one for one in decided if isinstance(one, str)) == ["wrong-state"] * 3
            state = (await home.parts.applying.read(ada, id))["state"]
            assert State(state) in FINAL
            told = [one for one in await home.told() if one["data"]["member_id"] == ada.member_id]
            assert sum(one["type"] == "application-decided" for one in told) == (state != "withdrawn")
            assert sum(one["type"] == "star-appointed" for one in told) == (state == "accepted")
    finally:
        await other.pool.close()


async def test_nothing_of_an_erased_member_stays_and_others_keep_theirs(home: House) -> None:
    await home.open_to_everyone()
    gone, kept, staff = unique("gone"), unique("kept"), Principal(unique("staff"), frozenset({Role.STAFF}))
    await home.happen(*deeds(gone), *deeds(kept))
    for who in (gone, kept):
        id = await home.apply(member(who))
        await home.pass_quiz(member(who), id)
        for one in (staff, STAFF_B):
            await home.parts.reviews.give(one, id, SCORES, "Fine", False)
        await home.parts.reviews.discuss(staff, id, "Good")
        await home.parts.reviews.decide(staff, id, "accepted", "Welcome")
    perk = await home.parts.perks.make("Shirt", "A shirt", "swag", [], 5, True)
    grant = await home.parts.perks.grant(staff, perk, gone)
    await home.parts.perks.address(member(gone), grant["grant_id"], "1 Long Street, Somewhere")
    await home.parts.announcements.publish(staff, "Hello", "To all", "stars", None)
    now = datetime.now(UTC)
    for who in (gone, staff.member_id):
        await home.happen(event("member-erased", {"member_id": who, "status": "erased"}, now))
    rows = await home.pool.fetch(
        "SELECT table_name, column_name, data_type FROM information_schema.columns JOIN information_schema.tables"
        " USING (table_schema, table_name) WHERE table_schema = 'applications' AND table_type = 'BASE TABLE'"
    )
    assert len(rows) > 100
    for row in rows:
        for needle in (gone, str(staff.member_id), "Long Street"):
            column = f'"{row["table_name"]}"."{row["column_name"]}"'
            # Bytes are looked at as text, too: all of them are JSON.
            text = f"convert_from({column}, 'UTF8')" if row["data_type"] == "bytea" else f"{column}::text"
            left = await home.pool.fetchval(
                f'SELECT count(*) FROM "{row["table_name"]}" WHERE position($1 IN {text}) > 0', needle
            )
            assert left == 0, (column, needle)
    assert await home.pool.fetchval("SELECT count(*) FROM erased") == 2
    assert (await home.parts.membership.read(STAFF_A, kept))["rank"] == "rising-star"
    assert await home.pool.fetchval("SELECT count(*) FROM review") == 2
    await refused(home.parts.applying.begin(member(gone), {}), 403)


@pytest.mark.parametrize("merged_first", [True, False])
async def test_an_erasure_takes_along_what_a_merged_account_left_in_whichever_order_they_come(
    home: House, merged_first: bool
) -> None:
    await home.open_to_everyone()
    old, new = unique("old"), unique("new")
    await home.happen(joined(old, 90), joined(new, 90))
    await home.become_star(old)
    await home.parts.membership.describe(member(old), old, listed=True, about="Call 555", spaces=[], languages=[])
    perk = await home.parts.perks.make("Shirt", "A shirt", "swag", [], 5, True)
    grant = await home.parts.perks.grant(STAFF_A, perk, old)
    await home.parts.perks.address(member(old), grant["grant_id"], "1 Long Street, Somewhere")
    now = datetime.now(UTC)
    merged = event("member-merged", {"member_id": old, "status": "merged", "into_member_id": new}, now)
    erased = event("member-erased", {"member_id": new, "status": "erased"}, now)
    for one in (merged, erased) if merged_first else (erased, merged):
        await home.happen(one)
    standings = [{"rank": 1, "member_id": old, "points": 9, "solutions": 1}]
    await home.happen(event("season-closed", {"season_id": unique("season"), "standings": standings}, now))
    for table in ("application", "membership", "membership_change", "perk_grant", "eligible"):
        assert await home.pool.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    assert await home.pool.fetchval("SELECT member_id FROM season_standing") == home.facts.stand_in(new)
    assert (await home.parts.membership.directory(STAFF_A, None, None, 50, None))["items"] == []
    # Their old name acts for nobody, and no roster makes a Star of a stand-in.
    for who in (old, new):
        await refused(home.parts.applying.begin(member(who), {}), 403)
    taken = await home.parts.roster.take(STAFF_A, f"member_id\n{old}\n{new}")
    assert (taken["appointed"], taken["erased"]) == (0, 2)


@pytest.mark.parametrize("first", ["merged", "erased"])
async def test_an_erased_reviewer_of_two_accounts_leaves_one_review_under_one_name(home: House, first: str) -> None:
    await home.open_to_everyone()
    ada, old, new = member(unique("ada")), unique("old"), unique("new")
    await home.happen(joined(old, 90), joined(new, 90))
    id = await home.apply(ada)
    await home.pass_quiz(ada, id)
    for who in (old, new):
        await home.parts.reviews.give(Principal(who, frozenset({Role.STAFF})), id, SCORES, None, False)
    now = datetime.now(UTC)
    told = {
        "merged": event("member-merged", {"member_id": old, "status": "merged", "into_member_id": new}, now),
        "erased": event("member-erased", {"member_id": new, "status": "erased"}, now),
    }
    for one in (told.pop(first), *told.values()):
        await home.happen(one)
    rows = await home.pool.fetch("SELECT reviewer_id FROM review")
    assert [row["reviewer_id"] for row in rows] == [home.facts.stand_in(new)]
