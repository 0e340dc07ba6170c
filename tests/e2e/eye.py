"""Looks at pages in Debian's Chromium as a reader would: light and dark, narrow and wide, and with axe-core.

With STARS_SCREENSHOTS set to a folder every look leaves its picture there.
"""

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, Playwright, expect

from tests.e2e.site import PATIENCE, Site

# Other lanes of tests have the processors, too.
expect.set_options(timeout=PATIENCE * 1000)

AXE = (Path(__file__).parent / "vendor" / "axe-core-4.14.1.min.js").read_text(encoding="utf-8")
CHROMIUM = next(
    (path for name in ("chromium-headless-shell", "chromium") if (path := Path("/usr/bin") / name).exists()), None
)
"""Its headless shell where there is one: it draws the same and costs a third less."""
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
THEMES = ("light", "dark")
WIDTHS = (1440, 390)


OF_AXE = "Failed to execute 'postMessage' on 'DOMWindow'"
"""Said by axe-core's look for frames that would answer; a sandboxed one does not."""


async def open_browser(playwright: Playwright) -> Browser:
    """A headless Chromium."""
    return await playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)


class Eye:
    """A browser on an installation."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self._browser, self.site = browser, site

    @asynccontextmanager
    async def open(
        self,
        path: str,
        *,
        roles: Iterable[str] = (),
        member: str | None = None,
        expected: int = 200,
        prepare: Callable[[BrowserContext], Awaitable[None]] | None = None,
        allowed: str = "(?!)",
        settled: bool = True,
    ) -> AsyncIterator[Page]:
        """A page that has come to rest. What the browser complained about by the end fails, unless ALLOWED says so."""
        headers = self.site.bearer(*roles, member=member) if member or list(roles) else {}
        context = await self._browser.new_context(
            base_url=self.site.url, viewport={"width": WIDTHS[0], "height": 900}, extra_http_headers=headers
        )
        try:
            page = await context.new_page()
            complaints: list[str] = []
            page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            if prepare is not None:
                await prepare(context)
            answer = await page.goto(path)
            assert answer is not None
            assert answer.status == expected, f"{path} answered {answer.status}"
            if settled:
                await page.wait_for_load_state("networkidle")
            yield page
            # A page that is an error on purpose is one in the console as well.
            pattern = f"status of {expected}|{allowed}" if expected >= 400 else allowed
            found = [text for text in complaints if not re.search(pattern, text) and OF_AXE not in text]
            assert not found, f"{path}: {found}"
        finally:
            await context.close()

    async def look(self, path: str, name: str, **how: Any) -> None:
        """Look at a page in each theme and width: nothing overflows, and axe-core finds nothing.

        In two of the four ways, light and wide, dark and narrow; with screenshots in all four.
        """
        few = not os.environ.get("STARS_SCREENSHOTS")
        async with self.open(path, **how) as page:
            for n, theme in enumerate(THEMES):
                await page.emulate_media(color_scheme=theme)
                for width in WIDTHS[n : n + 1] if few else WIDTHS:
                    await page.set_viewport_size({"width": width, "height": 900})
                    await page.wait_for_timeout(100)  # charts are drawn again
                    await check(page, f"{name}-{theme}-{width}")


async def check(page: Page, name: str) -> None:
    """What holds for every page, in whatever state it is."""
    if folder := os.environ.get("STARS_SCREENSHOTS"):
        await page.screenshot(path=f"{folder}/{name}.png", full_page=True)
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{name}: {wide} pixels stick out to the right"
    await page.evaluate(AXE)
    found: Mapping[str, Any] = await page.evaluate("axe.run()")
    violations = [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found["violations"]
    ]
    assert not violations, f"{name}:\n" + "\n".join(violations)
