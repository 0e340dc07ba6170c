"""How long does a person wait for a page: the queue with many waiting topics, on the wire and in a browser?"""

from statistics import median

import asyncpg
from playwright.async_api import async_playwright

from shared.web import Role
from tests.e2e.eye import CHROMIUM, open_browser
from tests.load.client import Client
from tests.load.figures import Line, percentile, table
from tests.load.report import service
from tests.load.stage import say, stage

REQUESTS, VISITS = 50, 9
GOAL_MS = 300.0
PATHS = ("/topics/", "/topics/?state=breached", "/topics/promise", "/topics/search?q=playl", "/")

# All of them wait; one in five is late.
FILL = """
INSERT INTO topics.topic_state (
    topic_id, known, visible, kind, space, language, title, tags, author_id, created_at, created_us, target_us, due_at,
    appended_at, backfill
)
SELECT 'w' || n, true, true, 'question', 'space-' || n % 8, (ARRAY['en', 'de', 'pt'])[1 + n % 3],
    'How do I move my playlists to another account?', '["playlists", "android"]', 'm' || n % 2000, created_at,
    (extract(epoch FROM created_at) * 1000000)::bigint, 172800000000, created_at + interval '48 hours', created_at,
    false
FROM (
    SELECT n, now() - interval '60 hours' * random() AS created_at FROM generate_series(1, $1::bigint) AS n
) AS made
"""


async def pages(quick: bool) -> list[Line]:
    """Measure, print, and return the README's lines."""
    waiting = 1_000 if quick else 10_000
    rows, lines = [], []
    async with stage() as place:
        dsn = await place.service_database("pages", "topics")
        connection = await asyncpg.connect(dsn)
        say(f"pages: {waiting:,} topics wait")
        await connection.execute(FILL, waiting, timeout=300)
        await connection.execute("VACUUM (ANALYZE) topics.topic_state")
        await connection.close()
        async with service(place, dsn) as program:
            url = await program.ready()
            client = Client(url, place.token(Role.STAFF))
            for path in PATHS:
                client.timed(path)
                times = [client.timed(path)[0] for _ in range(REQUESTS)]
                opened = await _in_browser(url + path) if CHROMIUM else []
                seen = f"{median(opened):.0f}" if opened else "no Chromium"
                rows.append([path, f"{percentile(times, 0.5):.1f}", f"{percentile(times, 0.99):.1f}", seen])
                if path == PATHS[0] and opened:
                    lines.append(
                        Line(
                            f"the queue's page with {waiting:,} topics waiting, until Chromium has loaded it",
                            f"median {median(opened):.0f} ms (the server's part: p99 {percentile(times, 0.99):.0f} ms)",
                            f"{GOAL_MS:.0f} ms",
                            median(opened) < GOAL_MS,
                        )
                    )
            client.close()
    table(
        f"Pages with {waiting:,} topics waiting, ms",
        ["page", "server p50", "server p99", "loaded in Chromium, median"],
        rows,
    )
    return lines


async def _in_browser(url: str) -> list[float]:
    """Milliseconds from a click to the load event, scripts and all, on visits after the first."""
    found = []
    async with async_playwright() as playwright:
        browser = await open_browser(playwright)
        page = await (await browser.new_context()).new_page()
        for visit in range(VISITS + 1):
            await page.goto(url, wait_until="load")
            if visit:
                timing = "performance.getEntriesByType('navigation')[0]"
                found.append(float(await page.evaluate(f"{timing}.loadEventEnd - {timing}.startTime")))
        await browser.close()
    return found
