"""Real history: both dumps through the importer and the engine, every month against the XML read plainly."""

from itertools import islice

import asyncpg
import pytest

from deploy.history import read_dump
from tests.integration.engine import Engine
from tests.oracle.cases import ERASURE_KEY
from tests.oracle.figures import mismatches
from tests.oracle.stackexchange import dump, sla

AS_OF = {"beer": "2020-05-31T01:34:58Z", "opendata": "2017-08-26T21:12:39.243Z"}


@pytest.mark.parametrize("name", AS_OF)
async def test_every_month_of_a_real_dump_is_what_the_xml_says(
    topics_connection: asyncpg.Connection, name: str
) -> None:
    folder = dump(name)
    if folder is None:
        pytest.skip(f"the dump {name} is not here: put it under ../shared/data or name its folder by STARS_TEST_DATA")
    transaction = topics_connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        engine = Engine(topics_connection, ERASURE_KEY)
        events = (event.model_dump(mode="json", exclude_unset=True) for event in read_dump(folder, name))
        while batch := list(islice(events, 2000)):
            await engine.apply(batch)
        for every in ("month", "year"):
            query = {"space": name, "as_of": AS_OF[name], "every": every}
            assert mismatches(sla(folder, as_of=AS_OF[name], every=every), await engine.report(query), name) == []
        # As it looked at each of its years' ends.
        for year in range(2014, 2021):
            as_of = f"{year}-01-01T00:00:00Z"
            query = {"space": name, "as_of": as_of, "every": "month"}
            assert mismatches(sla(folder, as_of=as_of, every="month"), await engine.report(query), as_of) == []
    finally:
        await transaction.rollback()
