"""The world of the chaos tests: what was told to Kafka, and whether the service made of it what the oracle does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from services.topics.queue import read_topic
from shared.forum.identity import stand_in
from shared.messaging.kafka import cluster_id
from tests.chaos.ground import ERASURE_KEY, LEADERBOARD, Ground, Replica
from tests.chaos.life import HOUR, Life, record_of
from tests.integration.engine import OneConnection, plain
from tests.oracle.envelopes import APPLICATIONS, FORUM, MEMBERS, Event, envelope, stream_of
from tests.oracle.figures import SECOND, micros, mismatches, rfc3339
from tests.oracle.forum import Forum

READ = (FORUM, MEMBERS, APPLICATIONS)
WRITTEN = "topics.events"
CONTACTS = "members.contacts"
STAGES = ("new", "stalled", "warning", "breached")
STAGE_AFTER = {"new": HOUR // 4, "stalled": 4 * HOUR, "warning": 36 * HOUR, "breached": 48 * HOUR + 1}
"""How long after its creation a question reaches a stage, in microseconds."""

SETTLE_SECONDS = 120.0
VIEWS = 150
"""So many topics are also compared whole, as the service answers them over HTTP."""


@dataclass(frozen=True)
class Watched:
    """A question of which nothing but this is ever told, so that its stages can be foretold."""

    topic_id: str
    stage: str
    due: int
    """When it reaches the stage, in microseconds."""
    silenced: bool
    """Whether something was told to Kafka that ends the waiting."""


@dataclass
class Survived:
    """What was gone through, and what was looked at in the end."""

    figures: Counter[str] = field(default_factory=Counter)

    def note(self, what: str, count: float = 1) -> None:
        """Count something."""
        self.figures[what] += int(count)

    def __str__(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in self.figures.items())


class World:
    """One ground and everything that was ever told on it."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self.ground, self.rng = ground, Random(seed)
        self.life = Life(Random(seed))
        self.told: list[Event] = []
        """Every envelope that Kafka took or may have taken: what the oracle knows."""
        self.watched: list[Watched] = []
        self.moved: dict[str, int] = {}
        """Since when the service believes to know some of what is watched, where that was moved into the past."""
        self.survived = Survived()
        self.sound = True
        """Whether the last comparison found nothing; after a failure nothing can be built on this world."""
        self._producer: AIOKafkaProducer | None = None
        self._watches = 0

    async def close(self) -> None:
        """Let go of Kafka."""
        await self._forget_producer()

    # Replicas

    async def begin(self, *names: str) -> list[Replica]:
        """Have exactly these replicas running and ready; what was survived is counted from here."""
        self.sound, self.survived = False, Survived()
        wanted = [self.ground.replica(name) for name in names or ("first",)]
        for replica in (*self.ground.running(), *self.ground.running(LEADERBOARD)):
            if replica not in wanted:
                await replica.stop()
        for replica in wanted:
            if not replica.runs:
                replica.start()
        await asyncio.gather(*(replica.ready() for replica in wanted))
        return wanted

    # Telling

    async def send(self, events: Iterable[Event]) -> None:
        """Tell Kafka, until it has all of it; what it may have already is sent again, as any forum must."""
        waiting = list(events)
        self.told += waiting
        self.survived.note("events told", len(waiting))
        while waiting:
            outcomes = await self._try([(stream_of(event), *record_of(event)) for event in waiting])
            waiting = [event for event, failed in zip(waiting, outcomes, strict=True) if failed]
            if waiting:
                self.survived.note("events told again", len(waiting))
                await self._forget_producer()
                await asyncio.sleep(0.3)

    async def _try(self, records: list[tuple[str, bytes, bytes]]) -> list[bool]:
        futures: list[Any] = []
        try:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self.ground.servers, acks="all", request_timeout_ms=4000, linger_ms=2
                )
                await producer.start()
                self._producer = producer
            for stream, key, value in records:
                futures.append(await self._producer.send(stream, value, key=key))
        except (KafkaError, OSError):
            pass
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        return [isinstance(outcome, BaseException) for outcome in outcomes] + [True] * (len(records) - len(futures))

    async def _forget_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(producer.stop(), 5)

    @contextlib.asynccontextmanager
    async def load(self, rate: int = 200) -> AsyncIterator[None]:
        """The forum lives on, at so many events a second, while the block runs."""
        going = True

        async def live() -> None:
            while going:
                beginning = time.monotonic()
                await self.send(self.life.more(rate // 10))
                await asyncio.sleep(max(0.0, 0.1 - (time.monotonic() - beginning)))

        task = asyncio.create_task(live())
        try:
            yield
        finally:
            going = False
            await task
            await self.send(self.life.rest())

    async def in_full_swing(self, events: int = 1000) -> None:
        """Give the service much to do, and come back at some moment while it does it, most likely."""
        await self.send(self.life.more(events))
        await asyncio.sleep(self.rng.uniform(0, 0.5))

    async def watch(
        self, stage: str, count: int, lead: float, silence: tuple[str, ...] = ("answer",)
    ) -> tuple[list[Watched], list[Event]]:
        """Ask questions that reach a stage LEAD seconds from now, and tell Kafka.

        Every other one has something, not told to anyone yet, that ends its waiting; those events are returned.
        """
        asked, silencing, watched = [], [], []
        for n in range(count):
            self._watches += 1
            topic_id = f"watched-{stage}-{self._watches}"
            due = micros(datetime.now(UTC)) + int(lead * SECOND) + self.rng.randrange(SECOND)
            created = due - STAGE_AFTER[stage]
            asked.append(self._watched_event("topic-created", created, _question(topic_id)))
            watched.append(Watched(topic_id, stage, due, silenced=n % 2 == 0))
            if n % 2 == 0:
                how = silence[(n // 2) % len(silence)]
                silencing.append(self.silence(topic_id, how, due - self.rng.randrange(1, 15) * 60 * SECOND))
        await self.send(asked)
        self.watched += watched
        return watched, silencing

    def silence(self, topic_id: str, how: str, at: int) -> Event:
        """An event that ends the waiting of a watched question."""
        data: dict[str, Any] = {"topic_id": topic_id}
        match how:
            case "answer":
                data |= {"reply_id": f"answer-{topic_id}", "author_id": "who-answers", "author_kind": "staff"}
                return self._watched_event("reply-posted", at, data | {"visibility": "public"})
            case "discussion":
                return self._watched_event("topic-edited", at, data | {"kind": "discussion"})
            case "merge":
                return self._watched_event("topic-merged", at, data | {"into_topic_id": "watched-by-nobody"})
            case _:
                return self._watched_event(f"topic-{how}", at, data)

    def _watched_event(self, type_: str, at: int, data: dict[str, Any]) -> Event:
        return envelope(type_, rfc3339(at), data, id_=f"{type_}:{data['topic_id']}", source="/forum/watched")

    # Settling

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until everything that was told is applied, everything due is told, and the outbox is empty."""
        last = max((one.due for one in self.watched), default=0)
        await asyncio.sleep(max(0.0, last / SECOND - time.time()))
        await self.settle_reading(seconds)

    async def settle_reading(self, seconds: float = SETTLE_SECONDS) -> None:
        """The same, without waiting for what is due only later."""
        cluster = await cluster_id(self.ground.servers)
        [row] = await self.ground.fetch("SELECT clock_timestamp() AS now")
        self._settled_at: datetime = row["now"]
        end = time.monotonic() + seconds
        while waits := await self._waits_for(cluster, row["now"]):
            if time.monotonic() > end:
                said = [(one.name, await one.problems(), one.last_words()) for one in self.ground.running()]
                raise AssertionError(f"not settled within {seconds:.0f} s: {waits}; {said}")
            await asyncio.sleep(0.2)

    async def _waits_for(self, cluster: str, instant: datetime) -> str:
        rows = await self.ground.fetch(
            "SELECT stream, partition, next_offset, caught_up_at FROM consumer_offset WHERE cluster = $1", cluster
        )
        behind = [dict(row) for row in rows if row["caught_up_at"] is None or row["caught_up_at"] <= instant]
        if behind or not rows:
            return f"{len(behind)} of {len(rows)} partitions are not read to their end: {behind[:3]}"
        [row] = await self.ground.fetch(
            "SELECT (SELECT count(*) FROM outbox) AS outbox,"
            " (SELECT count(*) FROM topic_state WHERE next_at <= $1) AS due",
            instant,
        )
        return f"{row['outbox']} events in the outbox, {row['due']} topics due" if row["outbox"] or row["due"] else ""

    # Comparing

    async def compare(self) -> None:
        """Settle, then hold everything against the oracle; says what was survived."""
        await self.settle()
        for replica in self.ground.running():
            self.survived.note(
                "records below the fence",
                await replica.metric("constellation_consumed_events_total", outcome="below_fence"),
            )
        oracle = await asyncio.to_thread(Forum, self.told, ERASURE_KEY)
        wrong = await self._wrong_states(oracle)
        wrong += await self._wrong_views(oracle)
        wrong += await self._wrong_facts(oracle)
        wrong += await self._wrong_stages()
        wrong += await self._wrong_contacts()
        assert not wrong, f"{len(wrong)} differences after {self.survived}:\n" + "\n".join(wrong[:15])
        self.sound = True
        print(f"\n  survived: {self.survived}")

    async def _wrong_states(self, oracle: Forum) -> list[str]:
        wrong = []
        rows = {row["topic_id"]: row for row in await self.ground.fetch("SELECT * FROM topic_state")}
        standing = oracle.standing_first_responses()
        for topic_id, topic in oracle.topics.items():
            row = rows.get(topic_id)
            if row is None:
                # A topic that only kudos ever named has no row, and needs none.
                if topic.known:
                    wrong.append(f"{topic_id}: not there")
                continue
            expected: dict[str, Any] = {"known": topic.known}
            if topic.known:
                first = standing.get(topic_id, {})
                expected |= {
                    "visible": topic.visible,
                    "closed": topic.closed,
                    "kind": topic.kind,
                    "space": topic.space,
                    "language": topic.language,
                    "title": topic.title,
                    "tags": list(topic.tags),
                    "url": topic.url,
                    "author_id": topic.author_id,
                    "created_us": topic.created_at,
                    "response_reply_id": first.get("reply_id"),
                    "responder_id": first.get("responder_id"),
                    "responder_kind": first.get("responder_kind"),
                    "response_us": topic.first_response.took if topic.first_response else None,
                }
            actual = {**row, "tags": json.loads(row["tags"])}
            wrong += mismatches(expected, actual, topic_id)
        wrong += [
            f"{topic_id}: known, and should not be"
            for topic_id, row in rows.items()
            if row["known"] and topic_id not in oracle.topics
        ]
        self.survived.note("topics compared", len(oracle.topics))
        return wrong

    async def _wrong_views(self, oracle: Forum) -> list[str]:
        wrong = []
        known = [topic.topic_id for topic in oracle.topics.values() if topic.known]
        connection = await self.ground.connect()
        try:
            for topic_id in self.rng.sample(known, min(VIEWS, len(known))):
                expected = oracle.view(topic_id, datetime.now(UTC)) or {}
                actual = plain(await read_topic(OneConnection(connection), topic_id))
                expected.pop("state")  # of another instant
                wrong += mismatches(expected, actual, f"view of {topic_id}")
        finally:
            await connection.close()
        return wrong

    async def _wrong_facts(self, oracle: Forum) -> list[str]:
        """Outgoing facts: once each, without holes, and the last one of each topic is the truth."""
        wrong = []
        records = await self.read(WRITTEN)
        stand_ins = {
            event["data"]["member_id"]: stand_in(ERASURE_KEY, event["data"]["member_id"])
            for event in self.told
            if event["type"] == "member-erased"
        }
        facts: dict[str, Event] = {}
        values: dict[str, bytes] = {}
        sequences: dict[str, list[int]] = defaultdict(list)
        for record in records:
            event = json.loads(record.value)
            topic_id, name = event["data"]["topic_id"], event["id"]
            if name in facts:
                self.survived.note("duplicates met")
                if record.value != values[name]:
                    # The only thing that may differ: one was sent before a member was erased, the other after.
                    self.survived.note("duplicates rewritten by an erasure")
                    before = _renamed(facts[name]["data"], stand_ins)
                    if before != _renamed(event["data"], stand_ins) or facts[name]["time"] != event["time"]:
                        wrong.append(f"two facts are called {name}: {values[name]!r} and {record.value!r}")
                continue
            facts[name], values[name] = event, record.value
            if name != f"{WRITTEN}/{topic_id}/{event['sequence']}" or event["source"] != "/constellation/topics":
                wrong.append(f"a fact of {topic_id} with sequence {event['sequence']} is called {name}")
            if record.key.decode() != topic_id:
                wrong.append(f"{name} has the key {record.key!r}")
            if sequences[topic_id] and event["sequence"] < sequences[topic_id][-1]:
                self.survived.note("facts overtaken by a later one")
            sequences[topic_id].append(event["sequence"])
        for topic_id, found in sequences.items():
            if sorted(found) != list(range(1, len(found) + 1)):
                wrong.append(f"the sequences of {topic_id} have holes: {sorted(found)}")
        last: dict[str, Event] = {}
        for event in facts.values():
            topic_id = event["data"]["topic_id"]
            if event["type"].startswith("first-response-") and (
                topic_id not in last or last[topic_id]["sequence"] < event["sequence"]
            ):
                last[topic_id] = event
        standing = {id: event["data"] for id, event in last.items() if event["type"] == "first-response-recorded"}
        expected = oracle.standing_first_responses()
        wrong += [f"{id}: a first response stands that does not" for id in standing.keys() - expected.keys()]
        wrong += [f"{id}: no first response stands" for id in expected.keys() - standing.keys()]
        for topic_id in expected.keys() & standing.keys():
            wrong += mismatches(expected[topic_id], standing[topic_id], f"the fact of {topic_id}")
        self._facts = list(facts.values())
        self.survived.note("facts compared", len(facts))
        self.survived.note("first responses standing", len(expected))
        return wrong

    async def _wrong_stages(self) -> list[str]:
        """Each stage at most once a topic, the higher ones later; of what is watched, exactly what must be told."""
        wrong = []
        told: dict[str, list[str]] = defaultdict(list)
        for event in sorted(self._facts, key=lambda event: event["sequence"]):
            if event["type"] == "answer-needed":
                told[event["data"]["topic_id"]].append(event["data"]["stage"])
            elif event["type"] == "target-breached":
                told[event["data"]["topic_id"]].append("breached")
        for topic_id, stages in told.items():
            if sorted(set(stages), key=STAGES.index) != stages:
                wrong.append(f"{topic_id} was told {stages}")
        rows = await self.ground.fetch("SELECT topic_id, stage, told_at FROM told")
        kept = {(row["topic_id"], STAGES[row["stage"] - 1]): row["told_at"] for row in rows}
        said = {(topic_id, stage) for topic_id, stages in told.items() for stage in stages}
        # The clock goes on while we look: what it told since may not have been in Kafka yet when that was read.
        silent = {one for one, at in kept.items() if at <= self._settled_at} - said
        if silent or said - kept.keys():
            wrong.append(f"told and not remembered: {said - kept.keys()}; remembered and not told: {silent}")
        self.survived.note("stages told", len(kept))
        if self.watched:
            wrong += self._wrong_watches(told, await self._appended(FORUM))
        return wrong

    def _wrong_watches(self, told: Mapping[str, list[str]], appended: Mapping[str, int]) -> list[str]:
        wrong = []
        silencers: dict[str, int] = {}
        for event in self.told:
            if event["source"] == "/forum/watched" and event["type"] != "topic-created":
                silencers[event["data"]["topic_id"]] = appended[event["id"]]
        for one in self.watched:
            was_moved = one.topic_id in self.moved
            had = self.moved[one.topic_id] if was_moved else appended[f"topic-created:{one.topic_id}"]
            silenced = silencers.get(one.topic_id)
            stages = [stage for stage in told.get(one.topic_id, []) if stage == one.stage]
            if had > one.due or (silenced is not None and (was_moved or silenced <= one.due)):
                self.survived.note("silences kept")
                if stages:
                    wrong.append(f"{one.topic_id} was told {one.stage}: Kafka had what ends its waiting before that")
            elif silenced is None:
                self.survived.note("stages foretold")
                if stages != [one.stage]:
                    wrong.append(f"{one.topic_id} waits, and {one.stage} was told {len(stages)} times")
        return wrong

    async def _wrong_contacts(self) -> list[str]:
        erased = {event["data"]["member_id"] for event in self.told if event["type"] == "member-erased"}
        said = {record.key.decode() for record in await self.read(CONTACTS)}
        self.survived.note("erasures passed on", len(erased))
        return [f"nobody told {CONTACTS} that {member_id} is erased" for member_id in erased - said]

    # Reading Kafka

    async def _appended(self, stream: str) -> dict[str, int]:
        """When Kafka first had each event of ours, by its id."""
        found: dict[str, int] = {}
        for record in await self.read(stream):
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                found.setdefault(json.loads(record.value)["id"], record.timestamp * 1000)
        return found

    async def read(self, stream: str) -> list[ConsumerRecord]:
        """Everything that a stream holds, partition by partition, from its beginning to its present end."""
        records: list[ConsumerRecord] = []
        async with AIOKafkaConsumer(bootstrap_servers=self.ground.servers, auto_offset_reset="earliest") as consumer:
            await consumer._client.force_metadata_update()
            partitions = [TopicPartition(stream, n) for n in await _partitions(consumer, stream)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            while [at for at in partitions if await consumer.position(at) < ends[at]]:
                for found in (await consumer.getmany(timeout_ms=200)).values():
                    records += found
        return sorted(records, key=lambda record: (record.partition, record.offset))


async def _partitions(consumer: AIOKafkaConsumer, stream: str) -> list[int]:
    end = time.monotonic() + 20
    while not (found := consumer.partitions_for_topic(stream)):
        assert time.monotonic() < end, f"Kafka has no topic {stream}"
        consumer._client.add_topic(stream)
        await asyncio.sleep(0.05)
    return sorted(found)


def _question(topic_id: str) -> dict[str, Any]:
    return {
        "topic_id": topic_id,
        "author_id": "who-asks",
        "author_kind": "member",
        "title": "Who will answer?",
        "space": "watched",
        "tags": [],
        "kind": "question",
    }


def _renamed(data: Any, stand_ins: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: stand_ins.get(value, value) if name.endswith(("responder_id", "author_id", "member_id")) else value
        for name, value in data.items()
    }
