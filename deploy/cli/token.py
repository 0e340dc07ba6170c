"""``stars token``: a bearer token for people who have the signing secret."""

from datetime import timedelta
from typing import Annotated

import typer

from deploy.cli.context import DEFAULT_DATA, Data, commands, fail, read_settings, settings_of
from shared.web import Role, issue_token

app = commands()


@app.command("token")
def token(
    role: Annotated[list[Role], typer.Option(help="member, star, staff or forum; may be given several times.")],
    member: Annotated[str | None, typer.Option(help="The forum's id of the member whom the token is for.")] = None,
    hours: Annotated[float, typer.Option(help="How long it is valid.", min=0.01, max=24 * 366)] = 24,
    data: Data = DEFAULT_DATA,
) -> None:
    """Print a bearer token, wherever the signing secret can be read: the data folder, or STARS_SECRET."""
    settings, _ = settings_of(data)
    if settings.secret:
        secret = settings.secret.get_secret_value()
    else:
        # The folder of an instance that is not running now has the secret all the same.
        try:
            secret = (data.absolute() / "secret").read_text().strip()
        except OSError:
            fail(f"there is no signing secret in {data}, and STARS_SECRET is not set")
    settings = read_settings()
    try:
        typer.echo(
            issue_token(
                secret,
                role,
                member,
                timedelta(hours=hours),
                issuer=settings.issuer,
                audience=settings.audience,
                member_claim=settings.member_claim,
                roles_claim=settings.roles_claim,
            )
        )
    except ValueError as error:
        fail(str(error))
