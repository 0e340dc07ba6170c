"""Logs, metrics and traces: how a process tells what it does."""

from opentelemetry.trace import SpanKind

from shared.observability import metrics
from shared.observability.context import in_service, request_id, service_name
from shared.observability.logs import configure_logging, redact, rfc3339
from shared.observability.traces import configure_traces, current_traceparent, shutdown_traces, span

__all__ = [
    "SpanKind",
    "configure_logging",
    "configure_traces",
    "current_traceparent",
    "in_service",
    "metrics",
    "redact",
    "request_id",
    "rfc3339",
    "service_name",
    "shutdown_traces",
    "span",
]
