"""A Stack Exchange dump that never was: questions, answers, users and votes, in the shape of the real thing."""

import random
from datetime import datetime, timedelta
from pathlib import Path

BODY = "&lt;p&gt;I have two accounts and many playlists. How can I bring them together without losing any?&lt;/p&gt;"
START = datetime(2020, 1, 1)


def write_dump(folder: Path, posts: int, *, seed: int = 1) -> None:
    """Write Posts.xml, Users.xml and Votes.xml: of the posts 40% are questions, half of them with an accepted answer;
    four users for each ten posts, and two votes for each post."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    users = max(10, posts * 2 // 5)
    rows: list[str] = []
    questions: list[int] = []
    accepted: dict[int, int] = {}
    answers: list[tuple[int, int]] = []
    for id in range(1, posts + 1):
        if rng.random() < 0.4 or not questions:
            questions.append(id)
        else:
            # Most answers come soon after the question.
            parent = questions[-1 - min(int(rng.expovariate(0.05)), len(questions) - 1)]
            answers.append((id, parent))
            if rng.random() < 0.33:
                accepted.setdefault(parent, id)
    parents = dict(answers)
    for id in range(1, posts + 1):
        at = f'CreationDate="{_instant(id)}" Score="{rng.randrange(20)}" OwnerUserId="{1 + rng.randrange(users)}"'
        body = f'Body="{BODY * (1 + rng.randrange(8))}"'
        if answered := parents.get(id):
            rows.append(f'  <row Id="{id}" PostTypeId="2" ParentId="{answered}" {at} {body} />\n')
            continue
        solution = f' AcceptedAnswerId="{accepted[id]}"' if id in accepted else ""
        title = f'Title="How do I merge playlist {id}?" Tags="&lt;playlists&gt;&lt;account&gt;"'
        rows.append(f'  <row Id="{id}" PostTypeId="1"{solution} {at} {body} {title} />\n')
    _write(folder / "Posts.xml", "posts", rows)
    _write(
        folder / "Users.xml",
        "users",
        [
            f'  <row Id="{id}" Reputation="101" CreationDate="{_instant(0)}" DisplayName="Member {id}" />\n'
            for id in range(1, users + 1)
        ],
    )
    votes = []
    for id in range(1, 2 * posts + 1):
        post = 1 + rng.randrange(posts)
        kind = 1 if accepted.get(parents.get(post, 0)) == post and rng.random() < 0.5 else 2
        day = _instant(post)[:10]
        votes.append(f'  <row Id="{id}" PostId="{post}" VoteTypeId="{kind}" CreationDate="{day}T00:00:00.000" />\n')
    _write(folder / "Votes.xml", "votes", votes)


def _instant(id: int) -> str:
    return (START + timedelta(minutes=37 * id)).isoformat(timespec="milliseconds")


def _write(file: Path, name: str, rows: list[str]) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.write(f'<?xml version="1.0" encoding="utf-8"?>\n<{name}>\n')
        stream.writelines(rows)
        stream.write(f"</{name}>\n")
