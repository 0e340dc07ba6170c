"""``stars rules``: what counts how much, since when, and what a change would do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from deploy.cli.context import DEFAULT_DATA, Data, commands, console, fail, needed, run, settings_of
from services.leaderboard import rewriting
from services.leaderboard.derive import SQL
from services.leaderboard.rewriting import Preview, RulesError, read_rules
from services.leaderboard.rules import RuleSet
from shared.messaging import Outbox
from shared.postgres import Pool, create_pool
from shared.settings import Settings

FIRST = 10

SERVICE = "leaderboard"

app = commands(
    help="Rule sets are files; see CONTRIBUTING. A version holds from its date on, or, by --rewrite, for what was too.",
)
File = Annotated[Path, typer.Argument(help="A rule set in YAML.", exists=True, dir_okay=False)]


@app.command("list")
def list_versions(data: Data = DEFAULT_DATA) -> None:
    """Every version, with its date."""
    run(_list(_settings(data)))


@app.command("preview")
def preview(file: File, data: Data = DEFAULT_DATA) -> None:
    """What a rule set would make of the real history; nothing is changed."""
    rules = _read(file)
    run(_preview(_settings(data), rules))


@app.command("set")
def set_version(
    file: File,
    rewrite: Annotated[
        bool, typer.Option("--rewrite", help="Write history again by it, beside the present one, and swap in one step.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when history is written.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Let a rule set hold, from its date on."""
    rules = _read(file)
    run(_set(_settings(data), rules, rewrite, wait))


def _settings(data: Path) -> Settings:
    settings, _ = settings_of(data)
    if not settings.postgres_of(SERVICE):
        needed(settings, data, "postgres")
    return settings


def _read(file: Path) -> RuleSet:
    try:
        return read_rules(file)
    except RulesError as error:
        fail(str(error))


@asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[Pool]:
    pool = create_pool(settings.postgres_of(SERVICE) or "", SERVICE, 1)
    await pool
    try:
        yield pool
    finally:
        await pool.close()


async def _list(settings: Settings) -> None:
    async with _pool(settings) as pool:
        for row in await pool.fetch(SQL.rule_versions):
            since = row["from_at"].isoformat() if row["from_at"] else "the beginning"
            state = "being written into history" if row["rewriting"] else f"from {since}"
            typer.echo(f"{row['rule_set']}\t{row['version']}\t{state}\t{_plainly(json.loads(row['rules']))}")


def _plainly(rules: dict[str, Any]) -> str:
    return ", ".join(f"{name} {rule['points']}" for name, rule in rules.items())


async def _preview(settings: Settings, rules: RuleSet) -> None:
    columns = (TextColumn("deriving"), BarColumn(), MofNCompleteColumn())
    async with _pool(settings) as pool:
        with Progress(*columns, console=console, transient=not console.is_terminal) as bar:
            task = bar.add_task("deriving", total=None)
            found = await rewriting.preview(
                pool, rules, lambda done, total: bar.update(task, completed=done, total=total)
            )
    for line in lines_of(found):
        typer.echo(line)


def lines_of(found: Preview) -> list[str]:
    """A preview in words."""
    lines = [
        f"{found.changed:,} of {found.entries:,} entries would change; {found.members:,} members have other points then"
    ]
    if found.changed:
        lines += ["", "the first places of all time, before and after:"]
        before, after = found.ranks(found.before, FIRST), found.ranks(found.after, FIRST)
        for n in range(max(len(before), len(after))):
            sides = [f"{side[n][0]}. {side[n][1]} {side[n][2]:,}" if n < len(side) else "" for side in (before, after)]
            lines.append(f"  {sides[0]:<40}{sides[1]}".rstrip())
        lines += ["", "who would move most:"]
        lines += [f"  {member}: {old:,} -> {new:,} ({new - old:+,})" for member, old, new in found.movers(FIRST)]
    return lines


async def _set(settings: Settings, rules: RuleSet, rewrite: bool, wait: bool) -> None:
    async with _pool(settings) as pool:
        try:
            await rewriting.set_rules(Outbox(pool, SERVICE), pool, rules, rewrite=rewrite)
        except RulesError as error:
            fail(str(error))
        if not await rewriting.is_rewriting(pool):
            since = rules.since.isoformat() if rules.since else "the beginning"
            typer.echo(f"{rules.rule_set}, version {rules.version}, holds from {since} on")
            return
        typer.echo(
            f"a worker writes history again by {rules.rule_set}, version {rules.version}; boards swap when it is done"
        )
        while wait and await rewriting.is_rewriting(pool):
            await asyncio.sleep(0.2)
        if wait:
            typer.echo("done: all of history is by these rules")
