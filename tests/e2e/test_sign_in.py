"""Sessions on a whole installation: as a person has them, beside the tokens of programs."""

import re
from typing import Any

import httpx
import pytest

from tests.e2e.site import ONE, Site, asked, fresh, problem


class Browser:
    """A person's browser, by HTTP."""

    def __init__(self, site: Site) -> None:
        self.http = httpx.Client(base_url=site.url, headers={"accept": "text/html"}, timeout=60)

    def sign_in(self, role: str, member: str = "", next: str = "/topics/") -> "Browser":
        """Sign in for development."""
        form = {"role": role, "member_id": member, "next": next}
        answer = self.http.post("/sign-in/development", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, next), answer.text
        return self

    @property
    def token(self) -> dict[str, str]:
        """The header with the token that pages carry."""
        found = re.search(r'<meta name="csrf-token" content="([^"]+)">', self.http.get("/topics/").text)
        assert found is not None
        return {"X-CSRF-Token": found[1]}


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)


def test_a_star_signs_in_and_claims_a_question_and_signs_out(site: Site, browser: Browser) -> None:
    topic, star = fresh("topic"), fresh("star")
    site.publish(asked(topic))
    site.topic_when(topic)
    browser.sign_in("star", star)
    assert star in browser.http.get("/topics/").text
    claim = f"/topics/api/topics/{topic}/claim"
    problem(browser.http.post(claim, headers={"accept": "*/*"}), 403, "csrf-token-needed")
    assert (site.topic(topic) or {})["claim"] is None
    assert browser.http.post(claim, headers=browser.token).json()["member_id"] == star
    assert [item["topic_id"] for item in browser.http.get("/topics/api/topics?mine=true").json()["items"]] == [topic]
    assert browser.http.delete(claim, headers=browser.token).status_code == 200
    out = browser.http.post("/sign-out", headers=browser.token)
    assert out.status_code == 303
    problem(browser.http.post(claim, headers={"accept": "*/*"}), 401)


def test_roles_hold_for_sessions_as_for_tokens(site: Site, browser: Browser) -> None:
    policy: dict[str, Any] = {"scope": f"space:{fresh('s')}", "target_seconds": 60, "objective": 0.5}

    def put() -> httpx.Response:
        return browser.http.put("/topics/api/policies", json=policy, headers=browser.token)

    for role in ("member", "star"):
        browser.sign_in(role, "somebody")
        problem(put(), 403)
    browser.sign_in("staff")
    assert put().status_code == 200
    # Nobody is the forum by signing in.
    headers = {"content-type": ONE, **browser.token}
    problem(browser.http.post("/topics/api/events", json=asked(fresh("topic")), headers=headers), 403)


def test_the_desk_sends_a_browser_to_sign_in_and_back(browser: Browser) -> None:
    answer = browser.http.get("/topics/policies")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Ftopics%2Fpolicies")
    browser.sign_in("staff", next="/topics/policies")
    assert browser.http.get("/topics/policies").status_code == 200


def test_every_process_knows_the_session_and_only_the_instance_signs_in_for_development(
    site: Site, narrow: Site, browser: Browser
) -> None:
    browser.sign_in("staff", "boss")
    cookie = {"cookie": f"stars-session={browser.http.cookies['stars-session']}", "accept": "text/html"}
    assert narrow.client.get("/topics/policies", headers=cookie).status_code == 200
    answer = narrow.client.post("/sign-in/development", data={"role": "staff"}, headers={"accept": "*/*"})
    problem(answer, 404)
    assert "development" not in narrow.client.get("/sign-in").text
