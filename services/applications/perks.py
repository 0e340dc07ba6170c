"""Perks: a catalogue with stock, grants, and addresses that stand here only from when they are given until used."""

import csv
import io
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.applications.members import Members, check_owner, names_of
from shared.contracts import applications as events
from shared.contracts.catalogue import APPLICATIONS
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox, Outgoing, Transaction
from shared.observability import current_traceparent
from shared.postgres import Queries
from shared.web import Principal, Problem, Role
from shared.web.formats import spreadsheet_cell

SQL = Queries(Path(__file__).parent / "sql" / "perks.sql")
LONGEST_LABEL = 100


class Perks:
    """The catalogue and what Stars got of it; a perk's row is its stock's lock."""

    def __init__(self, outbox: Outbox, members: Members) -> None:
        self._outbox, self._members = outbox, members

    async def catalogue(self, principal: Principal | None) -> list[dict[str, Any]]:
        """What there is; with one's own grant where one has it."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            me = await self._members.reading(connection, principal)
            ids = [] if me is None else await self._members.ids(connection, me)
            staff = principal is not None and principal.has(Role.STAFF)
            rows = await connection.fetch(SQL.catalogue, ids, staff)
            star = await connection.fetchrow(SQL.star, ids)
        return [
            {
                "perk_id": row["perk_id"],
                "name": row["name"],
                "about": row["about"],
                "kind": row["kind"],
                "ranks": json.loads(row["ranks"]),
                "left_in_stock": row["left_in_stock"],
                "claimable": row["claimable"],
                "offered": row["offered"],
                "granted": row["granted"] if staff else None,
                "waiting": row["waiting"] if staff else None,
                "mine": None
                if row["grant_id"] is None
                else {
                    "grant_id": row["grant_id"],
                    "granted_at": row["granted_at"],
                    "needs_address": row["kind"] == "swag" and row["fulfilled_at"] is None and not row["has_address"],
                    "fulfilled_at": row["fulfilled_at"],
                },
                "for_me": bool(star and _fits(row, star["rank"]) and row["grant_id"] is None and _in_stock(row)),
            }
            for row in rows
        ]

    async def make(
        self, name: str, about: str, kind: str, ranks: Sequence[str], stock: int | None, claimable: bool
    ) -> str:
        """Put a perk in the catalogue; returns its id."""
        async with self._outbox.transaction() as transaction:
            id = uuid.uuid4().hex
            await transaction.connection.execute(
                SQL.make, id, name, about, kind, json.dumps(list(ranks)), stock, claimable
            )
            return id

    async def change(self, perk_id: str, *, stock: int | None, offered: bool) -> None:
        """Set what is left, and whether it is offered. Raises Problem 404."""
        async with self._outbox.transaction() as transaction:
            if not await transaction.connection.fetchval(SQL.change, perk_id, stock, offered):
                raise Problem(404, "There is no such perk.")

    async def grant(self, principal: Principal, perk_id: str, member_id: str | None) -> dict[str, Any]:
        """Give a perk to a Star, as staff; or take one, where it may be. Raises Problem 403, 404 or 409."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            by_staff = member_id is not None
            if member_id is None:
                member = await self._members.acting(connection, principal)
            else:
                await connection.execute(FACTS_SQL.share_lock)
                member = await self._members.root(connection, member_id)
                await self._members.lock(connection, member)
            perk = await connection.fetchrow(SQL.lock, perk_id)
            if perk is None or (not perk["offered"] and not by_staff):
                raise Problem(404, "There is no such perk.")
            if not by_staff and not perk["claimable"]:
                raise Problem(403, "This one is given by the programme's staff.", type="not-claimable")
            ids = await self._members.ids(connection, member)
            star = await connection.fetchrow(SQL.star, ids)
            if star is None:
                raise Problem(409, "Perks are for Stars.", type="no-star")
            if not _fits(perk, star["rank"]):
                raise Problem(409, "This one is for other ranks.", type="other-rank")
            if await connection.fetchval(SQL.has, perk_id, ids):
                raise Problem(409, "They have it already.", type="granted-already")
            if not _in_stock(perk):
                raise Problem(409, "None is left.", type="out-of-stock")
            id = uuid.uuid4().hex
            by = await self._members.reading(connection, principal) if by_staff else None
            await connection.execute(SQL.take_from_stock, perk_id)
            row = await connection.fetchrow(SQL.grant, id, perk_id, star["member_id"], by)
            data = _data(row, perk["name"])
            transaction.publish(
                Outgoing(APPLICATIONS, events.PerkGranted, data, row["granted_at"], traceparent=current_traceparent())
            )
            return _granted(row, perk["name"])

    async def address(self, principal: Principal, grant_id: str, address: str) -> dict[str, Any]:
        """Where to send it: one's own grant alone, until it is on its way. Raises Problem 404 or 409."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            me = await self._members.acting(connection, principal, alone=False)
            row = await self._grant(connection, grant_id)
            check_owner(await self._members.root(connection, row["member_id"]), me, None)
            if row["kind"] != "swag" or row["fulfilled_at"] is not None:
                raise Problem(409, "No address is needed for this.", type="no-address-needed")
            await connection.execute(SQL.set_address, grant_id, address)
            return _granted(await self._grant(connection, grant_id), row["name"])

    async def fulfil(self, grant_id: str) -> dict[str, Any]:
        """It is on its way: the address is gone from here. Raises Problem 404 or 409."""
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(FACTS_SQL.share_lock)
            row = await self._grant(connection, grant_id)
            if row["fulfilled_at"] is not None:
                raise Problem(409, "That was done before.", type="fulfilled-already")
            if row["kind"] == "swag" and row["address"] is None:
                raise Problem(409, "Their address is not there yet.", type="address-missing")
            await self._fulfil(transaction, row)
            return _granted(await self._grant(connection, grant_id), row["name"])

    async def _fulfil(self, transaction: Transaction, row: Any) -> None:
        at = await transaction.connection.fetchval(SQL.fulfil, row["grant_id"])
        data = _data(row, row["name"])
        transaction.publish(Outgoing(APPLICATIONS, events.PerkFulfilled, data, at, traceparent=current_traceparent()))

    async def grants(self, perk_id: str) -> list[dict[str, Any]]:
        """Every grant of a perk, those that wait first; for staff."""
        async with self._outbox.transaction() as transaction:
            rows = await transaction.connection.fetch(SQL.grants, perk_id)
            names = await names_of(transaction.connection, [row["member_id"] for row in rows])
        return [
            {
                **_granted(row, row["name"]),
                "member_name": names[row["member_id"]],
                "has_address": row["address"] is not None,
            }
            for row in rows
        ]

    async def export(self, perk_id: str) -> str:
        """What is to be sent, as CSV: the one place where addresses are read."""
        async with self._outbox.transaction() as transaction:
            rows = await transaction.connection.fetch(SQL.to_send, perk_id)
            names = await names_of(transaction.connection, [row["member_id"] for row in rows])
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["grant_id", "member_id", "name", "perk", "granted_at", "address"])
        for row in rows:
            values = [row["member_id"], names[row["member_id"]], row["name"], row["granted_at"].isoformat()]
            writer.writerow([row["grant_id"], *map(spreadsheet_cell, [*values, row["address"]])])
        return text.getvalue()

    async def _grant(self, connection: Any, grant_id: str) -> Any:
        row = await connection.fetchrow(SQL.lock_grant, grant_id)
        if row is None:
            raise Problem(404, "There is no such grant, or it is not yours.")
        return row


def _data(grant: Any, name: str) -> events.PerkData:
    """What others hear of a grant: an event's label is shorter than a perk's name may be."""
    return events.PerkData(member_id=grant["member_id"], grant_id=grant["grant_id"], perk=name[:LONGEST_LABEL])


def _fits(perk: Any, rank: str) -> bool:
    ranks = json.loads(perk["ranks"])
    return not ranks or rank in ranks


def _in_stock(perk: Any) -> bool:
    return perk["left_in_stock"] is None or perk["left_in_stock"] > 0


def _granted(row: Any, name: str) -> dict[str, Any]:
    return {
        "grant_id": row["grant_id"],
        "perk_id": row["perk_id"],
        "perk": name,
        "member_id": row["member_id"],
        "granted_at": row["granted_at"],
        "fulfilled_at": row["fulfilled_at"],
    }
