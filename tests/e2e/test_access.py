"""Who may do what: every operation of every OpenAPI document, for each role and for no token at all."""

import itertools
import json
import re
from typing import Any

import jwt
import pytest

from deploy.services import NAMES
from tests.e2e.site import ONE, Json, Site, asked, eventually, fresh, problem, replied

ANYONE = frozenset({"nobody", "member", "star", "staff", "forum"})
WHO = sorted(ANYONE)

ALLOWED: dict[tuple[str, str, str], frozenset[str]] = {
    ("topics", "POST", "/api/events"): frozenset({"forum"}),
    ("topics", "GET", "/api/topics"): ANYONE,
    ("topics", "GET", "/api/topics/{topic_id}"): ANYONE,
    # Staff may as well: somebody has to end a claim that is stuck, and they answer questions too.
    ("topics", "POST", "/api/topics/{topic_id}/claim"): frozenset({"star", "staff"}),
    ("topics", "DELETE", "/api/topics/{topic_id}/claim"): frozenset({"star", "staff"}),
    ("topics", "GET", "/api/sla"): ANYONE,
    ("topics", "GET", "/api/policies"): ANYONE,
    ("topics", "PUT", "/api/policies"): frozenset({"staff"}),
    ("leaderboard", "GET", "/api/boards/{board}"): ANYONE,
    ("leaderboard", "PUT", "/api/boards/{board}"): frozenset({"staff"}),
    ("leaderboard", "GET", "/api/boards/{board}/members/{member_id}"): ANYONE,
    ("leaderboard", "GET", "/api/boards/{board}/stream"): ANYONE,
    ("leaderboard", "GET", "/api/members/{member_id}/ledger"): ANYONE,
    # Their own, whatever their roles: whose token names another member is none of these but staff.
    ("leaderboard", "GET", "/api/members/{member_id}/visibility"): frozenset({"staff"}),
    ("leaderboard", "PUT", "/api/members/{member_id}/visibility"): frozenset({"staff"}),
    ("leaderboard", "GET", "/api/seasons"): ANYONE,
    ("leaderboard", "POST", "/api/seasons"): frozenset({"staff"}),
    ("leaderboard", "POST", "/api/seasons/{season_id}/close"): frozenset({"staff"}),
    **{
        ("notifier", method, f"/api/members/{{member_id}}/{what}"): frozenset({"staff"})
        for method, what in (
            ("GET", "preferences"),
            ("PUT", "preferences"),
            ("GET", "contact"),
            ("PUT", "contact"),
            ("GET", "push-subscriptions"),
            ("POST", "push-subscriptions"),
            ("DELETE", "push-subscriptions"),
            ("GET", "inbox"),
            ("POST", "inbox/marks"),
        )
    },
    # The token of a mail is all that it takes, and the key is public by its nature.
    ("notifier", "POST", "/api/contact-verifications"): ANYONE,
    ("notifier", "GET", "/api/push-key"): ANYONE,
    **{
        ("notifier", method, f"/api/{what}"): frozenset({"staff"})
        for method, what in (
            ("GET", "deliveries"),
            ("GET", "deliveries/{delivery_id}"),
            ("POST", "deliveries/{delivery_id}/resend"),
            ("POST", "deliveries/{delivery_id}/cancel"),
            ("GET", "suppressions"),
            ("DELETE", "suppressions/{suppression_id}"),
            ("GET", "providers"),
            ("GET", "mails"),
            ("GET", "mails/{mail_id}"),
            ("POST", "bounces"),
        )
    },
}
"""What the interface promises. A new operation is written here, or the first test fails."""

KNOWN, STAFF = ANYONE - {"nobody"}, frozenset({"staff"})
PROGRAMME: dict[str, frozenset[str]] = {
    "GET /programme": ANYONE,
    "GET /programme/editions": STAFF,
    "POST /programme/editions": STAFF,
    "GET /programme/eligible": STAFF,
    "PUT /programme/inviting": STAFF,
    # Whose it is not hears that there is no such thing, whatever their roles.
    "POST /applications": KNOWN,
    "GET /applications": KNOWN,
    "GET /applications/{application_id}": KNOWN,
    "PUT /applications/{application_id}": KNOWN,
    "POST /applications/{application_id}/submit": KNOWN,
    "POST /applications/{application_id}/withdraw": KNOWN,
    "POST /applications/{application_id}/quiz": KNOWN,
    "GET /applications/{application_id}/quiz": KNOWN,
    "PUT /applications/{application_id}/quiz/answers/{n}": KNOWN,
    "POST /applications/{application_id}/quiz/finish": KNOWN,
    "GET /quiz/questions": STAFF,
    "GET /reviews": STAFF,
    "GET /applications/{application_id}/reviews": STAFF,
    "POST /applications/{application_id}/reviews": STAFF,
    "POST /applications/{application_id}/discussion": STAFF,
    "POST /applications/{application_id}/decision": STAFF,
    "GET /stars": ANYONE,
    "POST /stars/roster": STAFF,
    "GET /stars/{member_id}": ANYONE,
    "PUT /stars/{member_id}": KNOWN,
    "POST /stars/{member_id}/retire": KNOWN,
    "POST /stars/{member_id}/leave": KNOWN,
    "DELETE /stars/{member_id}/leave": KNOWN,
    "PUT /stars/{member_id}/rank": STAFF,
    "GET /stars/{member_id}/record": KNOWN,
    "GET /record-keys": ANYONE,
    "GET /perks": ANYONE,
    "POST /perks": STAFF,
    "PUT /perks/{perk_id}": STAFF,
    "GET /perks/{perk_id}/grants": STAFF,
    "POST /perks/{perk_id}/grants": STAFF,
    "POST /perks/{perk_id}/claim": KNOWN,
    "PUT /grants/{grant_id}/address": KNOWN,
    "POST /grants/{grant_id}/fulfil": STAFF,
    "GET /perks/{perk_id}/export": STAFF,
    "GET /jams": ANYONE,
    "POST /jams": STAFF,
    "GET /jams/{jam_id}": STAFF,
    "POST /jams/{jam_id}/shortlist": STAFF,
    "POST /jams/{jam_id}/invite": STAFF,
    "PUT /jams/{jam_id}/seats": STAFF,
    "POST /jams/{jam_id}/end": STAFF,
    "POST /jams/{jam_id}/answer": KNOWN,
    "POST /jams/{jam_id}/attendance": STAFF,
    "GET /announcements": ANYONE,
    "POST /announcements": STAFF,
}
"""The same of the applications service. Of what is not there whoever may is told so, and others that they may not."""

BODIES: dict[tuple[str, str, str], tuple[str, Any]] = {
    ("topics", "POST", "/api/events"): (ONE, lambda: asked(fresh("topic"))),
    ("topics", "PUT", "/api/policies"): (
        "application/json",
        lambda: {"scope": f"space:{fresh('s')}", "target_seconds": 60, "objective": 0.5},
    ),
    ("leaderboard", "PUT", "/api/boards/{board}"): ("application/json", lambda: {"time_zone": "Asia/Tokyo"}),
    ("leaderboard", "PUT", "/api/members/{member_id}/visibility"): ("application/json", lambda: {"visible": True}),
    ("leaderboard", "POST", "/api/seasons"): (
        "application/json",
        lambda: {"start": "2024-01-01", "end": "2024-04-01"},
    ),
    ("notifier", "PUT", "/api/members/{member_id}/preferences"): ("application/json", lambda: {"daily_budget": 3}),
    ("notifier", "PUT", "/api/members/{member_id}/contact"): ("application/json", lambda: {"email": None}),
    ("notifier", "POST", "/api/members/{member_id}/push-subscriptions"): (
        "application/json",
        lambda: {
            "endpoint": f"https://fcm.googleapis.com/{fresh('p')}",
            "keys": {"p256dh": "BA" + "A" * 85, "auth": "A" * 22},
        },
    ),
    ("notifier", "DELETE", "/api/members/{member_id}/push-subscriptions"): (
        "application/json",
        lambda: {"endpoint": "https://fcm.googleapis.com/none"},
    ),
    ("notifier", "POST", "/api/members/{member_id}/inbox/marks"): ("application/json", dict),
    ("notifier", "POST", "/api/contact-verifications"): ("application/json", lambda: {"token": "none"}),
    ("notifier", "POST", "/api/bounces"): ("message/rfc822", lambda: "none of ours"),
}

LET_IN = {
    key: {400, 404, 409}
    for key in ALLOWED
    if key[0] == "notifier" and ("_id}" in key[2].replace("{member_id}", "") or key[2] == "/api/bounces")
}
"""What is asked of something that is not there: whoever is told so has been let in."""


def _document(site: Site, service: str) -> Json:
    answer = site.client.get(f"/{service}/api/openapi.json")
    assert answer.status_code == 200
    document: Json = answer.json()
    return document


@pytest.mark.parametrize("service", NAMES)
def test_every_operation_is_in_the_table(site: Site, service: str) -> None:
    paths = _document(site, service)["paths"]
    found = {(service, method.upper(), path) for path, item in paths.items() for method in item}
    programme = {("applications", *_programme(name)) for name in PROGRAMME}
    assert found == {key for key in [*ALLOWED, *programme] if key[0] == service}


def _programme(name: str) -> tuple[str, str]:
    """Method and path of an operation of the applications service."""
    method, _, path = name.partition(" ")
    return method, f"/api{path}"


@pytest.mark.parametrize("name", PROGRAMME)
def test_who_may_in_the_programme(site: Site, name: str) -> None:
    method, path = _programme(name)
    url = "/applications" + re.sub(r"\{\w+\}", "1", path)
    for who in WHO:
        headers = {} if who == "nobody" else site.bearer(who, member=fresh(who))
        answer = site.client.request(method, url, json={}, headers=headers)
        if who in PROGRAMME[name]:
            assert answer.status_code in (200, 201, 400, 404), (who, answer.text)
        else:
            problem(answer, 401 if who == "nobody" else 403)
    answer = site.client.request(method, url, json={}, headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code == 401 or name == "GET /record-keys"


def _request(site: Site, key: tuple[str, str, str], headers: dict[str, str], topic: str) -> Any:
    service, method, path = key
    content = None
    if key in BODIES:
        content_type, body = BODIES[key]
        content, headers = json.dumps(body()), headers | {"Content-Type": content_type}
    names = {"topic_id": topic, "member_id": f"helper-of-{topic}", "board": f"space:{topic}", "season_id": "none"}
    names |= dict.fromkeys(("delivery_id", "suppression_id", "mail_id"), str(2**62))
    if "{season_id}" in path:
        season = {"season_id": fresh("season"), "start": "2024-01-01", "end": "2024-04-01"}
        site.client.post("/leaderboard/api/seasons", json=season, headers=site.staff).raise_for_status()
        names["season_id"] = season["season_id"]
    url = f"/{service}{path}".format(**names)
    if path.endswith("/stream"):
        # It goes on for ever: how it begins is all that is asked.
        with site.client.stream(method, url, headers=headers) as answer:
            if answer.status_code != 200:
                answer.read()
            return answer
    return site.client.request(method, url, content=content, headers=headers)


@pytest.fixture(scope="module")
def topic(site: Site) -> str:
    """A question to claim; beside it, in a space of the same name, somebody has helped."""
    name, answered = fresh("topic"), fresh("topic")
    helper = f"helper-of-{name}"
    site.publish(asked(name), asked(answered, space=name), replied(answered, fresh("r"), helper))
    site.topic_when(name)
    place = f"/leaderboard/api/boards/space:{name}/members/{helper}"
    eventually(lambda: site.client.get(place).status_code, lambda status: status == 200)
    return name


@pytest.mark.parametrize(
    ("key", "who"),
    list(itertools.product(ALLOWED, WHO)),
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_who_may(site: Site, topic: str, key: tuple[str, str, str], who: str) -> None:
    headers = {} if who == "nobody" else site.bearer(who, member=f"{who}-of-the-table")
    if key[1:] == ("DELETE", "/api/topics/{topic_id}/claim"):
        site.client.post(f"/topics/api/topics/{topic}/claim", headers=headers)
    answer = _request(site, key, headers, topic)
    if who in ALLOWED[key]:
        assert 200 <= answer.status_code < 300 or answer.status_code in LET_IN.get(key, ())
    elif who == "nobody":
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    else:
        problem(answer, 403)
    site.client.delete(f"/topics/api/topics/{topic}/claim", headers=site.staff)


@pytest.mark.parametrize("key", [key for key in ALLOWED if "nobody" not in ALLOWED[key]], ids="-".join)
@pytest.mark.parametrize("token", ["other secret", "no algorithm", "expired", "garbage", "basic", "two", "empty"])
def test_a_token_that_does_not_hold_opens_nothing(
    site: Site, topic: str, key: tuple[str, str, str], token: str
) -> None:
    claims = {"sub": "m", "roles": ["forum", "staff", "star", "member"], "exp": 4_000_000_000}
    good = jwt.encode(claims, site.secret, "HS256")
    values = {
        "other secret": "Bearer " + jwt.encode(claims, "x" * 64, "HS256"),
        "no algorithm": "Bearer " + jwt.encode(claims, None, "none"),
        "expired": "Bearer " + jwt.encode(claims | {"exp": 1}, site.secret, "HS256"),
        "garbage": "Bearer \x80\xff..",
        "basic": "Basic c3RhZmY6c3RhZmY=",
        "two": f"Bearer {good} {good}",
        "empty": "Bearer",
    }
    assert _request(site, key, {"Authorization": f"Bearer {good}"}, topic).status_code in {
        200,
        201,
        202,
        204,
        409,
    } | set(LET_IN.get(key, ()))
    answer = _request(site, key, {"Authorization": values[token].encode("latin-1")}, topic)
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_bad_token_is_not_taken_for_nobody(site: Site) -> None:
    problem(site.get("topics", {"Authorization": "Bearer nonsense"}), 401)


def test_the_operators_own_pages_need_no_token(site: Site) -> None:
    for path in ("/", "/livez", "/readyz", "/metrics", *(f"/{name}/api/openapi.json" for name in NAMES)):
        assert site.client.get(path).status_code == 200, path
