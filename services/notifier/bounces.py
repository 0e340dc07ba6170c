"""Bounces: delivery status notifications (RFC 3464) that came back to a delivery's own envelope address."""

import email
import re
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from pathlib import Path
from typing import Any, Literal

from services.notifier.channels.smtp import NOBODY_THERE
from services.notifier.tokens import Tokens
from shared.contracts import notifier as events
from shared.contracts.catalogue import NOTIFIER
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox, Outgoing
from shared.postgres import Queries
from shared.web import Problem

SQL = Queries(Path(__file__).parent / "sql" / "bounces.sql")

LARGEST = 256 * 1024
_PATH = re.compile(r"\+(\d{1,18})-([0-9a-f]{16})@")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


@dataclass(frozen=True, slots=True)
class Bounce:
    """What a notification says: of which delivery, and what became of it."""

    delivery_id: int
    action: Literal["failed", "delayed", "delivered", "relayed", "expanded"]
    status: str | None


def read(raw: bytes, tokens: Tokens, to: str | None = None) -> Bounce:
    """Read a notification; ``to``: the envelope's recipient, where the mail server tells it. The address is signed, so
    nobody can invent a bounce. Raises Problem 400 for what is none of ours."""
    if len(raw) > LARGEST:
        raw = raw[:LARGEST]
    message = email.message_from_bytes(raw)
    delivery_id = _delivery_of(message, tokens, to)
    if delivery_id is None:
        raise Problem(400, "It did not come back to an address of ours.", type="not-our-bounce")
    for part in message.walk():
        if part.get_content_type() != "message/delivery-status":
            continue
        blocks = part.get_payload()
        for block in blocks if isinstance(blocks, list) else []:
            if not isinstance(block, Message):
                continue
            action = str(block.get("Action", "")).strip().lower()
            if action in ("failed", "delayed", "delivered", "relayed", "expanded"):
                found = _STATUS.search(str(block.get("Status", "")))
                return Bounce(delivery_id, action, found[0] if found else None)  # type: ignore[arg-type]
    raise Problem(400, "It says nothing about a delivery.", type="no-delivery-status")


def _delivery_of(message: Message, tokens: Tokens, to: str | None) -> int | None:
    places = [to or ""]
    for name in ("Delivered-To", "X-Original-To", "To"):
        places += [str(value) for value in message.get_all(name, [])]
    for place in places:
        for delivery_id, signature in _PATH.findall(place[:2000]):
            if tokens.signed(delivery_id, signature):
                return int(delivery_id)
    return None


async def take(outbox: Outbox, bounce: Bounce) -> str:
    """Write down what a bounce says; returns the delivery's state after it. Raises Problem 404."""
    async with outbox.transaction() as transaction:
        connection = transaction.connection
        await connection.execute(FACTS_SQL.share_lock)
        row = await connection.fetchrow(SQL.lock, bounce.delivery_id)
        if row is None:
            raise Problem(404, "There is no such delivery any more.")
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        failed = bounce.action == "failed"
        reason = bounce.status or bounce.action
        if failed and row["state"] == "bounced":
            return "bounced"
        state = "bounced" if failed else row["state"]
        await connection.execute(SQL.write, bounce.delivery_id, state, bounce.action, reason, failed)
        if not failed:
            return str(state)
        await _tell(transaction, connection, row, bounce, reason, now)
    return "bounced"


async def _tell(transaction: Any, connection: Any, row: Any, bounce: Bounce, reason: str, now: datetime) -> None:
    common = {"member_id": row["member_id"], "channel": row["channel"], "reason": reason}
    data = events.NotificationFailedData(**common, delivery_id=str(bounce.delivery_id), category=row["category"])
    transaction.publish(Outgoing(NOTIFIER, events.NotificationFailed, data, now))
    if row["address"] is None or not NOBODY_THERE.match(bounce.status or ""):
        return
    if await connection.fetchval(SQL.suppress, row["channel"], row["address"].lower(), row["member_id"], reason):
        suppressed = events.ContactSuppressedData(**common)
        transaction.publish(Outgoing(NOTIFIER, events.ContactSuppressed, suppressed, now))
