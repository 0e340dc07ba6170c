"""Logs: one JSON object a line on standard error, or plain text for a terminal, and never a secret in either."""

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from opentelemetry import trace
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from shared.observability.context import request_id, service_name
from shared.settings import Settings

MASK = "***"

NOISY = ("faststream", "aiokafka", "uvicorn.access", "httpx", "httpcore", "asyncio")
"""Loggers of libraries that tell at INFO what our own lines and metrics tell better."""

_SECRET_KEY = re.compile(
    r"passw(or)?d|passwd|secret|authori[sz]ation|cookie|api_?key|private_?key|(^|_)(token|dsn)$", re.IGNORECASE
)

# Order matters: a DSN is masked before "password=" is looked for, a JWT before "Bearer".
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A password in a DSN. It runs to the last "@", because people put "/" and "@" into passwords unescaped.
    (
        re.compile(r"((?:postgres(?:ql)?|kafka|smtps?|redis|amqps?)://[^:/?#\s@]*):[^\s]+@", re.IGNORECASE),
        rf"\1:{MASK}@",
    ),
    (re.compile(r"([a-z][a-z0-9+.-]{0,30}://[^:/?#\s@]*):[^/\s]+@", re.IGNORECASE), rf"\1:{MASK}@"),
    # A JSON Web Token wherever it stands (RFC 7519: three base64url parts, the first begins with '{"').
    (re.compile(r"\beyJ[\w-]{4,2000}\.[\w-]*(?:\.[\w-]*)?"), MASK),
    # RFC 6750 b64token after the scheme's name; Basic is a password too (RFC 7617).
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/-]{6,}=*", re.IGNORECASE), rf"\1 {MASK}"),
    (
        re.compile(
            r"\b([\w-]{0,40}(?:password|passwd|pwd|secret|api[_-]?key)[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s\"'&,;)}\]]+)",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b((?:\w{1,40}_)?token=)[^\s\"'&,;)}\]]+", re.IGNORECASE), rf"\1{MASK}"),
)

_LONGEST = 32_768
"""Characters of one field that are kept: a log line is no place for a payload, and each pattern walks through it."""

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x09}


def redact(text: str) -> str:
    """The text with whatever looks like a bearer token, a JWT or a password replaced by ``***``."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _redact_value(key: str, value: Any, depth: int = 0) -> Any:
    """One field of a log record; what a key calls a secret is one, whatever it looks like."""
    if value is None or isinstance(value, bool | int | float):
        # An amount is not a secret ("token: 3"), and a mask in its place would mislead.
        return value
    if _SECRET_KEY.search(key):
        return MASK
    if isinstance(value, str):
        return redact(value)
    if depth < 6:
        if isinstance(value, Mapping):
            return {str(k): _redact_value(str(k), v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_redact_value("", item, depth + 1) for item in value]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return rfc3339(value)
    return redact(str(value))


def rfc3339(instant: datetime) -> str:
    """An instant as RFC 3339 in UTC, with microseconds and ``Z``."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _common(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that every line has, then what the caller gave as ``extra``."""
    fields: dict[str, Any] = {
        "time": rfc3339(datetime.fromtimestamp(record.created, UTC)),
        "level": record.levelname,
        "logger": record.name,
        "message": record.message,
        "service": service_name.get(),
    }
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = f"{span.trace_id:032x}"
        fields["span_id"] = f"{span.span_id:016x}"
    if (request := request_id.get()) is not None:
        fields["request_id"] = request
    for key, value in record.__dict__.items():
        if key not in RESERVED_ATTRS and key not in fields and not key.startswith("_") and key != "color_message":
            fields[key] = value
    return {key: _redact_value(key, value) for key, value in fields.items()}


class JsonLines(JsonFormatter):
    """One JSON object a line: time, level, logger, message, service, trace_id, span_id, then the extras."""

    def __init__(self) -> None:
        super().__init__(json_ensure_ascii=False)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Fill the line; what the formatter itself adds are the exception and the stack."""
        log_data.update(_common(record))
        log_data.update({key: _redact_value(key, value) for key, value in message_dict.items() if value})

    def format(self, record: logging.LogRecord) -> str:
        """The line; a lone surrogate, which UTF-8 cannot hold, becomes its JSON escape."""
        return super().format(record).encode("utf-8", "backslashreplace").decode("utf-8")


class TextLines(logging.Formatter):
    """``10:00:00 INFO  topics message  key=value``, for people; control characters of others are shown, not obeyed."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, followed by the traceback where there is one."""
        record.message = record.getMessage()
        fields = _common(record)
        stamp = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        head = f"{stamp} {fields.pop('level'):<7} {fields.pop('service'):<12} {fields.pop('message')}"
        for key in ("time", "logger", "trace_id", "span_id"):
            fields.pop(key, None)
        tail = " ".join(f"{key}={value}" for key, value in fields.items())
        line = (f"{head}  {tail}" if tail else head).translate(_CONTROL)
        if record.exc_info:
            line += "\n" + redact(self.formatException(record.exc_info))
        return line.encode("utf-8", "backslashreplace").decode("utf-8")


def configure_logging(settings: Settings) -> None:
    """Send every logger of the process to standard error in the chosen format; calling it again replaces the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextLines() if settings.log_format == "text" else JsonLines())
    root = logging.getLogger()
    for old in list(root.handlers):
        if getattr(old, "_constellation", False):
            root.removeHandler(old)
    handler._constellation = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    root.setLevel(level)
    for name in NOISY:
        logger = logging.getLogger(name)
        # Some of these bring a handler of their own, whose lines would be neither JSON nor redacted.
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
