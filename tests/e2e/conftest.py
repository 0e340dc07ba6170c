"""One installation for all of these tests, started as an operator starts it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.infrastructure import InfrastructureError
from tests.e2e.site import Program, Site
from tests.infrastructure import start_for_tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Generated requests come last: what they promise to everybody would be in the way of the others."""
    items.sort(key=lambda item: "tests/e2e/test_schemathesis" in item.nodeid)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """`stars up` on a data folder of its own, with embedded Kafka and PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="stars-e2e-", ignore_cleanup_errors=True) as folder:
        data, log = Path(folder) / "data", Path(folder) / "log"
        try:
            program = Program.start(
                ["up", "--data", str(data), "--port", "0"], log, {"STARS_RATE_LIMIT": "0", "NO_COLOR": "1"}
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


@pytest.fixture(autouse=True)
def _still_there(site: Site) -> Iterator[None]:
    """Whatever a test sends, the installation goes on."""
    yield
    answer = site.client.get("/readyz")
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="session")
def narrow(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A second process of the topics service, on the same database, without Kafka and with little patience."""
    log = tmp_path_factory.mktemp("narrow") / "log"
    settings = {"STARS_KAFKA": "127.0.0.1:1", "STARS_RATE_LIMIT": "5"}
    arguments = ["run", "topics", "--only", "http", "--port", "0", "--data", str(site.data)]
    program = Program.start(arguments, log, settings)
    yield Site(program, site.data)
    program.stop()
