"""Arrays arrive as asyncpg's own would, and come back as they were."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.postgres.codecs import _CODECS, set_array_codecs

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20) | st.just("é" * 2000)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "bytea": st.binary(max_size=20) | st.just(b"\0" * 2000),
    "jsonb": st.sampled_from(["null", "[]", '["a", "é"]', '{"a": 1}', '"' + "x" * 1500 + '"']),
    "bool": st.booleans(),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "timestamptz": st.datetimes(
        datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.sampled_from([UTC, timezone(timedelta(hours=5.5))])
    ),
}


@pytest.fixture(scope="module")
async def both(database: str) -> AsyncIterator[tuple[Any, Any]]:
    ours, plain = await asyncpg.connect(database), await asyncpg.connect(database)
    set_array_codecs(ours)
    yield ours, plain
    await ours.close()
    await plain.close()


def test_every_codec_is_tested() -> None:
    assert VALUES.keys() == _CODECS.keys()


@pytest.mark.parametrize("name", VALUES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_an_array_is_the_same_as_asyncpgs_own(both: tuple[Any, Any], name: str, data: st.DataObject) -> None:
    ours, plain = both
    values = data.draw(st.lists(st.none() | VALUES[name], max_size=12))
    query = f"SELECT $1::{name}[]::text AS text, $1::{name}[] AS back, cardinality($1::{name}[]) AS length"
    assert tuple(await ours.fetchrow(query, values)) == tuple(await plain.fetchrow(query, values))


WRONG: list[tuple[str, Any]] = [
    ("text", "abc"),
    ("text", [1]),
    ("text", ["\0"]),
    ("text", ["\ud800"]),
    ("text", {"a"}),
    ("text", [["a"]]),
    ("bytea", ["a"]),
    ("bytea", [3]),
    ("jsonb", ["{"]),
    ("bool", ["yes", "no"]),
    ("int4", [2**31]),
    ("int8", ["1"]),
    ("int8", [None, 2**63]),
    ("timestamptz", ["2026-01-01"]),
    ("timestamptz", [datetime(2026, 1, 1)]),
]


@pytest.mark.parametrize(("name", "values"), WRONG)
async def test_what_is_no_such_array_is_an_error_of_the_data(both: tuple[Any, Any], name: str, values: Any) -> None:
    with pytest.raises(asyncpg.DataError):
        await both[0].fetchval(f"SELECT $1::{name}[]", values)


@pytest.mark.parametrize("name", VALUES)
async def test_no_array_is_null(both: tuple[Any, Any], name: str) -> None:
    assert await both[0].fetchval(f"SELECT $1::{name}[]", None) is None


async def test_nested_arrays_are_refused_rather_than_flattened(both: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="one dimension"):
        await both[0].fetchval("SELECT ARRAY[ARRAY['a'], ARRAY['b']]")
