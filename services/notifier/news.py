"""What an event has to tell, and to whom: pure functions, one an event type."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.notifier.rules import CATEGORIES
from shared.contracts import applications, leaderboard, topics
from shared.contracts.envelope import Event

_NAMESPACE = uuid.UUID("6b0c4f0e-6f53-4a47-9d5c-0d8a3f5d2b61")

STAFF = {"kind": "staff"}


@dataclass(frozen=True, slots=True)
class News:
    """Something to tell. ``about`` is what makes it the same news when it comes again."""

    category: str
    what: str
    """Which letter is written of it."""
    about: tuple[str, ...]
    data: dict[str, Any]
    at: datetime
    members: tuple[str, ...] = ()
    audience: dict[str, Any] | None = None
    """Instead of members: who may be very many, found page by page."""
    topic_id: str | None = None
    actor_id: str | None = None
    never: str | None = None
    """A member who is not told, whoever else is."""
    not_before: datetime | None = None
    expires_at: datetime | None = None
    traceparent: str | None = None

    def key(self, *more: str) -> uuid.UUID:
        """What this news is the same by, for one member or as a whole."""
        return uuid.uuid5(_NAMESPACE, "\x00".join((self.category, *self.about, *more)))

    def until(self) -> datetime:
        """When it is no longer worth telling."""
        limit = max(self.at, self.not_before or self.at) + CATEGORIES[self.category].age_limit
        return limit if self.expires_at is None else min(limit, self.expires_at)

    def plain(self) -> dict[str, Any]:
        """As JSON, to be taken up again by ``from_plain``."""
        return {
            "category": self.category,
            "what": self.what,
            "about": list(self.about),
            "data": self.data,
            "at": self.at.isoformat(),
            "audience": self.audience,
            "topic_id": self.topic_id,
            "never": self.never,
            "not_before": self.not_before and self.not_before.isoformat(),
            "expires_at": self.expires_at and self.expires_at.isoformat(),
            "traceparent": self.traceparent,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any], actor_id: str | None) -> "News":
        """What ``plain`` wrote down."""
        instants = {
            name: datetime.fromisoformat(plain[name]) for name in ("at", "not_before", "expires_at") if plain[name]
        }
        return cls(**{**plain, "about": tuple(plain["about"]), "actor_id": actor_id, **instants})


def read(event: Event) -> Iterator[News]:
    """What an event has to tell; nothing where it is history."""
    teller = _TELLERS.get(event.type)
    if teller is None or event.backfill:
        return
    for news in teller(event):
        yield replace(news, traceparent=event.traceparent) if event.traceparent else news


def _answer_needed(event: topics.AnswerNeeded) -> Iterator[News]:
    data = event.data
    news = News(
        "answer-needed",
        "answer-needed",
        (data.topic_id, data.stage),
        {
            "title": data.title,
            "url": data.url,
            "space": data.space,
            "language": data.language,
            "tags": data.tags,
            "stage": data.stage,
            "due_at": data.due_at.isoformat(),
        },
        event.time,
        topic_id=data.topic_id,
        never=data.author_id,
    )
    if data.arm is not None:
        reasons = {one.member_id: one.reasons for one in data.candidates}
        for member_id, why in reasons.items():
            yield replace(news, members=(member_id,), data=news.data | {"reasons": why})
        return
    followed = [("space", data.space), ("topic", data.topic_id), *(("tag", tag) for tag in data.tags)]
    if data.language:
        followed.append(("language", data.language))
    yield replace(news, audience={"kind": "followers", "stars": True, "of": [list(pair) for pair in followed]})


def _topic_claimed(event: topics.TopicClaimed) -> Iterator[News]:
    data = event.data
    yield News(
        "claimed",
        "claimed",
        (event.source, event.id),
        {"until": data.until.isoformat()},
        event.time,
        audience={"kind": "asked", "topic_id": data.topic_id},
        topic_id=data.topic_id,
        actor_id=data.member_id,
        never=data.member_id,
        expires_at=data.until,
    )


def _target_breached(event: topics.TargetBreached) -> Iterator[News]:
    data = event.data
    yield News(
        "breach",
        "breach",
        (data.topic_id,),
        {"due_at": data.due_at.isoformat()},
        event.time,
        audience=STAFF,
        topic_id=data.topic_id,
    )


def _milestone(event: leaderboard.MilestoneReached) -> Iterator[News]:
    data = event.data
    yield News(
        "milestone",
        "milestone",
        (event.source, event.id),
        {"board": data.board, "kind": data.kind},
        event.time,
        members=(data.member_id,),
    )


def _season_closed(event: leaderboard.SeasonClosed) -> Iterator[News]:
    standings = event.data.standings
    for standing in standings:
        yield News(
            "season",
            "season",
            (event.data.season_id,),
            {
                "season_id": event.data.season_id,
                "rank": standing.rank,
                "points": standing.points,
                "solutions": standing.solutions,
                "listed": len(standings),
            },
            event.time,
            members=(standing.member_id,),
        )


def _application(event: Event) -> Iterator[News]:
    data = event.data
    more = {name: getattr(data, name) for name in ("outcome", "reason") if getattr(data, name, None) is not None}
    yield News(
        "application",
        event.type,
        (event.source, event.id),
        {"application_id": data.application_id, **more},
        event.time,
        members=(data.member_id,),
    )


def _invited(event: applications.ProgrammeInvited) -> Iterator[News]:
    data = event.data
    yield News(
        "application",
        event.type,
        (event.type, data.edition),
        {"edition": data.edition},
        event.time,
        members=(data.member_id,),
    )


def _appointment(event: Event) -> Iterator[News]:
    reason = getattr(event.data, "reason", None)
    yield News(
        "appointment",
        event.type,
        (event.source, event.id),
        {} if reason is None else {"reason": reason},
        event.time,
        members=(event.data.member_id,),
    )


def _perk(event: applications.PerkGranted | applications.PerkFulfilled) -> Iterator[News]:
    data = event.data
    yield News(
        "perk", event.type, (event.type, data.grant_id), {"perk": data.perk}, event.time, members=(data.member_id,)
    )


def _jam_invited(event: applications.JamInvited) -> Iterator[News]:
    data = event.data
    yield News(
        "jam",
        "jam-invited",
        (data.jam_id,),
        {"jam_id": data.jam_id, "answer_by": data.answer_by and data.answer_by.isoformat()},
        event.time,
        members=(data.member_id,),
        expires_at=data.answer_by,
    )


def _announcement(event: applications.AnnouncementPublished) -> Iterator[News]:
    data = event.data
    audience = audience_of(data.audience)
    if audience is None:
        return
    yield News(
        "announcement",
        "announcement",
        (data.announcement_id,),
        {"title": data.title, "text": data.text, "audience": data.audience},
        event.time,
        audience=audience,
        not_before=data.embargo_until,
    )


def audience_of(label: str) -> dict[str, Any] | None:
    """Whom an announcement's audience means: everyone, stars, ``rank:NAME`` (Stars of that rank), staff, ``space:NAME``
    or ``language:CODE`` (who follow it); None for a word that nobody has agreed on: it must not reach others."""
    if label in ("everyone", "all", "members"):
        return {"kind": "everyone"}
    if label in ("stars", "star"):
        return {"kind": "stars"}
    if label == "staff":
        return STAFF
    what, _, value = label.partition(":")
    if what == "rank" and value:
        return {"kind": "rank", "stars": True, "rank": value}
    if what in ("space", "language", "tag") and value:
        return {"kind": "followers", "stars": False, "of": [[what, value]]}
    return None


_TELLERS: dict[str, Callable[[Any], Iterator[News]]] = {
    "answer-needed": _answer_needed,
    "topic-claimed": _topic_claimed,
    "target-breached": _target_breached,
    "milestone-reached": _milestone,
    "season-closed": _season_closed,
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
    "announcement-published": _announcement,
}
