"""Preferences: what each member wants to be told, where and when; and what others may know of that."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

from services.notifier.notify import recipients_of
from services.notifier.rules import CATEGORIES, CHANNELS, CHOOSABLE, Recipient, quiet_until
from services.notifier.tokens import Grant
from shared.contracts import notifier as events
from shared.contracts.catalogue import AVAILABILITY
from shared.forum import Facts
from shared.forum.facts import SQL as FACTS_SQL
from shared.forum.identity import STAND_IN_PREFIX
from shared.messaging import Outbox, Outgoing
from shared.observability import current_traceparent
from shared.postgres import Queries
from shared.web import Problem

SQL = Queries(Path(__file__).parent / "sql" / "preferences.sql")

INTERESTS = {"spaces": "space", "tags": "tag", "languages": "language", "topics": "topic"}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
A_WEEK = timedelta(days=7)


class Preferences:
    """Reading and changing preferences. A change is one transaction under the member's row lock, and is told to
    whoever asks the member for something."""

    def __init__(self, outbox: Outbox, facts: Facts) -> None:
        self._outbox, self._facts = outbox, facts

    async def read(self, member_id: str) -> dict[str, Any]:
        """A member's preferences, with the defaults where they chose nothing. Raises Problem 404 for an erased one."""
        async with self._outbox.transaction() as transaction:
            return await self._answer(transaction.connection, await self.member(transaction.connection, member_id))

    async def member(self, connection: Any, member_id: str) -> str:
        """The member whom an account's id stands for. Raises Problem 404 where they are erased: erasure is for ever."""
        found = (await self._facts.known_as(connection, [member_id])).get(member_id, member_id)
        if found.startswith(STAND_IN_PREFIX):
            raise Problem(404, "There is no such member any more.")
        return found

    async def change(self, member_id: str, said: Mapping[str, Any], *, staff: bool | None = None) -> dict[str, Any]:
        """Change what is said and leave the rest. ``staff``: whether it is known that the member is (or is not)."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            member = await self.member(connection, member_id)
            await connection.execute(SQL.ensure, member)
            row = await connection.fetchrow(SQL.lock, member)
            before = await self._availability(connection, member)
            columns = _columns(row, said)
            if staff is not None:
                columns["staff"] = staff
            await connection.execute(
                SQL.write,
                member,
                *(columns[name] for name in _COLUMNS),
            )
            if (interests := _interests(said)) is not None:
                whats, values, muted, replaced = interests
                await connection.execute(SQL.drop_interests, member, [r[0] for r in replaced], [r[1] for r in replaced])
                await connection.execute(SQL.write_interests, member, whats, values, muted)
            await self._after(transaction, member, before)
            return await self._answer(connection, member)

    async def act(self, grant: Grant) -> None:
        """What a link in a mail stands for. Of an erased member nothing is left to change, and nothing is said."""
        try:
            if grant.purpose == "unsubscribe" and grant.category in (*CHOOSABLE, "digest"):
                await self.change(grant.member_id, {"channels": {grant.category: {grant.channel: False}}})
            elif grant.purpose == "pause":
                await self.change(grant.member_id, {"paused_at_least_until": datetime.now(UTC) + A_WEEK})
            elif grant.purpose == "not-for-me":
                await self.change(grant.member_id, {"mute": {"more_topics": [grant.detail]}})
        except Problem:
            pass

    async def _after(self, transaction: Any, member: str, before: events.AvailabilityData) -> None:
        """Tell what changed, and look again at what was put off under the old rules."""
        connection = transaction.connection
        after = await self._availability(connection, member)
        if after != before:
            now: datetime = await connection.fetchval("SELECT clock_timestamp()")
            traceparent = current_traceparent()
            transaction.publish(Outgoing(AVAILABILITY, events.AvailabilityChanged, after, now, traceparent=traceparent))
        await connection.execute(SQL.wake_deferred, member)
        digest = await connection.fetchrow(SQL.lock_digest, member)
        if digest is not None:
            recipient = (await recipients_of(connection, [member]))[member]
            closes_at = recipient.digest_closes(digest["first_at"])
            await connection.execute(SQL.move_digest, digest["digest_id"], closes_at)

    async def _availability(self, connection: Any, member: str) -> events.AvailabilityData:
        recipient = (await recipients_of(connection, [member]))[member]
        muted: dict[str, list[str]] = {"space": [], "tag": [], "language": [], "topic": []}
        for what, value in sorted(recipient.muted):
            muted[what].append(value)
        quiet = recipient.quiet
        return events.AvailabilityData(
            member_id=member,
            paused_until=recipient.paused_until,
            quiet_hours=None
            if quiet is None
            else events.QuietHours(
                start=f"{quiet.start:%H:%M}", end=f"{quiet.end:%H:%M}", time_zone=recipient.zone.key
            ),
            daily_budget=recipient.daily_budget,
            muted_spaces=muted["space"][:100],
            muted_tags=muted["tag"][:100],
            muted_languages=muted["language"][:50],
        )

    async def _answer(self, connection: Any, member: str) -> dict[str, Any]:
        recipient = (await recipients_of(connection, [member]))[member]
        rows = await connection.fetch(SQL.interests, member)
        lists: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
        for muted in lists:
            lists[muted] = {
                name: [row["value"] for row in rows if row["what"] == what and row["muted"] is muted]
                for name, what in INTERESTS.items()
            }
        now = datetime.now(UTC)
        return {
            "member_id": member,
            "locale": recipient.locale,
            "time_zone": recipient.zone.key,
            "channels": chosen_channels(recipient),
            "follow": lists[False],
            "mute": lists[True],
            "quiet_hours": recipient.quiet
            and {
                "start": f"{recipient.quiet.start:%H:%M}",
                "end": f"{recipient.quiet.end:%H:%M}",
                "time_zone": recipient.zone.key,
            },
            "daily_budget": recipient.daily_budget,
            "digest": {
                "every": recipient.digest,
                "at": f"{recipient.digest_at:%H:%M}",
                "day": WEEKDAYS[recipient.digest_day - 1],
                "declined": recipient.chose("digest", "email") is False,
            },
            "paused_until": recipient.paused_until
            if recipient.paused_until is not None and recipient.paused_until > now
            else None,
            "quiet_now_until": quiet_until(now, recipient.quiet, recipient.zone),
        }


def chosen_channels(recipient: Recipient) -> dict[str, dict[str, bool]]:
    """Every category with every channel, as it is for this member; what only staff may have is left out for others."""
    return {
        name: {channel: recipient.wants(CATEGORIES[name], channel) for channel in CHANNELS}
        for name in CHOOSABLE
        if recipient.staff or not CATEGORIES[name].staff
    }


_COLUMNS = (
    "locale",
    "time_zone",
    "channels",
    "quiet_start",
    "quiet_end",
    "daily_budget",
    "digest",
    "digest_at",
    "digest_day",
    "paused_until",
    "staff",
)


def _columns(row: Any, said: Mapping[str, Any]) -> dict[str, Any]:
    """The row with what was said."""
    columns = {name: row[name] for name in _COLUMNS}
    for name in ("locale", "time_zone", "daily_budget", "paused_until"):
        if name in said:
            columns[name] = said[name]
    if "channels" in said:
        channels = json.loads(columns["channels"])
        for category, choices in said["channels"].items():
            channels.setdefault(category, {}).update(choices)
        columns["channels"] = json.dumps(channels)
    if "paused_at_least_until" in said:
        wanted = said["paused_at_least_until"]
        columns["paused_until"] = max(columns["paused_until"] or wanted, wanted)
    if "quiet_hours" in said:
        quiet = said["quiet_hours"]
        columns["quiet_start"] = quiet and time.fromisoformat(quiet["start"])
        columns["quiet_end"] = quiet and time.fromisoformat(quiet["end"])
        if quiet and quiet.get("time_zone"):
            columns["time_zone"] = quiet["time_zone"]
    if "digest" in said:
        digest = said["digest"]
        if digest.get("every") not in (None, columns["digest"]):
            columns["digest"] = digest["every"]
            # Whoever had said "no more of these", and now says when they want them, wants them again.
            columns["channels"] = json.dumps({**json.loads(columns["channels"]), "digest": {}})
        if digest.get("at") is not None:
            columns["digest_at"] = time.fromisoformat(digest["at"])
        if digest.get("day") is not None:
            columns["digest_day"] = WEEKDAYS.index(digest["day"]) + 1
    return columns


def _interests(
    said: Mapping[str, Any],
) -> tuple[Sequence[str], Sequence[str], Sequence[bool], list[tuple[str, bool]]] | None:
    """What is followed and muted: rows to write, and which lists they replace. ``more_topics`` adds to one."""
    rows: dict[tuple[str, str], bool] = {}
    replaced: list[tuple[str, bool]] = []
    # What is both followed and muted is muted.
    for name, muted in (("follow", False), ("mute", True)):
        for key, values in (said.get(name) or {}).items():
            if values is None:
                continue
            if key == "more_topics":
                rows |= {("topic", value): muted for value in values}
                continue
            replaced.append((INTERESTS[key], muted))
            rows |= {(INTERESTS[key], value): muted for value in values}
    if not rows and not replaced:
        return None
    ordered = sorted(rows.items())
    return [k[0] for k, _ in ordered], [k[1] for k, _ in ordered], [muted for _, muted in ordered], replaced
