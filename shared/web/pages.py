"""The shell of plain pages."""

from html import escape
from pathlib import Path

STYLESHEET_PATH = "/static/plain.css"
STYLESHEET = (Path(__file__).parent / "static.css").read_text(encoding="utf-8")


def page(title: str, body: str) -> str:
    """A whole page; ``body`` is HTML, and whoever made it has escaped what came from outside."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)} · Constellation</title>'
        f'<link rel="stylesheet" href="{STYLESHEET_PATH}"></head>'
        f'<body><header><h1><a href="/">Constellation</a></h1></header><main>{body}</main></body></html>'
    )
