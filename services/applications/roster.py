"""The roster of a programme that is there already: a CSV file of its Stars, taken whole or not at all."""

import csv
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.applications.members import Members
from services.applications.membership import Appointment, Membership
from services.applications.programme import Programme
from shared.forum.facts import SQL as FACTS_SQL
from shared.forum.identity import STAND_IN_PREFIX
from shared.messaging import Outbox
from shared.web import Principal, Problem
from shared.web.principals import is_member_id

COLUMNS = ("member_id", "since", "rank", "spaces", "languages", "listed")
MOST_ROWS, MOST_ERRORS = 10_000, 50
_YES, _NO = {"yes", "true", "1"}, {"no", "false", "0", ""}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the roster."""

    member_id: str
    since: datetime | None
    rank: str | None
    spaces: tuple[str, ...]
    languages: tuple[str, ...]
    listed: bool


def read_roster(text: str, ranks: set[str], now: datetime) -> list[Row]:
    """The lines of a roster. Raises Problem 400 that says what is wrong with which line.

    The header names the columns: member_id, and as far as they are known since (a date or RFC 3339), rank, spaces and
    languages (parted by semicolons) and listed (yes or no).
    """
    try:
        reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        if "member_id" not in header or set(header) - set(COLUMNS):
            raise Problem(
                400,
                f"The first line names the columns: member_id, and of {', '.join(COLUMNS[1:])} those that are there.",
                type="invalid-roster",
            )
        lines = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise Problem(400, f"This is not CSV: {error}.", type="invalid-roster") from None
    if len(lines) > MOST_ROWS:
        raise Problem(400, f"At most {MOST_ROWS} lines at once.", type="invalid-roster")
    errors: list[dict[str, Any]] = []
    found: list[Row] = []
    seen: set[str] = set()
    for number, line in lines:
        row = _row(line, ranks, now)
        if isinstance(row, Row) and row.member_id in seen:
            row = f"{row.member_id} is there twice"
        if isinstance(row, str):
            errors.append({"index": number, "detail": f"Line {number}: {row}."})
            continue
        seen.add(row.member_id)
        found.append(row)
    if errors:
        raise Problem(400, errors[0]["detail"], type="invalid-roster", errors=errors[:MOST_ERRORS])
    return found


def _row(line: dict[str, Any], ranks: set[str], now: datetime) -> Row | str:
    if None in line or None in line.values():
        return "it has another number of fields than the first line"
    values = {name: value.strip() for name, value in line.items()}
    if not is_member_id(values["member_id"]):
        return "member_id is 1 to 255 characters"
    since: datetime | None = None
    if text := values.get("since"):
        try:
            since = datetime.fromisoformat(text)
            since = (since if since.tzinfo else since.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            return "since is a date like 2024-05-31"
        if not datetime(1970, 1, 1, tzinfo=UTC) <= since <= now:
            return "since is in the past"
    rank = values.get("rank") or None
    if rank is not None and rank not in ranks:
        return f"the programme has no rank {rank[:60]}; there are {', '.join(sorted(ranks))}"
    lists = {name: _list(values.get(name, "")) for name in ("spaces", "languages")}
    if any(len(one) > 50 or any(len(word) > 100 or "\x00" in word for word in one) for one in lists.values()):
        return "a list has at most 50 words of 100 characters"
    listed = values.get("listed", "").lower()
    if listed not in _YES | _NO:
        return "listed is yes or no"
    return Row(values["member_id"], since, rank, lists["spaces"], lists["languages"], listed in _YES)


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(";") if word.strip()))


class Roster:
    """Takes a roster in: history, which tells no one. Taken again, it changes nothing."""

    def __init__(self, outbox: Outbox, members: Members, programme: Programme, membership: Membership) -> None:
        self._outbox, self._members, self._programme, self._membership = outbox, members, programme, membership

    async def take(self, principal: Principal, text: str, *, dry_run: bool = False) -> dict[str, int]:
        """Appoint who is on it and is no Star yet. Raises Problem 400, and then nobody was."""
        async with self._outbox.transaction() as transaction:
            document = (await self._programme.present(transaction.connection)).document
            now = await transaction.connection.fetchval("SELECT now()")
        rows = read_roster(text, {one.id for one in document.ranks}, now)
        if dry_run:
            return {"lines": len(rows), "appointed": 0, "stars_already": 0, "erased": 0}
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            # Alone: as many members' locks as a roster has lines would be too many.
            await connection.execute(FACTS_SQL.exclusive_lock)
            by = await self._members.reading(connection, principal)
            known_as = await self._members.facts.known_as(connection, [row.member_id for row in rows])
            erased = 0
            named: dict[str, Appointment] = {}
            for row in sorted(rows, key=lambda one: one.member_id):
                member = known_as.get(row.member_id, row.member_id)
                if member.startswith(STAND_IN_PREFIX):
                    erased += 1
                    continue
                one = Appointment(member, row.rank, row.since or now, row.spaces, row.languages, row.listed)
                named.setdefault(member, one)
            appointed = await self._membership.appoint(transaction, list(named.values()), by=by)
            return {
                "lines": len(rows),
                "appointed": appointed,
                "stars_already": len(rows) - appointed - erased,
                "erased": erased,
            }
