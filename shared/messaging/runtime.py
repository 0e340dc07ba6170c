"""A service's ends in Kafka as one thing to run: the broker, the consumer, the relay."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from shared.contracts.catalogue import Stream
from shared.messaging.consumer import Apply, Consumer
from shared.messaging.kafka import KafkaUnavailable, cluster_id, create_broker, ensure_streams
from shared.messaging.outbox import Outbox
from shared.messaging.producer import Producer
from shared.messaging.relay import Relay
from shared.postgres import Pool
from shared.settings import Settings

log = logging.getLogger(__name__)

JOIN_SECONDS = 2
STOP_SECONDS = 12
STUCK_SECONDS = 45.0
"""Longer than any time-out of a client: past it, one that Kafka tells nothing while it answers another is stuck."""
LOOK_SECONDS = 5.0


class Stuck(Exception):
    """A client of Kafka will not come back by itself."""


class Messaging:
    """Runs a service's messaging. Kafka may be away at the start, or go and come back: it is waited for."""

    def __init__(self, service: str, settings: Settings, pool: Pool, outbox: Outbox) -> None:
        if not settings.kafka or not (dsn := settings.postgres_of(service)):
            raise ValueError("STARS_KAFKA and STARS_POSTGRES must be set")
        self._service, self._settings, self._pool, self._outbox = service, settings, pool, outbox
        self._bootstrap, self._dsn = settings.kafka, dsn
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None
        self._relay: Relay | None = None
        self._why_not_started = "not connected to Kafka yet"
        self.cluster: str | None = None

    async def send_all(self, records: Sequence[tuple[str, str, bytes]]) -> None:
        """Send (stream, key, value) records straight to Kafka. Raises KafkaUnavailable."""
        if self._producer is None:
            raise KafkaUnavailable(self._why_not_started)
        await self._producer.send_all(records)

    async def run(self, streams: Sequence[Stream] = (), apply: Apply | None = None) -> None:
        """Run until cancelled: consume ``streams`` and relay the outbox, or, without ``apply``, only send."""
        while True:
            try:
                await self._run(streams, apply)
            except* Stuck as stuck:
                log.error("%s; its clients are made anew", stuck.exceptions[0])

    async def _run(self, streams: Sequence[Stream], apply: Apply | None) -> None:
        broker, producer = await self._start(streams, apply)
        try:
            async with asyncio.TaskGroup() as group:
                if self._consumer:
                    group.create_task(self._consumer.run())
                if self._relay:
                    group.create_task(self._relay.run())
                group.create_task(self._watch(producer))
        finally:
            # The heartbeat is gone by now, as it must be: a stopping broker moves on without applying.
            self._producer = None
            await self._leave(broker, producer)

    async def _leave(self, broker: KafkaBroker, producer: Producer) -> None:
        """Stop; but whoever is about to join the group cannot leave it yet, and the others would wait for it."""
        if consumer := self._consumer:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(JOIN_SECONDS):
                    while consumer.started and not consumer.joined:
                        await asyncio.sleep(0.05)
            await consumer.close()
        await _stop(broker, producer)

    async def _watch(self, producer: Producer) -> None:
        """Raise Stuck when a client hears nothing from a Kafka that answers a fresh one.

        After a broker has died under load, aiokafka's client now and then waits for ever for metadata that nobody
        fetches any more.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            silent = max(producer.silent_for(), self._consumer.silent_for() if self._consumer else 0)
            if silent > STUCK_SECONDS and await self._answers():
                raise Stuck(f"Kafka answers, but for {silent:.0f} s not us")

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(10):
                return bool(await cluster_id(self._bootstrap))
        except (KafkaError, OSError, TimeoutError):
            return False

    async def _start(self, streams: Sequence[Stream], apply: Apply | None) -> tuple[KafkaBroker, Producer]:
        pause = 0.2
        while True:
            broker = create_broker(self._bootstrap, f"constellation-{self._service}")
            producer = Producer(self._bootstrap, f"constellation-{self._service}")
            try:
                await ensure_streams(self._bootstrap, self._settings.partitions, self._settings.kafka_replication)
                self.cluster = await cluster_id(self._bootstrap)
                if apply:
                    self._consumer = Consumer(
                        self._service,
                        broker,
                        self.cluster,
                        self._pool,
                        self._outbox,
                        streams,
                        apply,
                        self._settings.batch_records,
                    )
                    self._relay = Relay(self._dsn, self._service, producer, self._outbox)
                await producer.start()
                await broker.start()
                self._producer = producer
                return broker, producer
            except (KafkaError, KafkaUnavailable, OSError, TimeoutError) as error:
                self._why_not_started = f"Kafka does not answer ({type(error).__name__}); the log says more"
                log.warning("Kafka at %s does not answer: %s", self._bootstrap, error)
                await _stop(broker, producer)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5)
            except asyncio.CancelledError:
                # Some of it may be there already, and Kafka would wait for a member that nobody runs.
                await self._leave(broker, producer)
                raise

    def problems(self) -> list[str]:
        """Why events do not flow, in plain words; empty when they do."""
        if self._producer is None:
            return [self._why_not_started]
        return [
            *(self._consumer.problems() if self._consumer else ()),
            *(self._relay.problems() if self._relay else ()),
        ]


async def _stop(broker: KafkaBroker, producer: Producer) -> None:
    for client in (broker, producer):
        try:
            await asyncio.wait_for(client.stop(), STOP_SECONDS)
        except TimeoutError:
            log.warning("Kafka's client did not stop in %s s and is left behind", STOP_SECONDS)
        except Exception:
            log.debug("a client that had not started did not stop either", exc_info=True)
