"""The waiting queue: whole, in order, narrowed as asked."""

from datetime import timedelta

from tests.e2e.site import Site, ago, asked, eventually, fresh, instant, problem, replied


def test_three_hundred_topics_due_at_once_are_paged_once_each_in_order(site: Site) -> None:
    space, mark, at = fresh("space"), fresh(""), ago(hours=3)
    ids = [f"{letter}{number}{mark}" for number in range(60) for letter in ("a", "Z", "é", "😀", "\uffee")]
    site.publish(*(asked(topic, at, space=space) for topic in ids))
    eventually(lambda: site.ask("sla", space=space)["topics"], lambda topics: topics == 300)
    ordered = sorted(ids, key=str.encode)
    for limit in (200, 7):
        assert [item["topic_id"] for item in site.pages(limit, space=space)] == ordered
    assert site.ask("topics", space=space)["items"] == site.ask("topics", space=space, limit=50)["items"]
    # What joins or leaves meanwhile moves nothing else.
    page = site.ask("topics", space=space, limit=100)
    site.publish(replied(ordered[0], fresh("r")), asked(f"0{mark}", ago(hours=4), space=space))
    site.topic_when(ordered[0], lambda topic: topic["state"] == "answered")
    site.topic_when(f"0{mark}")
    rest = site.ask("topics", space=space, limit=200, cursor=page["next"])["items"]
    assert [item["topic_id"] for item in rest] == ordered[100:300]


def test_ids_of_any_letters_and_length_are_paged(site: Site) -> None:
    space, at = fresh("space"), ago(hours=2)
    ids = ["😀" * 255, "\x01" * 255, "\n" * 255, "\\" * 255, '"' * 255, "a/b", " ", "%2F", "\u2028"]
    ids = [(id[: 245 - len(space)] + space).ljust(255, "x") if len(id) == 255 else id + space for id in ids]
    ids[0] = "😀" * 245 + space[-10:]
    site.publish(*(asked(topic, at, space=space) for topic in ids))
    eventually(lambda: site.ask("sla", space=space)["topics"], lambda topics: topics == len(ids))
    assert [item["topic_id"] for item in site.pages(1, space=space)] == sorted(ids, key=str.encode)


def test_the_soonest_due_comes_first(site: Site) -> None:
    space = fresh("space")
    ids = [fresh(f"{9 - hours}") for hours in range(6)]
    site.publish(*(asked(topic, ago(hours=hours), space=space) for hours, topic in enumerate(ids)))
    eventually(lambda: site.ask("sla", space=space)["topics"], lambda topics: topics == 6)
    items = site.ask("topics", space=space)["items"]
    assert [item["topic_id"] for item in items] == ids[::-1]
    due = [instant(item["due_at"]) for item in items]
    assert due == sorted(due)
    for item in items:
        assert item.keys() == site.topic(item["topic_id"]).keys() - {"solution", "replies", "timeline"}


def test_waiting_and_breached_part_the_queue_and_answered_is_neither(site: Site) -> None:
    space = fresh("space")
    waiting, breached, met, late = (fresh(word) for word in ("waiting", "breached", "met", "late"))
    site.publish(
        asked(waiting, ago(hours=47.9), space=space),
        asked(breached, ago(hours=48.1), space=space),
        asked(met, ago(hours=100), space=space),
        replied(met, fresh("r"), at=ago(hours=53)),
        asked(late, ago(hours=100), space=space),
        replied(late, fresh("r"), at=ago(hours=51)),
        asked(fresh("chat"), ago(hours=100), space=space, kind="discussion"),
    )
    eventually(lambda: site.ask("sla", space=space), lambda sla: (sla["topics"], sla["answered"]) == (4, 2))

    def ids(**parameters: str) -> list[str]:
        return [item["topic_id"] for item in site.ask("topics", space=space, **parameters)["items"]]

    assert ids() == [breached, waiting]
    assert ids(state="waiting") == [waiting]
    assert ids(state="breached") == [breached]
    assert sorted(ids(state="answered")) == sorted([met, late])
    found = {item["topic_id"]: item for item in site.ask("topics", space=space)["items"]}
    assert (found[waiting]["state"], found[waiting]["stage"]) == ("waiting", "warning")
    assert (found[breached]["state"], found[breached]["stage"]) == ("breached", "breached")
    answered = {item["topic_id"]: item for item in site.ask("topics", space=space, state="answered")["items"]}
    assert answered[met]["first_response"]["within_target"] is True
    assert answered[late]["first_response"]["within_target"] is False
    assert {item["stage"] for item in answered.values()} == {None}
    figures = site.ask("sla", space=space)
    assert (figures["met"], figures["missed"], figures["pending"], figures["attainment"]) == (1, 2, 1, 1 / 3)


def test_space_language_and_tag_narrow_together(site: Site) -> None:
    space, other, tag = fresh("space"), fresh("space"), fresh("tag")
    ids = {}
    for where, language, tags in (
        (space, "en", [tag]),
        (space, "en", ["x", tag]),
        (space, "de", [tag]),
        (space, "en", ["x"]),
        (space, None, []),
        (other, "en", [tag]),
    ):
        topic = fresh("topic")
        ids[topic] = (where, language, tags)
        site.publish(asked(topic, ago(hours=1), space=where, language=language, tags=tags))
    for topic in ids:
        site.topic_when(topic)

    def found(**parameters: str) -> set[str]:
        return {item["topic_id"] for item in site.pages(200, **parameters)} & ids.keys()

    assert found(space=space) == {t for t, (where, _, _) in ids.items() if where == space}
    assert found(tag=tag) == {t for t, (_, _, tags) in ids.items() if tag in tags}
    assert found(space=space, language="en", tag=tag) == set(list(ids)[:2])
    assert found(space=space, language="", tag="") == found(space=space)
    assert found(space=fresh("nowhere")) == set()
    assert found(tag=f"%{tag}") == found(space="' OR 1=1 --") == set()


def test_mine_lists_ones_own_claims_and_needs_a_member(site: Site) -> None:
    space, member = fresh("space"), fresh("star")
    ids = [fresh("topic") for _ in range(4)]
    site.publish(*(asked(topic, ago(hours=1), space=space) for topic in ids))
    for topic in ids:
        site.topic_when(topic)
    mine = site.bearer("star", member=member)
    assert site.ask("topics", mine, mine="true")["items"] == []
    for topic in ids[:2]:
        assert site.claim(topic, mine).status_code == 200
    assert site.claim(ids[2], site.bearer("star", member=fresh("another"))).status_code == 200
    assert {item["topic_id"] for item in site.ask("topics", mine, mine="true")["items"]} == set(ids[:2])
    assert len(site.ask("topics", mine, mine="false", space=space)["items"]) == 4
    assert site.ask("topics", mine, mine="true", space=fresh("nowhere"))["items"] == []
    for headers in ({}, site.bearer("star")):
        problem(site.get("topics", headers, mine="true"), 401)


def test_due_is_exactly_the_target_after_the_question(site: Site) -> None:
    topic = fresh("topic")
    at = ago(hours=1).replace(microsecond=123456)
    site.publish(asked(topic, f"{at:%Y-%m-%dT%H:%M:%S}.1234569+00:00"))
    found = site.topic_when(topic)
    assert instant(found["created_at"]) == at
    assert instant(found["due_at"]) - at == timedelta(hours=48)
