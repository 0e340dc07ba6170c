"""The pipeline: deliveries are claimed in batches, decided once more, sent and written down, by any number of replicas.

A claim is one transaction: rows are locked past those of others, decided, and leased under a fence. No transaction is
open while anything is sent. Just before a message can take effect, ``sending`` is committed for it; from there alone a
death or a lost reply is unknown, and the category's policy says what then. A lease that ran out before that goes back:
nothing was sent. Whoever lost a lease can do nothing more, because the fence is another's.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from services.notifier.batching import Batcher
from services.notifier.channels import Channel, Outcome, Ready
from services.notifier.letters import line
from services.notifier.notify import about, recipients_of, topic_now, with_topics
from services.notifier.rules import (
    CATEGORIES,
    ORDINARY,
    URGENT,
    Decision,
    Recipient,
    decide,
    gone,
    local_day,
    mutes,
    next_attempt,
)
from shared.contracts import notifier as events
from shared.contracts.catalogue import NOTIFIER
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox, Outgoing
from shared.observability import metrics
from shared.postgres import UNAVAILABLE, Pool, Queries, arrays, as_json

log = logging.getLogger(__name__)

SQL = Queries(Path(__file__).parent / "sql" / "pipeline.sql")

CLAIM, DIGEST_ITEMS = (
    with_topics(query.replace("{notification}", SQL.notification_columns).replace("{joins}", SQL.notification_joins))
    for query in (SQL.claim, SQL.digest_items)
)

LOOK_SECONDS = 0.2
GAVE_UP = "gave-up"
"""The reason of a delivery that was tried until it was too old."""
SMALLEST, LARGEST = 20, 500
SHOWN = 20
"""Items of a digest; of the rest it says how many."""

_Result = tuple[Ready, Outcome]


class Pipeline:
    """Runs the lanes of every channel: an urgent one and an ordinary one, so that nothing holds up what is urgent."""

    def __init__(
        self,
        pool: Pool,
        outbox: Outbox,
        channels: Sequence[Channel],
        lease: timedelta = timedelta(seconds=20),
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._pool, self._outbox, self._channels, self._lease, self._luck = pool, outbox, channels, lease, luck
        self._in_hand: dict[tuple[int, int], tuple[float, Ready]] = {}
        self._bells = {(c.name, urgent): asyncio.Event() for c in channels for urgent in (True, False)}
        self._begin: Batcher[Ready, bool] = Batcher(self._write_sending, linger=0.001)
        self._finish: Batcher[_Result, None] = Batcher(self._write_results, linger=0.02)

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until cancelled; what is being sent at that moment is waited for, a little."""
        lanes = [
            asyncio.create_task(self._lane(channel, urgent))
            for channel in self._channels
            # Two ordinary lanes: while one batch is sent, the next one is claimed.
            for urgent in (True, False, False)
        ]
        helpers = [asyncio.create_task(self._renew()), *lanes]
        try:
            await self._ring()
        finally:
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            for channel in self._channels:
                await channel.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._finish.drained(), 5)

    async def _ring(self) -> None:
        """Look whether anything is due, once for all lanes."""
        names = [name for name, _ in self._bells]
        urgent = [priority for _, priority in self._bells]
        while True:
            try:
                for row in await self._pool.fetch(SQL.due, names, urgent, list(URGENT), list(ORDINARY)):
                    self._bells[row["channel"], row["urgent"]].set()
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("the pipeline could not look, it looks again: %s", error)
                await asyncio.sleep(1)
            await asyncio.sleep(LOOK_SECONDS)

    async def _renew(self) -> None:
        """As long as this process lives, what it has in hand stays its own, however slow a provider is."""
        loop, often = asyncio.get_running_loop(), self._lease.total_seconds() / 4
        while True:
            await asyncio.sleep(often)
            old = [(key, ready) for key, (since, ready) in self._in_hand.items() if since < loop.time() - often]
            if not old:
                continue
            try:
                keys = [key for key, _ in old]
                await self._pool.execute(SQL.renew, [k[0] for k in keys], [k[1] for k in keys], self._lease)
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("leases could not be renewed: %s", error)

    async def _lane(self, channel: Channel, urgent: bool) -> None:
        bell, priorities, size = self._bells[channel.name, urgent], URGENT if urgent else ORDINARY, SMALLEST
        while True:
            if not channel.available():
                await asyncio.sleep(LOOK_SECONDS)
                continue
            try:
                taken, batch = await self.claim(channel.name, priorities, size)
                if batch:
                    started = asyncio.get_running_loop().time()
                    try:
                        await channel.deliver(batch, self, urgent=urgent)
                    finally:
                        await asyncio.shield(self._release(batch))
                    # As many at once as are gone in about a second: a lease must not run out in a queue.
                    quick = asyncio.get_running_loop().time() - started < 1
                    size = min(LARGEST, size * 2) if quick else max(SMALLEST, size // 2)
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("a lane of %s lost PostgreSQL, it goes on when it is back: %s", channel.name, error)
                await asyncio.sleep(1)
                continue
            except Exception:
                log.exception("a lane of %s failed, it goes on", channel.name)
                await asyncio.sleep(1)
                continue
            if not taken:
                bell.clear()
                await bell.wait()

    # --- claiming -----------------------------------------------------------------------------------------------

    async def claim(self, channel: str, priorities: Sequence[int], limit: int) -> tuple[int, list[Ready]]:
        """Lease what is due and ought to be sent; of the rest, write down what becomes of it. Returns how many were
        looked at, and those to send."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.fetchrow(FACTS_SQL.begin_batch, False)
            rows = await connection.fetch(CLAIM, channel, list(priorities), limit)
            if not rows:
                return 0, []
            now: datetime = rows[0]["now"]
            recipients = await recipients_of(connection, (row["member_id"] for row in rows))
            items = await self._items(connection, rows)
            asking = self._asking(rows, recipients, now)
            spent = await self._spend(connection, asking)
            ready: list[Ready] = []
            written: list[tuple[Any, ...]] = []
            digests: dict[str, list[int]] = {}
            for row in rows:
                one = _ready(row, recipients[row["member_id"]])
                told = spent.get(one.recipient.member_id)
                decision = self._decide(row, one, now, row["expires_at"], told)
                counted = None if one.category.critical or one.category.name == "digest" else told
                if one.category.name == "digest" and decision.action == "send":
                    decision = _fill(one, items.get(one.notification_id, []), now)
                if decision.action == "digest" and one.channel == "email":
                    digests.setdefault(one.recipient.member_id, []).append(one.notification_id)
                if decision.action == "send":
                    if counted is not None:
                        counted.add(one.notification_id)
                    ready.append(one)
                written.append(_decided(row, decision, now))
                if decision.reason == GAVE_UP and (failed := _published(one, "dead", GAVE_UP, now)) is not None:
                    transaction.publish(failed)
            await connection.execute(SQL.write_decisions, now + self._lease, *arrays(written))
            unspent = [one for one in asking if one[2] not in spent[one[0]]]
            if unspent:
                await connection.execute(SQL.give_back, *arrays(unspent))
            await self._roll(connection, digests, recipients, now)
        began = asyncio.get_running_loop().time()
        self._in_hand |= {(one.delivery_id, one.fence): (began, one) for one in ready}
        for _, _, state, reason, *_ in written:
            if state in ("skipped", "suppressed"):
                metrics.DELIVERIES.labels(channel, state, reason or "").inc()
        return len(rows), ready

    def _decide(self, row: Any, one: Ready, now: datetime, until: datetime, told: set[int] | None = None) -> Decision:
        counted = 0 if told is None or one.notification_id in told else len(told)
        decision = decide(
            one.category,
            one.channel,
            one.recipient,
            now,
            until,
            muted=mutes(one.recipient, one.topic_id, about(row) | one.data),
            gone=gone(one.category.name, one.recipient.member_id, topic_now(row), one.actor_id, now),
            spent=counted,
            forced=row["forced"],
        )
        if decision.reason == "too-old" and row["attempts"]:
            return Decision("skip", GAVE_UP)
        return decision

    async def _items(self, connection: Any, rows: list[Any]) -> dict[int, list[tuple[Ready, Decision]]]:
        """Of the digests among these rows, each item with what would become of it by itself."""
        digests = {int(json.loads(r["data"])["digest_id"]): r for r in rows if r["category"] == "digest"}
        if not digests:
            return {}
        found: dict[int, list[tuple[Ready, Decision]]] = {}
        parts = await connection.fetch(DIGEST_ITEMS, list(digests))
        recipients = await recipients_of(connection, (part["member_id"] for part in parts))
        for part in parts:
            item = _ready(part, recipients[part["member_id"]])
            digest = digests[part["digest_id"]]
            # How old it is was judged when it was put in: a week's digest tells of the week. A date of its own holds.
            own = item.data.get("answer_by")
            until = datetime.fromisoformat(own) if own else digest["expires_at"]
            decision = self._decide(part, item, part["now"], until)
            found.setdefault(digest["notification_id"], []).append((item, decision))
        return found

    def _asking(self, rows: list[Any], recipients: dict[str, Recipient], now: datetime) -> list[tuple[str, date, int]]:
        """Whose budget of which day of theirs each notification would take from, where there is one."""
        return sorted(
            (recipient.member_id, local_day(now, recipient.zone), row["notification_id"])
            for row in rows
            if not (category := CATEGORIES[row["category"]]).critical and category.name != "digest"
            for recipient in (recipients[row["member_id"]],)
            if recipient.daily_budget is not None
        )

    async def _spend(self, connection: Any, asking: list[tuple[str, date, int]]) -> dict[str, set[int]]:
        """Take from the budgets, and return what each member was told before. Their rows are locked, so that two lanes
        cannot both spend the last of it."""
        if not asking:
            return {}
        found = await connection.fetch(SQL.spend, *arrays(asking))
        return {row["member_id"]: set(row["told"]) for row in found}

    async def _roll(
        self, connection: Any, digests: dict[str, list[int]], recipients: dict[str, Recipient], now: datetime
    ) -> None:
        """Put notifications into the open digests of their members; the first one fixes when it closes."""
        if not digests:
            return
        closes = {r.member_id: r.digest_closes(now) for r in recipients.values() if r.member_id in digests}
        members = sorted(digests)
        opened = await connection.fetch(SQL.open_digests, members, [closes[member] for member in members], now)
        pairs = [(row["digest_id"], item) for row in opened for item in digests[row["member_id"]]]
        await connection.execute(SQL.write_digest_items, *arrays(sorted(pairs)))

    async def _release(self, batch: Sequence[Ready]) -> None:
        """Whatever a channel did not begin goes back at once, rather than when its lease has run out."""
        left = [key for ready in batch if (key := (ready.delivery_id, ready.fence)) in self._in_hand]
        for key in left:
            self._in_hand.pop(key, None)
        if left:
            with suppress(*UNAVAILABLE, asyncpg.PostgresError):
                await self._pool.execute(SQL.release, [key[0] for key in left], [key[1] for key in left])

    # --- sending ------------------------------------------------------------------------------------------------

    async def begin(self, ready: Ready) -> bool:
        """Commit ``sending``, many at once. False where the lease is lost or PostgreSQL away: it must not be sent."""
        try:
            return await self._begin(ready)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("`sending` could not be committed, nothing is sent: %s", error)
            return False

    async def _write_sending(self, batch: list[Ready]) -> list[bool]:
        batch_ids = [ready.delivery_id for ready in batch]
        rows = await self._pool.fetch(
            SQL.write_sending,
            batch_ids,
            [ready.fence for ready in batch],
            [ready.address for ready in batch],
            self._lease,
        )
        begun = {row["delivery_id"] for row in rows}
        return [delivery_id in begun for delivery_id in batch_ids]

    async def finish(self, ready: Ready, outcome: Outcome) -> None:
        """Write down what became of it, many at once; the caller need not wait for that."""
        self._in_hand.pop((ready.delivery_id, ready.fence), None)
        self._finish.put((ready, outcome))

    async def _write_results(self, batch: list[_Result]) -> list[None]:
        pause = 0.2
        while True:
            try:
                await self._write_results_once(batch)
                return [None] * len(batch)
            except asyncpg.PostgresError as error:
                if error.sqlstate is None or error.sqlstate[:2] not in ("22", "23"):
                    log.warning("results of %s deliveries were refused, once more: %s", len(batch), error)
                elif len(batch) > 1:
                    for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                        await self._write_results(half)
                    return [None] * len(batch)
                else:
                    log.exception("a result could not be written, it is unknown")
                    return [None]
                await asyncio.sleep(pause)
            except UNAVAILABLE as error:
                # What was sent must not be forgotten: it is written as soon as PostgreSQL is back.
                log.warning("results of %s deliveries wait for PostgreSQL: %s", len(batch), error)
                await asyncio.sleep(pause)
            pause = min(pause * 2, 5)

    async def _write_results_once(self, batch: list[_Result]) -> None:
        by_id = {ready.delivery_id: (ready, outcome) for ready, outcome in batch}
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            now: datetime = await connection.fetchval(SQL.lock_and_look)
            rows = [
                _result(ready, outcome, now, self._luck())
                for ready, outcome in sorted(by_id.values(), key=lambda pair: pair[0].delivery_id)
            ]
            found = await connection.fetch(SQL.write_results, now, *arrays(rows))
            stored = [by_id[row["delivery_id"]] + (row["state"], row["reason"]) for row in found]
            await self._aftermath(connection, stored)
            for ready, outcome, state, reason in stored:
                published = _published(ready, state, reason, now)
                if published is not None:
                    transaction.publish(published)
                if outcome.suppress and outcome.address is not None:
                    suppressed = events.ContactSuppressedData(
                        member_id=ready.member_id, channel=ready.channel, reason=reason or "bounced"
                    )
                    transaction.publish(Outgoing(NOTIFIER, events.ContactSuppressed, suppressed, now))
        for ready, _, state, _ in stored:
            metrics.DELIVERIES.labels(ready.channel, state, "").inc()

    async def _aftermath(self, connection: Any, stored: list[tuple[Ready, Outcome, str, str | None]]) -> None:
        """What follows from results: suppressions, subscriptions that are gone, mails for the local mailbox."""
        dead = [
            (r.channel, o.address.lower(), r.member_id, o.reason or "bounced")
            for r, o, _, _ in stored
            if o.suppress and o.address is not None
        ]
        if dead:
            await connection.execute(SQL.write_suppressions, *arrays(sorted(set(dead))))
        forgotten = sorted({r.target for r, o, _, _ in stored if o.forget})
        if forgotten:
            await connection.execute(SQL.forget_subscriptions, forgotten)
        struck = sorted({r.target for r, o, _, _ in stored if o.strike})
        if struck:
            await connection.execute(SQL.strike_subscriptions, struck)
            await connection.execute(SQL.end_struck_subscriptions, struck)
        mails = [
            (
                r.delivery_id,
                r.member_id,
                o.address or "",
                o.mail.subject,
                r.category.name,
                as_json(o.mail.named),
                o.mail.raw,
            )
            for r, o, _, _ in stored
            if o.mail is not None
        ]
        if mails:
            await connection.execute(SQL.write_mails, *arrays(mails))


def _ready(row: Any, recipient: Recipient) -> Ready:
    data = json.loads(row["data"])
    if row["title"] is not None:
        data["title"] = row["title"]
    for name in ("url", "space"):
        data.setdefault(name, row[name])
    category = CATEGORIES[row["category"]]
    if category.mandatory:
        # A verification goes to the address that is to be verified, whatever else is known.
        recipient = Recipient(
            recipient.member_id, recipient.zone, recipient.locale, recipient.name, email=data.get("email")
        )
    return Ready(
        delivery_id=row["delivery_id"],
        fence=row["fence"],
        notification_id=row["notification_id"],
        member_id=row["member_id"],
        channel=row["channel"],
        target=row["target"],
        category=category,
        what=row["what"],
        data=data,
        at=row["at"],
        topic_id=row["topic_id"],
        actor_id=row["actor_id"],
        actor_name=row["actor_name"],
        recipient=recipient,
        attempts=row["attempts"],
        expires_at=row["expires_at"],
        made_at=row["made_at"],
        traceparent=row["traceparent"],
        address=recipient.email if row["channel"] == "email" else None,
    )


def _fill(digest: Ready, items: list[tuple[Ready, Decision]], now: datetime) -> Decision:
    """Put into a digest what still stands: none is not sent, one is sent as itself, of many the first are shown."""
    # Its hour, budget and address are the digest's own; everything else is asked of each item.
    standing = [item for item, decision in items if decision.action in ("send", "digest", "defer", "wait")]
    if not standing:
        return Decision("skip", "empty-digest")
    standing.sort(key=lambda item: (item.category.priority, item.at, item.notification_id))
    if len(standing) == 1:
        only = standing[0]
        digest.category, digest.what, digest.data, digest.at = only.category, only.what, only.data, only.at
        digest.topic_id, digest.actor_id, digest.actor_name = only.topic_id, only.actor_id, only.actor_name
        return Decision("send")
    digest.items, digest.more = standing[:SHOWN], max(0, len(standing) - SHOWN)
    return Decision("send")


def _decided(row: Any, decision: Decision, now: datetime) -> tuple[Any, ...]:
    """How a decision is written down: id, fence, state, reason, due_at, and the entry of its history."""
    state, due_at = {
        "send": ("leased", row["due_at"]),
        "skip": ("dead" if decision.reason == GAVE_UP else "skipped", row["due_at"]),
        "suppress": ("suppressed", row["due_at"]),
        "digest": ("skipped", row["due_at"]),
        "wait": ("pending", decision.until),
        "defer": ("pending", decision.until),
    }[decision.action]
    entry: dict[str, Any] = {"at": now.isoformat(), "state": state}
    if decision.reason is not None:
        entry["reason"] = decision.reason
    if decision.action == "defer":
        entry["until"] = due_at.isoformat()
    # Waiting again for the same is no news, and a lease is seen in what follows it.
    silent = decision.action == "send" or (decision.action == "wait" and row["reason"] == decision.reason)
    return row["delivery_id"], row["fence"], state, decision.reason, due_at, as_json([] if silent else [entry])


def _result(ready: Ready, outcome: Outcome, now: datetime, luck: float) -> tuple[Any, ...]:
    """How an outcome is written down."""
    state: str = outcome.result
    reason, due_at, attempts = outcome.reason and line(outcome.reason), now, ready.attempts + 1
    entry: dict[str, Any] = {"at": now.isoformat(), "state": state}
    if outcome.result == "unknown" and ready.category.unknown == "resend":
        state = "retry"
    elif outcome.result == "released":
        state, attempts = "pending", ready.attempts
        entry["state"] = "pending"
    if state == "retry":
        again = next_attempt(now, ready.attempts, luck, ready.expires_at)
        if outcome.retry_after is not None:
            again = now + outcome.retry_after if now + outcome.retry_after < ready.expires_at else None
        if again is None:
            state = "dead"
        else:
            due_at = again
            entry["until"] = again.isoformat()
    for name in ("reason", "detail", "provider"):
        if (value := getattr(outcome, name)) is not None:
            entry[name] = line(value, 500)
    entries = (
        [entry] if state == entry["state"] or state in ("retry", "pending") else [entry, {**entry, "state": state}]
    )
    return (
        ready.delivery_id,
        ready.fence,
        state,
        reason,
        due_at,
        attempts,
        outcome.provider,
        outcome.address,
        as_json(entries),
    )


def _published(ready: Ready, state: str, reason: str | None, now: datetime) -> Outgoing | None:
    common: dict[str, Any] = {
        "member_id": ready.member_id,
        "delivery_id": str(ready.delivery_id),
        "channel": ready.channel,
        "category": ready.category.name,
    }
    if state == "accepted":
        accepted = events.NotificationData(**common)
        return Outgoing(NOTIFIER, events.NotificationAccepted, accepted, now, traceparent=ready.traceparent)
    if state in ("bounced", "dead", "unknown"):
        failed = events.NotificationFailedData(**common, reason=(reason or state)[:1000])
        return Outgoing(NOTIFIER, events.NotificationFailed, failed, now, traceparent=ready.traceparent)
    return None
