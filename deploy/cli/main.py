"""``stars``: everything that an operator does, one command a file."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

import typer
from typer.core import TyperGroup

FILES = {
    "up": "up",
    "run": "run",
    "migrate": "migrate",
    "import": "history",
    "token": "token",
    "dead-letters": "dead_letters",
    "rules": "rules",
    "doctor": "doctor",
}


class Commands(TyperGroup):
    """Imports a command when it is asked for: a service that starts need not wait for what an import needs."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order in which an operator meets them."""
        return [*FILES, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name."""
        if cmd_name not in FILES:
            return super().get_command(ctx, cmd_name)
        made: typer.Typer = import_module(f"deploy.cli.{FILES[cmd_name]}").app
        command = typer.main.get_command(made)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="stars",
    cls=Commands,
    help="Constellation: run a help forum's super-user programme.\n\n"
    "`stars up` starts everything on this machine. The other commands find a running instance by its data folder "
    "(--data, STARS_DATA), or work on another one by environment (STARS_URL, STARS_KAFKA, STARS_POSTGRES, "
    "STARS_SECRET).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def stars() -> None:
    """Whatever comes before the command."""


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(version("constellation"))


def main() -> None:
    """The entry point."""
    app()
