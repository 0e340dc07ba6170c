"""What is asked: a title and its tags, from phrases that people of each language would write."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

from deploy.demo.names import SLOTS, WHEN

LOUNGE = "Music Lounge"
"""The one space for talk; all the others are for questions."""

_SLOT = re.compile(r"\{(\w+)\}")
_THOUSANDS = {"en": ",", "sv": "\N{NO-BREAK SPACE}"}
_OPEN = "~"


@dataclass
class Subject:
    """Something that people ask about, in the words of each language."""

    tags: list[str]
    phrases: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@cache
def subjects() -> dict[str, list[Subject]]:
    """The subjects of each space, in the order of the file."""
    found: dict[str, list[Subject]] = {}
    space: list[Subject] = []
    for line in (Path(__file__).parent / "phrases.txt").read_text("utf-8").splitlines():
        head, _, rest = line.partition(" ")
        if head == "==":
            space = found.setdefault(rest, [])
        elif head == "--":
            space.append(Subject(rest.split(", ")))
        elif head and head != "#":
            space[-1].phrases[head].append(rest.strip())
    return found


def invent(rng: Random, space: str, language: str) -> tuple[str, list[str]]:
    """A title of this space and language, and the tags that its author put on it."""
    among = subjects()[space]
    # Some things go wrong more often than others: the earlier ones in the file.
    subject = among[min(int(rng.random() ** 1.4 * len(among)), len(among) - 1)]
    phrase = rng.choice(subject.phrases[language])
    open_ended = phrase.endswith(_OPEN)
    used: dict[str, str] = {}

    def fill(slot: re.Match[str]) -> str:
        name = slot[1]
        word = used[name] = rng.choice(SLOTS[name])
        return word.replace(",", _THOUSANDS.get(language, ".")) if name == "hundred" else word

    title = _SLOT.sub(fill, phrase.removesuffix(_OPEN).rstrip())
    if open_ended and rng.random() < 0.4:
        title += rng.choice(WHEN[language])
    if language != "de" and rng.random() < 0.07:
        title = title.lower()
    tags = [tag for tag in subject.tags if rng.random() < 0.8]
    if (os := used.get("os", used.get("phone", ""))) and rng.random() < 0.6:
        tags.append(_platform(os))
    return title, tags


def _platform(name: str) -> str:
    first = name.split()[0].lower()
    if first in ("iphone", "windows", "macos"):
        return "ios" if first == "iphone" else first
    return "linux" if first == "ubuntu" else "android"
