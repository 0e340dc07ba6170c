"""Parameters of queries: what is sent empty, as forms do, is absent."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BeforeValidator, StringConstraints

from shared.contracts.types import NO_NUL


def _blank_is_absent(value: Any) -> Any:
    return None if value == "" else value


BLANK_IS_ABSENT = BeforeValidator(_blank_is_absent)
"""``Annotated[date | None, BLANK_IS_ABSENT, Query()]``."""

Word = Annotated[Annotated[str, StringConstraints(max_length=255, pattern=NO_NUL)] | None, BLANK_IS_ABSENT, Query()]
"""A short text, such as an id or a name."""
