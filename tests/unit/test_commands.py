"""What ``stars`` says to whoever typed a command, where nothing runs."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from deploy.cli import history, up
from deploy.cli.context import console, fail
from deploy.cli.main import app
from shared.web import Service
from tests.infrastructure import ROOT

NOBODY = "127.0.0.1:1"
NO_POSTGRES = f"postgresql://me:hidden@{NOBODY}/stars"
SECRET = "0123456789" * 4


pytestmark = pytest.mark.usefixtures("nothing_is_set")


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


# --- what is away or wrong is said in a sentence ---------------------------------------------------------------------


def stars_alone(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, for commands that set up logging."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("STARS_") or name == "STARS_DATA"}
    return subprocess.run(
        [sys.executable, "-c", "from deploy.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        env=plain | {f"STARS_{name}": value for name, value in settings.items()},
    )


@pytest.mark.parametrize("command", ["migrate", "rules list", "dead-letters list topics"])
@pytest.mark.parametrize(
    "dsn",
    [
        NO_POSTGRES,
        "me:hidden@h/stars",
        "postgresql://me:hidden@h:port/stars",
        "postgresql://me:hidden@127.0.0.1:99999/stars",
        "postgresql://me:hid/den@h/stars",
        "postgresql://me:hid?den@h/stars",
        "postgresql://me:hidden@[::1/stars",
    ],
)
def test_postgresql_that_is_away_or_has_no_right_address_is_named_without_its_password(command: str, dsn: str) -> None:
    told = said(stars(*command.split(), POSTGRES=dsn))
    assert "PostgreSQL" in told
    assert "STARS_POSTGRES" in told
    assert "hid" not in told
    assert "den" not in told


@pytest.mark.parametrize("servers", [NOBODY, "127.0.0.1:x", "127.0.0.1:99999", "[::1:9092", f"{NOBODY},h:"])
def test_kafka_that_is_away_or_has_no_right_address_is_named(servers: str, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.touch()
    told = said(stars("import", "jsonl", str(file), KAFKA=servers))
    assert "Kafka cannot be used" in told
    assert "STARS_KAFKA" in told


def test_no_dead_letter_is_replayed_to_an_address_of_kafka_that_is_none() -> None:
    told = said(stars("dead-letters", "replay", "topics", "--all", KAFKA="127.0.0.1:x", POSTGRES=NO_POSTGRES))
    assert "STARS_KAFKA" in told


@pytest.mark.parametrize(
    ("arguments", "settings", "expected"),
    [
        (["up"], {"KAFKA": NOBODY, "POSTGRES": NO_POSTGRES}, "STARS_POSTGRES"),
        (["run", "topics"], {"KAFKA": "127.0.0.1:x", "POSTGRES": NO_POSTGRES}, "STARS_KAFKA"),
        (["run", "topics"], {"KAFKA": NOBODY, "POSTGRES": NO_POSTGRES, "HOST": "192.0.2.9"}, "STARS_HOST"),
        (["run", "topics"], {"KAFKA": NOBODY, "POSTGRES": NO_POSTGRES, "HOST": "host.invalid"}, "STARS_HOST"),
    ],
)
def test_a_start_that_cannot_be_ends_with_a_sentence(
    arguments: list[str], settings: dict[str, str], expected: str
) -> None:
    done = stars_alone(*arguments, "--port", "0", SECRET=SECRET, **settings)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("stars: ")
    assert expected in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stderr


def test_a_port_that_is_none_is_refused() -> None:
    done = stars_alone("run", "topics", "--port", "99999", KAFKA=NOBODY, POSTGRES=NO_POSTGRES, SECRET=SECRET)
    assert done.returncode == 2
    assert "65535" in done.stderr


@pytest.mark.parametrize(
    ("kafka", "dsn", "url"),
    [
        (NOBODY, NO_POSTGRES, f"http://{NOBODY}"),
        ("127.0.0.1:x", "foo", "http://["),
        (NOBODY, "postgresql://me:hidden@h:port/stars", "http://a b:c"),
    ],
)
def test_the_doctor_says_all_that_is_away_or_misconfigured(kafka: str, dsn: str, url: str) -> None:
    told = said(stars("doctor", KAFKA=kafka, POSTGRES=dsn, URL=url)).splitlines()
    wrong = [line for line in told if line.startswith("WRONG ")]
    for name in ("Kafka", "topics", "notifier", "leaderboard", "applications", url):
        assert [line for line in wrong if line.startswith(f"WRONG {name}")], name
    assert not [line for line in told if "hidden" in line]


def test_the_doctor_warns_where_tokens_for_other_programs_hold() -> None:
    keys = "https://issuer.example/keys"
    assert "STARS_AUDIENCE" in said(stars("doctor", JWKS=keys))
    assert "STARS_AUDIENCE" not in said(stars("doctor", JWKS=keys, AUDIENCE="constellation"))
    assert "STARS_AUDIENCE" not in said(stars("doctor", SECRET=SECRET))


# --- waiting ---------------------------------------------------------------------------------------------------------


def _waiting(monkeypatch: pytest.MonkeyPatch, quiet: float, *found: list[str]) -> list[str]:
    """What is said while a service has these problems, one after the other, and then none."""
    told: list[str] = []
    looks = iter(found)

    async def problems() -> list[str]:
        return next(looks, [])

    monkeypatch.setattr(up, "QUIET_SECONDS", quiet)
    monkeypatch.setattr(up, "_say", told.append)
    asyncio.run(up._ready([Service("topics", None, None, problems)]))  # type: ignore[arg-type]
    return told


def test_a_start_says_what_it_waits_for_and_again_when_that_is_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = [["not in the consumer group for 9 s"], ["not in the consumer group for 10 s"]]
    assert _waiting(monkeypatch, 0, ["not connected to Kafka yet"], *outside) == [
        "waiting: topics: not connected to Kafka yet",
        "waiting: topics: not in the consumer group for 9 s",
    ]


def test_a_start_that_is_soon_ready_says_nothing_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _waiting(monkeypatch, 60, ["not connected to Kafka yet"]) == []
