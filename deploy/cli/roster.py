"""``stars import roster``: the Stars of a programme that is there already, from a CSV file."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from deploy.cli.context import DEFAULT_DATA, Data, console, fail, needed, settings_of
from shared.web import Role, issue_token


def roster(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV; its first line names the columns: member_id, since, rank, spaces, languages, listed."
        ),
    ],
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is right.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Who is a Star already: taken whole or not at all, and told to no one. Taken again, it changes nothing."""
    settings, _ = settings_of(data)
    needed(settings, data, "url", "secret")
    assert settings.url
    assert settings.secret
    token = issue_token(
        settings.secret.get_secret_value(),
        [Role.STAFF],
        None,
        timedelta(minutes=5),
        issuer=settings.issuer,
        audience=settings.audience,
        roles_claim=settings.roles_claim,
    )
    try:
        content = file.read_bytes()
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    try:
        answer = httpx.post(
            f"{settings.url.rstrip('/')}/applications/api/stars/roster",
            params={"dry_run": "true"} if check else {},
            content=content,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "text/csv"},
            timeout=120,
        )
        body: dict[str, Any] = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        fail(f"{settings.url} does not answer: {error}")
    if answer.status_code != 200:
        for one in body.get("errors", []):
            console.print(str(one.get("detail")), soft_wrap=True)
        fail(f"nobody was taken in: {body.get('detail')}")
    if check:
        console.print(f"{body['lines']} lines, and all of them are right")
        return
    gone = f", {body['erased']} were erased" if body["erased"] else ""
    console.print(f"{body['appointed']} appointed, {body['stars_already']} were Stars already{gone}")
