"""Pages of an installation on which nothing ever happened: each says what to do."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.conftest import installation
from tests.e2e.eye import Eye
from tests.e2e.site import Site


@pytest.fixture(scope="module")
def empty_site() -> Iterator[Site]:
    """An installation of these tests' own."""
    with installation() as found:
        yield found


@pytest.mark.parametrize("path", ["/", "/topics/", "/topics/?state=breached", "/topics/promise", "/topics/search"])
async def test_a_page_without_anything_to_show_says_what_to_do(browser: Browser, empty_site: Site, path: str) -> None:
    eye = Eye(browser, empty_site)
    name = f"empty{path.replace('/', '-').replace('?', '-')}"
    await eye.look(path, name)
    async with eye.open(path) as page:
        await expect(page.locator("main")).to_contain_text(
            {
                "/": "Nobody has asked yet",
                "/topics/": "Nobody is waiting",
                "/topics/?state=breached": "Nothing is late",
                "/topics/promise": "Nobody has asked in this time",
                "/topics/search": "What are you looking for?",
            }[path]
        )


async def test_an_empty_board_says_how_points_are_given(browser: Browser, empty_site: Site) -> None:
    eye = Eye(browser, empty_site)
    await eye.look("/leaderboard/", "leaderboard-empty")
    await eye.look("/leaderboard/seasons", "seasons-empty")
    async with eye.open("/leaderboard/") as page:
        await page.get_by_role("main").get_by_role("link", name="How points are given").last.click()
        await expect(page.get_by_role("row", name="A solution")).to_contain_text("10")
