"""Kafka and the outbox: one way to subscribe, one way to publish. FastStream and aiokafka are used here alone."""

from pathlib import Path

from shared.messaging.consumer import Batch, DeadLetter, Overtaken, Record
from shared.messaging.kafka import KafkaUnavailable
from shared.messaging.outbox import Outbox, Outgoing, Transaction, caught_up_at
from shared.messaging.runtime import Messaging
from shared.postgres import Migrations

MIGRATIONS = Migrations.of_folder("messaging", Path(__file__).parent / "migrations")

__all__ = [
    "MIGRATIONS",
    "Batch",
    "DeadLetter",
    "KafkaUnavailable",
    "Messaging",
    "Outbox",
    "Outgoing",
    "Overtaken",
    "Record",
    "Transaction",
    "caught_up_at",
]
