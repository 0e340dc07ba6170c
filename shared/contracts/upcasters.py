"""Lifting older versions of an event's data to the present one.

A contract only grows. Where a new optional field is not enough, the type gets a new ``version`` and a
function here that turns the data of the version before into it; records that lie in Kafka for ever stay
readable. ``dataschema`` says which version a record has: ``/schemas/TYPE.vN.json``; none means the first.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(event type, version that is lifted) -> data of the next version."""

_VERSION = re.compile(r"/schemas/(?P<type>[a-z-]+)\.v(?P<version>[0-9]{1,4})\.json$")


def version_of(envelope: Mapping[str, Any]) -> int:
    """The version that the envelope's ``dataschema`` names; 1 where it names none of ours."""
    match = _VERSION.search(str(envelope.get("dataschema") or ""))
    return int(match["version"]) if match and match["type"] == envelope.get("type") else 1


def upcast(
    envelope: dict[str, Any], current: int, upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS
) -> dict[str, Any]:
    """The envelope with its data lifted to ``current``, one version at a time, and a ``dataschema`` that says so.

    Raises LookupError where a step is missing. A version newer than ``current`` is left as it is: contracts
    only grow, so its known fields still mean the same.
    """
    data = envelope.get("data")
    if not isinstance(data, dict):
        return envelope
    for version in range(version_of(envelope), current):
        data = upcasters[str(envelope["type"]), version](data)
    return {**envelope, "dataschema": f"/schemas/{envelope['type']}.v{current}.json", "data": data}
