"""OpenTelemetry: one trace from the HTTP request through Kafka to the delivery, carried in ``traceparent``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from shared.settings import Settings

_W3C = TraceContextTextMapPropagator()
_MAX_HEADER = 512
"""W3C Trace Context asks for 512 characters of tracestate to be carried; a longer header is not worth its cost."""

_provider: TracerProvider | None = None


def configure_traces(settings: Settings, service: str = "constellation") -> TracerProvider:
    """Set the process's tracer provider, once; spans are exported when ``settings.otlp_endpoint`` says where to."""
    global _provider
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
    if settings.otlp_endpoint:
        # Imported where it is used: it takes longer to load than most commands take to run.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        base = settings.otlp_endpoint.rstrip("/")
        endpoint = base if base.endswith("/v1/traces") else f"{base}/v1/traces"
        # The processor batches in a thread of its own and drops what it cannot send: never in a request's way.
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=10)))
    if _provider is None:
        # OpenTelemetry takes a global provider once; libraries look there, our own code at _provider.
        trace.set_tracer_provider(provider)
    _provider = provider
    return provider


def shutdown_traces() -> None:
    """Send what waits, and stop."""
    if _provider is not None:
        _provider.shutdown()


def _tracer() -> Tracer:
    global _provider
    if _provider is None:
        # Not configured, as in a unit test: spans get ids all the same, so that traceparent is carried.
        _provider = TracerProvider(shutdown_on_exit=False)
    return _provider.get_tracer("constellation")


def _context(traceparent: str | None, tracestate: str | None = None) -> Context | None:
    """The remote parent, or None when there is none to continue; whatever W3C calls invalid is no parent."""
    if traceparent is None or len(traceparent) > _MAX_HEADER:
        return None
    carrier = {"traceparent": traceparent}
    if tracestate is not None and len(tracestate) <= _MAX_HEADER:
        carrier["tracestate"] = tracestate
    context = _W3C.extract(carrier, Context())
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def current_traceparent() -> str | None:
    """The present span as a W3C ``traceparent``, to be put into an event; None outside of every span."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 1:02x}"


@contextmanager
def span(
    name: str,
    traceparent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    links: Sequence[str | None] = (),
    tracestate: str | None = None,
) -> Iterator[Span]:
    """A span around what happens inside, and its error when that raises.

    ``traceparent`` continues the trace of an event or a request. A missing or invalid one leaves the present span as
    the parent. ``links`` names further events that the work serves, as a batch does.
    """
    remote = [trace.get_current_span(context) for text in links if (context := _context(text)) is not None]
    with _tracer().start_as_current_span(
        name,
        context=_context(traceparent, tracestate),
        kind=kind,
        attributes=attributes,
        links=[Link(parent.get_span_context()) for parent in remote],
    ) as current:
        yield current
