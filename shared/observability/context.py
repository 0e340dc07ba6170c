"""What every log line and every span knows about where it was made, without being told each time."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

service_name: ContextVar[str] = ContextVar("service_name", default="stars")
"""The service on whose behalf the code runs; a task inherits it from the task that started it."""

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the HTTP request that is being answered, None outside one."""


@contextmanager
def in_service(name: str) -> Iterator[None]:
    """Whatever is logged inside, and in tasks that are started inside, says that it belongs to this service."""
    token = service_name.set(name)
    try:
        yield
    finally:
        service_name.reset(token)
