"""The small forums under deploy/examples, each started by its one command."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.site import ROOT, Site, eventually, instant, of
from tests.e2e.streams import partitions_of, records_of

HTTP, KAFKA = "deploy/examples/http_forum.py", "deploy/examples/kafka_forum.py"


@pytest.fixture
def forum(site: Site) -> Iterator[httpx.Client]:
    """The forum over HTTP, run by a Python that has none of our packages."""
    token = site.token("forum")
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", HTTP, "--url", site.url, "--token", token, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout
        url = process.stdout.readline().removeprefix("the forum: ").strip()
        with httpx.Client(base_url=url, timeout=20) as client:
            yield client
    finally:
        process.terminate()
        process.wait(10)


def test_a_forum_over_http_is_told_of_and_shows_what_it_is_told(site: Site, forum: httpx.Client) -> None:
    page = forum.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<h1>A small forum</h1>" in page.text

    topic_id = forum.post("/ask", json={"author": "ada", "title": "How do I <b>move</b> my playlists?"}).json()
    found = site.topic_when(topic_id)
    assert (found["state"], found["title"]) == ("waiting", "How do I <b>move</b> my playlists?")
    reply_id = forum.post("/reply", json={"topic_id": topic_id, "author": "ben", "text": "So."}).json()
    site.topic_when(topic_id, lambda topic: topic["first_response"] is not None)
    assert forum.post("/accept", json={"topic_id": topic_id, "reply_id": reply_id}).status_code == 200
    found = site.topic_when(topic_id, lambda topic: topic["solution"] is not None)
    assert found["first_response"]["responder_id"] == "http-example:ben"
    assert found["first_response"]["within_target"] is True
    assert found["solution"]["reply_id"] == reply_id

    shown = eventually(lambda: forum.get("/topics").json(), lambda all: all[0]["constellation"]["solution"] is not None)
    assert [(topic["topic_id"], topic["solution"], len(topic["replies"])) for topic in shown] == [
        (topic_id, reply_id, 1)
    ]
    assert instant(shown[0]["constellation"]["due_at"]) > instant(shown[0]["constellation"]["created_at"])


def test_the_forum_over_http_says_what_was_refused_and_forgets_it(forum: httpx.Client) -> None:
    refused = forum.post("/ask", json={"author": "a" * 300, "title": "How?"})
    assert refused.status_code == 502
    assert "author_id" in refused.json()["error"]
    assert forum.get("/topics").json() == []
    assert forum.post("/reply", json={"topic_id": "nowhere", "author": "ben", "text": ""}).status_code == 400
    # What a page of somebody else's can send without being asked first is not taken.
    assert forum.post("/ask", content='{"author": "a", "title": "b"}', headers={"Content-Type": "text/plain"}).is_error


@pytest.fixture
def published(site: Site) -> str:
    """Where the forum on Kafka says that its question is to be seen."""
    ran = subprocess.run(
        [sys.executable, KAFKA, "--data", str(site.data)], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split("curl ")[1].strip()


async def test_a_forum_on_kafka_is_known_by_its_own_id(site: Site, published: str) -> None:
    assert published.startswith(f"{site.url}/topics/api/topics/kafka-example:")
    topic_id = published.rpartition("/")[2]
    found = site.topic_when(topic_id, lambda topic: topic["solution"] is not None)
    assert found["first_response"]["responder_id"] == "kafka-example:ben"
    assert site.client.get(published).json()["topic_id"] == topic_id
    # A later event from the door lands behind them, in the same partition: key and partitioner are the same.
    site.publish(of("topic-closed", topic_id))
    values = await records_of(site, "forum.events", topic_id, 4)
    assert [json.loads(value)["type"] for value in values][-1] == "topic-closed"
    assert len(await partitions_of(site, "forum.events", topic_id)) == 1


def test_a_forum_on_kafka_says_what_it_is_missing(tmp_path: object) -> None:
    ran = subprocess.run(
        [sys.executable, KAFKA, "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={},
    )
    assert ran.returncode == 2
    assert "stars up" in ran.stderr


def _section(title: str) -> str:
    return (ROOT / "README.md").read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n### ")[0]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
def test_the_readmes_first_hour_does_what_it_says(site: Site) -> None:
    """Every command of it but the two forums, in one shell, as written but for the port."""
    blocks = re.findall(r"```(sh|json)\n(.*?)```", _section("Connecting a forum"), re.DOTALL)
    commands = [text.replace("http://localhost:8080", site.url) for kind, text in blocks if kind == "sh"]
    post, show, dry, mended, examples = commands
    # Reading follows writing by a moment, which a reader takes and a script has to.
    mended = mended.replace("curl http", "sleep 2\necho\ncurl http")
    script = "\n".join(["set -e", post, "sleep 2", "echo", show, "echo", dry, "echo", mended])
    ran = subprocess.run(
        ["bash", "-c", script.replace("./stars", f"{sys.executable} -c 'from deploy.cli import main; main()'")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "STARS_DATA": str(site.data), "NO_COLOR": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    taken, waiting, refused, again, answered = map(json.loads, filter(None, ran.stdout.splitlines()))
    assert taken == again == {"events": 1}
    assert (waiting["topic_id"], waiting["state"], waiting["first_response"]) == ("4711", "waiting", None)
    assert refused == json.loads(next(text for kind, text in blocks if kind == "json"))
    assert answered["first_response"]["responder_id"] == "ben"
    assert [line.split()[1] for line in examples.splitlines()] == [HTTP, KAFKA]
