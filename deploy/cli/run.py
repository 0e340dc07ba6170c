"""``stars run SERVICE``: one service alone, as a cluster runs it."""

from enum import StrEnum
from typing import Annotated

import typer

from deploy import services
from deploy.cli.context import DEFAULT_DATA, OUTSIDE, Data, commands, fail, in_words, needed, settings_of
from shared.observability import configure_logging, configure_traces, shutdown_traces
from shared.settings import Settings
from shared.web import PortTaken, StartFailed, create_process, run, serve

app = commands()


class Part(StrEnum):
    """A part of a service that runs in a process of its own."""

    http = "http"
    worker = "worker"


@app.command("run")
def run_service(
    service: Annotated[str, typer.Argument(help=f"One of {', '.join(services.NAMES)}.")],
    only: Annotated[
        Part | None, typer.Option(help="http: no consumers, relay and timers; worker: those alone.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 finds a free one.")] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Run one service: HTTP, consumers, relay and timers. Any number of replicas may run.

    A worker listens too, for /livez, /readyz and /metrics. Run `stars migrate` first.
    """
    if service not in services.NAMES:
        fail(f"there is no service {service!r}; there are {', '.join(services.NAMES)}")
    settings, _ = settings_of(data)
    if not settings.postgres_of(service):
        needed(settings, data, "kafka", "postgres", "secret")
    needed(settings, data, "kafka")
    if not (settings.secret or settings.jwks):
        needed(settings, data, "secret")
    try:
        run(_run(service, settings, only, settings.port if port is None else port))
    except OUTSIDE as error:
        fail(in_words(error))
    except (PortTaken, StartFailed, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


async def _run(name: str, settings: Settings, only: Part | None, port: int) -> None:
    configure_logging(settings)
    configure_traces(settings, f"constellation-{name}")
    service = services.build(name, settings, http=only is not Part.worker, worker=only is not Part.http)

    def listening(url: str) -> None:
        settings.listens_at(url)
        typer.echo(f"ready: {url}")

    await serve(create_process([service], settings), settings.host, port, ready=listening)
    shutdown_traces()
