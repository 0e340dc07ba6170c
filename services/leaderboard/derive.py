"""From touched facts to the ledger: one row for each rule and cause, of what was touched."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from services.leaderboard.rules import (
    FIRST_RESPONSE,
    KUDOS,
    REPLY,
    SOLUTION,
    Appointments,
    Entry,
    RuleBook,
    Rules,
    RuleSet,
    entry_id,
    holds,
    verdict,
)
from shared.forum import Mark, Touched
from shared.postgres import Queries, arrays, arrays_of

SQL = Queries(Path(__file__).parent / "sql" / "derive.sql")

_NOWHERE = (None, None)
"""Topic and author of a reply of which neither was known."""

Place = tuple[datetime, str]
"""When something happened and its id: "earliest" means by these."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """A writing of the ledger, and the rules that it is written by."""

    number: int
    book: RuleBook


@dataclass(frozen=True, slots=True)
class Epochs:
    """The writing that is read, and the one that is made in its shadow while history is written again."""

    current: Epoch
    shadow: Epoch | None
    somebody_was_star: bool

    def __iter__(self) -> Any:
        return iter((self.current,) if self.shadow is None else (self.current, self.shadow))


def rule_set_of(row: Any) -> RuleSet:
    """A stored version of the rules."""
    return RuleSet.model_validate(
        {
            "rule_set": row["rule_set"],
            "version": row["version"],
            "from": row["from_at"],
            "rules": json.loads(row["rules"]),
        }
    )


async def load_epochs(connection: Any) -> Epochs:
    """Which writings there are now, and by which rules."""
    row = await connection.fetchrow(SQL.epochs)
    in_force, coming = _books(row["versions"])
    shadow = None if row["shadow"] is None else Epoch(row["shadow"], coming)
    return Epochs(Epoch(row["current"], in_force), shadow, row["somebody_was_star"])


@lru_cache(maxsize=4)
def _books(versions: str) -> tuple[RuleBook, RuleBook]:
    """The rules that hold, and those that will once history is written again."""
    stored = json.loads(versions)
    rewriting = [one.pop("rewriting") for one in stored]
    said = list(zip(map(RuleSet.model_validate, stored), rewriting, strict=True))
    return RuleBook(one for one, is_coming in said if not is_coming), RuleBook(one for one, _ in said)


async def rederive(connection: Any, touched: Touched, otherwise: Mark) -> int:
    """Derive what a batch touched, and store what differs. Returns how many rows were looked at.

    The caller holds the facts' lock. ``otherwise`` stands for topics whose events are not in this batch.
    """
    epochs = await load_epochs(connection)
    facts = await _read(connection, touched, epochs)
    if facts is None:
        return 0
    marks = _marks(facts.group, touched.marks)
    count = 0
    for epoch in epochs:
        entries = derive(facts, epoch.book)
        count += await _store(connection, epoch.number, facts, entries, marks, otherwise)
    return count


async def rederive_topics(connection: Any, topic_ids: Iterable[str], epoch: Epoch, *, somebody_was_star: bool) -> int:
    """Derive whole topics for one writing alone, and store what differs. The caller holds the facts' lock."""
    facts = await read_topics(connection, topic_ids, Epochs(epoch, None, somebody_was_star), lock=True)
    if facts is None:
        return 0
    return await _store(connection, epoch.number, facts, derive(facts, epoch.book), {}, Mark())


async def read_topics(
    connection: Any, topic_ids: Iterable[str], epochs: Epochs, *, lock: bool = False
) -> "Facts | None":
    """The facts of whole topics; ``lock`` them to write what is derived."""
    return await _read(connection, Touched(topics=set(topic_ids)), epochs, lock=lock)


# --- what is read ---------------------------------------------------------------------------------------------------


@dataclass
class Thread:
    """A topic with what was merged into it."""

    row: Any
    askers: frozenset[str]
    deleted: bool


@dataclass
class Facts:
    """Everything that is needed to derive what was touched; ids of topics and members as they came."""

    group: dict[str, set[str]]
    """Each topic that is concerned, and all ids that stand for it."""
    whole: set[str]
    """Those of them of which every entry is derived."""
    root_of: dict[str, str]
    replies: dict[str, Any]
    """Replies to derive the entry of, and those that kudos to derive are on."""
    threads: dict[str, Thread] = field(default_factory=dict)
    touched_replies: set[str] = field(default_factory=set)
    touched_places: dict[tuple[str, str], Place] = field(default_factory=dict)
    """For a member (by the one they stand for) in a topic, from which place on the order may have changed."""
    earliest: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    """For a member in a topic their replies that may count, the earliest first: of each its id and posted_at."""
    acceptances: dict[str, list[Any]] = field(default_factory=dict)
    responses: dict[str, Any] = field(default_factory=dict)
    kudos: dict[str, Any] = field(default_factory=dict)
    earliest_kudos: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    candidates: set[str] = field(default_factory=set)
    """Entries that may be stored already, and are to go where they are not derived."""
    stored_solutions: dict[int, set[str]] = field(default_factory=dict)
    """The same of solutions in whole topics, by epoch."""
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    appointments: dict[str, Appointments] = field(default_factory=dict)

    def member(self, id: str) -> str:
        """Whom a member's id stands for."""
        known = self.members.get(id)
        return known[0] if known else id

    def accepted(self) -> Iterable[tuple[str, Any]]:
        """Every acceptance with the topic that it is in now."""
        return ((root, row) for root, rows in self.acceptances.items() for row in rows)

    def ids_of(self, root: str) -> tuple[str, ...]:
        """All ids that stand for this member."""
        known = self.members.get(root)
        return known if known else (root,)

    def ids_in(self, *topic_ids: Iterable[str]) -> list[str]:
        """All ids of the topics that these stand for."""
        return [id for root in {self.root_of[id] for some in topic_ids for id in some} for id in self.group[root]]

    def thread(self, topic_id: str | None) -> Thread | None:
        """The topic that an id stands for, if it is known."""
        return None if topic_id is None else self.threads.get(self.root_of.get(topic_id, topic_id))

    def was_star(self, member: str, at: datetime) -> bool:
        """Whether a member was a Star at an instant."""
        found = self.appointments.get(member)
        return found is not None and found(at)


def place(reply: Any) -> Place:
    """A reply's place in the order of replies."""
    return reply["posted_at"], reply["reply_id"]


def kudos_place(kudos: Any) -> Place:
    """A kudos' place in the order of kudos."""
    return kudos["given_at"], kudos["kudos_id"]


async def _read(connection: Any, touched: Touched, epochs: Epochs, *, lock: bool = True) -> Facts | None:
    # Nobody changes these rows before this batch commits: it wrote them, or it runs alone.
    replies = {row["reply_id"]: row for row in touched.replies}
    kudos = {row["kudos_id"]: row for row in touched.kudos}
    hung_on = {id for row in touched.kudos for id in (row["left_reply_id"], row["reply_id"])} - {None, *replies}
    named = {*touched.topic_ids(), *touched.responses}
    found_in: dict[str, set[str]] = defaultdict(set)
    if replies or hung_on:
        for row in await connection.fetch(SQL.topics_of, list(hung_on), list(replies)):
            found_in[row["what"]].add(row["topic_id"])
        named.update(*found_in.values())
    if not named:
        return None
    while True:
        group = await _groups(connection, named) if touched.aliases else {id: {id} for id in named}
        root_of = {id: root for root, ids in group.items() for id in ids}
        ids = sorted(root_of)
        if lock:
            await connection.execute(SQL.lock_topics, ids)
        whole = {root_of[id] for id in touched.topics}
        whole_ids = [id for root in whole for id in group[root]]
        rows = await connection.fetch(SQL.read_replies, list(hung_on), whole_ids)
        # A reply may have moved on while its topic's lock was waited for.
        moved_on = {row["topic_id"] for row in rows} - root_of.keys() - {None}
        if not moved_on:
            break
        named |= moved_on
    facts = Facts(group, whole, root_of, {id: row for id, row in replies.items() if row["posted_at"] is not None})
    facts.replies |= {row["reply_id"]: row for row in rows}
    whole_replies = {row["reply_id"] for row in rows if root_of.get(row["topic_id"]) in whole}
    facts.touched_replies = replies.keys() | whole_replies
    topics = {row["topic_id"]: row for row in await connection.fetch(SQL.read_topics, ids)}
    accepted_in = facts.ids_in(whole_ids, found_in["acceptance"], {topic_id for topic_id, _ in touched.acceptances})
    for row in await connection.fetch(SQL.read_acceptances, accepted_in):
        facts.acceptances.setdefault(root_of[row["accepted_in"]], []).append(row)
    for row in await connection.fetch(SQL.read_responses, [*{*whole_ids, *found_in["response"], *touched.responses}]):
        facts.responses[row["of_topic_id"]] = row
    facts.kudos = {id: row for id, row in kudos.items() if row["given_at"] is not None and row["reply_id"] is not None}
    for row in await connection.fetch(SQL.read_kudos, list(facts.touched_replies)):
        facts.kudos[row["kudos_id"]] = row
    await _read_members(connection, facts, topics, touched, epochs)
    for root, members in group.items():
        if root in topics:
            own = topics[root]
            askers = frozenset(facts.member(topics[id]["author_id"]) for id in members if id in topics)
            facts.threads[root] = Thread(own, askers, holds(own["deleted_at"], own["restored_at"]))
    await _read_earliest(connection, facts, touched, epochs)
    facts.candidates.update(entry_id(REPLY, id) for id in facts.touched_replies)
    facts.candidates.update(entry_id(KUDOS, id) for id in kudos.keys() | facts.kudos.keys())
    facts.candidates.update(entry_id(FIRST_RESPONSE, id) for id in touched.responses | facts.responses.keys())
    facts.candidates.update(entry_id(SOLUTION, root, row["reply_id"]) for root, row in facts.accepted())
    for epoch in epochs if whole_ids else ():
        rows = await connection.fetch(SQL.stored_solutions, whole_ids, epoch.number)
        facts.stored_solutions[epoch.number] = {row["entry_id"] for row in rows}
    return facts


async def _groups(connection: Any, named: set[str]) -> dict[str, set[str]]:
    """For each topic that the named ones stand for, all topic ids that stand for it, itself included."""
    rows = await connection.fetch(SQL.groups, list(named))
    root_of = {row["id"]: row["root"] for row in rows}
    # What stands for nobody any more is derived, too: to nothing.
    group = {root_of.get(id, id): {root_of.get(id, id)} for id in named}
    for row in await connection.fetch(SQL.groups_of_roots, list(group)):
        group[row["root"]].add(row["id"])
    return group


async def _read_members(
    connection: Any, facts: Facts, topics: Mapping[str, Any], touched: Touched, epochs: Epochs
) -> None:
    authors = {row["author_id"] for row in facts.replies.values()}
    authors.update(row["left_author_id"] for row in touched.replies if row["left_author_id"] is not None)
    authors.update(row["author_id"] for _, row in facts.accepted() if row["author_id"] is not None)
    authors.update(row["author_id"] for row in facts.responses.values())
    if touched.aliases:
        everyone = authors | {row["author_id"] for row in topics.values()}
        everyone.update(row["giver_id"] for row in facts.kudos.values() if row["giver_id"] is not None)
        for row in touched.kudos:
            everyone.update(id for id in (row["left_giver_id"], row["giver_id"]) if id is not None)
        for row in await connection.fetch(SQL.member_groups, list(everyone)):
            known = (row["root"], *row["others"])
            facts.members |= dict.fromkeys(known, known)
    if epochs.somebody_was_star:
        ids = {id for author in authors for id in facts.ids_of(facts.member(author))}
        changes: dict[str, list[tuple[datetime, bool]]] = defaultdict(list)
        for row in await connection.fetch(SQL.star_changes, list(ids)):
            changes[facts.member(row["member_id"])].append((row["at"], row["appointed"]))
        facts.appointments = {member: Appointments(found) for member, found in changes.items()}


async def _read_earliest(connection: Any, facts: Facts, touched: Touched, epochs: Epochs) -> None:
    """Who may be counted before or after: of replies by member and topic, of kudos by giver and reply."""
    most = max(epoch.book.most for epoch in epochs)
    pairs: Counter[tuple[str, str]] = Counter()
    for row in touched.replies:
        earliest = min((at for at in (row["posted_at"], row["left_posted_at"]) if at is not None), default=None)
        if earliest is None:
            continue
        now, before = (row["topic_id"], row["author_id"]), (row["left_topic_id"], row["left_author_id"])
        for topic_id, author_id in (now,) if before in (now, _NOWHERE) else (now, before):
            if topic_id is None or author_id is None:
                continue
            pair = facts.root_of.get(topic_id, topic_id), facts.member(author_id)
            if pair[0] in facts.whole:
                continue
            pairs[pair] += 1
            at = earliest, row["reply_id"]
            facts.touched_places[pair] = min(at, facts.touched_places.get(pair, at))
    asked = [
        (n, topic_id, author_id, most + count)
        for n, ((root, member), count) in enumerate(pairs.items())
        for topic_id in facts.group.get(root, {root})
        for author_id in facts.ids_of(member)
    ]
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    if asked:
        names = list(pairs)
        for row in await connection.fetch(SQL.earliest_replies, *arrays(asked)):
            found[names[row["pair"]]].append(row)
    behind = {
        row["reply_id"] for pair, rows in found.items() for row in rows if place(row) > facts.touched_places[pair]
    }
    for reply in facts.replies.values():
        root = facts.root_of.get(reply["topic_id"])
        if root in facts.whole and _may_count(reply):
            found[root, facts.member(reply["author_id"])].append(reply)
    for rows in found.values():
        rows.sort(key=place)
    facts.earliest = dict(found)
    if unread := behind - facts.replies.keys():
        rows = await connection.fetch(SQL.read_replies, list(unread), [])
        facts.replies |= {row["reply_id"]: row for row in rows}

    givers: Counter[tuple[str, str]] = Counter()
    for row in touched.kudos:
        sides = {(row["left_reply_id"], row["left_giver_id"]), (row["reply_id"], row["giver_id"])}
        for reply_id, giver_id in sides:
            if reply_id is not None and giver_id is not None and reply_id not in facts.touched_replies:
                givers[reply_id, facts.member(giver_id)] += 1
    asked_kudos = [
        (reply_id, id, 1 + count) for (reply_id, giver), count in givers.items() for id in facts.ids_of(giver)
    ]
    if asked_kudos:
        for row in await connection.fetch(SQL.earliest_kudos, *arrays(asked_kudos)):
            facts.kudos[row["kudos_id"]] = row
    earliest_kudos: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in facts.kudos.values():
        if row["giver_id"] is not None and not holds(row["revoked_at"], row["given_at"]):
            earliest_kudos[row["reply_id"], facts.member(row["giver_id"])].append(row)
    for rows in earliest_kudos.values():
        rows.sort(key=kudos_place)
    facts.earliest_kudos = dict(earliest_kudos)


def _may_count(reply: Any) -> bool:
    return (
        reply["visibility"] == "public"
        and reply["author_kind"] != "bot"
        and not holds(reply["deleted_at"], reply["restored_at"])
    )


# --- what should be true --------------------------------------------------------------------------------------------


def derive(facts: Facts, book: RuleBook) -> dict[str, Entry]:
    """The entries of what was touched, by id, as these rules have them."""
    found: dict[str, Entry] = {}
    for entry in (
        *_replies(facts, book),
        *_first_responses(facts, book),
        *_solutions(facts, book),
        *_kudos(facts, book),
    ):
        found[entry.entry_id] = entry
    return found


def _replies(facts: Facts, book: RuleBook) -> Iterable[Entry]:
    # Those that changed, and those behind them whose place in the order may have changed.
    rows = {id: facts.replies[id] for id in facts.touched_replies if id in facts.replies}
    for pair, since in facts.touched_places.items():
        behind = [row["reply_id"] for row in facts.earliest.get(pair, ()) if place(row) > since]
        rows |= {id: facts.replies[id] for id in behind}
    for row in rows.values():
        thread = facts.thread(row["topic_id"])
        if thread is None:
            continue
        member, rules = facts.member(row["author_id"]), book.at(row["posted_at"])
        own_topic = member in thread.askers
        capped = False
        if not own_topic and not thread.deleted and _may_count(row):
            first = facts.earliest.get((thread.row["topic_id"], member), ())[: rules.reply.most]
            capped = all(other["reply_id"] != row["reply_id"] for other in first)
        status = verdict(row, topic_deleted=thread.deleted, own_topic=own_topic, capped=capped)
        yield _entry(
            facts, thread, row, REPLY, (row["reply_id"],), rules.reply.points, row["posted_at"], status, row["backfill"]
        )


def _first_responses(facts: Facts, book: RuleBook) -> Iterable[Entry]:
    for topic_id, row in facts.responses.items():
        thread = facts.threads.get(topic_id)
        if thread is None or facts.root_of.get(topic_id) != topic_id:
            continue
        rules: Rules = book.at(row["posted_at"])
        status = verdict(
            row,
            topic_deleted=thread.deleted,
            own_topic=facts.member(row["author_id"]) in thread.askers,
            late=not row["within_target"],
            not_a_question=thread.row["kind"] not in rules.first_response.kinds,
            moved=facts.root_of.get(row["topic_id"], row["topic_id"]) != topic_id,
        )
        yield _entry(
            facts,
            thread,
            row,
            FIRST_RESPONSE,
            (topic_id,),
            rules.first_response.points,
            row["posted_at"],
            status,
            row["backfill"],
        )


def _solutions(facts: Facts, book: RuleBook) -> Iterable[Entry]:
    for root, rows in facts.acceptances.items():
        thread = facts.threads.get(root)
        if thread is None:
            continue
        by_reply: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            by_reply[row["reply_id"]].append(row)
        accepted = [row for row in rows if row["accepted_at"] is not None]
        latest = max(accepted, key=lambda row: row["accepted_stamp"], default=None)
        for reply_id, same in by_reply.items():
            # Topics that were merged may each have accepted it: what stands of all that was said.
            row = max(same, key=lambda one: one["accepted_stamp"])
            if row["accepted_at"] is None or row["posted_at"] is None:
                continue
            revoked_at = max((one["revoked_at"] for one in same if one["revoked_at"] is not None), default=None)
            replaced = latest is not None and latest["reply_id"] != reply_id
            status = verdict(
                row,
                topic_deleted=thread.deleted,
                own_topic=facts.member(row["author_id"]) in thread.askers,
                unaccepted=holds(revoked_at, row["accepted_at"]),
                moved=facts.root_of.get(row["topic_id"], row["topic_id"]) != root,
                superseded="solution-replaced" if replaced else None,
            )
            points = book.at(row["accepted_at"]).solution.points
            yield _entry(
                facts, thread, row, SOLUTION, (root, reply_id), points, row["accepted_at"], status, row["backfill"]
            )


def _kudos(facts: Facts, book: RuleBook) -> Iterable[Entry]:
    for id, row in facts.kudos.items():
        reply = facts.replies.get(row["reply_id"])
        thread = facts.thread(reply["topic_id"]) if reply is not None else None
        if reply is None or thread is None:
            continue
        giver = None if row["giver_id"] is None else facts.member(row["giver_id"])
        repeated = False
        if giver is not None:
            # Whatever else speaks against one kudos of a giver on a reply speaks against all of them.
            first = facts.earliest_kudos.get((row["reply_id"], giver), [])
            repeated = bool(first) and first[0]["kudos_id"] != id
        status = verdict(
            reply,
            topic_deleted=thread.deleted,
            own_kudos=giver is not None and giver == facts.member(reply["author_id"]),
            taken_back=holds(row["revoked_at"], row["given_at"]),
            superseded="kudos-repeated" if repeated else None,
        )
        points = book.at(row["given_at"]).kudos.points
        yield _entry(facts, thread, reply, KUDOS, (id,), points, row["given_at"], status, row["backfill"], id)


def _entry(
    facts: Facts,
    thread: Thread,
    reply: Any,
    rule: str,
    cause: tuple[str, ...],
    points: int,
    at: datetime,
    status: tuple[str, str | None],
    backfill: bool | None,
    kudos_id: str | None = None,
) -> Entry:
    member = facts.member(reply["author_id"])
    return Entry(
        entry_id(rule, *cause),
        points,
        rule,
        member,
        status[0],
        status[1],
        thread.row["topic_id"],
        reply["reply_id"],
        kudos_id,
        at,
        thread.row["space"],
        thread.row["language"],
        facts.was_star(member, at),
        bool(backfill),
    )


# --- what differs ---------------------------------------------------------------------------------------------------


def _marks(group: Mapping[str, set[str]], marks: Mapping[str, Mark]) -> dict[str, tuple[bool, str | None]]:
    """Of each topic whether what touched it was history, and its last trace."""
    found: dict[str, tuple[bool, str | None]] = {}
    for root, ids in group.items():
        named = [marks[id] for id in ids if id in marks]
        if named:
            trace = next((one.traceparent for one in named if one.traceparent), None)
            found[root] = all(one.backfill for one in named), trace
    return found


async def _store(
    connection: Any,
    epoch: int,
    facts: Facts,
    entries: Mapping[str, Entry],
    marks: Mapping[str, tuple[bool, str | None]],
    otherwise: Mark,
) -> int:
    usual = otherwise.backfill, otherwise.traceparent
    unusual = json.dumps({id: mark for id, mark in marks.items() if mark != usual})
    gone = [id for id in facts.candidates | facts.stored_solutions.get(epoch, set()) if id not in entries]
    if gone:
        await connection.execute(SQL.delete_entries, epoch, gone, unusual, usual[0], usual[1])
    if entries:
        rows = arrays_of(entries.values())
        await connection.execute(SQL.write_entries, epoch, *rows, unusual, usual[0], usual[1])
    return len(entries)
