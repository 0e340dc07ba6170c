"""The contracts of events: examples, frozen schemas, models and the codec agree, and no input breaks the decoder."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from shared.contracts import forum, topics
from shared.contracts.catalogue import BY_NAME, STREAMS, TOPICS, Stream, event_types
from shared.contracts.codec import Decoder, StrictReader, Undecodable, UnknownType, encode
from shared.contracts.compatibility import breaks
from shared.contracts.envelope import Event
from shared.contracts.forum import TopicRef
from shared.contracts.generate import (
    HERE,
    MAP_END,
    MAP_START,
    Broken,
    asyncapi,
    broken_schemas,
    event_map,
    freeze_openapi,
    generate,
    main,
    outdated,
    schema_name,
    schema_of,
    text_of,
    with_event_map,
)
from shared.contracts.upcasters import UPCASTERS

TYPES = event_types()
EXAMPLES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((HERE / "examples").glob("*.json"))}
STREAM_OF = {name: [stream for stream in STREAMS if event in stream.events] for name, event in TYPES.items()}
DECODERS = {stream.name: Decoder(stream) for stream in STREAMS}
STRICT = StrictReader()
RECORD = 1_048_576


def frozen(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((HERE / "schemas" / name).read_text("utf-8"))
    return schema


def as_bytes(envelope: object) -> bytes:
    return json.dumps(envelope).encode()


def holds(said: object, kept: object) -> bool:
    """Whether what was said is what is kept, times compared as the same instant in whatever digits."""
    if isinstance(said, dict) and isinstance(kept, dict):
        return said.keys() == kept.keys() and all(holds(said[name], kept[name]) for name in said)
    if isinstance(said, list) and isinstance(kept, list):
        return len(said) == len(kept) and all(map(holds, said, kept))
    if isinstance(said, str) and isinstance(kept, str) and re.match(r"\d{4}-\d\d-\d\dT", said):
        return re.sub(r"\.?0*Z$", "", said) == re.sub(r"\.?0*Z$", "", kept)
    return said == kept


# --- Files agree with code -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_every_type_has_a_schema_and_an_example(name: str) -> None:
    assert (HERE / "schemas" / schema_name(TYPES[name])).exists(), "run `make contracts`"
    assert EXAMPLES[name]["type"] == name, f"write shared/contracts/examples/{name}.json"


@pytest.mark.parametrize("name", TYPES)
def test_the_example_says_everything_that_can_be_said(name: str) -> None:
    data = schema_of(TYPES[name])["properties"]["data"]
    fields = schema_of(TYPES[name])["$defs"][data["$ref"].rsplit("/", 1)[1]]["properties"]
    assert EXAMPLES[name]["data"].keys() == fields.keys()


@pytest.mark.parametrize("name", TYPES)
def test_the_frozen_schema_is_the_models(name: str) -> None:
    schema, now = frozen(schema_name(TYPES[name])), schema_of(TYPES[name])
    Draft202012Validator.check_schema(schema)
    assert breaks(schema, now) == [], "a contract only grows: add an optional field, or a new version with an upcaster"
    assert schema == now, "run `make contracts`"


def test_no_frozen_schema_has_lost_its_type_or_version() -> None:
    assert broken_schemas() == []
    for name, event in TYPES.items():
        for version in range(1, event.version):
            assert (HERE / "schemas" / f"{name}.v{version}.json").exists()
            assert (name, version) in UPCASTERS


def test_generated_files_are_up_to_date() -> None:
    assert [str(path) for path in outdated()] == [], "run `make contracts`"


def test_generating_again_writes_the_same(tmp_path: Path) -> None:
    assert len(generate(tmp_path, tmp_path / "README.md")) == len(TYPES) + 1
    assert generate(tmp_path, tmp_path / "README.md") == []
    for path in (tmp_path / "schemas").iterdir():
        assert path.read_bytes() == (HERE / "schemas" / path.name).read_bytes()


def test_generate_refuses_to_break_and_then_writes_nothing(tmp_path: Path) -> None:
    generate(tmp_path, tmp_path / "README.md")
    path = tmp_path / "schemas" / "topic-moved.v1.json"
    schema = json.loads(path.read_text("utf-8"))
    schema["$defs"]["TopicMovedData"]["properties"]["why"] = {"type": "string"}
    path.write_text(text_of(schema), "utf-8")
    other = tmp_path / "schemas" / "topic-closed.v1.json"
    other.unlink()
    with pytest.raises(Broken, match=re.escape("topic-moved.v1.json: data.why: the field was removed")):
        generate(tmp_path, tmp_path / "README.md")
    assert not other.exists()
    assert json.loads(path.read_text("utf-8")) == schema


def test_generate_lets_a_schema_grow(tmp_path: Path) -> None:
    generate(tmp_path, tmp_path / "README.md")
    path = tmp_path / "schemas" / "topic-edited.v1.json"
    schema = json.loads(path.read_text("utf-8"))
    del schema["$defs"]["TopicEditedData"]["properties"]["language"]
    path.write_text(text_of(schema), "utf-8")
    assert generate(tmp_path, tmp_path / "README.md") == [path]


def test_generate_keeps_types_whose_records_are_kept(tmp_path: Path) -> None:
    for gone in ("topic-forgotten.v1.json", "topic-moved.v2.json"):
        (tmp_path / "schemas").mkdir(exist_ok=True)
        (tmp_path / "schemas" / gone).write_text("{}", "utf-8")
    with pytest.raises(Broken) as broken:
        generate(tmp_path, tmp_path / "README.md")
    assert [reason.partition(":")[0] for reason in broken.value.reasons] == [
        "topic-forgotten.v1.json",
        "topic-moved.v2.json",
    ]


def test_the_command_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_the_event_map_stands_between_its_markers() -> None:
    readme = f"before\n{MAP_START}\nold\n{MAP_END}\nafter\n"
    assert with_event_map(readme) == f"before\n{MAP_START}\n{event_map()}\n{MAP_END}\nafter\n"
    assert with_event_map(with_event_map(readme)) == with_event_map(readme)
    assert with_event_map("no markers") == "no markers"
    assert len(event_map().splitlines()) == len(STREAMS) + 2


def test_an_openapi_document_is_frozen(tmp_path: Path) -> None:
    document = {"openapi": "3.1.0", "paths": {"/a": {"get": {"responses": {"200": {"description": "fine"}}}}}}
    path = freeze_openapi("example", document, tmp_path)
    assert json.loads(path.read_text("utf-8")) == document
    grown = copy.deepcopy(document) | {"info": {"title": "grown"}}
    freeze_openapi("example", grown, tmp_path)
    with pytest.raises(Broken, match=r"openapi/example\.json: /a: the path was removed"):
        freeze_openapi("example", {"openapi": "3.1.0", "paths": {}}, tmp_path)
    assert json.loads(path.read_text("utf-8")) == grown
    for name in ("../up", "", "A", "a.b"):
        with pytest.raises(ValueError, match="not a name"):
            freeze_openapi(name, document, tmp_path)


# --- The catalogue ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_every_event_of_a_stream_has_its_key(stream: Stream) -> None:
    for event in stream.events:
        schema = schema_of(event)
        data = schema["$defs"][schema["properties"]["data"]["$ref"].rsplit("/", 1)[1]]
        key = stream.key_field(event.type_name())
        assert key in data["required"]
        field = data["properties"][key]
        assert field["type"] == "string"
        assert 1 == field["minLength"] <= field["maxLength"] <= 255


def test_streams_of_one_key_are_partitioned_alike() -> None:
    """One number of partitions is set for all streams, so no stream may say its own."""
    assert not any("partition" in name for stream in STREAMS for name in (*vars(stream), *stream.config()))


def test_nothing_that_state_is_built_from_is_thrown_away() -> None:
    for stream in STREAMS:
        config = stream.config()
        assert config["message.timestamp.type"] == "LogAppendTime"
        assert config["segment.ms"] == "86400000"
        if stream.kept == "compacted":
            assert (config["cleanup.policy"], config["max.compaction.lag.ms"]) == ("compact", "86400000")
        elif stream.kept == "for ever":
            assert config["retention.ms"] == config["retention.bytes"] == "-1"
        else:
            assert config["retention.ms"] == str(stream.kept * 86_400_000)


def test_erasure_is_on_every_compacted_stream_of_members() -> None:
    for stream in STREAMS:
        if stream.kept == "compacted":
            assert stream.key == "member_id"
            assert "member-erased" in {event.type_name() for event in stream.events}


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(STREAMS)
    classes = {event for stream in STREAMS for event in stream.events}
    assert len(classes) == len(TYPES)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in TYPES)


def test_asyncapi_refers_to_what_is_there() -> None:
    document = asyncapi()
    assert json.loads((HERE / "asyncapi.json").read_text("utf-8")) == document, "run `make contracts`"
    assert document["channels"].keys() == BY_NAME.keys()
    messages = document["components"]["messages"]
    assert messages.keys() == TYPES.keys()
    for channel in document["channels"].values():
        for name, reference in channel["messages"].items():
            assert reference == {"$ref": f"#/components/messages/{name}"}
            assert name in messages
    for message in messages.values():
        assert (HERE / message["payload"]["schema"]["$ref"]).exists()
        assert message["examples"]
    for name, operation in document["operations"].items():
        party, action, stream = re.fullmatch(r"([a-z]+)-(send|receive)s-(.+)", name).groups()  # type: ignore[union-attr]
        parties = BY_NAME[stream].written_by if action == "send" else BY_NAME[stream].read_by
        assert party in parties
        assert operation["action"] == action
        assert operation["channel"] == {"$ref": f"#/channels/{stream}"}


def largest(schema: dict[str, Any], root: dict[str, Any]) -> float:
    """The most bytes that a value of a schema can take as JSON, with the worst of characters."""
    if "$ref" in schema:
        return largest(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "anyOf" in schema:
        return max(largest(part, root) for part in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return max(len(json.dumps(value)) for value in schema.get("enum", [schema.get("const")]))
    match schema["type"]:
        case "string" if schema.get("format") == "date-time":
            return 40
        case "string" if "maxLength" not in schema:
            return 7 if schema["pattern"].startswith("^([01]") else float("inf")
        case "string":
            return float(2 + 6 * schema["maxLength"])
        case "array":
            return 2 + float(schema.get("maxItems", "inf")) * (1 + largest(schema["items"], root))
        case "object":
            return 2 + sum(4 + len(name) + largest(part, root) for name, part in schema["properties"].items())
    return 30


@pytest.mark.parametrize("name", TYPES)
def test_everything_is_bounded_and_fits_a_record(name: str) -> None:
    schema = schema_of(TYPES[name])
    assert largest(schema, schema) < RECORD


# --- Examples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_valid_for_everyone(name: str) -> None:
    envelope = EXAMPLES[name]
    kind = envelope["type"]
    assert name.split(".")[0] == kind
    Draft202012Validator(frozen(schema_name(TYPES[kind]))).validate(envelope)
    event = STRICT.read(envelope)
    assert type(event) is TYPES[kind]
    for stream in STREAM_OF[kind]:
        assert DECODERS[stream.name].decode(as_bytes(envelope)) == event


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_go_round(name: str) -> None:
    envelope = EXAMPLES[name]
    event = STRICT.read(envelope)
    encoded = encode(event)
    assert holds(envelope, json.loads(encoded))
    for stream in STREAM_OF[envelope["type"]]:
        again = DECODERS[stream.name].decode(encoded)
        assert again == event
        assert again.data.model_fields_set == event.data.model_fields_set
        assert encode(again) == encoded


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_written_validates_against_the_schema(name: str) -> None:
    event = STRICT.read(EXAMPLES[name])
    Draft202012Validator(frozen(schema_name(type(event)))).validate(json.loads(encode(event)))


def test_examples_follow_the_story_of_their_ids() -> None:
    """Events of ours have a sequence and an id made of it; those of others have none."""
    for name, envelope in EXAMPLES.items():
        own = envelope["source"].startswith("/constellation/")
        assert ("sequence" in envelope) is own, name
        if own:
            (stream,) = STREAM_OF[envelope["type"]]
            key = envelope["data"][stream.key_field(envelope["type"])]
            assert envelope["id"] == f"{stream.name}/{key}/{envelope['sequence']}"
            assert envelope["source"].rsplit("/", 1)[1] in stream.written_by
    assert len({(one["source"], one["id"], name) for name, one in EXAMPLES.items()}) == len(EXAMPLES)


@pytest.mark.parametrize("name", TYPES)
def test_the_type_is_written_where_only_the_class_says_it(name: str) -> None:
    event = TYPES[name].model_validate({key: value for key, value in EXAMPLES[name].items() if key != "type"})
    assert json.loads(encode(event))["type"] == name


# --- Strict and tolerant ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_unknown_fields_are_refused_by_the_strict_and_ignored_by_the_tolerant(name: str) -> None:
    known = STRICT.read(EXAMPLES[name])
    for envelope in (
        {**EXAMPLES[name], "colour": "blue"},
        {**EXAMPLES[name], "data": {**EXAMPLES[name]["data"], "colour": {"deep": [1, 2]}}},
    ):
        with pytest.raises(Undecodable, match="colour: Extra inputs are not permitted"):
            STRICT.read(envelope)
        Draft202012Validator(frozen(schema_name(TYPES[name]))).validate(envelope)
        for stream in STREAM_OF[name]:
            assert DECODERS[stream.name].decode(as_bytes(envelope)) == known


@pytest.mark.parametrize("name", TYPES)
def test_what_is_required_is_missed(name: str) -> None:
    for field in ("specversion", "id", "source", "type", "time", "data"):
        envelope = {key: value for key, value in EXAMPLES[name].items() if key != field}
        assert not Draft202012Validator(frozen(schema_name(TYPES[name]))).is_valid(envelope)
        with pytest.raises(Undecodable):
            STRICT.read(envelope)
        with pytest.raises(Undecodable):
            DECODERS[STREAM_OF[name][0].name].decode(as_bytes(envelope))


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_unknown_types_are_skipped_and_strange_ones_are_not(stream: Stream) -> None:
    decoder = DECODERS[stream.name]
    envelope = EXAMPLES[stream.events[0].type_name()]
    with pytest.raises(UnknownType, match=r"^member-promoted$"):
        decoder.decode(as_bytes({**envelope, "type": "member-promoted", "data": [1]}))
    with pytest.raises(Undecodable, match="type: unknown here; known are "):
        STRICT.read({**envelope, "type": "member-promoted"})
    for other, event in TYPES.items():
        if event not in stream.events:
            with pytest.raises(Undecodable, match=f"{other} does not belong on {stream.name}"):
                decoder.decode(as_bytes(EXAMPLES[other]))
    for strange in ("\ud800", "a\nb", "", "x" * 256, "two words"):
        with pytest.raises(Undecodable):
            decoder.decode(as_bytes({**envelope, "type": strange}))


def test_the_strict_reader_takes_only_its_streams() -> None:
    reader = StrictReader([TOPICS])
    assert isinstance(reader.read(EXAMPLES["topic-claimed"]), topics.TopicClaimed)
    with pytest.raises(Undecodable, match="unknown here"):
        reader.read(EXAMPLES["topic-closed"])


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
        ("2026-11-22T11:00:00+01:00", "2026-11-22T10:00:00Z"),
        ("2026-11-22t10:00:00z", "2026-11-22T10:00:00Z"),
        ("2026-11-22T10:00:00.123456789Z", "2026-11-22T10:00:00.123456Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_times_are_kept_in_utc(said: str, kept: str) -> None:
    event = STRICT.read({**EXAMPLES["topic-closed"], "time": said})
    assert json.loads(encode(event))["time"] == kept


@pytest.mark.parametrize(
    "said",
    [
        1_700_000_000,
        "1700000000",
        "2026-11-22",
        "2026-11-22T10:00:00",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59-23:00",
        "0001-01-01T00:00:00+23:00",
        "2026-02-29T00:00:00Z",
        True,
        None,
        "",
    ],
)
def test_what_is_no_time_is_refused(said: object) -> None:
    envelope = {**EXAMPLES["topic-closed"], "time": said}
    with pytest.raises(Undecodable, match=r"^time: "):
        STRICT.read(envelope)
    with pytest.raises(Undecodable, match=r"^time: "):
        DECODERS["forum.events"].decode(as_bytes(envelope))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_are_finite(number: str) -> None:
    for name, field in (("first-response-recorded", "seconds"), ("answer-needed", "score")):
        value = re.sub(rf'"{field}": [0-9.]+', f'"{field}": {number}', json.dumps(EXAMPLES[name]))
        assert number in value
        with pytest.raises(Undecodable):
            DECODERS["topics.events"].decode(value.encode())


def test_a_refusal_tells_where_but_not_what() -> None:
    secret = "secret-" * 100_000
    for data in ({"topic_id": secret}, {"topic_id": "1", secret: 1}, secret, {"topic_id": {"a": secret}}):
        with pytest.raises(Undecodable) as refused:
            STRICT.read({**EXAMPLES["topic-closed"], "data": data})
        assert len(str(refused.value)) < 3000
        assert str(refused.value).startswith("data")


# --- Versions --------------------------------------------------------------------------------------------------------


class TopicMovedDataV3(TopicRef):
    """The third version: spaces have become paths, and why is known."""

    path: list[str]
    why: str


class TopicMovedV3(Event):
    version = 3
    type: Literal["topic-moved"] = "topic-moved"
    data: TopicMovedDataV3


NEWER = Stream(
    "forum.events",
    "topic_id",
    ("forum",),
    ("topics",),
    "for ever",
    (TopicMovedV3, forum.TopicClosed, forum.TopicMerged),
)
LIFTS = {
    ("topic-moved", 1): lambda data: {**data, "path": data["space"].split("/")},
    ("topic-moved", 2): lambda data: {**data, "why": "unknown"},
}


def moved(schema: str | None, **data: Any) -> bytes:
    return as_bytes({**EXAMPLES["topic-moved"], "dataschema": schema, "data": {"topic_id": "4711", **data}})


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (None, {"space": "a/b"}),
        ("https://elsewhere.example.org/anything.json", {"space": "a/b"}),
        ("/schemas/topic-moved.v1.json", {"space": "a/b"}),
        ("https://stars.example.org/schemas/topic-moved.v1.json", {"space": "a/b"}),
        ("/schemas/topic-moved.v2.json", {"path": ["a", "b"]}),
    ],
)
def test_older_versions_are_lifted(schema: str | None, data: dict[str, Any]) -> None:
    event = Decoder(NEWER, LIFTS).decode(moved(schema, **data))
    assert isinstance(event, TopicMovedV3)
    assert event.data == TopicMovedDataV3(topic_id="4711", path=["a", "b"], why="unknown")
    assert event.id == EXAMPLES["topic-moved"]["id"]


def test_an_old_version_that_happens_to_fit_is_lifted_all_the_same() -> None:
    value = moved("/schemas/topic-moved.v1.json", space="new", path=["old"], why="chance")
    event = Decoder(NEWER, LIFTS).decode(value)
    assert isinstance(event, TopicMovedV3)
    assert event.data == TopicMovedDataV3(topic_id="4711", path=["new"], why="unknown")


@pytest.mark.parametrize(
    "schema",
    [
        "/schemas/topic-moved.v3.json",
        "https://stars.example.org/schemas/topic-moved.v3.json",
        "/schemas/topic-moved.v4.json",
    ],
)
def test_the_present_and_newer_versions_are_read_as_they_are(schema: str) -> None:
    event = Decoder(NEWER, LIFTS).decode(moved(schema, path=["a"], why="tidying", later={"x": 1}))
    assert isinstance(event, TopicMovedV3)
    assert event.data == TopicMovedDataV3(topic_id="4711", path=["a"], why="tidying")


@pytest.mark.parametrize(
    "data", [{}, {"space": 5}, {"space": None}, {"space": {"split": 1}}, {"space": "a", "topic_id": "\x00"}]
)
def test_what_cannot_be_lifted_is_undecodable(data: dict[str, Any]) -> None:
    with pytest.raises(Undecodable, match="cannot be lifted to version 3"):
        Decoder(NEWER, LIFTS).decode(moved("/schemas/topic-moved.v1.json", **data))


def test_a_missing_upcaster_is_undecodable() -> None:
    with pytest.raises(Undecodable, match="cannot be lifted"):
        Decoder(NEWER, {}).decode(moved(None, space="a"))


def test_other_types_of_the_stream_stay_as_they_are() -> None:
    assert isinstance(Decoder(NEWER, LIFTS).decode(as_bytes(EXAMPLES["topic-closed"])), forum.TopicClosed)


# --- Hostile input ---------------------------------------------------------------------------------------------------


def survive(value: bytes, decoder: Decoder) -> Event | None:
    """The event in it, if there is one; fails on anything that a decoder may not do."""
    event, refusal = attempt(decoder.decode, value)
    if isinstance(refusal, UnknownType):
        assert re.fullmatch(r"[\x21-\x7e]{1,255}", str(refusal))
    elif event is not None:
        assert decoder.decode(encode(event)) == event
    return event


def attempt(read: Callable[[Any], Event], value: object) -> tuple[Event | None, Exception | None]:
    """What is read, or why it is refused: in words that fit a log line."""
    try:
        return read(value), None
    except (UnknownType, Undecodable) as refused:
        refusal: Exception = refused
    assert 0 < len(str(refusal).encode()) < 3000
    return None, refusal


decoders = st.sampled_from([*DECODERS.values(), Decoder(NEWER, LIFTS)])
valid = st.sampled_from(list(EXAMPLES.values()))
any_text = st.text(st.characters(codec=None, categories=None), max_size=20)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | any_text
    | st.sampled_from(["\ud800", "\udfff", "\x00", "a\x00b", "", "2026-11-22T10:00:00Z", "x" * 5000, 2**63, -(2**63)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)


@given(st.binary(max_size=200), decoders)
@example(b"", DECODERS["forum.events"])
@example(b"\xff\xfe{\x00}\x00", DECODERS["forum.events"])
@example(b"null", DECODERS["members.events"])
@example(b"\xef\xbb\xbf{}", DECODERS["forum.events"])
@example(b'{"type":"topic-closed","type":"topic-moved"}', DECODERS["forum.events"])
def test_random_bytes(value: bytes, decoder: Decoder) -> None:
    assert survive(value, decoder) is None


@given(json_values, decoders)
def test_random_json(value: object, decoder: Decoder) -> None:
    assert survive(as_bytes(value), decoder) is None


@given(valid, st.data())
def test_truncated_messages(envelope: dict[str, Any], data: st.DataObject) -> None:
    whole = as_bytes(envelope)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for stream in STREAM_OF[envelope["type"]]:
        assert survive(whole[:cut], DECODERS[stream.name]) is None


@given(valid, st.data())
def test_damaged_messages(envelope: dict[str, Any], data: st.DataObject) -> None:
    whole = bytearray(as_bytes(envelope))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    survive(bytes(whole), DECODERS[STREAM_OF[envelope["type"]][0].name])


@settings(max_examples=300)
@given(valid, json_values, st.data())
def test_any_value_in_any_place(envelope: dict[str, Any], value: object, data: st.DataObject) -> None:
    changed = copy.deepcopy(envelope)
    place = changed["data"] if data.draw(st.booleans()) else changed
    name = data.draw(st.sampled_from(sorted(place)) | any_text)
    place[name] = value
    decoder = DECODERS[STREAM_OF[envelope["type"]][0].name]
    survive(as_bytes(changed), decoder)
    event, _ = attempt(STRICT.read, changed)
    if event is not None:
        assert STRICT.read(json.loads(encode(event))) == event


@given(valid, st.data())
def test_a_field_said_twice(envelope: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(envelope)))
    twice = data.draw(json_values | st.sampled_from([one.get(name) for one in EXAMPLES.values()]))
    said = f"{json.dumps(name)}: {json.dumps(twice)}"
    body = json.dumps(envelope)
    for value in (f"{{{said}, {body[1:]}", f"{body[:-1]}, {said}}}"):
        survive(value.encode(), DECODERS[STREAM_OF[envelope["type"]][0].name])


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"type":"topic-closed","data":{"topic_id":', b'{"type":[', b'"'])
@pytest.mark.parametrize("depth", [1, 150, 250, 900, 990, 1100, 100_000])
def test_deep_nesting(opening: bytes, depth: int) -> None:
    closing = {b"[": b"]", b'"': b""}.get(opening, b"}")
    for value in (opening * depth, opening * depth + b"1" + closing * depth):
        for decoder in (DECODERS["forum.events"], Decoder(NEWER, LIFTS)):
            assert survive(value, decoder) is None


@pytest.mark.parametrize("depth", [10, 100, 500, 980, 5000])
def test_deep_nesting_in_an_unknown_field(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for name in ("topic-closed", "topic-moved"):
        value = json.dumps(EXAMPLES[name])[:-1] + f', "deep": {deep}}}'
        for decoder in (DECODERS["forum.events"], Decoder(NEWER, LIFTS)):
            event = survive(value.encode(), decoder)
            assert event is not None or depth > 100


@pytest.mark.parametrize(
    "number", ["1" * 5000, "-" + "9" * 400, "1e400", "1" + "0" * 30, "0.1e-5000", "NaN", "-Infinity"]
)
def test_huge_numbers(number: str) -> None:
    for envelope in EXAMPLES.values():
        decoder = DECODERS[STREAM_OF[envelope["type"]][0].name]
        body = json.dumps(envelope)
        assert survive(f'{body[:-1]}, "type": {number}}}'.encode(), decoder) is None
        assert survive(f'{body[:-1]}, "sequence": {number}}}'.encode(), decoder) is None
        survive(f'{body[:-1]}, "unknown": {number}}}'.encode(), decoder)


@pytest.mark.parametrize("text", ["\x00", "a\x00", "\ud800", "\udc00\ud800", "x" * 256, "é" * 256])
def test_what_no_id_may_hold(text: str) -> None:
    for name in TYPES:
        (stream, *_) = STREAM_OF[name]
        field = stream.key_field(name)
        envelope = {**EXAMPLES[name], "data": {**EXAMPLES[name]["data"], field: text}}
        for wrong in (envelope, {**EXAMPLES[name], "id": text}, {**EXAMPLES[name], "source": text}):
            assert survive(as_bytes(wrong), DECODERS[stream.name]) is None
            with pytest.raises(Undecodable):
                STRICT.read(wrong)


@given(json_values)
def test_the_strict_reader_takes_anything_json(value: object) -> None:
    with pytest.raises(Undecodable):
        STRICT.read(value)
