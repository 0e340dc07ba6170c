"""Real history: who of both dumps is eligible, against a computation from the XML that shares no code."""

import random
from collections import defaultdict

import asyncpg
import pytest

from tests.integration.applications_engine import fresh
from tests.integration.test_ledger_real_history import NAMES, batched, history
from tests.oracle.cases import ERASURE_KEY
from tests.oracle.programme import figures
from tests.oracle.stackexchange import dump


@pytest.mark.timeout(600)
async def test_the_eligible_members_of_both_dumps_are_those_of_the_xml(
    topics_connection: asyncpg.Connection, applications_connection: asyncpg.Connection
) -> None:
    events = await history(topics_connection)
    rng = random.Random(7)
    events += rng.sample(events, len(events) // 10)
    rng.shuffle(events)
    expected = {}
    for name in NAMES:
        folder = dump(name)
        assert folder is not None
        expected |= figures(folder, name)
    async with fresh(applications_connection, ERASURE_KEY) as engine:
        for n, batch in enumerate(batched(events)):
            await engine.apply(batch)
            if n % 3 == 0:
                await engine.fold()
        await engine.fold()
        months: dict[str, dict[str, int]] = defaultdict(dict)
        totals: dict[str, tuple[int, int, int, int]] = defaultdict(lambda: (0, 0, 0, 0))
        for member, month, _, _, *counts in await engine.contributions():
            months[member][f"{month:%Y-%m}"] = months[member].get(f"{month:%Y-%m}", 0) + counts[0]
            totals[member] = tuple(map(sum, zip(totals[member], counts, strict=True)))
        assert months == {member: dict(own.by_month) for member, own in expected.items()}
        assert totals == {
            member: (own.replies, own.solutions, own.first_responses, own.kudos) for member, own in expected.items()
        }
        eligible = {member for member, own in expected.items() if own.eligible()}
        assert await engine.eligible() == eligible
        assert len(eligible) > 10
