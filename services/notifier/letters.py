"""What is said: every kind of news as a letter, from which the mail, the push and the line in the inbox are made."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from services.notifier.words import Words

LONGEST = 200

# Control characters, and those that turn the direction of what follows: a title must not dress up as something else.
_UNSEEMLY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_BLANK = re.compile(r"\s+")


def line(value: Any, longest: int = LONGEST) -> str:
    """Somebody else's text as one line without anything that could act: no control characters, no line breaks."""
    text = _BLANK.sub(" ", _UNSEEMLY.sub("", str(value).replace("\x85", " "))).strip()
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def web_address(url: Any) -> str | None:
    """A forum's URL where it is a web address; nothing else becomes a link."""
    if not isinstance(url, str) or _UNSEEMLY.search(url) or any(c in url for c in " \n\t<>\"'\\"):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.hostname else None


@dataclass(frozen=True, slots=True)
class Letter:
    """Plain text, in the member's language: whoever puts it into HTML escapes it."""

    subject: str
    paragraphs: list[str]
    why: str
    """Why the member is told this."""
    action: tuple[str, str] | None = None
    """Words and address of the one thing to do."""
    items: list["Letter"] = field(default_factory=list)
    """Of a digest: what is in it."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a letter is written from."""

    what: str
    data: Mapping[str, Any]
    topic_id: str | None
    actor: str | None
    """How another member who is named is called."""
    zone: ZoneInfo
    base: str
    """The installation's public address, without a slash at its end."""
    items: tuple["Occasion", ...] = ()
    more: int = 0


def write(occasion: Occasion, words: Words) -> Letter:
    """The letter of an occasion. Data of older versions may lack fields: it says less then."""
    writer = _WRITERS.get(occasion.what, _plain)
    return writer(occasion, words)


class _Said:
    """An occasion with what its sentences are made of at hand."""

    def __init__(self, occasion: Occasion, words: Words) -> None:
        self._data, self._zone, self._words = occasion.data, occasion.zone, words
        self.title = line(self._data.get("title") or occasion.topic_id or "")
        self.url = web_address(self._data.get("url"))

    def time(self, name: str) -> str | None:
        value = self._data.get(name)
        return self._words.time(datetime.fromisoformat(value), self._zone) if isinstance(value, str) else None

    def text(self, name: str) -> str:
        return line(self._data.get(name) or "", 1000)

    def number(self, name: str) -> str:
        value = self._data.get(name)
        return self._words.number(value if isinstance(value, int | float) else 0)

    def open(self, label: str) -> tuple[str, str] | None:
        return None if self.url is None else (label, self.url)


def _answer_needed(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    subject = {
        "stalled": _("Still waiting: %(title)s"),
        "warning": _("Soon too late: %(title)s"),
    }.get(said.text("stage"), _("A question for you: %(title)s"))
    paragraphs = [_("Nobody has answered this question yet.")]
    if due := said.time("due_at"):
        paragraphs.append(_("An answer is promised by %(due)s.") % {"due": due})
    reasons = [line(reason) for reason in occasion.data.get("reasons") or ()]
    why = _("You get this because you follow its space, its language or one of its tags.")
    if occasion.data.get("reasons") is not None:
        why = _("You get this because you were found to be somebody who can answer it.")
        if reasons:
            paragraphs.append(_("Why you: %(reasons)s.") % {"reasons": ", ".join(reasons)})
    return Letter(subject % {"title": said.title}, paragraphs, why, said.open(_("Open the question")))


def _claimed(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    who = line(occasion.actor or _("Somebody"))
    paragraphs = [_("You need do nothing more about it.")]
    if until := said.time("until"):
        paragraphs.append(_("The question is theirs until %(until)s.") % {"until": until})
    return Letter(
        _("%(who)s takes it on: %(title)s") % {"who": who, "title": said.title},
        paragraphs,
        _("You get this because you were asked to answer this question."),
        said.open(_("Open the question")),
    )


def _breach(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    paragraphs = [_("The question is still waiting.")]
    if due := said.time("due_at"):
        paragraphs.insert(0, _("An answer was promised by %(due)s.") % {"due": due})
    return Letter(
        _("Nobody answered in time: %(title)s") % {"title": said.title},
        paragraphs,
        _("You get this because you are staff and asked to hear of broken promises."),
        said.open(_("Open the question")),
    )


def _board(board: str, words: Words) -> str:
    _ = words.text
    what, colon, value = board.partition(":")
    if what == "everyone" and not colon:
        return _("everyone's leaderboard")
    if what == "stars" and not colon:
        return _("the Stars' leaderboard")
    if what == "space" and value:
        return _("the leaderboard of the space %(name)s") % {"name": line(value)}
    if what == "language" and value:
        return _("the leaderboard of the language %(name)s") % {"name": line(value)}
    return line(board)


def _milestone(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    subject = {
        "entered-top-10": _("You are among the first ten on %(board)s"),
        "first-place": _("You are first on %(board)s"),
    }.get(said.text("kind"), _("You reached a milestone on %(board)s"))
    return Letter(
        subject % {"board": _board(said.text("board"), words)},
        [_("Thank you for all the help that you gave.")],
        _("You get this because it is about your own standing."),
        (_("See where you stand"), f"{occasion.base}/leaderboard/"),
    )


def _season(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    solutions = occasion.data.get("solutions") or 0
    return Letter(
        _("The season is over, and you are number %(rank)s") % {"rank": said.number("rank")},
        [
            _("You closed it with %(points)s points.") % {"points": said.number("points")},
            words.plural(
                "%(count)s answer of yours was accepted as the solution.",
                "%(count)s answers of yours were accepted as solutions.",
                solutions,
            )
            % {"count": said.number("solutions")},
        ],
        _("You get this because you are on the season's final list."),
        (_("See the season"), f"{occasion.base}/leaderboard/"),
    )


def _path(data: Mapping[str, Any]) -> str:
    return quote(line(data.get("application_id") or ""), safe="")


def _application(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    subject, text = {
        "application-submitted": (
            _("We have your application"),
            _("It will be read by people. You can follow it, and you will hear of every step."),
        ),
        "application-withdrawn": (
            _("Your application is withdrawn"),
            _("Nothing more happens with it. You can apply again whenever you like."),
        ),
        "quiz-passed": (_("You passed the quiz"), _("Well done. Your application goes on to the next step.")),
        "quiz-failed": (
            _("You did not pass the quiz this time"),
            _("The page of your application says what comes next."),
        ),
    }.get(occasion.what, (_("Your application has moved on"), _("The page of your application says what comes next.")))
    paragraphs = [text]
    if occasion.what == "application-decided":
        outcome = said.text("outcome")
        if outcome in ("accepted", "approved", "appointed"):
            subject, paragraphs = _("Your application was accepted"), [_("Welcome among the Stars.")]
        elif outcome in ("declined", "rejected", "refused"):
            subject = _("Your application was not accepted this time")
            paragraphs = [_("Thank you for applying. The decision says nothing about the help that you give.")]
        else:
            subject, paragraphs = _("There is a decision on your application: %(outcome)s") % {"outcome": outcome}, []
        if reason := said.text("reason"):
            paragraphs.append(_("The reason that was given: %(reason)s") % {"reason": reason})
    return Letter(
        subject,
        paragraphs,
        _("You get this because you applied to become a Star."),
        (_("Open your application"), f"{occasion.base}/applications/application/{_path(occasion.data)}"),
    )


def _invited(occasion: Occasion, words: Words) -> Letter:
    _ = words.text
    return Letter(
        _("You may apply to become a Star"),
        [_("You have helped others so often that you have all that it takes.")],
        _("You get this once, because you are eligible now."),
        (_("Open the programme"), f"{occasion.base}/applications/"),
    )


def _appointment(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    if occasion.what == "star-appointed":
        subject, paragraphs = (
            _("You are a Star now"),
            [_("Choose which spaces, tags and languages you want to hear of.")],
        )
        action = (_("Choose what you hear of"), f"{occasion.base}/notifier/preferences")
    else:
        subject, paragraphs = _("You are no longer a Star"), [_("Thank you for the time that you gave.")]
        action = (_("Open the programme"), f"{occasion.base}/applications/")
    if reason := said.text("reason"):
        paragraphs.append(_("The reason that was given: %(reason)s") % {"reason": reason})
    return Letter(subject, paragraphs, _("You get this because it is about your own standing."), action)


def _perk(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    granted = occasion.what == "perk-granted"
    subject = _("There is something for you: %(perk)s") if granted else _("It is on its way: %(perk)s")
    text = _("The programme's page says how to get it.") if granted else _("We hope that you like it.")
    return Letter(
        subject % {"perk": said.text("perk")},
        [text],
        _("You get this because the programme thanks you with it."),
        (_("Open the programme"), f"{occasion.base}/applications/perks"),
    )


def _jam_invited(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    paragraphs = [_("The Stars meet, and you are one of those whom we would like to see there.")]
    if by := said.time("answer_by"):
        paragraphs.append(_("Please answer by %(by)s.") % {"by": by})
    return Letter(
        _("You are invited to Star Jam"),
        paragraphs,
        _("You get this because you are invited."),
        (_("Answer the invitation"), f"{occasion.base}/applications/jams"),
    )


def _announcement(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    parts = re.split(r"\n\s*\n", str(occasion.data.get("text") or ""))
    return Letter(
        said.title,
        [text for part in parts if (text := line(part, 20_000))],
        _("You get this because it was announced to everyone whom you are one of."),
    )


def _promise(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    met, missed = int(occasion.data.get("met") or 0), int(occasion.data.get("missed") or 0)
    share = words.share(met / (met + missed)) if met + missed else "–"
    return Letter(
        _("%(share)s of last week's questions were answered in time") % {"share": share},
        [
            _("In week %(week)s, %(met)s questions were answered in time and %(missed)s were not.")
            % {"week": said.text("week"), "met": said.number("met"), "missed": said.number("missed")}
        ],
        _("You get this because you are staff and asked for the week's report."),
        (_("See the whole report"), f"{occasion.base}/topics/"),
    )


def _digest(occasion: Occasion, words: Words) -> Letter:
    _ = words.text
    items = [write(item, words) for item in occasion.items]
    count = len(items) + occasion.more
    paragraphs = []
    if occasion.more:
        paragraphs.append(
            words.plural("And %(count)s more in your inbox.", "And %(count)s more in your inbox.", occasion.more)
            % {"count": words.number(occasion.more)}
        )
    return Letter(
        words.plural("%(count)s piece of news for you", "%(count)s pieces of news for you", count)
        % {"count": words.number(count)},
        paragraphs,
        _("You get this because you asked for news together, or because it was more than you want in a day."),
        (_("Open your inbox"), f"{occasion.base}/notifier/"),
        items,
    )


def _verification(occasion: Occasion, words: Words) -> Letter:
    _ = words.text
    return Letter(
        _("Is this your e-mail address?"),
        [
            _("Somebody, we hope that it was you, asked for news to be sent to this address."),
            _("If it was not you, do nothing: nothing more comes."),
        ],
        _("You get this once, because this address was entered."),
        (_("Yes, send it here"), str(occasion.data.get("link") or occasion.base)),
    )


def _plain(occasion: Occasion, words: Words) -> Letter:
    _, said = words.text, _Said(occasion, words)
    return Letter(said.title or _("There is news for you"), [], _("You get this because it is about you."))


_WRITERS: dict[str, Callable[[Occasion, Words], Letter]] = {
    "answer-needed": _answer_needed,
    "claimed": _claimed,
    "breach": _breach,
    "milestone": _milestone,
    "season": _season,
    "application-submitted": _application,
    "application-withdrawn": _application,
    "programme-invited": _invited,
    "quiz-passed": _application,
    "quiz-failed": _application,
    "application-decided": _application,
    "star-appointed": _appointment,
    "star-retired": _appointment,
    "perk-granted": _perk,
    "perk-fulfilled": _perk,
    "jam-invited": _jam_invited,
    "announcement": _announcement,
    "promise": _promise,
    "digest": _digest,
    "verification": _verification,
}
WHATS = tuple(_WRITERS)
"""Every kind of letter."""

CATEGORY_WORDS: dict[str, Callable[[Callable[[str], str]], str]] = {
    "application": lambda _: _("Your application"),
    "appointment": lambda _: _("Becoming a Star, and no longer being one"),
    "answer-needed": lambda _: _("Questions that wait for an answer"),
    "claimed": lambda _: _("Somebody else takes a question on"),
    "breach": lambda _: _("Promises that were broken"),
    "milestone": lambda _: _("Your places on the leaderboard"),
    "season": lambda _: _("Results of seasons"),
    "perk": lambda _: _("Perks"),
    "jam": lambda _: _("Star Jam"),
    "announcement": lambda _: _("Announcements"),
    "promise": lambda _: _("The week's report"),
    "digest": lambda _: _("News together"),
    "verification": lambda _: _("Your address"),
}
"""What each category is called, in the words of a language."""
