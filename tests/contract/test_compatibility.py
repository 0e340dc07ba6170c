"""What counts as breaking a contract: by example, and by damaging our own schemas in every place."""

import copy
import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from shared.contracts.catalogue import event_types
from shared.contracts.compatibility import breaks, openapi_breaks
from shared.contracts.generate import schema_of

SCHEMAS = {name: schema_of(event) for name, event in event_types().items()}
TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
NULL = {"type": "null"}


def thing(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or []}


# --- By example ------------------------------------------------------------------------------------------------------

BREAKS: list[tuple[Any, Any, list[str]]] = [
    (thing(a=TEXT), thing(), ["a: the field was removed"]),
    (thing(a=TEXT), thing(["b"], a=TEXT, b=TEXT), ["b: is a new field and required"]),
    (thing(a=TEXT), thing(["a"], a=TEXT), ["a: is now required"]),
    (thing(["a"], a=TEXT), thing(a=TEXT), ["a: may now be absent"]),
    (thing(a=TEXT), thing(a=WHOLE), ["a: may no longer be a string", "a: may now be an integer"]),
    (thing(a={"type": "number"}), thing(a=WHOLE), ["a: now has to be a whole number"]),
    (thing(a=WHOLE), thing(a={"type": "number"}), ["a: may now be any number, not only a whole one"]),
    (thing(a={"anyOf": [TEXT, NULL]}), thing(a=TEXT), ["a: may no longer be null"]),
    (thing(a={"type": ["string", "null"]}), thing(a=TEXT), ["a: may no longer be null"]),
    (thing(a=TEXT), thing(a={"anyOf": [TEXT, NULL]}), ["a: may now be null"]),
    (thing(a={}), thing(a=TEXT), ["a: narrowed from anything to a string"]),
    (thing(a=TEXT), thing(a={}), ["a: may now be anything, not a string"]),
    ({"enum": ["x", "y"]}, {"enum": ["x"]}, ['the value "y" is no longer allowed']),
    ({"enum": ["x", "y"]}, {"const": "x"}, ['the value "y" is no longer allowed']),
    ({"const": "1.0"}, {"const": "2.0"}, ['the value "1.0" is no longer allowed']),
    ({"enum": [1, 2]}, {"enum": [True, 2]}, ["the value 1 is no longer allowed", "may now be a boolean"]),
    ({"enum": ["x", None]}, {"enum": ["x"]}, ["may no longer be null"]),
    (TEXT, {"enum": ["x", "y"]}, ['narrowed to the values "x", "y"']),
    ({"enum": ["long", "x"]}, {"type": "string", "maxLength": 2}, ['the value "long" is no longer allowed']),
    ({"enum": [1, 9]}, {"type": "integer", "exclusiveMaximum": 9}, ["the value 9 is no longer allowed"]),
    (TEXT, {"type": "string", "maxLength": 5}, ["may have at most 5 characters now"]),
    ({"type": "string", "maxLength": 6}, {"type": "string", "maxLength": 5}, ["may have at most 5 characters now"]),
    (TEXT, {"type": "string", "minLength": 1}, ["has to have at least 1 characters now"]),
    (TEXT, {"type": "string", "pattern": "^a"}, ["the pattern is new: ^a"]),
    ({"type": "string", "pattern": "^b"}, {"type": "string", "pattern": "^a"}, ["the pattern changed from ^b: ^a"]),
    (TEXT, {"type": "string", "format": "uuid"}, ["the format is new: uuid"]),
    ({"type": "string", "format": "date-time"}, TEXT, ["is no longer in the format date-time"]),
    (WHOLE, {"type": "integer", "minimum": 0}, ["has to be at least 0"]),
    ({"type": "integer", "maximum": 9}, {"type": "integer", "exclusiveMaximum": 9}, ["has to be at most 8"]),
    ({"type": "number", "maximum": 9}, {"type": "number", "exclusiveMaximum": 9}, ["has to be less than 9"]),
    ({"type": "number", "minimum": 0}, {"type": "number", "exclusiveMinimum": 0}, ["has to be more than 0"]),
    (WHOLE, {"type": "integer", "multipleOf": 2}, ["has to be a multiple of 2"]),
    ({"type": "array"}, {"type": "array", "maxItems": 3}, ["may have at most 3 items now"]),
    ({"type": "array"}, {"type": "array", "uniqueItems": True}, ["items have to differ now"]),
    ({"type": "array", "items": thing(a=TEXT)}, {"type": "array", "items": thing()}, ["[].a: the field was removed"]),
    ({"type": "array"}, {"type": "array", "items": TEXT}, ["[]: narrowed from anything to a string"]),
    (
        {"type": "array", "prefixItems": [TEXT, TEXT]},
        {"type": "array", "prefixItems": [TEXT]},
        ["has another number of places"],
    ),
    (thing(), {**thing(), "additionalProperties": False}, ["fields that are not named are no longer allowed"]),
    (
        {"type": "object", "additionalProperties": TEXT},
        {"type": "object", "additionalProperties": WHOLE},
        ["*: may no longer be a string", "*: may now be an integer"],
    ),
    (
        {"type": "string", "default": "x"},
        {"type": "string", "default": "y"},
        ['leaving it out now means "y", not "x"'],
    ),
    (TEXT, {"type": "string", "not": {"const": "x"}}, ["the keyword not changed"]),
    (TEXT, False, ["may no longer be a string"]),
    (
        {"anyOf": [thing(["a"], a=TEXT), thing(["b"], b=TEXT)]},
        thing(["a"], a=TEXT),
        ["a: is a new field and required", "b: the field was removed"],
    ),
    (
        {"$ref": "#/$defs/A", "$defs": {"A": thing(a={"$ref": "#/$defs/B"}), "B": {"enum": ["x", "y"]}}},
        {"$ref": "#/$defs/C", "$defs": {"C": thing(a={"const": "x"})}},
        ['a: the value "y" is no longer allowed'],
    ),
    (
        {"allOf": [thing(a=TEXT), thing(b=TEXT)]},
        thing(a=TEXT),
        ["b: the field was removed"],
    ),
    ({"type": "string", "nullable": True}, TEXT, ["may no longer be null"]),
]


@pytest.mark.parametrize(("old", "new", "expected"), BREAKS)
def test_what_breaks(old: Any, new: Any, expected: list[str]) -> None:
    assert sorted(breaks(old, new)) == sorted(expected)


GROWS: list[tuple[Any, Any]] = [
    (thing(a=TEXT), thing(a=TEXT, b=TEXT)),
    (thing(["a"], a=TEXT), {**thing(["a"], a={"type": "string", "title": "Called otherwise"}), "description": "x"}),
    ({"enum": ["x"]}, {"enum": ["y", "x"]}),
    ({"const": "x"}, {"enum": ["x", "y"]}),
    ({"enum": ["x"]}, {"type": "string", "maxLength": 1}),
    ({"const": "x", "type": "string"}, {"enum": ["x"]}),
    ({"type": "string", "maxLength": 5, "minLength": 1, "pattern": "a"}, {"type": "string", "maxLength": 6}),
    ({"type": "integer", "minimum": 1}, {"type": "integer", "exclusiveMinimum": 0}),
    ({"type": "integer", "exclusiveMaximum": 8}, {"type": "integer", "maximum": 7}),
    ({"type": "number", "exclusiveMinimum": 0}, {"type": "number", "minimum": 0}),
    ({"type": "integer", "multipleOf": 4}, {"type": "integer", "multipleOf": 2}),
    ({"type": "array", "maxItems": 3, "uniqueItems": True}, {"type": "array", "maxItems": 4}),
    ({"anyOf": [TEXT, NULL]}, {"type": ["null", "string"]}),
    ({"anyOf": [TEXT, NULL]}, {"oneOf": [NULL, TEXT]}),
    ({"anyOf": [TEXT, WHOLE]}, {"anyOf": [WHOLE, TEXT]}),
    ({"type": "boolean"}, {"enum": [False, True]}),
    (thing(), {**thing(), "additionalProperties": True}),
    ({**thing(), "additionalProperties": False}, thing()),
    ({"$ref": "#/$defs/A", "$defs": {"A": TEXT}}, {"$ref": "#/$defs/B", "$defs": {"B": TEXT, "A": WHOLE}}),
    ({"allOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": thing(a=TEXT)}}, thing(a=TEXT)),
    (True, {}),
    ({"type": "string"}, {"type": "string", "default": "x", "examples": ["x"], "x-colour": "blue"}),
]


@pytest.mark.parametrize(("old", "new"), GROWS)
def test_what_only_grows(old: Any, new: Any) -> None:
    assert breaks(old, new) == []


class Leaf(BaseModel):
    kind: Literal["leaf"]
    size: int = Field(ge=0, le=10)


class Branch(BaseModel):
    kind: Literal["branch"]
    parts: list["Branch | Leaf"] = Field(max_length=9)
    names: dict[str, Leaf | None] = {}


def test_recursive_schemas_end() -> None:
    old = Branch.model_json_schema()
    assert breaks(old, old) == []
    new = copy.deepcopy(old)
    new["$defs"]["Leaf"]["properties"]["size"]["maximum"] = 9
    assert breaks(old, new) == ["parts[].size: has to be at most 9", "names.*.size: has to be at most 9"]
    endless = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert breaks(endless, endless) == []


def test_references_out_of_the_document_are_refused() -> None:
    with pytest.raises(LookupError):
        breaks({"$ref": "other.json"}, TEXT)
    with pytest.raises(LookupError):
        breaks({"$ref": "#/$defs/Nowhere"}, TEXT)


# --- Our own schemas, damaged and grown everywhere -------------------------------------------------------------------

Place = tuple[dict[str, Any], dict[str, Any]]
"""A copy of a whole schema, and the part of it that is to be changed."""


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema."""
    yield schema
    for name in ("properties", "$defs"):
        for inner in schema.get(name, {}).values():
            yield from parts(inner)
    for inner in [*schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]:
        yield from parts(inner)


@st.composite
def damages(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], str]:
    """A schema of ours, the same with one incompatible change, and what was done."""
    old = SCHEMAS[draw(st.sampled_from(sorted(SCHEMAS)))]
    new = copy.deepcopy(old)
    part = draw(st.sampled_from(list(parts(new))))
    ways = ["another type", "other values", "nothing at all"]
    if part.get("properties"):
        ways += ["remove a field", "new required field", "closed"]
        ways += ["field required"] * any(name not in part.get("required", []) for name in part["properties"])
        ways += ["field optional"] * bool(part.get("required"))
    if "enum" in part:
        ways += ["remove a value"]
    if "anyOf" in part:
        ways += ["remove an alternative"]
    elif "title" in part and "properties" not in part:  # a field; other parts may stand beside null already
        ways += ["null too"]
    if part.get("type") == "string" and "const" not in part and "enum" not in part:
        ways += ["pattern", "shorter", "longer"]
    if part.get("type") in ("integer", "number"):
        ways += ["at most", "at least"]
    if part.get("type") == "array":
        ways += ["fewer", "more"]
    way = draw(st.sampled_from(ways))
    damage(part, way, draw)
    return old, new, way


def damage(part: dict[str, Any], way: str, draw: st.DrawFn) -> None:
    """Change one schema in one way that breaks."""
    match way:
        case "another type" | "other values" | "nothing at all":
            changes: dict[str, dict[str, Any]] = {
                "another type": {"type": "boolean"} if part.get("type") != "boolean" else {"type": "string"},
                "other values": {"const": "none of what was"},
                "nothing at all": {"type": []},
            }
            kept = {"$defs": part["$defs"]} if "$defs" in part else {}
            part.clear()
            part.update(kept, **changes[way])
            if way == "nothing at all":
                part["type"], part["enum"] = "string", []
        case "remove a field":
            name = draw(st.sampled_from(sorted(part["properties"])))
            del part["properties"][name]
            part["required"] = [one for one in part.get("required", []) if one != name]
        case "new required field":
            part["properties"]["colour"] = {}
            part.setdefault("required", []).append("colour")
        case "closed":
            part["additionalProperties"] = False
        case "field required":
            optional = [name for name in part["properties"] if name not in part.get("required", [])]
            part.setdefault("required", []).append(draw(st.sampled_from(optional)))
        case "field optional":
            part["required"].remove(draw(st.sampled_from(part["required"])))
        case "remove a value":
            part["enum"].remove(draw(st.sampled_from(part["enum"])))
        case "remove an alternative":
            part["anyOf"].remove(draw(st.sampled_from(part["anyOf"])))
        case "null too":
            kept = {"$defs": part.pop("$defs")} if "$defs" in part else {}
            was = dict(part)
            part.clear()
            part.update(kept, anyOf=[was, {"type": "null"}])
        case "pattern":
            part["pattern"] = "^surely not this one$"
        case "shorter":
            part["maxLength"] = part.get("maxLength", 100) - 1
        case "longer":
            part["minLength"] = part.get("minLength", 0) + 1
        case "at most":
            part.pop("exclusiveMaximum", None)
            part["maximum"] = 3
        case "at least":
            part["minimum"] = 3
        case "fewer":
            part["maxItems"] = part["maxItems"] - 1
        case "more":
            part["minItems"] = 1


@given(damages())
def test_every_damage_is_found(damaged: tuple[dict[str, Any], dict[str, Any], str]) -> None:
    old, new, way = damaged
    found = breaks(old, new)
    assert found, way
    assert all(words == words.strip() and len(words) < 500 for words in found)


@st.composite
def growths(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema of ours, and the same grown in some places."""
    old = SCHEMAS[draw(st.sampled_from(sorted(SCHEMAS)))]
    new = copy.deepcopy(old)
    for part in draw(st.lists(st.sampled_from(list(parts(new))), min_size=1, max_size=5)):
        if "properties" in part:
            field = draw(st.sampled_from([TEXT, WHOLE, {"anyOf": [TEXT, NULL], "default": None}, thing(["a"], a=TEXT)]))
            part["properties"][draw(st.sampled_from(["colour", "weight", "mood"]))] = copy.deepcopy(field)
        if "enum" in part:
            part["enum"] = [*part["enum"], "something new"]
        elif "const" in part:
            part["enum"] = [part.pop("const"), "something new"]
        for keyword in ("maxLength", "maxItems", "maximum", "exclusiveMaximum"):
            if keyword in part:
                part[keyword] += draw(st.integers(0, 10))
        for keyword in ("minLength", "minItems", "minimum"):
            if keyword in part:
                part[keyword] -= draw(st.integers(0, part[keyword])) if part[keyword] > 0 else 0
        if draw(st.booleans()):
            part.pop("pattern", None)
        part["description"] = "better described"
        if "anyOf" in part:
            part["anyOf"].reverse()
        if "required" in part:
            part["required"].reverse()
    return old, new


@given(growths())
def test_growing_is_free(grown: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert breaks(*grown) == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_nothing_breaks_itself_and_nothing_is_changed(name: str) -> None:
    before = json.dumps(SCHEMAS[name])
    assert breaks(SCHEMAS[name], SCHEMAS[name]) == []
    assert json.dumps(SCHEMAS[name]) == before


@given(st.sampled_from(sorted(SCHEMAS)), st.sampled_from(sorted(SCHEMAS)))
def test_one_type_is_not_another(one: str, other: str) -> None:
    assert bool(breaks(SCHEMAS[one], SCHEMAS[other])) is (one != other)


# --- OpenAPI ---------------------------------------------------------------------------------------------------------


def api() -> dict[str, Any]:
    """A small service, as FastAPI would describe it."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Example", "version": "1"},
        "paths": {
            "/topics/{topic_id}": {
                "parameters": [{"name": "topic_id", "in": "path", "required": True, "schema": TEXT}],
                "get": {
                    "operationId": "topic",
                    "parameters": [
                        {"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100, "default": 20}},
                        {"$ref": "#/components/parameters/Trace"},
                    ],
                    "responses": {
                        "200": {
                            "description": "a topic",
                            "headers": {"ETag": {"schema": TEXT}},
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Topic"}}},
                        },
                        "404": {"$ref": "#/components/responses/Problem"},
                    },
                },
                "delete": {"responses": {"204": {"description": "gone"}}, "security": [{"bearer": ["staff"]}]},
            },
            "/topics": {
                "post": {
                    "requestBody": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewTopic"}}}
                    },
                    "responses": {"201": {"description": "there"}},
                }
            },
        },
        "components": {
            "parameters": {"Trace": {"name": "X-Trace", "in": "header", "schema": TEXT}},
            "responses": {
                "Problem": {
                    "description": "a problem",
                    "content": {"application/problem+json": {"schema": thing(["title"], title=TEXT)}},
                }
            },
            "schemas": {
                "Topic": thing(
                    ["topic_id", "state"],
                    topic_id=TEXT,
                    state={"enum": ["open", "closed"]},
                    replies={"type": "array", "items": {"$ref": "#/components/schemas/Reply"}},
                ),
                "Reply": thing(["reply_id", "at"], reply_id=TEXT, at={"type": "string", "format": "date-time"}),
                "NewTopic": thing(["title"], title={"type": "string", "maxLength": 100}, tags={"type": "array"}),
            },
        },
    }


TOPIC = "/topics/{topic_id}"
GET = f"GET {TOPIC}: "
POST = "POST /topics: "
OPENAPI_BREAKS: list[tuple[str, list[str]]] = [
    ("del d['paths'][TOPIC]", [f"{TOPIC}: the path was removed"]),
    ("del d['paths'][TOPIC]['delete']", [f"DELETE {TOPIC}: the method was removed"]),
    ("get['parameters'].pop(0)", [GET + "the query parameter limit was removed"]),
    ("get['parameters'].pop(1)", [GET + "the header parameter X-Trace was removed"]),
    ("get['parameters'][0]['required'] = True", [GET + "the query parameter limit is now required"]),
    (
        "get['parameters'].append({'name': 'space', 'in': 'query', 'required': True, 'schema': TEXT})",
        [GET + "the query parameter space is new and required"],
    ),
    (
        "get['parameters'][0]['schema']['maximum'] = 50",
        [GET + "the query parameter limit: has to be at most 50"],
    ),
    (
        "get['parameters'][0]['schema']['default'] = 50",
        [GET + "the query parameter limit: leaving it out now means 50, not 20"],
    ),
    ("get['parameters'][0]['explode'] = False", [GET + "the query parameter limit is written in another way"]),
    ("del get['responses']['404']", [GET + "the answer 404 was removed"]),
    ("del get['responses']['200']['headers']", [GET + "the answer 200: the header ETag was removed"]),
    (
        "del get['responses']['200']['content']['application/json']",
        [GET + "the answer 200: application/json was removed"],
    ),
    (
        "del schemas['Topic']['properties']['replies']",
        [GET + "the answer 200: replies: the field was removed"],
    ),
    (
        "schemas['Topic']['required'].remove('state')",
        [GET + "the answer 200: state: may now be absent"],
    ),
    (
        "schemas['Reply']['properties']['at'] = WHOLE",
        [GET + "the answer 200: replies[].at: may now be an integer"],
    ),
    (
        "schemas['Reply']['properties']['reply_id'] = {'anyOf': [TEXT, NULL]}",
        [GET + "the answer 200: replies[].reply_id: may now be null"],
    ),
    (
        "del problem['application/problem+json']['schema']['properties']['title']",
        [GET + "the answer 404: title: the field was removed"],
    ),
    ("get['security'] = [{'bearer': []}]", [GET + "now needs authorisation"]),
    ("d['security'] = [{'bearer': []}]", [GET + "now needs authorisation", POST + "now needs authorisation"]),
    (
        "d['paths'][TOPIC]['delete']['security'] = [{'bearer': ['staff', 'admin']}]",
        [f"DELETE {TOPIC}: is closed to who comes with the authorisation of bearer"],
    ),
    ("schemas['NewTopic']['required'].append('tags')", [POST + "the request: tags: is now required"]),
    (
        "schemas['NewTopic']['properties']['title']['maxLength'] = 50",
        [POST + "the request: title: may have at most 50 characters now"],
    ),
    ("del schemas['NewTopic']['properties']['tags']", [POST + "the request: tags: the field was removed"]),
    ("post['requestBody']['required'] = True", [POST + "the request body is now required"]),
    ("del post['requestBody']", [POST + "the request body was removed"]),
    (
        "d['paths'][TOPIC]['delete']['requestBody'] = {'required': True, 'content': {}}",
        [f"DELETE {TOPIC}: a request body is now required"],
    ),
    (
        "post['requestBody']['content'] = {'application/xml': {}}",
        [POST + "the request: application/json was removed"],
    ),
]

OPENAPI_GROWS = [
    "d['info']['version'] = '2'",
    "d['paths']['/new'] = {'get': {'responses': {}}}",
    "d['paths'][TOPIC]['put'] = {'responses': {}}",
    "d['paths']['/topics/{id}'] = d['paths'].pop(TOPIC); d['paths']['/topics/{id}']['parameters'][0]['name'] = 'id'",
    "get['parameters'].append({'name': 'space', 'in': 'query', 'schema': TEXT})",
    "get['parameters'][0]['schema']['maximum'] = 200",
    "get['parameters'].reverse()",
    "get['responses']['410'] = {'description': 'gone'}",
    "schemas['Topic']['properties']['title'] = TEXT; schemas['Topic']['required'].append('title')",
    "schemas['Topic']['required'].append('replies')",
    "schemas['Topic']['properties']['state']['enum'].append('locked')",
    "schemas['Topic']['properties']['state']['enum'].remove('closed')",
    "schemas['NewTopic']['properties']['space'] = TEXT",
    "schemas['NewTopic']['required'] = []",
    "schemas['NewTopic']['properties']['title'] = {'anyOf': [TEXT, NULL]}",
    "d['paths'][TOPIC]['delete']['security'].append({})",
    "d['paths'][TOPIC]['delete']['security'] = [{'cookie': []}, {'bearer': ['staff']}]",
    "schemas['Post'] = schemas.pop('NewTopic'); post['requestBody']['content']['application/json']['schema'] = "
    "{'$ref': '#/components/schemas/Post'}",
]


def changed(how: str) -> dict[str, Any]:
    document = copy.deepcopy(api())
    names = {
        "d": document,
        "get": document["paths"][TOPIC]["get"],
        "post": document["paths"]["/topics"]["post"],
        "schemas": document["components"]["schemas"],
        "problem": document["components"]["responses"]["Problem"]["content"],
        "TEXT": TEXT,
        "WHOLE": WHOLE,
        "NULL": NULL,
        "TOPIC": TOPIC,
    }
    exec(how, names)
    return document


@pytest.mark.parametrize(("how", "expected"), OPENAPI_BREAKS)
def test_what_breaks_an_api(how: str, expected: list[str]) -> None:
    assert openapi_breaks(api(), changed(how)) == expected


@pytest.mark.parametrize("how", OPENAPI_GROWS)
def test_what_an_api_may_grow(how: str) -> None:
    assert openapi_breaks(api(), changed(how)) == []


def test_an_api_does_not_break_itself() -> None:
    assert openapi_breaks(api(), api()) == []
    assert openapi_breaks({}, api()) == []


def test_a_fastapi_document() -> None:
    from fastapi import FastAPI

    def made(most: int, extra: bool) -> dict[str, Any]:
        app = FastAPI()

        @app.get("/leaves/{name}")
        def leaf(name: str, limit: int = 5) -> Leaf:
            raise NotImplementedError

        async def plant(body: Branch, count: int = most) -> list[Branch]:
            raise NotImplementedError

        app.post("/branches")(plant)
        if extra:
            app.delete("/branches")(leaf)
        return app.openapi()

    assert openapi_breaks(made(1, False), made(1, True)) == []
    assert openapi_breaks(made(1, True), made(2, False)) == [
        "POST /branches: the query parameter count: leaving it out now means 2, not 1",
        "DELETE /branches: the method was removed",
    ]
