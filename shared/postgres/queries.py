"""SQL that is read as SQL: ``.sql`` files of blocks that begin with ``-- name: do_something``."""

import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic_core import to_json

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Queries:
    """The queries of one file, as attributes: ``Queries(path).do_something`` is the text of that block."""

    def __init__(self, path: Path) -> None:
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        self._texts = {name: text.strip().rstrip(";") for name, text in zip(parts[1::2], parts[2::2], strict=True)}
        self._path = path

    def __getattr__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(f"{self._path.name} has no query named {name}") from None


def arrays(rows: Iterable[Iterable[Any]]) -> list[list[Any] | None]:
    """Rows as one array a column, the shape that ``unnest`` takes.

    A column of nothing but NULL is one NULL, which ``unnest`` reads the same: some columns are hardly ever filled.
    """
    return [
        None if column[0] is None and column.count(None) == len(column) else list(column)
        for column in zip(*rows, strict=True)
    ]


def arrays_of(rows: Iterable[Any]) -> list[list[Any] | None]:
    """The same of instances of one dataclass, whose fields are the columns."""
    made = list(rows)
    return arrays(map(values_of(type(made[0])), made))


def values_of(made: type) -> Callable[[Any], tuple[Any, ...]]:
    """What reads all fields of a dataclass, in their order."""
    read: Callable[[Any], tuple[Any, ...]] = attrgetter(*(field.name for field in fields(made)))
    return read


def as_json(value: Any) -> str:
    """A value for a column of JSON, in a seventh of the time that ``json.dumps`` takes."""
    return to_json(value).decode()
