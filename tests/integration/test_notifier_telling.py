"""What is told, to whom, and why not: the notifier against real PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.notifier import World

HOUR = timedelta(hours=1)


async def test_a_candidate_is_asked_by_mail_and_in_the_inbox(notifier: World) -> None:
    await notifier.member("ada")
    await notifier.happen(notifier.asked("t1", "ada"))
    await notifier.turn()
    [mail] = await notifier.mails("ada")
    assert (mail["address"], mail["subject"]) == ("ada@mail.example", "A question for you: Title of t1")
    assert await notifier.states("ada") == [("accepted", None)]
    page = await notifier.inbox.page("ada", 10, None)
    assert page["unread"] == 1
    assert page["items"][0]["url"] == "https://forum.example/t/t1"
    [event] = await notifier.published("notifier.events")
    assert (event["type"], event["data"]["channel"]) == ("notification-accepted", "email")


async def test_the_same_event_twice_and_the_same_stage_again_are_told_once(notifier: World) -> None:
    await notifier.member("ada")
    event = notifier.asked("t1", "ada")
    await notifier.happen(event, event)
    await notifier.happen(event)
    await notifier.happen(notifier.asked("t1", "ada"))
    await notifier.turn()
    assert len(await notifier.mails("ada")) == 1
    await notifier.happen(notifier.asked("t1", "ada", stage="warning"))
    await notifier.turn()
    assert len(await notifier.mails("ada")) == 2


async def test_history_is_told_to_nobody(notifier: World) -> None:
    await notifier.member("ada")
    old = notifier.event("milestone-reached", backfill=True, member_id="ada", board="everyone", kind="first-place")
    late = notifier.event(
        "milestone-reached", datetime.now(UTC) - timedelta(days=30), member_id="ada", board="stars", kind="first-place"
    )
    await notifier.happen(old, late, notifier.asked("t1", "ada") | {"backfill": True})
    await notifier.everything()
    assert await notifier.deliveries("ada") == []
    assert (await notifier.inbox.page("ada", 10, None))["items"] == []


async def test_before_there_is_routing_stars_who_follow_are_asked_and_never_the_author(notifier: World) -> None:
    for name, follow in {
        "space": {"spaces": ["help"]},
        "tag": {"tags": ["ios"]},
        "language": {"languages": ["sv"]},
        "topic": {"topics": ["t1"]},
        "other": {"spaces": ["lounge"]},
        "asker": {"spaces": ["help"]},
        "no-star": {"spaces": ["help"]},
        "retired": {"spaces": ["help"]},
    }.items():
        await notifier.member(name)
        await notifier.preferences.change(name, {"follow": follow})
        if name != "no-star":
            await notifier.happen(notifier.event("star-appointed", datetime.now(UTC) - 30 * 24 * HOUR, member_id=name))
    await notifier.happen(notifier.event("star-retired", datetime.now(UTC) - 20 * 24 * HOUR, member_id="retired"))
    await notifier.happen(notifier.asked("t1", tags=["ios", "web"], language="sv"))
    await notifier.everything()
    told = {mail["member_id"] for mail in await notifier.mails()}
    assert told == {"space", "tag", "language", "topic"}


async def test_whoever_is_a_candidate_of_the_control_arm_alone_is_told_with_routing(notifier: World) -> None:
    await notifier.member("ada")
    await notifier.member("ben")
    await notifier.preferences.change("ben", {"follow": {"spaces": ["help"]}})
    await notifier.happen(notifier.event("star-appointed", datetime.now(UTC) - HOUR, member_id="ben"))
    await notifier.happen(notifier.asked("t1", "ada", arm="control"))
    await notifier.everything()
    assert {mail["member_id"] for mail in await notifier.mails()} >= {"ada"}
    assert not [m for m in await notifier.mails("ben") if m["category"] == "answer-needed"]


GONE: dict[str, tuple[list[tuple[str, dict[str, Any]]], str]] = {
    "answered": (
        [
            (
                "first-response-recorded",
                {
                    "reply_id": "r",
                    "responder_id": "x",
                    "responder_kind": "member",
                    "seconds": 1.0,
                    "within_target": True,
                    "space": "help",
                },
            )
        ],
        "answered",
    ),
    "deleted": ([("topic-deleted", {})], "topic-deleted"),
    "closed": ([("topic-closed", {})], "topic-closed"),
    "merged": ([("topic-merged", {"into_topic_id": "elsewhere"})], "topic-merged"),
    "claimed": ([("topic-claimed", {"member_id": "eve"})], "claimed-by-another"),
}


@pytest.mark.parametrize("how", GONE)
async def test_a_notification_whose_reason_is_gone_is_skipped_and_says_so(notifier: World, how: str) -> None:
    events, reason = GONE[how]
    await notifier.member("ada")
    await notifier.happen(notifier.asked("t1", "ada"))
    now = datetime.now(UTC)
    for type_, data in events:
        more: dict[str, Any] = {}
        if type_ == "first-response-recorded":
            more["answered_at"] = now.isoformat()
        if type_ == "topic-claimed":
            more["until"] = (now + 4 * HOUR).isoformat()
        await notifier.happen(notifier.event(type_, topic_id="t1", **data, **more))
    await notifier.turn()
    assert await notifier.mails("ada") == []
    assert await notifier.states("ada") == [("skipped", reason)]
    [event] = await notifier.deliveries("ada", channel="email")
    assert event["history"][-1]["reason"] == reason


async def test_what_waits_for_an_address_is_skipped_at_once_when_the_question_is_answered(notifier: World) -> None:
    await notifier.member("ada", None)
    await notifier.happen(notifier.asked("t1", "ada"))
    await notifier.turn()
    assert await notifier.states("ada") == [("pending", "no-address-yet")]
    await notifier.happen(notifier.event("topic-deleted", topic_id="t1"))
    await notifier.everything()
    assert await notifier.states("ada") == [("skipped", "topic-deleted")]


async def test_a_delivery_waits_for_an_address_that_comes_later(notifier: World) -> None:
    await notifier.member("ada", None)
    await notifier.happen(notifier.asked("t1", "ada"))
    await notifier.turn()
    await notifier.happen(notifier.event("contact-changed", member_id="ada", email="ada@later.example"))
    await notifier.turn()
    assert [mail["address"] for mail in await notifier.mails("ada")] == ["ada@later.example"]


async def test_a_claim_is_told_to_the_others_who_were_asked(notifier: World) -> None:
    for name in ("ada", "ben", "eve"):
        await notifier.member(name)
    await notifier.happen(notifier.event("topic-edited", topic_id="t1", title="Title of t1"))
    await notifier.happen(notifier.asked("t1", "ada", "ben", "eve"))
    await notifier.turn()
    until = (datetime.now(UTC) + 4 * HOUR).isoformat()
    await notifier.happen(notifier.event("topic-claimed", topic_id="t1", member_id="eve", until=until))
    await notifier.everything()
    for name in ("ada", "ben"):
        latest = (await notifier.inbox.page(name, 10, None))["items"][0]
        assert latest["title"] == "Name of eve takes it on: Title of t1"
    assert (await notifier.inbox.page("eve", 10, None))["items"][0]["category"] == "answer-needed"


async def test_staff_hear_of_a_breach_when_they_want_to_and_others_never(notifier: World) -> None:
    for name, staff in (("sue", True), ("sam", True), ("ada", False)):
        await notifier.member(name)
        wish = {} if name == "sam" else {"channels": {"breach": {"email": True, "inbox": True}}}
        await notifier.preferences.change(name, wish, staff=staff)
    await notifier.happen(notifier.event("target-breached", topic_id="t9", due_at=datetime.now(UTC).isoformat()))
    await notifier.everything()
    assert [mail["member_id"] for mail in await notifier.mails()] == ["sue"]
    assert (await notifier.inbox.page("ada", 10, None))["items"] == []


async def test_every_step_of_an_application_and_the_rest_reach_their_member(notifier: World) -> None:
    await notifier.member("ada")
    of = {"member_id": "ada", "application_id": "a1"}
    await notifier.happen(
        *(notifier.event(name, **of) for name in ("application-submitted", "quiz-failed", "quiz-passed")),
        notifier.event("application-decided", **of, outcome="accepted", reason="Kind and right"),
        notifier.event("application-withdrawn", **of),
        notifier.event("star-appointed", member_id="ada"),
        notifier.event("perk-granted", member_id="ada", grant_id="g", perk="Premium"),
        notifier.event("perk-fulfilled", member_id="ada", grant_id="g", perk="Premium"),
        notifier.event("jam-invited", member_id="ada", jam_id="j"),
        notifier.event("milestone-reached", member_id="ada", board="space:help", kind="entered-top-10"),
        notifier.event(
            "season-closed",
            season_id="s",
            standings=[{"rank": 1, "member_id": "ada", "points": 12, "solutions": 1}],
        ),
    )
    await notifier.preferences.change("ada", {"daily_budget": None})
    await notifier.everything()
    subjects = {mail["subject"] for mail in await notifier.mails("ada")}
    assert subjects == {
        "We have your application",
        "You did not pass the quiz this time",
        "You passed the quiz",
        "Your application was accepted",
        "Your application is withdrawn",
        "You are a Star now",
        "There is something for you: Premium",
        "It is on its way: Premium",
        "You are invited to Star Jam",
        "You are among the first ten on the leaderboard of the space help",
        "The season is over, and you are number 1",
    }


async def test_an_announcement_reaches_its_audience_after_its_embargo(notifier: World) -> None:
    for name in ("ada", "ben"):
        await notifier.member(name)
    await notifier.happen(notifier.event("star-appointed", datetime.now(UTC) - 24 * HOUR, member_id="ben"))
    await notifier.turn()
    embargo = datetime.now(UTC) + HOUR
    common = {"title": "Hear, hear", "text": "One.\n\nTwo."}
    await notifier.happen(
        notifier.event("announcement-published", announcement_id="1", audience="everyone", **common),
        notifier.event("announcement-published", announcement_id="2", audience="stars", **common),
        notifier.event("announcement-published", announcement_id="3", audience="nobody-agreed-on-this", **common),
        notifier.event(
            "announcement-published",
            announcement_id="4",
            audience="everyone",
            embargo_until=embargo.isoformat(),
            **common,
        ),
    )
    await notifier.everything()
    told = sorted(mail["member_id"] for mail in await notifier.mails() if mail["subject"] == "Hear, hear")
    assert told == ["ada", "ben", "ben"]
    await notifier.pool.execute("UPDATE job SET not_before = now() WHERE done_at IS NULL")
    await notifier.everything()
    assert len([mail for mail in await notifier.mails() if mail["subject"] == "Hear, hear"]) == 5


async def test_an_announcement_to_a_rank_reaches_its_stars_alone(notifier: World) -> None:
    long_ago = datetime.now(UTC) - 30 * 24 * HOUR
    for name, rank in (("ada", "silver"), ("ben", "silver"), ("eve", "gold"), ("fay", "gold")):
        await notifier.member(name)
        await notifier.happen(notifier.event("star-appointed", long_ago, member_id=name, rank=rank))
    await notifier.happen(
        notifier.event("star-ranked", long_ago + HOUR, member_id="ada", rank="gold"),
        notifier.event("star-retired", long_ago + HOUR, member_id="eve"),
        notifier.event("star-ranked", long_ago + HOUR, member_id="fay", rank="silver"),
    )
    await notifier.happen(
        notifier.event("star-appointed", long_ago - HOUR, member_id="ben", rank="gold"),
        notifier.event("announcement-published", announcement_id="1", audience="rank:gold", title="Gold", text="Hear."),
    )
    await notifier.everything()
    assert [mail["member_id"] for mail in await notifier.mails()] == ["ada"]


async def test_who_may_apply_is_told_once(notifier: World) -> None:
    await notifier.member("ada")
    for _ in range(2):
        await notifier.happen(notifier.event("programme-invited", member_id="ada", edition="1"))
    await notifier.everything()
    assert [mail["subject"] for mail in await notifier.mails("ada")] == ["You may apply to become a Star"]


async def test_a_page_of_a_fan_out_is_bounded_and_goes_on_where_it_stopped(
    notifier: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.notifier.timers.PAGE", 3)
    for n in range(8):
        await notifier.member(f"m{n}")
        await notifier.preferences.change(f"m{n}", {"follow": {"spaces": ["help"]}})
        await notifier.happen(notifier.event("star-appointed", datetime.now(UTC) - 30 * 24 * HOUR, member_id=f"m{n}"))
    await notifier.happen(notifier.asked("t1"))
    assert await notifier.timers.work_page()
    assert await notifier.pool.fetchval("SELECT count(*) FROM notification WHERE category = 'answer-needed'") == 3
    await notifier.everything()
    assert len(await notifier.mails()) == 8
    assert await notifier.pool.fetchval("SELECT after FROM job WHERE kind = 'fan-out'") == ""


async def test_a_merged_accounts_news_are_the_survivors(notifier: World) -> None:
    await notifier.member("ada")
    await notifier.member("old")
    await notifier.happen(
        notifier.event("member-merged", member_id="old", status="merged", into_member_id="ada", name="Old")
    )
    await notifier.happen(notifier.asked("t1", "old"), notifier.asked("t1", "ada"))
    await notifier.turn()
    assert [mail["address"] for mail in await notifier.mails()] == ["ada@mail.example"]


async def test_suspended_members_are_told_nothing(notifier: World) -> None:
    await notifier.member("ada")
    await notifier.happen(notifier.event("member-suspended", member_id="ada", status="suspended"))
    await notifier.happen(notifier.asked("t1", "ada"))
    await notifier.turn()
    assert await notifier.states("ada") == [("skipped", "member-suspended")]


def created(notifier: World, topic_id: str, at: datetime, kind: str = "question") -> dict[str, Any]:
    common = {"author_id": "x", "author_kind": "member", "title": topic_id, "space": "help", "tags": [], "kind": kind}
    return notifier.event("topic-created", at, topic_id=topic_id, **common)


def answered(notifier: World, topic_id: str, at: datetime, *, within_target: bool = True) -> dict[str, Any]:
    return notifier.event(
        "first-response-recorded",
        at,
        topic_id=topic_id,
        reply_id="r",
        responder_id="x",
        responder_kind="star",
        seconds=60.0,
        within_target=within_target,
        topic_kind="question",
        space="help",
        answered_at=at.isoformat(),
    )


async def test_mondays_report_is_of_the_questions_asked_in_the_week_and_goes_out_once(notifier: World) -> None:
    await notifier.member("sue")
    await notifier.preferences.change("sue", {"channels": {"promise": {"email": True}}}, staff=True)
    monday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday -= timedelta(days=monday.weekday())
    for n in range(3):
        await notifier.happen(
            created(notifier, f"t{n}", monday - 40 * HOUR), answered(notifier, f"t{n}", monday - 30 * HOUR)
        )
    await notifier.happen(
        created(notifier, "breached", monday - 90 * HOUR),
        notifier.event("target-breached", topic_id="breached", due_at=(monday - 20 * HOUR).isoformat()),
        # Nobody will ever answer it; of the one behind it nobody can say yet.
        created(notifier, "closed", monday - 90 * HOUR),
        notifier.event("topic-closed", monday - 80 * HOUR, topic_id="closed"),
        created(notifier, "waiting", monday - 2 * HOUR),
        created(notifier, "talk", monday - 90 * HOUR, kind="discussion"),
        notifier.event("topic-closed", monday - 80 * HOUR, topic_id="talk"),
        # Asked in the week before, answered in this one.
        created(notifier, "old", monday - 190 * HOUR),
        answered(notifier, "old", monday - 100 * HOUR, within_target=False),
    )

    async def report() -> int:
        async with notifier.pool.acquire() as connection:
            await notifier.timers._report(connection, monday + 7 * HOUR)
        return int(await notifier.pool.fetchval("SELECT count(*) FROM job WHERE key LIKE 'promise %'"))

    assert await report() == 0, "not all of that week has been read yet"
    for stream in ("forum.events", "topics.events"):
        await notifier.pool.execute(
            "INSERT INTO consumer_offset (cluster, stream, partition, caught_up_at) VALUES ('cluster', $1, 0, $2)",
            stream,
            monday + HOUR,
        )
    assert [await report() for _ in range(2)] == [1, 1]
    await notifier.pool.execute("UPDATE job SET data = data || jsonb_build_object('at', now())")
    await notifier.everything()
    [mail] = [mail for mail in await notifier.mails("sue") if mail["category"] == "promise"]
    assert mail["subject"] == "60.0% of last week's questions were answered in time"


async def test_a_claim_is_told_to_nobody_who_muted_the_question_or_wanted_none(notifier: World) -> None:
    for name in ("ada", "ben", "cleo", "eve"):
        await notifier.member(name)
    await notifier.preferences.change("ben", {"mute": {"tags": ["ios"]}})
    none = dict.fromkeys(("email", "push", "inbox"), False)
    await notifier.preferences.change("cleo", {"channels": {"answer-needed": none}})
    await notifier.happen(notifier.asked("t1", "ada", "ben", "cleo", "eve", tags=["ios"]))
    until = (datetime.now(UTC) + 4 * HOUR).isoformat()
    await notifier.happen(notifier.event("topic-claimed", topic_id="t1", member_id="eve", until=until))
    await notifier.everything()
    told = {
        name: [item["category"] for item in (await notifier.inbox.page(name, 10, None))["items"]]
        for name in ("ada", "ben", "cleo", "eve")
    }
    assert told == {"ada": ["claimed", "answer-needed"], "ben": [], "cleo": [], "eve": ["answer-needed"]}


async def test_the_inbox_is_not_told_of_what_is_gone_already(notifier: World) -> None:
    await notifier.member("ada")
    await notifier.happen(notifier.event("topic-deleted", topic_id="t1"))
    await notifier.happen(notifier.asked("t1", "ada"))
    await notifier.everything()
    assert (await notifier.inbox.page("ada", 10, None))["items"] == []
    assert await notifier.states("ada", "inbox") == [("skipped", "topic-deleted")]
