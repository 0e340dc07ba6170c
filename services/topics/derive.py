"""From touched facts to what should be true: states, first responses, claims that end, and the events that say so."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

from services.topics import rules
from services.topics.rules import Policies, Policy, Response, State
from shared.contracts import topics as events
from shared.contracts.catalogue import TOPICS
from shared.forum import Mark, Touched
from shared.messaging import Outgoing, Overtaken, Transaction
from shared.postgres import Queries, arrays, arrays_of, as_json, values_of

SQL = Queries(Path(__file__).parent / "sql" / "derive.sql")

_values = values_of(State)
_BLANK = asdict(State(""))
"""What is stored of a topic of which nothing is."""


async def load_policies(connection: Any) -> Policies:
    """All policies, as they are now."""
    return Policies(
        Policy(row["scope"], row["from_at"], timedelta(seconds=row["target_seconds"]), row["objective"])
        for row in await connection.fetch(SQL.policies)
    )


async def rederive(
    transaction: Transaction,
    touched: Touched,
    otherwise: Mark,
) -> None:
    """Derive topics again, store what differs and publish the difference.

    The caller holds the facts' lock. ``otherwise`` stands for topics whose events are not in this batch.
    """
    connection = transaction.connection
    replies = _replies_by_topic(touched)
    named = touched.topics | replies.keys()
    if not named:
        return
    groups = await _groups(connection, named) if touched.aliases else {id: {id} for id in named}
    # Merged-away topics are derived too: to nothing.
    ids = sorted(named | groups.keys())
    stored = {row["topic_id"]: row for row in await connection.fetch(SQL.lock_states, ids)}
    fresh = [id for id in ids if id not in stored]
    stored |= {id: _BLANK | {"topic_id": id} for id in fresh}
    ids = [id for id in ids if not _is_settled(stored[id], groups.get(id, {id}), touched.topics, replies)]
    if not ids:
        return
    standing = {id: groups[id] for id in ids if id in groups}
    facts, responses, same = await _read(connection, standing, touched.aliases)
    policies = await load_policies(connection)

    changed: list[State] = []
    ending: dict[int, str] = {}
    for id in ids:
        group = facts.get(id, [])
        own = next((row for row in group if row["topic_id"] == id), None)
        author = None if own is None else same.get(own["author_id"], (own["author_id"],))[0]
        if own is not None and own["claim_id"] is not None and own["claimed_by"] in _askers(group, same):
            # By a merge, of topics or of accounts.
            ending[own["claim_id"]] = "own-topic"
            group = [dict(row) | {"until": None} for row in group]
        state = rules.derive(id, group, responses.get(id), policies, author)
        if own is not None and own["claim_id"] is not None and not state.waiting:
            ending[own["claim_id"]] = _why_claim_ends(state)
        before = stored[id]
        if tuple(before.values()) != _values(state):
            changed.append(state)
            mark = _mark(touched.marks, groups.get(id, {id}), otherwise)
            _publish_response(transaction, before, state, responses.get(id), mark)
    gone = [state.topic_id for state in changed if not state.known]
    if gone:
        rows = await connection.fetch(SQL.open_claims_of_topics, gone)
        ending |= {row["claim_id"]: "topic-merged" for row in rows}
    # One that is to stay blank is written all the same: it is what the next one to derive it will lock.
    blank = [State(id) for id in set(fresh) - {state.topic_id for state in changed}]
    written = sorted(changed + blank, key=attrgetter("topic_id"))
    if written and await connection.fetchval(SQL.write_states, *arrays_of(written)) != len(fresh):
        raise Overtaken("another transaction was the first to write a topic's state")
    if ending:
        await end_claims(transaction, ending)


async def end_claims(transaction: Transaction, ending: Mapping[int, str]) -> None:
    """End open claims, with a reason each, and say so. The caller holds the topics' locks."""
    connection = transaction.connection
    now = await connection.fetchval("SELECT now()")
    for row in await connection.fetch(SQL.end_claims, list(ending), list(ending.values())):
        data = events.ClaimData(topic_id=row["topic_id"], member_id=row["member_id"], until=row["until"])
        transaction.publish(Outgoing(TOPICS, events.ClaimReleased, data, now))


async def _groups(connection: Any, named: set[str]) -> dict[str, set[str]]:
    """For each topic that the named ones stand for, all topic ids that stand for it, itself included."""
    rows = await connection.fetch(
        "SELECT id, root FROM alias WHERE what = 'topic' AND id = ANY($1::text[])", list(named)
    )
    root_of = {row["id"]: row["root"] for row in rows}
    groups = {root_of.get(id, id): {root_of.get(id, id)} for id in named}
    rows = await connection.fetch(
        "SELECT id, root FROM alias WHERE what = 'topic' AND root = ANY($1::text[])", list(groups)
    )
    for row in rows:
        groups[row["root"]].add(row["id"])
    return groups


async def _read(
    connection: Any, groups: dict[str, set[str]], aliases: bool
) -> tuple[dict[str, list[Any]], dict[str, Response], dict[str, tuple[str, ...]]]:
    """The facts of each group, its first response, and the ids of each member who goes by several, root first."""
    pairs = [(root, member) for root, members in groups.items() for member in members]
    facts: dict[str, list[Any]] = {}
    for row in await connection.fetch(SQL.read_topics, [p[0] for p in pairs], [p[1] for p in pairs]):
        facts.setdefault(row["root"], []).append(row)
    # Without the survivor nothing of the group counts.
    facts = {root: rows for root, rows in facts.items() if any(row["topic_id"] == root for row in rows)}
    same: dict[str, tuple[str, ...]] = {}
    if aliases:
        authors = {row["author_id"] for rows in facts.values() for row in rows}
        found = await connection.fetch(SQL.same_members, list(authors))
        same = {row["id"]: (row["root"], *row["others"]) for row in found}
    asked: list[tuple[str, str, Any, str]] = []
    for root, rows in facts.items():
        askers = as_json(sorted(_askers(rows, same)))
        since = rules.created_at(rows)
        asked += [(root, member, since, askers) for member in groups[root]]
    best: dict[str, Any] = {}
    if asked:
        for row in await connection.fetch(SQL.first_responses, *arrays(asked)):
            known = best.get(row["root"])
            if known is None or _order(row) < _order(known):
                best[row["root"]] = row
    responses = {
        root: Response(
            row["reply_id"],
            row["responder_id"],
            "star" if row["was_star"] else row["author_kind"],
            row["posted_at"],
            row["backfill"],
        )
        for root, row in best.items()
    }
    return facts, responses, same


def _replies_by_topic(touched: Touched) -> dict[str, list[Any]]:
    """The replies that changed, by each topic that they are in or left."""
    found: dict[str, list[Any]] = defaultdict(list)
    for row in touched.replies:
        for topic_id in {row["left_topic_id"], row["topic_id"]} - {None}:
            found[topic_id].append(row)
    return found


def _is_settled(stored: Any, group: set[str], topics: set[str], replies: Mapping[str, list[Any]]) -> bool:
    """Whether nothing changed but replies behind the standing first response: they cannot change what is derived."""
    if stored["response_reply_id"] is None or not group.isdisjoint(topics):
        return False
    standing = stored["response_at"], stored["response_reply_id"]
    return all(
        at is not None and (at, row["reply_id"]) > standing
        for id in group
        for row in replies.get(id, ())
        for at in (row["posted_at"], row["left_posted_at"] or row["posted_at"])
    )


def _order(row: Any) -> tuple[Any, str]:
    return row["posted_at"], row["reply_id"]


def _mark(marks: Mapping[str, Mark], group: set[str], otherwise: Mark) -> Mark:
    found = [marks[id] for id in group if id in marks]
    if not found:
        return otherwise
    return Mark(all(one.backfill for one in found), next((one.traceparent for one in found if one.traceparent), None))


def _askers(group: list[Any], same: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Every id of whoever asked one of a group of topics."""
    return {id for row in group for id in same.get(row["author_id"], (row["author_id"],))}


def _why_claim_ends(state: State) -> str:
    if state.response_reply_id:
        return "answered"
    if not state.visible:
        return "deleted"
    return "closed" if state.closed else "no-question"


def _publish_response(
    transaction: Transaction, before: Any, state: State, response: Response | None, mark: Mark
) -> None:
    """Say what changed about the standing first response: the earlier one is revoked by an event of its own."""
    standing = before["response_reply_id"]
    if standing is not None and standing != state.response_reply_id:
        reason: events.RevokedReason = "reply-gone"
        if not state.known:
            reason = "topic-merged"
        elif state.response_at is not None and _is_earlier(state, before):
            reason = "earlier-reply"
        revoked = events.FirstResponseRevokedData(topic_id=state.topic_id, reply_id=standing, reason=reason)
        transaction.publish(
            Outgoing(
                TOPICS,
                events.FirstResponseRevoked,
                revoked,
                before["response_at"],
                mark.backfill,
                mark.traceparent,
            )
        )
    if response is None or not state.known or _fact(before) == _fact(state):
        return
    # Every value is from our own facts, which took it from checked events.
    recorded = {
        "topic_id": state.topic_id,
        "reply_id": response.reply_id,
        "responder_id": response.responder_id,
        "responder_kind": response.responder_kind,
        "seconds": (state.response_us or 0) / 1_000_000,
        "within_target": state.within_target,
        "topic_kind": state.kind,
        "space": state.space,
        "language": state.language,
        "answered_at": response.at,
    }
    transaction.publish(
        Outgoing(TOPICS, events.FirstResponseRecorded, recorded, response.at, response.backfill, mark.traceparent)
    )


def _is_earlier(state: State, before: Any) -> bool:
    if state.response_at is None or state.response_reply_id is None:
        return False
    new = (state.response_at, state.response_reply_id)
    return bool(new < (before["response_at"], before["response_reply_id"]))


_FACT = (
    "response_reply_id",
    "responder_id",
    "responder_kind",
    "response_at",
    "response_us",
    "kind",
    "space",
    "language",
)


_fact_of_row, _fact_of_state = itemgetter(*_FACT), attrgetter(*_FACT)


def _fact(row: Any) -> tuple[Any, ...]:
    """What first-response-recorded says, of a stored row or a state."""
    if isinstance(row, State):
        return _within(row.response_us, row.target_us), *_fact_of_state(row)
    return _within(row["response_us"], row["target_us"]), *_fact_of_row(row)


def _within(response_us: int | None, target_us: int | None) -> bool:
    return response_us is not None and target_us is not None and response_us <= target_us
