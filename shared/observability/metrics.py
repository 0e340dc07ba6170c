"""Every Prometheus metric of the project, in one list.

Labels have few values by design: never an id, a path or a text that somebody else chooses.
"""

import time
from collections.abc import Iterator
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class AgeGauge(Collector):
    """Seconds since an instant, computed when Prometheus asks.

    A gauge that the worker sets freezes at its last value when the worker hangs, which is when it matters.
    """

    def __init__(
        self, name: str, documentation: str, labels: tuple[str, ...], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._since: dict[tuple[str, ...], float | None] = {}
        registry.register(self)

    def _key(self, labels: dict[str, str]) -> tuple[str, ...]:
        if set(labels) != set(self._labels):
            raise ValueError(f"{self._name} has the labels {', '.join(self._labels)}")
        return tuple(str(labels[name]) for name in self._labels)

    def since(self, instant: float | None, **labels: str) -> None:
        """The age counts from this instant (Unix seconds); None: there is nothing to be old, the age is 0."""
        self._since[self._key(labels)] = instant

    def forget(self, **labels: str) -> None:
        """This process no longer answers for it, as after a partition was taken away."""
        self._since.pop(self._key(labels), None)

    def collect(self) -> Iterator[Metric]:
        """One sample for each set of labels, never below 0 (clocks differ)."""
        now = time.time()
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labels)
        for key, instant in list(self._since.items()):
            family.add_metric(key, 0.0 if instant is None else max(0.0, now - instant))
        yield family

    def describe(self) -> Iterator[Metric]:
        """Its name, so that a second metric of the same name is refused."""
        yield GaugeMetricFamily(self._name, self._documentation, labels=self._labels)


_MILLISECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# --- HTTP -----------------------------------------------------------------------------------------------------------

# How long people and machines wait. route is the template ("/topics/api/topics/{topic_id}"), "unmatched" for a 404,
# status the number; 499 stands for a caller who went away. An event stream counts until its first byte.
HTTP_SECONDS = Histogram(
    "constellation_http_request_duration_seconds",
    "Seconds from the request to the end of its response",
    ("service", "method", "route", "status"),
    buckets=_MILLISECONDS,
)

# What the forum sent to the HTTP door. outcome: accepted, checked (dry run), invalid, unavailable.
HTTP_EVENTS = Counter(
    "constellation_http_events_total", "Events that came by HTTP, by what became of them", ("service", "outcome")
)

# --- Consumers ------------------------------------------------------------------------------------------------------

# outcome: applied, unknown (a type that this version does not know), dead_lettered, below_fence (seen before).
CONSUMED_EVENTS = Counter(
    "constellation_consumed_events_total",
    "Events read from Kafka, by what became of them",
    ("service", "stream", "type", "outcome"),
)

# One transaction: fence, rules, SQL, outbox, commit.
BATCH_SECONDS = Histogram(
    "constellation_batch_duration_seconds",
    "Seconds of applying one batch, from fetched to committed",
    ("service",),
    buckets=_MILLISECONDS,
)

# Events in a batch: near 1 under load means that batching does not work.
BATCH_EVENTS = Histogram(
    "constellation_batch_events",
    "Events of one batch",
    ("service",),
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000),
)

# A transient error made the batch roll back; it is tried again after a pause.
BATCH_RETRIES = Counter(
    "constellation_batch_retries_total", "Batches tried again after a transient error", ("service",)
)

# Seconds since the partition was last known to be read to its end (caught_up_at). The number to scale and alert on.
CONSUMER_LAG = AgeGauge(
    "constellation_consumer_lag_seconds",
    "Seconds since this partition was last read to its end",
    ("service", "stream", "partition"),
)

# --- Outbox and relay -----------------------------------------------------------------------------------------------

# Rows that wait to be published.
OUTBOX_DEPTH = Gauge("constellation_outbox_depth", "Events that wait in the outbox", ("service",))

# Age of the oldest of them; 0 when there is none. Grows when Kafka or the relay is away.
OUTBOX_AGE = AgeGauge("constellation_outbox_oldest_age_seconds", "Age of the oldest event in the outbox", ("service",))

# Acknowledged by Kafka (acks=all).
RELAY_PUBLISHED = Counter(
    "constellation_relay_published_total", "Events published from the outbox", ("service", "stream")
)

# --- Boards ---------------------------------------------------------------------------------------------------------

# Postings folded into boards: what the ledger gained and lost. Stands still while the projector is away.
FOLDED = Counter("constellation_boards_folded_total", "Entries gained and lost that the boards took in")

# One fold: read what changed, move standings and scores, publish, commit. Grows with the number of members it moves.
FOLD_SECONDS = Histogram(
    "constellation_boards_fold_duration_seconds", "Seconds of one fold into the boards", buckets=_MILLISECONDS
)

# Age of the oldest entry that no board shows yet; 0 when there is none. What people wait for beside the consumer's lag.
BOARDS_AGE = AgeGauge(
    "constellation_boards_oldest_change_age_seconds", "Age of the oldest change not on the boards", ()
)

# --- Timers ---------------------------------------------------------------------------------------------------------

# stage: new, stalled, warning, breached, and the other services' own timers by name.
TIMERS_FIRED = Counter("constellation_timers_fired_total", "Timers that fired", ("service", "stage"))
