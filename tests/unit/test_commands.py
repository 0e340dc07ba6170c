"""What ``stars`` says to whoever typed a command, where nothing runs."""

import os
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from deploy.cli import history
from deploy.cli.context import console, fail
from deploy.cli.main import app


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting is, but for a data folder on which nothing runs."""
    for name in os.environ:
        if name.startswith("STARS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STARS_DATA", str(tmp_path / "nothing"))


def stars(*arguments: str, **settings: str) -> Result:
    """Run a command with these settings."""
    return CliRunner().invoke(app, list(arguments), env={f"STARS_{name}": value for name, value in settings.items()})


def said(result: Result) -> str:
    """What it said when it ended, as it must, with a sentence and status 1."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    return result.output


# --- messages are text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message", ["pip install 'constellation[embedded]'", "there is no service '[/topics]'", "/data/:bug:/[red]/x[/y]"]
)
def test_an_error_is_said_as_it_is_whatever_brackets_it_holds(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        fail(message)
    assert capsys.readouterr().err == f"stars: {message}\n"


def test_what_a_command_says_on_its_way_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    console.print("refused: [/b] [red]:bug:", style="dim", soft_wrap=True)
    assert capsys.readouterr().err == "refused: [/b] [red]:bug:\n"


def test_a_path_in_brackets_is_named_as_it_was_typed() -> None:
    assert "/none/[/x] is no file" in said(stars("import", "jsonl", "/none/[/x]"))


def test_the_bar_of_an_import_names_any_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(history, "console", Console(stderr=True, width=120, force_terminal=True))
    with history._bar() as bar:
        bar.add_task("reading [/x][red].jsonl", total=1, sent="")
    assert "reading [/x][red].jsonl" in capsys.readouterr().err
