"""Logs, metrics and traces: what they say, and what they never say."""

import json
import logging
import time
from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from shared.observability import (
    configure_logging,
    configure_traces,
    current_traceparent,
    in_service,
    metrics,
    redact,
    span,
)
from shared.observability.logs import NOISY
from shared.observability.metrics import AgeGauge
from shared.settings import Settings

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtLTEifQ.c2lnbmF0dXJl"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in NOISY}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    logging.captureWarnings(False)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_one_json_object_with_time_service_trace_and_extras(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings())
    configure_logging(Settings())
    with in_service("topics"), span("work", PARENT):
        logging.getLogger("stars").info("applied\n%s", "é\ud800", extra={"event_id": "e-1", "count": 3})
    (line,) = lines(capsys)
    assert str(line["time"]).endswith("Z")
    assert line["level"] == "INFO"
    assert line["logger"] == "stars"
    assert line["message"] == "applied\né\ud800"
    assert line["service"] == "topics"
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert len(str(line["span_id"])) == 16
    assert (line["event_id"], line["count"]) == ("e-1", 3)


def test_an_error_has_its_traceback_and_no_password_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("json", "text"):
        configure_logging(Settings(log_format=form))
        try:
            raise OSError("cannot reach postgresql://stars:hunter2@db:5432/stars")
        except OSError:
            logging.getLogger("stars").exception("no database")
        text = capsys.readouterr().err
        assert "Traceback" in text
        assert "postgresql://stars:***@db:5432/stars" in text
        assert "hunter2" not in text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"Authorization: Bearer {JWT}", JWT),
        ("authorization: bearer abcdef0123456789+/==", "abcdef0123456789"),
        (f"got {JWT}, sorry", JWT),
        ("Basic dXNlcjpodW50ZXIy", "dXNlcjpodW50ZXIy"),
        ("postgresql://stars:hunter2@db/x", "hunter2"),
        ("postgres://stars:hun/ter@2@db/x", "hun/ter@2"),
        ('postgres://stars:hun"ter2@db/x', 'hun"ter2'),
        ("smtps://u:hunter2@mail", "hunter2"),
        ("https://u:hunter2@example/x", "hunter2"),
        ("password=hunter2 host=db", "hunter2"),
        ('{"password": "hunter2 and more"}', "hunter2 and more"),
        ("sasl_plain_password='hunter2'", "hunter2"),
        ("STARS_SECRET=hunter2", "hunter2"),
        ("GET /x?access_token=hunter2&a=1", "hunter2"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert secret not in redact(text)
    for form in ("json", "text"):
        configure_logging(Settings(log_format=form))
        logging.getLogger("stars").warning("saw %s", text, extra={"also": text, "nested": {"deep": [text]}})
        shown = capsys.readouterr().err
        assert secret not in shown
        assert secret not in shown.encode().decode("unicode_escape")
        assert "***" in shown


def test_a_field_that_is_called_a_secret_is_one_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings())
    extra = {"password": "x", "access_token": "y", "nested": {"Authorization": "z"}, "tokens": 3, "secret": None}
    logging.getLogger("stars").info("hello", extra=extra)
    (line,) = lines(capsys)
    assert (line["password"], line["access_token"], line["nested"]) == ("***", "***", {"Authorization": "***"})
    assert (line["tokens"], line["secret"]) == (3, None)


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8080/a@b?c=d",
        "bad token: expired",
        "the bearer of news",
        "ready: http://127.0.0.1:8080",
        "a@b.example",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("text", ["a-" * 200_000, "eyJabcd-" * 50_000, "x" * 1_000_000, "postgres://a:" * 20_000])
def test_redacting_a_hostile_text_takes_no_time_to_speak_of(text: str) -> None:
    started = time.perf_counter()
    redact(text)
    assert time.perf_counter() - started < 2


def test_the_terminal_shows_control_characters_instead_of_obeying_them(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_format="text"))
    logging.getLogger("stars").info("a\nFAKE LINE \x1b[31mred %s", "\r\x9b", extra={"who": "x\ny"})
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert not set("\x1b\r\x9b") & set(shown)


def test_chatty_libraries_speak_from_warning_on_and_in_our_format(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("aiokafka").addHandler(logging.StreamHandler())
    configure_logging(Settings(log_level="DEBUG"))
    for name in ("faststream", "aiokafka", "uvicorn.access"):
        logging.getLogger(name).info("chatter")
    logging.getLogger("aiokafka").warning("trouble")
    logging.getLogger("stars").debug("detail")
    assert [line["message"] for line in lines(capsys)] == ["trouble", "detail"]


def test_a_span_continues_the_trace_of_an_event_and_gives_its_own_traceparent() -> None:
    assert current_traceparent() is None
    with span("consume", PARENT, SpanKind.CONSUMER, {"stream": "forum.events"}, links=[PARENT, None, "nonsense"]):
        outer = current_traceparent()
        assert outer is not None
        assert outer.split("-")[1] == PARENT.split("-")[1]
        assert outer.split("-")[2] != PARENT.split("-")[2]
        with span("send", "nonsense"):
            inner = current_traceparent()
            assert inner is not None
            assert inner.split("-")[1] == PARENT.split("-")[1]
    assert current_traceparent() is None


def test_spans_have_ids_without_a_collector_and_an_exporter_with_one() -> None:
    provider = configure_traces(Settings())
    assert provider._active_span_processor._span_processors == ()
    with span("alone"):
        assert current_traceparent() is not None
    provider = configure_traces(Settings(otlp_endpoint="http://127.0.0.1:9"))
    processors = provider._active_span_processor._span_processors
    assert processors[0].span_exporter._endpoint == "http://127.0.0.1:9/v1/traces"  # type: ignore[attr-defined]
    configure_traces(Settings())


def test_an_age_grows_while_nobody_reports() -> None:
    registry = CollectorRegistry()
    gauge = AgeGauge("lag_seconds", "Lag", ("service", "partition"), registry)
    gauge.since(time.time() - 100, service="topics", partition="1")
    gauge.since(None, service="topics", partition="2")
    gauge.since(time.time() + 60, service="topics", partition="3")
    gauge.since(time.time(), service="topics", partition="4")
    gauge.forget(service="topics", partition="4")
    text = generate_latest(registry).decode()
    assert 'lag_seconds{partition="1",service="topics"} 10' in text
    assert 'lag_seconds{partition="2",service="topics"} 0.0' in text
    assert 'lag_seconds{partition="3",service="topics"} 0.0' in text
    assert 'partition="4"' not in text
    with pytest.raises(ValueError, match="labels"):
        gauge.since(None, service="topics")


def test_every_metric_has_a_name_of_ours_and_is_exported() -> None:
    assert metrics.HTTP_SECONDS is not None
    names = {family.name for family in REGISTRY.collect()}
    for name in (
        "constellation_http_request_duration_seconds",
        "constellation_http_events",
        "constellation_consumed_events",
        "constellation_batch_duration_seconds",
        "constellation_batch_retries",
        "constellation_consumer_lag_seconds",
        "constellation_outbox_depth",
        "constellation_outbox_oldest_age_seconds",
        "constellation_relay_published",
        "constellation_timers_fired",
    ):
        assert name in names
