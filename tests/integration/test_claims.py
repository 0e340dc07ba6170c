"""Claims against real PostgreSQL: who may give one back, and whose cannot stand."""

from collections.abc import AsyncIterator

import pytest

from services.topics.queue import Chosen, read_queue, read_topic
from shared.web import Principal, Problem, Role
from tests.integration.engine import HOUR, Stage

BEN = Principal("ben", frozenset({Role.STAR}))


@pytest.fixture
async def stage(topics_database: str) -> AsyncIterator[Stage]:
    async with Stage.on(topics_database) as stage:
        yield stage


async def _claim_of(stage: Stage, topic_id: str) -> str | None:
    topic = await read_topic(stage.pool, topic_id)
    assert topic is not None
    return topic["claim"] and str(topic["claim"]["member_id"])


async def test_who_is_no_star_any_more_can_still_give_back_what_they_hold(stage: Stage) -> None:
    await stage.ask("t", HOUR)
    await stage.claims.take("t", BEN)
    await stage.claims.release("t", Principal("ben", frozenset({Role.MEMBER})))
    assert await _claim_of(stage, "t") is None


async def test_staff_whose_token_names_no_member_release_for_others_and_claim_nothing(stage: Stage) -> None:
    staff = Principal(None, frozenset({Role.STAFF}))
    await stage.ask("t", HOUR)
    await stage.claims.take("t", BEN)
    await stage.claims.release("t", staff)
    assert await _claim_of(stage, "t") is None
    with pytest.raises(Problem) as refused:
        await stage.claims.take("t", staff)
    assert refused.value.status == 403


@pytest.mark.parametrize(("roles", "status"), [({Role.MEMBER}, 403), ({Role.STAR}, 409)])
async def test_nobody_else_gives_back_what_a_star_holds(stage: Stage, roles: set[Role], status: int) -> None:
    await stage.ask("t", HOUR)
    await stage.claims.take("t", BEN)
    with pytest.raises(Problem) as refused:
        await stage.claims.release("t", Principal("eve", frozenset(roles)))
    assert refused.value.status == status
    assert await _claim_of(stage, "t") == "ben"


async def test_a_claim_ends_where_a_merge_makes_it_one_on_ones_own_question_and_others_are_asked_again(
    stage: Stage,
) -> None:
    await stage.ask("kept", 5 * HOUR)
    await stage.ask("bens", 4 * HOUR, author_id="ben")
    await stage.claims.take("kept", BEN)
    await stage.apply(stage.event("topic-merged", topic_id="bens", into_topic_id="kept"))
    assert await _claim_of(stage, "kept") is None
    assert [event["type"] for event in await stage.said("kept")][-1] == "claim-released"
    await stage.tick()
    assert await stage.told("kept") == ["stalled"], "while it was claimed nobody would have been asked"


async def test_a_claim_ends_where_its_holder_turns_out_to_be_the_asker(stage: Stage) -> None:
    await stage.ask("t", HOUR)
    await stage.claims.take("t", BEN)
    await stage.apply(stage.event("member-merged", member_id="ben", into_member_id="ada", status="merged"))
    assert await _claim_of(stage, "t") is None


async def test_whoever_is_erased_takes_no_claim(stage: Stage) -> None:
    await stage.ask("t", HOUR)
    await stage.apply(stage.event("member-erased", member_id="ben", status="erased"))
    with pytest.raises(Problem) as refused:
        await stage.claims.take("t", BEN)
    assert refused.value.status == 403


async def test_ones_own_part_of_the_queue_is_what_one_has_claimed_under_any_account(stage: Stage) -> None:
    for topic in ("one", "two", "three"):
        await stage.ask(topic, HOUR)
    await stage.claims.take("one", BEN)
    await stage.claims.take("two", Principal("old", frozenset({Role.STAR})))
    await stage.claims.take("three", Principal("eve", frozenset({Role.STAR})))
    await stage.apply(stage.event("member-merged", member_id="old", into_member_id="ben", status="merged"))
    found = await read_queue(stage.pool, Chosen(claimed_by="ben"), 10, None)
    assert {item["topic_id"] for item in found["items"]} == {"one", "two"}
