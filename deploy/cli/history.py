"""``stars import``: history in."""

from typing import Any

import typer

app = typer.Typer(help="Bring history in, as events that tell no one.", no_args_is_help=True)


@app.callback()
def _import() -> Any: ...
