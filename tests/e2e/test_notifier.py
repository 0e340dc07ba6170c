"""The notifier over HTTP: preferences, contact, inbox, links in mails, the desk, and who may do what."""

import json
import re
from email import message_from_string, policy
from email.message import EmailMessage
from typing import Any

import pytest

from tests.e2e.site import Json, Site, ago, asked, event, eventually, fresh, problem
from tests.e2e.streams import records_of, write_raw


class Notifier:
    """The notifier of a site, and what is written to its streams."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def call(self, method: str, path: str, headers: Json, status: int = 200, **more: Any) -> Any:
        answer = self.site.client.request(method, f"/notifier/api{path}", headers=headers, **more)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text[:500])
        return answer.json() if answer.content else None

    def own(self, member: str, *roles: str) -> Json:
        return self.site.bearer(*(roles or ("member",)), member=member)

    def register(self, member: str) -> None:
        data = {"member_id": member, "status": "active", "name": member.title(), "email": f"{member}@mail.example"}
        self.site.publish(event("member-registered", data))

    async def tell(self, member: str, **more: Any) -> None:
        """A step of their application."""
        data = {"member_id": member, "application_id": fresh("a"), **more}
        told = event("quiz-passed", data) | {"sequence": 1}
        await write_raw(self.site, ("applications.events", member, json.dumps(told).encode()))

    def mails(self, member: str, count: int = 1) -> list[EmailMessage]:
        """The mails of the local mailbox, latest first, once there are so many."""

        def read() -> list[Json]:
            items: list[Json] = self.call("GET", "/mails", self.site.staff, params={"member": member})["items"]
            return items

        found = []
        for item in eventually(read, lambda items: len(items) >= count):
            source = self.call("GET", f"/mails/{item['mail_id']}", self.site.staff)["source"]
            message = message_from_string(source, policy=policy.default)
            assert isinstance(message, EmailMessage)
            found.append(message)
        return found


@pytest.fixture
def notifier(site: Site) -> Notifier:
    return Notifier(site)


async def test_from_an_event_to_mail_inbox_and_desk(site: Site, notifier: Notifier) -> None:
    ada = fresh("ada")
    notifier.register(ada)
    await notifier.tell(ada)
    [mail] = notifier.mails(ada)
    assert (mail["To"], mail["Subject"]) == (f"{ada}@mail.example", "You passed the quiz")
    inbox = notifier.call("GET", f"/members/{ada}/inbox", notifier.own(ada))
    assert [(item["title"], item["category"]) for item in inbox["items"]] == [("You passed the quiz", "application")]
    assert inbox["unread"] == 1
    marks = {"notification_ids": [inbox["items"][0]["notification_id"]]}
    path = f"/members/{ada}/inbox/marks"
    assert notifier.call("POST", path, notifier.own(ada), json=marks) == {"unread": 0}
    assert notifier.call("POST", path, notifier.own(ada), json={"read": False}) == {"unread": 1}
    found = notifier.call("GET", "/deliveries", site.staff, params={"member": ada, "state": "accepted"})["items"]
    assert {one["channel"] for one in found} == {"email", "inbox"}
    [delivery] = [one for one in found if one["channel"] == "email"]
    assert [entry["state"] for entry in delivery["history"]] == ["pending", "accepted"]
    assert delivery["address"] == f"{ada[0]}…@mail.example"
    assert notifier.call("GET", f"/deliveries/{delivery['delivery_id']}", site.staff) == delivery
    [published] = [json.loads(value) for value in await records_of(site, "notifier.events", ada, 1)]
    assert (published["type"], published["data"]["delivery_id"]) == ("notification-accepted", delivery["delivery_id"])
    path = f"/deliveries/{delivery['delivery_id']}"
    assert notifier.call("POST", f"{path}/resend", site.staff)["state"] == "pending"
    eventually(lambda: notifier.call("GET", path, site.staff)["state"] == "accepted")
    notifier.call("POST", f"{path}/cancel", site.staff, 409)


async def test_preferences_change_in_part_and_are_told_as_availability(site: Site, notifier: Notifier) -> None:
    ada = fresh("ada")
    path, own = f"/members/{ada}/preferences", notifier.own(ada)
    before = notifier.call("GET", path, own)
    assert (before["time_zone"], before["daily_budget"], before["quiet_hours"]) == ("UTC", 5, None)
    assert before["channels"]["answer-needed"] == {"email": True, "push": True, "inbox": True}
    assert "breach" not in before["channels"]
    change = {
        "time_zone": "Europe/Stockholm",
        "quiet_hours": {"start": "22:00", "end": "07:00"},
        "channels": {"milestone": {"email": False}},
        "follow": {"spaces": ["help"], "languages": ["sv"]},
        "mute": {"tags": ["android"]},
        "digest": {"every": "weekly", "day": "friday"},
    }
    after = notifier.call("PUT", path, own, json=change)
    assert after["quiet_hours"] == {"start": "22:00", "end": "07:00", "time_zone": "Europe/Stockholm"}
    assert after["channels"]["milestone"] == {"email": False, "push": True, "inbox": True}
    assert after["digest"] == {"every": "weekly", "at": "09:00", "day": "friday"}
    again = notifier.call("PUT", path, own, json={"daily_budget": 3, "mute": {"spaces": ["lounge"]}})
    assert again["follow"]["spaces"] == ["help"]
    assert again["mute"] == {"spaces": ["lounge"], "tags": ["android"], "languages": [], "topics": []}
    assert notifier.call("GET", path, own) == again
    told = [json.loads(value) for value in await records_of(site, "notifier.availability", ada, 2)]
    assert told[-1]["data"] == {
        "member_id": ada,
        "paused_until": None,
        "quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Stockholm"},
        "daily_budget": 3,
        "muted_spaces": ["lounge"],
        "muted_tags": ["android"],
        "muted_languages": [],
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_zone": "Mars/Olympus"},
        {"quiet_hours": {"start": "25:00", "end": "07:00"}},
        {"quiet_hours": {"start": "22:00"}},
        {"daily_budget": -1},
        {"daily_budget": 2.5},
        {"channels": {"verification": {"email": False}}},
        {"channels": {"nothing": {"email": False}}},
        {"channels": {"milestone": {"fax": True}}},
        {"follow": {"spaces": ["x"] * 101}},
        {"digest": {"every": "hourly"}},
        {"paused_until": "tomorrow"},
        {"unknown": 1},
    ],
)
def test_what_makes_no_sense_is_refused(notifier: Notifier, wrong: Json) -> None:
    ada = fresh("ada")
    notifier.call("PUT", f"/members/{ada}/preferences", notifier.own(ada), 400, json=wrong)


def test_nobody_sees_or_changes_what_is_anothers(site: Site, notifier: Notifier) -> None:
    ada, eve = fresh("ada"), fresh("eve")
    key = {"endpoint": "https://fcm.googleapis.com/x", "keys": {"p256dh": "B" * 87, "auth": "A" * 22}}
    for method, path, body in (
        ("GET", f"/members/{ada}/preferences", None),
        ("PUT", f"/members/{ada}/preferences", {"daily_budget": 0}),
        ("GET", f"/members/{ada}/contact", None),
        ("PUT", f"/members/{ada}/contact", {"email": "x@mail.example"}),
        ("GET", f"/members/{ada}/inbox", None),
        ("POST", f"/members/{ada}/inbox/marks", {}),
        ("GET", f"/members/{ada}/push-subscriptions", None),
        ("POST", f"/members/{ada}/push-subscriptions", key),
        ("DELETE", f"/members/{ada}/push-subscriptions", {"endpoint": "https://x"}),
    ):
        more = {} if body is None else {"json": body}
        notifier.call(method, path, {}, 401, **more)
        notifier.call(method, path, notifier.own(eve), 403, **more)
    for method, path in (
        ("GET", "/deliveries"),
        ("GET", "/deliveries/1"),
        ("POST", "/deliveries/1/resend"),
        ("POST", "/deliveries/1/cancel"),
        ("GET", "/suppressions"),
        ("DELETE", "/suppressions/1"),
        ("GET", "/providers"),
        ("GET", "/mails"),
        ("GET", "/mails/1"),
        ("POST", "/bounces"),
    ):
        notifier.call(method, path, {}, 401)
        notifier.call(method, path, notifier.own(eve, "member", "star"), 403)
    # What is for staff, nobody else can switch on.
    notifier.call(
        "PUT", f"/members/{eve}/preferences", notifier.own(eve), 403, json={"channels": {"breach": {"email": True}}}
    )
    sue = fresh("sue")
    staff = notifier.own(sue, "staff")
    answer = notifier.call("PUT", f"/members/{sue}/preferences", staff, json={"channels": {"breach": {"email": True}}})
    assert answer["channels"]["breach"]["email"] is True


async def test_an_unsubscribe_link_survives_a_storm_of_gets_and_acts_on_post(site: Site, notifier: Notifier) -> None:
    ada = fresh("ada")
    notifier.register(ada)
    await notifier.tell(ada)
    [mail] = notifier.mails(ada)
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = mail["List-Unsubscribe"].strip("<>")
    assert link.startswith(f"{site.url}/notifier/unsubscribe/")
    path = link.removeprefix(site.url)

    def wanted() -> bool:
        answer = notifier.call("GET", f"/members/{ada}/preferences", notifier.own(ada))
        return bool(answer["channels"]["application"]["email"])

    for _ in range(50):
        assert site.client.get(path).status_code == 200
    site.client.head(path)
    assert wanted()
    forged = path[:-3] + "xyz"
    bad = site.client.post(forged, data={"List-Unsubscribe": "One-Click"})
    assert wanted()
    good = site.client.post(path, data={"List-Unsubscribe": "One-Click"})
    assert not wanted()
    assert (bad.status_code, good.status_code) == (200, 200)

    def without_now(text: str) -> str:
        # The page says what time it is, and its own address to come back to after a sign-in.
        return re.sub(r'content="[^"]*T[^"]*"|next=[^"]*"', "", text)

    assert without_now(bad.text) == without_now(good.text), "the same for a good token as for a bad one"
    assert site.client.post(path, content=b"x" * 1000, headers={"Content-Type": "text/plain"}).status_code == 200
    await notifier.tell(ada)
    skipped = eventually(
        lambda: notifier.call("GET", "/deliveries", site.staff, params={"member": ada, "state": "skipped"})["items"]
    )
    assert skipped[0]["reason"] == "preference"


async def test_the_other_links_of_a_mail(site: Site, notifier: Notifier) -> None:
    ada, topic = fresh("ada"), fresh("t")
    notifier.register(ada)
    data = {
        "topic_id": topic,
        "author_id": "asker",
        "space": "help",
        "tags": [],
        "stage": "new",
        "due_at": ago(hours=-40).isoformat(),
        "candidates": [{"member_id": ada, "score": 1.0}],
        "arm": "routed",
    }
    needed = event("answer-needed", data) | {"sequence": 1}
    await write_raw(site, ("topics.events", topic, json.dumps(needed).encode()))
    [mail] = notifier.mails(ada)
    body = mail.get_body(("plain",))
    assert body is not None
    links = re.findall(rf"{re.escape(site.url)}(/notifier/(pause|not-for-me|unsubscribe)/\S+)", body.get_content())
    assert {kind for _, kind in links} == {"pause", "not-for-me", "unsubscribe"}
    for path, _ in links:
        assert site.client.get(path).status_code == 200
    own = notifier.own(ada)
    before = notifier.call("GET", f"/members/{ada}/preferences", own)
    assert before["paused_until"] is None
    for path, kind in links:
        if kind != "unsubscribe":
            assert site.client.post(path).status_code == 200
    after = notifier.call("GET", f"/members/{ada}/preferences", own)
    assert after["paused_until"] is not None
    assert after["mute"]["topics"] == [topic]


def test_an_own_address_is_verified_by_its_mail(site: Site, notifier: Notifier) -> None:
    ada = fresh("ada")
    notifier.register(ada)
    path, own = f"/members/{ada}/contact", notifier.own(ada)
    eventually(lambda: notifier.call("GET", path, own)["source"] == "forum")
    answer = notifier.call("PUT", path, own, json={"email": f"own-{ada}@mail.example"})
    assert (answer["source"], answer["pending_email"]) == ("forum", f"own-{ada}@mail.example")
    [mail] = notifier.mails(ada)
    assert mail["To"] == f"own-{ada}@mail.example"
    body = mail.get_body(("plain",))
    assert body is not None
    link = re.search(rf"{re.escape(site.url)}(/notifier/verify/(\S+))", body.get_content())
    assert link is not None
    assert site.client.get(link[1]).status_code == 200
    assert notifier.call("GET", path, own)["source"] == "forum"
    assert site.client.post(link[1]).status_code == 200
    answer = notifier.call("GET", path, own)
    assert (answer["email"], answer["source"], answer["verified"]) == (f"own-{ada}@mail.example", "own", True)
    assert notifier.call("POST", "/contact-verifications", {}, json={"token": link[2]}) == {"verified": True}
    assert notifier.call("POST", "/contact-verifications", {}, json={"token": "x"}) == {"verified": False}
    notifier.call("PUT", path, own, 400, json={"email": "a@b@c"})
    notifier.call("PUT", path, own, 400, json={"email": "ada,eve@mail.example"})


def test_browsers_subscribe_and_unsubscribe(notifier: Notifier) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    from services.notifier.channels.push import raw_public_key, unpadded

    ada = fresh("ada")
    path, own = f"/members/{ada}/push-subscriptions", notifier.own(ada)
    public = unpadded(raw_public_key(ec.generate_private_key(ec.SECP256R1())))
    body = {
        "endpoint": f"https://fcm.googleapis.com/fcm/send/{ada}",
        "expirationTime": None,
        "keys": {"p256dh": public, "auth": unpadded(b"a" * 16)},
    }
    assert len(notifier.call("GET", "/push-key", {})["public_key"]) == 87
    first = notifier.call("POST", path, own, 201, json=body)
    assert notifier.call("POST", path, own, 201, json=body)["subscription_id"] == first["subscription_id"]
    assert len(notifier.call("GET", path, own)) == 1
    for endpoint in ("https://127.0.0.1/a.fcm.googleapis.com/", "http://fcm.googleapis.com/x", "https://evil.example/"):
        notifier.call("POST", path, own, 400, json={**body, "endpoint": endpoint})
    notifier.call("POST", path, own, 400, json={**body, "keys": {"p256dh": "B" * 87, "auth": unpadded(b"a" * 9)}})
    notifier.call("DELETE", path, own, 204, json={"endpoint": body["endpoint"]})
    notifier.call("DELETE", path, own, 204, json={"endpoint": body["endpoint"]})
    assert notifier.call("GET", path, own) == []


async def test_a_bounce_marks_its_delivery_and_suppresses_the_address(site: Site, notifier: Notifier) -> None:
    ada = fresh("ada")
    notifier.register(ada)
    await notifier.tell(ada)
    notifier.mails(ada)
    [delivery] = notifier.call(
        "GET", "/deliveries", site.staff, params={"member": ada, "state": "accepted", "channel": "email"}
    )["items"]
    rfc822 = {**site.staff, "Content-Type": "message/rfc822"}
    for raw in (b"", b"To: noreply+1-0000000000000000@constellation.invalid\n\nx", b"\xff" * 100):
        notifier.call("POST", "/bounces", rfc822, 400, content=raw)
    problem(site.client.post("/notifier/api/bounces", headers=site.staff, json={}), 415)
    assert delivery["state"] == "accepted"


async def test_an_erased_member_is_gone_from_the_mailbox_and_from_availability(site: Site, notifier: Notifier) -> None:
    ada = fresh("mortal")
    notifier.register(ada)
    await notifier.tell(ada)
    notifier.mails(ada)
    notifier.call("PUT", f"/members/{ada}/preferences", notifier.own(ada), json={"daily_budget": 1})
    site.publish(event("member-erased", {"member_id": ada}))
    eventually(lambda: notifier.call("GET", "/mails", site.staff, params={"member": ada})["items"] == [])
    last = [json.loads(value) for value in await records_of(site, "notifier.availability", ada, 2)][-1]
    assert (last["type"], last["data"]) == ("member-erased", {"member_id": ada})
    notifier.call("GET", f"/members/{ada}/preferences", notifier.own(ada), 404)
    notifier.call("PUT", f"/members/{ada}/preferences", notifier.own(ada), 404, json={"daily_budget": 1})


async def test_an_answer_in_time_leaves_nothing_to_tell(site: Site, notifier: Notifier) -> None:
    ada, topic = fresh("ada"), fresh("t")
    notifier.register(ada)
    site.publish(asked(topic, ago(hours=1)))
    site.publish(event("topic-deleted", {"topic_id": topic}))
    data = {
        "topic_id": topic,
        "author_id": "asker",
        "space": "help",
        "tags": [],
        "stage": "new",
        "due_at": ago(hours=-40).isoformat(),
        "candidates": [{"member_id": ada, "score": 1.0}],
        "arm": "routed",
    }
    needed = event("answer-needed", data) | {"sequence": 1}

    def deleted() -> bool:
        found = site.topic(topic)
        return found is not None and found["state"] == "deleted"

    eventually(deleted)
    await write_raw(site, ("topics.events", topic, json.dumps(needed).encode()))
    found = eventually(
        lambda: notifier.call("GET", "/deliveries", site.staff, params={"member": ada, "channel": "email"})["items"],
        lambda items: bool(items) and items[0]["state"] in ("skipped", "accepted"),
    )
    assert [(one["state"], one["reason"]) for one in found] == [("skipped", "topic-deleted")]
