"""``stars import``: history in, as backfill events that tell no one."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from deploy import services
from deploy.cli.context import DEFAULT_DATA, Data, commands, console, fail, needed, run, settings_of
from deploy.cli.roster import roster
from deploy.history import (
    Findings,
    HistoryError,
    NotSettled,
    checkpoint_file,
    dump_files,
    fingerprint,
    load,
    read_dump,
    read_jsonl,
    wait_until_settled,
)
from shared.contracts.envelope import Event
from shared.messaging.kafka import cluster_id, ensure_streams
from shared.messaging.producer import Producer
from shared.settings import Settings

app = commands(
    help="Bring history in: it builds every view and tells no one. An interrupted import goes on where it was; a "
    "repeated one does no harm.",
)

Wait = Annotated[
    bool,
    typer.Option("--wait", help="Return when every service has applied everything and every outbox is empty."),
]
Read = Callable[[Callable[[str, int, int], None], Findings], Iterable[Event]]


@app.command("stackexchange")
def stackexchange(
    folder: Annotated[Path, typer.Argument(help="A dump: Posts.xml, and Votes.xml and Users.xml where there are.")],
    space: Annotated[str, typer.Option(help="The space that its topics are in; also the prefix of all its ids.")],
    language: Annotated[str | None, typer.Option(help="The language of its topics, such as en.")] = None,
    wait: Wait = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """A Stack Exchange data dump: questions, answers, accepts, votes as kudos, members."""

    def read(progress: Callable[[str, int, int], None], findings: Findings) -> Iterable[Event]:
        return read_dump(folder, space, language, progress, findings=findings)

    try:
        files = list(dump_files(folder).values())
    except HistoryError as error:
        fail(str(error))
    _import(f"stackexchange {space}", files, read, wait, data, space=space, language=language)


@app.command("jsonl")
def jsonl(
    file: Annotated[Path, typer.Argument(help="One CloudEvent a line: forum and member types.")],
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first line that is no valid event.")] = False,
    wait: Wait = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Events as JSON lines, from any forum."""

    def read(progress: Callable[[str, int, int], None], findings: Findings) -> Iterable[Event]:
        return read_jsonl(file, progress, strict=strict, findings=findings)

    if not file.is_file():
        fail(f"{file} is no file")
    _import(f"jsonl {file.absolute()}", [file], read, wait, data)


app.command("roster")(roster)


def _import(name: str, files: list[Path], read: Read, wait: bool, data: Path, **about: str | None) -> None:
    settings, _ = settings_of(data)
    needed(settings, data, "kafka", *(["postgres"] if wait else []))
    try:
        run(_load(name, files, read, settings, data, about))
        if wait:
            run(_settle(settings))
    except (HistoryError, NotSettled) as error:
        fail(str(error))


async def _load(
    name: str, files: list[Path], read: Read, settings: Settings, data: Path, about: dict[str, str | None]
) -> None:
    kafka = settings.kafka or ""
    await ensure_streams(kafka, settings.partitions, settings.kafka_replication)
    dump = fingerprint(files, cluster=await cluster_id(kafka), **about)
    producer = Producer(kafka, "constellation-import")
    await producer.start()
    findings = Findings()
    try:
        with _bar() as bar:
            task = bar.add_task("reading", total=None, sent="")

            def reading(what: str, done: int, total: int) -> None:
                bar.update(task, description=f"reading {what}", completed=done, total=total)

            loaded = await load(
                read(reading, findings),
                producer.send_all,
                checkpoint=checkpoint_file(data.absolute(), name),
                progress=lambda count: bar.update(task, sent=f"{count:,} events in Kafka"),
                dump=dump,
                findings=findings,
                say=lambda line: console.print(line),
            )
    finally:
        await producer.stop()
    for line in findings.lines():
        console.print(line, soft_wrap=True)
    rate = loaded.sent / loaded.seconds if loaded.seconds else 0
    console.print(f"{loaded.sent:,} events in {loaded.seconds:.1f} s ({rate:,.0f} a second)")


async def _settle(settings: Settings) -> None:
    with _bar() as bar:
        task = bar.add_task("applying", total=None, sent="")
        most = 0

        def remaining(count: int) -> None:
            nonlocal most
            most = max(most, count)
            bar.update(task, total=most or 1, completed=most - count, sent=f"{count:,} left")

        dsns = {name: dsn for name in services.NAMES if (dsn := settings.postgres_of(name))}
        settled = await wait_until_settled(settings.kafka or "", dsns, remaining)
    for name, why in settled.skipped.items():
        console.print(f"{name} was not waited for: {why}")
    console.print(f"settled after {settled.seconds:.1f} s")


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[sent]}"),
        TimeRemainingColumn(),
        console=console,
        transient=not console.is_terminal,
    )
