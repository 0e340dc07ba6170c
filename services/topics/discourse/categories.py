"""Which categories of a Discourse are ours, and what they are: its payloads hold a number and nothing else.

The file (setting ``discourse_mapping``) is JSON, one entry a category::

    {"97": {"space": "english", "kind": "question", "language": "en"}, "11": {"space": "lounge", "kind": "discussion"}}

``kind`` is ``question`` where it is not said, ``language`` unknown. A category that is not named is dropped with all
that happens in it, and so are its subcategories: each has a number of its own.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from shared.contracts.codec import plainly
from shared.contracts.types import Label, Language


class MappingError(Exception):
    """The mapping file cannot be used; the message says why, in words for who wrote it."""


class Place(BaseModel):
    """What a category is here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: Label
    kind: Label = "question"
    language: Language | None = None


_PLACE = TypeAdapter(Place)
_MOST_BYTES = 1024 * 1024


class Categories(Mapping[int, Place]):
    """Category id -> place."""

    def __init__(self, places: Mapping[int, Place] | None = None) -> None:
        self._places = dict(places or {})

    def __getitem__(self, category_id: int) -> Place:
        return self._places[category_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @classmethod
    def parse(cls, parsed: Any) -> "Categories":
        """What the file's JSON says. Raises MappingError, which names every entry that is wrong."""
        if not isinstance(parsed, dict):
            raise MappingError('a JSON object is needed, like {"97": {"space": "english"}}')
        places: dict[int, Place] = {}
        errors = []
        for key, value in parsed.items():
            if not (key.isascii() and key.isdigit() and len(key) < 19 and key == str(int(key)) and int(key) > 0):
                errors.append(f'{key[:50]!r}: a category\'s id is a whole number from 1 on, such as "97"')
                continue
            try:
                places[int(key)] = _PLACE.validate_python(value)
            except ValidationError as error:
                errors.append(f"category {key}: {plainly(error)}")
        if errors:
            raise MappingError("; ".join(errors[:20]))
        return cls(places)

    @classmethod
    def load(cls, path: Path | None) -> "Categories":
        """The mapping in a file; an empty one without a file. Raises MappingError."""
        if path is None:
            return cls()
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise MappingError(f"{path}: larger than a mapping can be")
            parsed = from_json(path.read_bytes(), allow_inf_nan=False)
        except OSError as error:
            raise MappingError(f"{path}: {error.strerror or type(error).__name__}") from None
        except ValueError as error:
            raise MappingError(f"{path}: not JSON in UTF-8: {error}") from None
        try:
            return cls.parse(parsed)
        except MappingError as error:
            raise MappingError(f"{path}: {error}") from None
