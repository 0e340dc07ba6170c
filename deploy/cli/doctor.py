"""``stars doctor``: what is reachable, migrated, lagging, misconfigured, in plain words."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import typer

from deploy import services
from deploy.cli.context import DEFAULT_DATA, OUTSIDE, Data, commands, in_words, run, settings_of
from shared.messaging.kafka import cluster_id
from shared.postgres.migrations import pending
from shared.postgres.pool import MINIMUM_VERSION, open_connection
from shared.settings import Settings
from shared.web.addresses import is_loopback
from shared.web.sign_in.attempts import SignInFailed
from shared.web.sign_in.discourse import DiscourseConnect
from shared.web.sign_in.oidc import OpenIDConnect

app = commands()

LAG_SECONDS = 30


@app.command("doctor")
def doctor(data: Data = DEFAULT_DATA) -> None:
    """Look at everything and say what is well and what is not; exit status 1 when something is not."""
    settings, instance = settings_of(data)
    if instance:
        typer.echo(f"ok    an instance runs on {data}: {instance.url}, process {instance.pid}")
    else:
        typer.echo(f"note  no instance runs on {data}; the environment decides")
    if not run(_look(settings)):
        raise typer.Exit(1)


async def _look(settings: Settings) -> bool:
    well = True
    cluster, kafka = await _kafka(settings)
    for good, line in [
        *_configuration(settings),
        *kafka,
        *await _postgres(settings, cluster),
        *await _http(settings),
        *await _sign_in(settings),
    ]:
        typer.echo(("ok    " if good else "WRONG ") + line)
        well = well and good
    return well


def _configuration(settings: Settings) -> Iterator[tuple[bool, str]]:
    if not settings.secret and not settings.jwks:
        yield False, "neither STARS_SECRET nor STARS_JWKS is set: no token can be verified"
    if settings.secret and len(settings.secret.get_secret_value().encode()) < 32:
        yield False, "STARS_SECRET is shorter than 32 bytes"
    if settings.jwks and not settings.audience:
        yield False, "STARS_JWKS is set, but STARS_AUDIENCE is not: the issuer's tokens for other programs hold here"
    if not settings.erasure_key:
        yield False, "STARS_ERASURE_KEY is not set: stand-ins of erased members would change with the signing secret"
    if settings.discourse_secret and not settings.discourse_mapping:
        yield False, "STARS_DISCOURSE_SECRET is set, but STARS_DISCOURSE_MAPPING is not: every delivery is ignored"


async def _kafka(settings: Settings) -> tuple[str | None, list[tuple[bool, str]]]:
    """The cluster that answers, None where none does, and what to say of it."""
    if not settings.kafka:
        return None, [(False, "Kafka: STARS_KAFKA is not set")]
    try:
        cluster = await cluster_id(settings.kafka)
        return cluster, [(True, f"Kafka answers at {settings.kafka}, cluster {cluster}")]
    except OUTSIDE as error:
        return None, [(False, in_words(error))]


async def _postgres(settings: Settings, cluster: str | None) -> list[tuple[bool, str]]:
    found: list[tuple[bool, str]] = []
    for name in services.NAMES:
        dsn = settings.postgres_of(name)
        if not dsn:
            found.append((False, f"{name}: STARS_POSTGRES is not set"))
            continue
        try:
            connection = await open_connection(dsn, timeout=5)
            try:
                found += await _schema(connection, name, cluster)
            finally:
                await connection.close()
        except OUTSIDE as error:
            found.append((False, f"{name}: {in_words(error)}"))
    return found


async def _schema(connection: Any, name: str, cluster: str | None) -> list[tuple[bool, str]]:
    if connection.get_server_version().major < MINIMUM_VERSION:
        return [(False, f"{name}: PostgreSQL {MINIMUM_VERSION} or newer is needed")]
    missing = await pending(connection, name, services.migrations(name))
    if missing:
        return [(False, f"{name}: migrations are missing ({', '.join(missing)}): run `stars migrate {name}`")]
    found = [(True, f"{name}: the schema is up to date")]
    offsets = await connection.fetch(
        f"SELECT stream, min(caught_up_at) AS at, bool_and(caught_up_at IS NOT NULL) AS all_read"
        f" FROM {name}.consumer_offset WHERE cluster = $1 AND stream = ANY($2) GROUP BY stream ORDER BY stream",
        cluster,
        list(services.streams(name)),
    )
    now = datetime.now(UTC)
    for row in offsets:
        lag = (now - row["at"]).total_seconds() if row["all_read"] else None
        if lag is None:
            found.append((False, f"{name}: {row['stream']} was never read to its end"))
        elif lag > LAG_SECONDS:
            found.append(
                (False, f"{name}: {row['stream']} was last read to its end {lag:.0f} s ago; does a worker run?")
            )
    if cluster is not None and not offsets:
        found.append((False, f"{name}: no worker has ever read a stream of this Kafka"))
    waiting = await connection.fetchrow(
        f"SELECT count(*) AS n, extract(epoch FROM now() - min(created_at)) AS age FROM {name}.outbox"
    )
    if waiting["n"] and waiting["age"] > LAG_SECONDS:
        found.append((False, f"{name}: {waiting['n']} outgoing events wait, the oldest for {waiting['age']:.0f} s"))
    dead = await connection.fetchval(f"SELECT count(*) FROM {name}.dead_letter")
    if dead:
        found.append((False, f"{name}: {dead} dead letters: look at `stars dead-letters list {name}`"))
    return found


async def _http(settings: Settings) -> list[tuple[bool, str]]:
    if not settings.url:
        return []
    try:
        async with httpx.AsyncClient(timeout=5) as client:
            answer = await client.get(f"{settings.url.rstrip('/')}/readyz")
        problems = [f"{name}: {line}" for name, lines in answer.json()["problems"].items() for line in lines]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError, AttributeError) as error:
        return [(False, f"{settings.url} does not answer: {type(error).__name__}: {error}")]
    return [(False, line) for line in problems] or [(True, f"{settings.url} is ready")]


async def _sign_in(settings: Settings) -> list[tuple[bool, str]]:
    found: list[tuple[bool, str]] = []
    try:
        if settings.oidc_client_id:
            provider = OpenIDConnect(settings)
            try:
                await provider.describe()
                found.append((True, f"people can sign in at {provider.at}"))
            except SignInFailed as failed:
                found.append((False, f"nobody can sign in at {provider.at}: {failed.reason or failed.words}"))
        if settings.discourse_connect_secret:
            found.append((True, f"people can sign in at {DiscourseConnect(settings).at}"))
    except ValueError as error:
        found.append((False, str(error)))
    try:
        public = urlsplit(settings.url or "")
    except ValueError:
        return found  # who looked whether it answers has said so
    if found and public.scheme != "https" and not is_loopback(public.hostname):
        found.append(
            (False, "people sign in, but STARS_URL is not https: whoever is on the way can take their session")
        )
    return found
