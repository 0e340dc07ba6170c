"""Whether a contract has only grown: what a new JSON Schema or OpenAPI document breaks of an old one, in plain words.

Two things can break. Who **writes** by the old contract may be refused by the new one: a field became required, a
bound tighter, a value impossible. Who **reads** by the old contract may meet what it did not promise: a field is
gone or may be absent, or holds another kind of value. Events are written and read by others, and records of years
ago are read again, so ``breaks`` looks for both; of a request only the first matters, of a response only the second.

Growing is free: a new optional field, a new value of an enum, a wider bound.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Schema = Mapping[str, Any]
Side = Literal["writing", "reading"]
_Pairs = frozenset[tuple[str, str]]

_OF_VALUES = {"type", "enum", "const", "nullable", "anyOf", "oneOf", "allOf", "$ref", "default"}
_OF_TEXT = {"minLength", "maxLength", "pattern", "format"}
_OF_NUMBERS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_OF_LISTS = {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}
_OF_OBJECTS = {"properties", "required", "additionalProperties", "minProperties", "maxProperties"}
_SPOKEN = _OF_VALUES | _OF_TEXT | _OF_NUMBERS | _OF_LISTS | _OF_OBJECTS
"""Keywords that are compared one by one."""

_SILENT = {"title", "description", "examples", "example", "deprecated", "readOnly", "writeOnly", "discriminator"} | {
    *("$schema", "$id", "$defs", "$anchor", "$comment", "definitions", "externalDocs", "xml"),
    *("contentMediaType", "contentEncoding"),
}
"""Keywords that refuse nothing."""

_UPPER = (("maxLength", "characters"), ("maxItems", "items"), ("maxProperties", "fields"))
_LOWER = (("minLength", "characters"), ("minItems", "items"), ("minProperties", "fields"))
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def breaks(old_schema: Schema, new_schema: Schema) -> list[str]:
    """Each incompatible change from one JSON Schema to the next, in plain words; nothing where it has only grown."""
    found: list[str] = []
    for side in ("writing", "reading"):
        found += _Comparison(old_schema, new_schema, side).compare(old_schema, new_schema, "")
    return list(dict.fromkeys(found))


def _kind(value: object) -> str:
    """The JSON Schema type of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _words(kind: str) -> str:
    """A kind of value with its article."""
    if kind in ("null", "anything"):
        return kind
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"


def _shown(value: object) -> str:
    """A value as JSON, short enough for a message."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _same(one: object, other: object) -> bool:
    """JSON equality: unlike in Python, true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _holds(kind: str, inner: str) -> bool:
    """Whether all values of kind ``inner`` are of kind ``kind``."""
    return kind in (inner, "anything") or (kind == "number" and inner == "integer")


@dataclass(frozen=True)
class _Form:
    """One of the alternatives that a schema allows: values of one kind."""

    kind: str
    schema: Schema
    values: list[Any] | None = None
    refs: frozenset[str] = field(default_factory=frozenset)

    @property
    def lower(self) -> tuple[float, bool] | None:
        """The lower bound of a number and whether it is excluded itself; for whole numbers it never is."""
        return self._bound("minimum", "exclusiveMinimum", 1)

    @property
    def upper(self) -> tuple[float, bool] | None:
        """The upper bound of a number, negated so that more is tighter here too."""
        bound = self._bound("maximum", "exclusiveMaximum", -1)
        return bound and (-bound[0], bound[1])

    def _bound(self, closed: str, opened: str, step: int) -> tuple[float, bool] | None:
        bounds: list[tuple[float, bool]] = []
        with_limit, limit = self.schema.get(closed), self.schema.get(opened)
        if limit is True and with_limit is not None:  # OpenAPI 3.0
            limit, with_limit = with_limit, None
        if with_limit is not None:
            bounds.append((with_limit, False))
        if limit is not None and limit is not True and limit is not False:
            bounds.append((limit + step, False) if self.kind == "integer" else (limit, True))
        return max(bounds, key=lambda bound: (bound[0] * step, bound[1])) if bounds else None

    def takes(self, value: object) -> bool:
        """Whether a single value, of an enum that was, is still allowed; exact for text and numbers."""
        if self.values is not None:
            return any(_same(value, one) for one in self.values)
        if not _holds(self.kind, _kind(value)):
            return False
        if isinstance(value, str):
            pattern = self.schema.get("pattern")
            return (
                self.schema.get("minLength", 0) <= len(value) <= self.schema.get("maxLength", len(value))
                and (pattern is None or re.search(pattern, value) is not None)
                and "format" not in self.schema
            )
        if isinstance(value, int | float) and not isinstance(value, bool):
            lower, upper = self.lower, self.upper
            return (lower is None or lower <= (value, False)) and (upper is None or upper <= (-value, False))
        return True


@dataclass(frozen=True)
class _Comparison:
    """Two documents, for their references, and the side that is looked from."""

    old_root: Schema
    new_root: Schema
    side: Side

    def compare(self, old: object, new: object, path: str, seen: _Pairs = frozenset()) -> list[str]:
        """What breaks between two schemas at one place."""
        old_forms, new_forms = self._forms(old, self.old_root), self._forms(new, self.new_root)
        found: list[str] = []
        if self.side == "writing":
            found += _default_changed(old, new, path)
            for form in old_forms:
                found += self._best(form, new_forms, path, seen, self._refused, "may no longer be")
        else:
            for form in new_forms:
                found += self._best(form, old_forms, path, seen, self._surprising, "may now be")
        return list(dict.fromkeys(found))

    def _best(
        self,
        form: _Form,
        others: list[_Form],
        path: str,
        seen: _Pairs,
        compared: Callable[[_Form, _Form, str, _Pairs], list[str]],
        verb: str,
    ) -> list[str]:
        """What breaks for one alternative, against the one of the other side that suits it best."""
        best: list[str] | None = None
        for other in others:
            if _holds(other.kind, form.kind):
                pairs = seen | {(a, b) for a in form.refs for b in other.refs}
                if pairs == seen and form.refs and other.refs:
                    return []  # a recursive schema: this pair is being compared already
                found = compared(form, other, path, pairs)
                if best is None or len(found) < len(best):
                    best = found
            if best == []:
                return []
        if best is not None:
            return best
        if form.kind == "anything" and others:
            kinds = " or ".join(dict.fromkeys(_words(other.kind) for other in others))
            change = (
                f"narrowed from anything to {kinds}" if verb != "may now be" else f"may now be anything, not {kinds}"
            )
            return [_said(path, change)]
        if form.kind == "number" and any(other.kind == "integer" for other in others):
            whole = (
                "now has to be a whole number"
                if verb != "may now be"
                else "may now be any number, not only a whole one"
            )
            return [_said(path, whole)]
        return [_said(path, f"{verb} {_words(form.kind)}")]

    def _refused(self, old: _Form, new: _Form, path: str, seen: _Pairs) -> list[str]:
        """What of the old alternative the new one refuses."""
        if old.values is not None:
            gone = [value for value in old.values if not new.takes(value)]
            if gone and new.values is None and not any(_holds(new.kind, _kind(value)) for value in gone):
                return [_said(path, f"may no longer be {_words(old.kind)}")]
            return [_said(path, f"the value {_shown(value)} is no longer allowed") for value in gone]
        if new.values is not None:
            if old.kind == "boolean" and all(new.takes(value) for value in (True, False)):
                return []
            return [_said(path, f"narrowed to the values {', '.join(map(_shown, new.values))}")]
        if new.kind == "anything" and not (new.schema.keys() & _SPOKEN - {"default"}):
            return []
        return [
            *_tightened(old, new, path),
            *self._refused_fields(old, new, path, seen),
            *self._refused_items(old, new, path, seen),
        ]

    def _refused_fields(self, old: _Form, new: _Form, path: str, seen: _Pairs) -> list[str]:
        if old.kind != "object":
            return []
        found = []
        before, after = old.schema.get("properties", {}), new.schema.get("properties", {})
        must = set(old.schema.get("required", []))
        for name, schema in before.items():
            if name in after:
                found += self.compare(schema, after[name], _step(path, name), seen)
            else:
                found.append(_said(_step(path, name), "the field was removed"))
        for name in new.schema.get("required", []):
            if name not in must:
                word = "is now required" if name in before else "is a new field and required"
                found.append(_said(_step(path, name), word))
        other_before, other_after = (form.schema.get("additionalProperties", True) for form in (old, new))
        if other_before is not False and other_after is False:
            found.append(_said(path, "fields that are not named are no longer allowed"))
        elif other_before is not False:
            found += self.compare(other_before, other_after, _step(path, "*"), seen)
        return found

    def _refused_items(self, old: _Form, new: _Form, path: str, seen: _Pairs) -> list[str]:
        if old.kind != "array":
            return []
        found = []
        before, after = old.schema.get("prefixItems", []), new.schema.get("prefixItems", [])
        if len(before) != len(after):
            found.append(_said(path, "has another number of places"))
        for place, (one, other) in enumerate(zip(before, after, strict=False)):
            found += self.compare(one, other, f"{path}[{place}]", seen)
        found += self.compare(old.schema.get("items", True), new.schema.get("items", True), f"{path}[]", seen)
        return found

    def _surprising(self, new: _Form, old: _Form, path: str, seen: _Pairs) -> list[str]:
        """What in the new alternative the old one did not promise."""
        found: list[str] = []
        if old.kind == "anything":
            return found
        if old.schema.get("format") is not None and old.schema.get("format") != new.schema.get("format"):
            found.append(_said(path, f"is no longer in the format {old.schema['format']}"))
        if old.kind == "object":
            before, after = old.schema.get("properties", {}), new.schema.get("properties", {})
            must = set(new.schema.get("required", []))
            for name, schema in before.items():
                if name not in after:
                    found.append(_said(_step(path, name), "the field was removed"))
                    continue
                if name in old.schema.get("required", []) and name not in must:
                    found.append(_said(_step(path, name), "may now be absent"))
                found += self.compare(schema, after[name], _step(path, name), seen)
            other_before, other_after = (form.schema.get("additionalProperties", True) for form in (old, new))
            if isinstance(other_before, Mapping) and other_after is not False:
                found += self.compare(other_before, other_after, _step(path, "*"), seen)
        if old.kind == "array":
            before, after = old.schema.get("prefixItems", []), new.schema.get("prefixItems", [])
            if len(before) != len(after):
                found.append(_said(path, "has another number of places"))
            for place, (one, other) in enumerate(zip(before, after, strict=False)):
                found += self.compare(one, other, f"{path}[{place}]", seen)
            found += self.compare(old.schema.get("items", True), new.schema.get("items", True), f"{path}[]", seen)
        return found

    def _forms(self, schema: object, root: Schema, refs: frozenset[str] = frozenset()) -> list[_Form]:
        """The alternatives of a schema: references followed, unions flattened."""
        if schema is False:
            return []
        if not isinstance(schema, Mapping):
            return [_Form("anything", {}, refs=refs)]
        if "$ref" in schema:
            name = str(schema["$ref"])
            if name in refs:
                return []  # refers to itself and nothing else
            siblings = {key: value for key, value in schema.items() if key != "$ref"}
            target = resolved(root, name)
            meant = merged(target, siblings) if isinstance(target, Mapping) else target
            return self._forms(meant, root, refs | {name})
        if "allOf" in schema:
            together: Schema = {key: value for key, value in schema.items() if key != "allOf"}
            for part in schema["allOf"]:
                while isinstance(part, Mapping) and "$ref" in part and str(part["$ref"]) not in refs:
                    refs |= {str(part["$ref"])}
                    part = resolved(root, str(part["$ref"]))
                together = merged(together, part) if isinstance(part, Mapping) else together
            return self._forms(together, root, refs)
        for union in ("anyOf", "oneOf"):
            if union in schema:
                around = {key: value for key, value in schema.items() if key != union}
                parts = [merged(around, part) if isinstance(part, Mapping) else part for part in schema[union]]
                return [form for part in parts for form in self._forms(part, root, refs)]
        return _plain_forms(schema, refs)


def _plain_forms(schema: Schema, refs: frozenset[str]) -> list[_Form]:
    """The alternatives of a schema without references and unions: one of each kind."""
    kinds = schema.get("type")
    names = [kinds] if isinstance(kinds, str) else list(kinds or [])
    if schema.get("nullable") and names:  # OpenAPI 3.0
        names.append("null")
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else list(schema["enum"])
        allowed = [value for value in values if not names or any(_holds(name, _kind(value)) for name in names)]
        if schema.get("nullable") and not any(value is None for value in allowed):
            allowed.append(None)
        grouped: dict[str, list[Any]] = {}
        for value in allowed:
            grouped.setdefault(_kind(value), []).append(value)
        return [_Form(kind, schema, several, refs) for kind, several in grouped.items()]
    if not names:
        names = ["object" if schema.keys() & _OF_OBJECTS else "array" if schema.keys() & _OF_LISTS else "anything"]
    return [_Form(name, schema, refs=refs) for name in names]


def _tightened(old: _Form, new: _Form, path: str) -> list[str]:
    """Bounds, patterns and formats that refuse more than they did."""
    before, after = old.schema, new.schema
    found = []
    for keyword, what in _UPPER:
        if keyword in after and after[keyword] < before.get(keyword, float("inf")):
            found.append(f"may have at most {after[keyword]} {what} now")
    for keyword, what in _LOWER:
        if after.get(keyword, 0) > before.get(keyword, 0):
            found.append(f"has to have at least {after[keyword]} {what} now")
    if old.kind in ("integer", "number"):
        if new.lower is not None and (old.lower is None or old.lower < new.lower):
            found.append(f"has to be {'more than' if new.lower[1] else 'at least'} {new.lower[0]}")
        if new.upper is not None and (old.upper is None or old.upper < new.upper):
            found.append(f"has to be {'less than' if new.upper[1] else 'at most'} {-new.upper[0]}")
        step, steps = before.get("multipleOf"), after.get("multipleOf")
        if steps is not None and (step is None or step % steps != 0) and not (old.kind == "integer" and steps == 1):
            found.append(f"has to be a multiple of {steps}")
    for keyword in ("pattern", "format"):
        if keyword in after and after[keyword] != before.get(keyword):
            was = f"changed from {before[keyword]}" if keyword in before else "is new"
            found.append(f"the {keyword} {was}: {after[keyword]}")
    if after.get("uniqueItems") and not before.get("uniqueItems"):
        found.append("items have to differ now")
    for keyword in sorted((before.keys() | after.keys()) - _SPOKEN - _SILENT):
        if keyword.startswith("x-") or keyword not in after:
            continue
        if keyword not in before or not _same(before[keyword], after[keyword]):
            found.append(f"the keyword {keyword} changed")
    return [_said(path, words) for words in found]


def _default_changed(old: object, new: object, path: str) -> list[str]:
    """Whether leaving the field out means something else now."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping) or not ("default" in old and "default" in new):
        return []
    if _same(old["default"], new["default"]):
        return []
    return [_said(path, f"leaving it out now means {_shown(new['default'])}, not {_shown(old['default'])}")]


def _step(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _said(path: str, words: str) -> str:
    return f"{path}: {words}" if path else words


def resolved(root: Schema, reference: str) -> Any:
    """What a reference into the same document points to. Raises LookupError where there is nothing."""
    if not reference.startswith("#"):
        raise LookupError(f"{reference} points out of the document")
    found: Any = root
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def merged(one: Schema, other: Schema) -> Schema:
    """Two schemas that both hold, as one; where both say the same keyword, the tighter of what we can compare."""
    both: dict[str, Any] = dict(one)
    for key, value in other.items():
        if key not in both:
            both[key] = value
        elif key == "properties":
            shared = {name: merged(both[key][name], value[name]) for name in both[key].keys() & value.keys()}
            both[key] = {**both[key], **value, **shared}
        elif key == "required":
            both[key] = list(dict.fromkeys([*both[key], *value]))
        elif key.startswith("max") or key == "exclusiveMaximum":
            both[key] = min(both[key], value)
        elif key.startswith("min") or key == "exclusiveMinimum":
            both[key] = max(both[key], value)
        elif key == "additionalProperties":
            both[key] = value if both[key] is True else both[key]
        elif key == "enum":
            both[key] = [item for item in both[key] if any(_same(item, another) for another in value)]
        elif key == "allOf":
            both[key] = [*both[key], *value]
    return both


# --- OpenAPI ---------------------------------------------------------------------------------------------------------


def openapi_breaks(old: Schema, new: Schema) -> list[str]:
    """Each incompatible change from one OpenAPI 3.1 document to the next, in plain words."""
    found: list[str] = []
    paths = {_template(path): item for path, item in new.get("paths", {}).items()}
    for path, item in old.get("paths", {}).items():
        other = paths.get(_template(path))
        if other is None:
            found.append(f"{path}: the path was removed")
            continue
        before, after = _deref(old, item), _deref(new, other)
        for method in _METHODS:
            if method in before:
                name = f"{method.upper()} {path}"
                if method not in after:
                    found.append(f"{name}: the method was removed")
                else:
                    found += [f"{name}: {words}" for words in _operation(old, new, before, after, method)]
    return list(dict.fromkeys(found))


def _template(path: str) -> str:
    """A path without the names of its parameters, which no client ever sends."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def _deref(root: Schema, item: Any) -> Any:
    """The item itself, where a reference stands for it."""
    while isinstance(item, Mapping) and "$ref" in item:
        item = resolved(root, str(item["$ref"]))
    return item


def _operation(old: Schema, new: Schema, old_item: Schema, new_item: Schema, method: str) -> list[str]:
    before, after = old_item[method], new_item[method]
    return [
        *_parameters(old, new, _parameters_of(old, old_item, before), _parameters_of(new, new_item, after)),
        *_request(old, new, _deref(old, before.get("requestBody")), _deref(new, after.get("requestBody"))),
        *_responses(old, new, before.get("responses", {}), after.get("responses", {})),
        *_security(before.get("security", old.get("security")), after.get("security", new.get("security"))),
    ]


def _parameters_of(root: Schema, item: Schema, operation: Schema) -> dict[tuple[str, str], Schema]:
    """The parameters by where they are and their name; those in the path are all one set, without names."""
    found: dict[tuple[str, str], Schema] = {}
    for listed in (item.get("parameters", []), operation.get("parameters", [])):
        place = 0
        for parameter in listed:
            one = _deref(root, parameter)
            name = str(one["name"])
            if one["in"] == "path":
                place += 1
                name = f"number {place}"
            found[str(one["in"]), name.lower() if one["in"] == "header" else name] = one
    return found


def _parameters(
    old: Schema, new: Schema, before: Mapping[tuple[str, str], Schema], after: Mapping[tuple[str, str], Schema]
) -> list[str]:
    found = []
    for key, parameter in before.items():
        what = f"the {key[0]} parameter {parameter['name']}"
        other = after.get(key)
        if other is None:
            found.append(f"{what} was removed")
            continue
        if other.get("required") and not parameter.get("required"):
            found.append(f"{what} is now required")
        if any(parameter.get(how) != other.get(how) for how in ("style", "explode")):
            found.append(f"{what} is written in another way")
        comparison = _Comparison(old, new, "writing")
        found += [f"{what}: {words}" for words in comparison.compare(_schema(parameter), _schema(other), "")]
    for key, other in after.items():
        if key not in before and other.get("required"):
            found.append(f"the {key[0]} parameter {other['name']} is new and required")
    return found


def _schema(parameter: Schema) -> Any:
    """The schema of a parameter or header, also where it is written as content."""
    if "schema" in parameter:
        return parameter["schema"]
    return next((media.get("schema", True) for media in parameter.get("content", {}).values()), True)


def _request(old: Schema, new: Schema, before: Schema | None, after: Schema | None) -> list[str]:
    if before is None:
        return ["a request body is now required"] if after and after.get("required") else []
    if after is None:
        return ["the request body was removed"]
    found = ["the request body is now required"] if after.get("required") and not before.get("required") else []
    return found + _contents(old, new, before, after, "the request", "writing")


def _responses(old: Schema, new: Schema, before: Schema, after: Schema) -> list[str]:
    found = []
    for status, response in before.items():
        if status not in after:
            found.append(f"the answer {status} was removed")
            continue
        one, other = _deref(old, response), _deref(new, after[status])
        what = f"the answer {status}"
        found += _contents(old, new, one, other, what, "reading")
        headers = {name.lower(): header for name, header in other.get("headers", {}).items()}
        for name, header in one.get("headers", {}).items():
            if name.lower() not in headers:
                found.append(f"{what}: the header {name} was removed")
                continue
            schemas = _schema(_deref(old, header)), _schema(_deref(new, headers[name.lower()]))
            words = _Comparison(old, new, "reading").compare(*schemas, "")
            found += [f"{what}: the header {name}: {word}" for word in words]
    return found


def _contents(old: Schema, new: Schema, before: Schema, after: Schema, what: str, side: Side) -> list[str]:
    found = []
    for media, content in before.get("content", {}).items():
        other = after.get("content", {}).get(media)
        if other is None:
            found.append(f"{what}: {media} was removed")
            continue
        words = _Comparison(old, new, side).compare(content.get("schema", True), other.get("schema", True), "")
        found += [f"{what}: {word}" for word in words]
    return found


def _security(before: Iterable[Schema] | None, after: Iterable[Schema] | None) -> list[str]:
    """Whether what let a caller in still does: each old way has to satisfy some new one."""
    ways = [{scheme: set(scopes) for scheme, scopes in way.items()} for way in after or []] or [{}]
    for old in list(before or []) or [{}]:
        had = {scheme: set(scopes) for scheme, scopes in old.items()}
        if not any(all(scheme in had and need <= had[scheme] for scheme, need in way.items()) for way in ways):
            who = " and ".join(had) if had else "nobody in particular"
            return [f"is closed to who comes with the authorisation of {who}" if had else "now needs authorisation"]
    return []
