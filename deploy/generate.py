"""What is generated from the services and the settings: ``python -m deploy.generate``.

The OpenAPI documents are frozen as the event schemas are; the README's table of settings is written again.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from deploy import services
from services.applications.rules import state_diagram
from shared.contracts.generate import Broken, freeze_openapi
from shared.settings import Settings


async def documents() -> dict[str, dict[str, Any]]:
    """The OpenAPI document of each service. Nothing is connected to."""
    settings = Settings.model_construct(
        **{
            **{name: field.get_default() for name, field in Settings.model_fields.items()},
            "kafka": "unused:9092",
            "postgres": "postgresql://unused",
            "secret": SecretStr("x" * 32),
            "discourse_secret": SecretStr("x" * 32),
        }
    )
    return {name: services.build(name, settings, worker=False).app.openapi() for name in services.NAMES}


README = Path(__file__).parent.parent / "README.md"
_START, _END = "<!-- settings -->", "<!-- /settings -->"


def with_settings(readme: str) -> str:
    """The README with the table of settings between its markers written again."""
    rows = ["| setting | default | what it says |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        shown = "" if default is None or default == [] else f"`{default}`"
        rows.append(f"| `STARS_{name.upper()}` | {shown} | {field.description} |")
    before, _, rest = readme.partition(_START)
    return "\n".join([before + _START, *rows, _END + rest.partition(_END)[2]])


_STATES, _STATES_END = "<!-- application-states -->", "<!-- /application-states -->"


def with_states(readme: str) -> str:
    """The README with the drawing of an application's states between its markers made again from their table."""
    before, _, rest = readme.partition(_STATES)
    if not rest:
        return readme
    return "\n".join(
        [before + _STATES, "```mermaid", state_diagram(), "```", _STATES_END + rest.partition(_STATES_END)[2]]
    )


def main() -> int:
    """Write all; exit status 1, with the reasons, where a document would break."""
    README.write_text(with_states(with_settings(README.read_text("utf-8"))), "utf-8")
    status = 0
    for name, document in asyncio.run(documents()).items():
        try:
            freeze_openapi(name, document)
        except Broken as broken:
            status = 1
            for reason in broken.reasons:
                sys.stderr.write(f"{reason}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
