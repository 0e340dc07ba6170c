"""Freezing the services' OpenAPI documents, as the event schemas are: ``python -m deploy.openapi``."""

import asyncio
import sys
from typing import Any

from pydantic import SecretStr

from deploy import services
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


def main() -> int:
    """Freeze all; exit status 1, with the reasons, where one would break."""
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
