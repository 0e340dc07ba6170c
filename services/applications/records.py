"""What the facts say of members, as criteria and pages look at it."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from services.applications.rules import Month, Record
from shared.postgres import Queries

SQL = Queries(Path(__file__).parent / "sql" / "derive.sql")


async def read_records(connection: Any, member_ids: Iterable[str]) -> dict[str, Record]:
    """The record of each member, by the one whom their accounts stand for: two indexed queries for all of them."""
    ids = sorted(set(member_ids))
    months: dict[str, list[Month]] = defaultdict(list)
    for row in await connection.fetch(SQL.contributions_of, ids):
        months[row["member_id"]].append(Month(*tuple(row)[1:]))
    found = {}
    for row in await connection.fetch(SQL.standing_of, ids):
        languages = frozenset(json.loads(row["languages"])) if row["languages"] else frozenset()
        found[row["member_id"]] = Record(
            months[row["member_id"]],
            row["joined_at"],
            row["suspended_at"],
            row["status"] == "suspended",
            languages,
        )
    return found
