"""``stars``: everything that an operator does, one command a file."""

import typer

from deploy.cli import dead_letters, doctor, history, migrate, rules, run, token, up
from deploy.services import VERSION

app = typer.Typer(
    name="stars",
    help="Constellation: run a help forum's super-user programme.\n\n"
    "`stars up` starts everything on this machine. The other commands find a running instance by its data folder "
    "(--data, STARS_DATA), or work on another one by environment (STARS_URL, STARS_KAFKA, STARS_POSTGRES, "
    "STARS_SECRET).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("up")(up.up)
app.command("run")(run.run_service)
app.command("migrate")(migrate.migrate)
app.add_typer(history.app, name="import")
app.command("token")(token.token)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(rules.app, name="rules")
app.command("doctor")(doctor.doctor)


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(VERSION)


def main() -> None:
    """The entry point."""
    app()
