"""One installation for all of these tests, started as an operator starts it."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from deploy.infrastructure import InfrastructureError
from tests.e2e.eye import CHROMIUM, Eye, open_browser
from tests.e2e.site import Program, Site
from tests.infrastructure import start_for_tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Generated requests are the last of this folder: what they promise to everybody would be in the others' way."""
    items.sort(key=lambda item: (item.nodeid.split("/")[1:2], "tests/e2e/test_schemathesis" in item.nodeid))


@contextmanager
def installation(*arguments: str) -> Iterator[Site]:
    """`stars up` on a data folder of its own, with embedded Kafka and PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="stars-e2e-", ignore_cleanup_errors=True) as folder:
        data, log = Path(folder) / "data", Path(folder) / "log"
        try:
            program = Program.start(
                ["up", "--data", str(data), "--port", "0", *arguments], log, {"STARS_RATE_LIMIT": "0", "NO_COLOR": "1"}
            )
        except RuntimeError as error:
            # Is it the machine's fault or ours?
            try:
                start_for_tests().stop()
            except InfrastructureError as missing:
                pytest.skip(f"no embedded Kafka and PostgreSQL to be had here: {missing}")
            pytest.fail(f"`stars up` did not start: {error}")
        try:
            yield Site(program, data)
        finally:
            code = program.stop()
        assert code == 0, f"`stars up` ended with {code}: {log.read_text()[-3000:]}"


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    """An installation that all of these tests share."""
    with installation() as found:
        yield found


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium; where there is none, what needs it is skipped."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium-headless-shell")
    async with async_playwright() as playwright:
        opened = await open_browser(playwright)
        yield opened
        await opened.close()


@pytest.fixture
def eye(browser: Browser, site: Site) -> Eye:
    """A browser on the shared installation."""
    return Eye(browser, site)


@pytest.fixture(autouse=True)
def _still_there(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test sends to the shared installation, it goes on."""
    yield
    if "site" in request.fixturenames:
        answer = request.getfixturevalue("site").client.get("/readyz")
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="package")
def narrow(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A second process of the topics service, on the same database, without Kafka and with little patience."""
    log = tmp_path_factory.mktemp("narrow") / "log"
    settings = {"STARS_KAFKA": "127.0.0.1:1", "STARS_RATE_LIMIT": "5"}
    arguments = ["run", "topics", "--only", "http", "--port", "0", "--data", str(site.data)]
    program = Program.start(arguments, log, settings)
    yield Site(program, site.data)
    program.stop()
