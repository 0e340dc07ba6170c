"""Write again what is generated from the contracts: ``python -m shared.contracts.generate`` (``make contracts``).

- ``schemas/TYPE.vN.json``: the JSON Schema of each event. Once there it is frozen: it may grow, and a change that
  breaks who writes or reads by it is refused, before anything at all is written.
- ``asyncapi.json``: streams, keys, messages and who reads what, as AsyncAPI 3.0.
- the event map in the README, between its two markers.

``openapi/NAME.json`` are frozen in the same way, by ``freeze_openapi``. With ``--check`` nothing is written, and the
exit code says whether something would be.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.contracts.catalogue import STREAMS, Party, Stream, event_types
from shared.contracts.compatibility import breaks, openapi_breaks
from shared.contracts.envelope import CONTENT_TYPE, Event

HERE = Path(__file__).parent
README = HERE.parent.parent / "README.md"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAP_START, MAP_END = "<!-- event-map -->", "<!-- /event-map -->"
BINDING = "0.5.0"
"""Version of AsyncAPI's Kafka bindings."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")


class Broken(Exception):
    """A frozen contract would be broken; ``reasons`` says where and how."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = list(reasons)


def text_of(document: object) -> str:
    """A document as it is written: always the same bytes for the same content."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def schema_name(event: type[Event]) -> str:
    """The file that holds the schema of an event's present version."""
    return f"{event.type_name()}.v{event.version}.json"


def schema_of(event: type[Event]) -> dict[str, Any]:
    """The JSON Schema of a whole envelope, as whoever writes it has to: the type is never left to its default."""
    made = event.model_json_schema(mode="validation")
    kind = {key: value for key, value in made["properties"]["type"].items() if key != "default"}
    properties = {**made["properties"], "type": kind}
    must = {*made["required"], "type"}
    head = {"$schema": DIALECT, "$id": event.schema_path(), "title": made["title"]}
    if "description" in made:
        head["description"] = made["description"]
    return {
        **head,
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name in must],
        "$defs": made.get("$defs", {}),
    }


def schemas() -> dict[str, dict[str, Any]]:
    """The schemas of all present versions, by the name of their file."""
    return {schema_name(event): schema_of(event) for event in event_types().values()}


def broken_schemas(folder: Path = HERE / "schemas") -> list[str]:
    """What the models break of the frozen schemas, in plain words."""
    found = []
    for name, schema in schemas().items():
        if (folder / name).exists():
            frozen = json.loads((folder / name).read_text("utf-8"))
            found += [f"{name}: {words}" for words in breaks(frozen, schema)]
    types = event_types()
    for path in sorted(folder.glob("*.json")):
        kind, _, version = path.stem.rpartition(".v")
        if kind not in types:
            found.append(f"{path.name}: the type was removed, but its records are kept")
        elif int(version) > types[kind].version:
            found.append(f"{path.name}: the version was removed, but its records are kept")
    return found


def freeze_openapi(name: str, document: Mapping[str, Any], folder: Path = HERE / "openapi") -> Path:
    """Write the OpenAPI document of a service as the frozen one. Raises Broken where it breaks what is frozen."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name for a document")
    path = folder / f"{name}.json"
    if path.exists():
        found = openapi_breaks(json.loads(path.read_text("utf-8")), document)
        if found:
            raise Broken([f"openapi/{name}.json: {words}" for words in found])
    _write(path, text_of(document))
    return path


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI document of all streams."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Constellation",
            "version": "1.0.0",
            "description": "The streams between a help forum and the services of its super-user programme. Each value "
            "is a CloudEvents 1.0 envelope in JSON, structured mode; each key is a field of its data in UTF-8, "
            "partitioned by murmur2. A contract only grows.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {stream.name: _channel(stream) for stream in STREAMS},
        "operations": {
            f"{party}-{action}s-{stream.name}": _operation(party, action, stream)
            for stream in STREAMS
            for action, parties in (("send", stream.written_by), ("receive", stream.read_by))
            for party in parties
        },
        "components": {"messages": {name: _message(name, event) for name, event in sorted(event_types().items())}},
    }


def _channel(stream: Stream) -> dict[str, Any]:
    config: dict[str, Any] = dict(stream.config())
    config["cleanup.policy"] = config["cleanup.policy"].split(",")
    numbers = ("retention.ms", "retention.bytes", "segment.ms", "max.compaction.lag.ms")
    config |= {name: int(config[name]) for name in numbers if name in config}
    return {
        "address": stream.name,
        "description": f"Key: {_key(stream)}. Kept: {_kept(stream)}.",
        "messages": {
            event.type_name(): {"$ref": f"#/components/messages/{event.type_name()}"} for event in stream.events
        },
        "bindings": {
            "kafka": {"topic": stream.name, "topicConfiguration": config, "bindingVersion": BINDING},
        },
    }


def _operation(party: Party, action: str, stream: Stream) -> dict[str, Any]:
    operation: dict[str, Any] = {"action": action, "channel": {"$ref": f"#/channels/{stream.name}"}}
    operation["tags"] = [{"name": party}]
    if action == "receive":
        operation["bindings"] = {
            "kafka": {"groupId": {"type": "string", "description": f"of {party}"}, "bindingVersion": BINDING}
        }
    return operation


def _message(name: str, event: type[Event]) -> dict[str, Any]:
    keys = {stream.key_field(name) for stream in STREAMS if event in stream.events}
    example = HERE / "examples" / f"{name}.json"
    message: dict[str, Any] = {
        "name": name,
        "title": event.__name__,
        "contentType": CONTENT_TYPE,
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"./schemas/{schema_name(event)}"},
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": " or ".join(f"data.{key}" for key in sorted(keys))},
                "bindingVersion": BINDING,
            }
        },
    }
    if event.__doc__ and "description" in event.model_json_schema():
        message["summary"] = " ".join(event.__doc__.split())
    if example.exists():
        message["examples"] = [{"name": name, "payload": json.loads(example.read_text("utf-8"))}]
    return message


def _key(stream: Stream) -> str:
    others = "".join(f"; {key} of {name}" for name, key in stream.key_of_type)
    return f"{stream.key}{others}"


def _kept(stream: Stream) -> str:
    return stream.kept if isinstance(stream.kept, str) else f"{stream.kept} days"


def event_map() -> str:
    """The table of streams in Markdown, with links to the frozen schemas."""
    lines = ["| stream | key | events | written by | read by | kept |", "| --- | --- | --- | --- | --- | --- |"]
    for stream in STREAMS:
        types = ", ".join(
            f"[{event.type_name()}](shared/contracts/schemas/{schema_name(event)})" for event in stream.events
        )
        readers = ", ".join(stream.read_by) or "whoever cares"
        writers = ", ".join(stream.written_by)
        lines.append(f"| `{stream.name}` | {_key(stream)} | {types} | {writers} | {readers} | {_kept(stream)} |")
    return "\n".join(lines)


def with_event_map(readme: str) -> str:
    """The README with the table between its markers written again; as it is where it has no markers."""
    before, start, rest = readme.partition(MAP_START)
    _, end, after = rest.partition(MAP_END)
    return f"{before}{start}\n{event_map()}\n{end}{after}" if start and end else readme


def outdated(folder: Path = HERE, readme: Path = README) -> dict[Path, str]:
    """Every generated file that is not what it should be, with what it should be."""
    wanted = {folder / "schemas" / name: text_of(schema) for name, schema in schemas().items()}
    wanted[folder / "asyncapi.json"] = text_of(asyncapi())
    if readme.exists():
        wanted[readme] = with_event_map(readme.read_text("utf-8"))
    return {path: text for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8", newline="\n")


def generate(folder: Path = HERE, readme: Path = README) -> list[Path]:
    """Write what is outdated and say which files. Raises Broken, and writes nothing, where a frozen schema breaks."""
    found = broken_schemas(folder / "schemas")
    if found:
        raise Broken(found)
    changed = outdated(folder, readme)
    for path, text in changed.items():
        _write(path, text)
    return list(changed)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.contracts.generate", description="Write what the contracts say."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something is out of date")
    check = parser.parse_args(arguments).check
    try:
        if check:
            found = broken_schemas()
            if found:
                raise Broken(found)
        paths = list(outdated()) if check else generate()
    except Broken as broken:
        sys.stderr.write("This would break a frozen contract; add an optional field or a new version instead:\n")
        sys.stderr.write("".join(f"  {words}\n" for words in broken.reasons))
        return 1
    for path in paths:
        sys.stdout.write(f"{'out of date' if check else 'written'}: {path}\n")
    return 1 if check and paths else 0


if __name__ == "__main__":
    sys.exit(main())
