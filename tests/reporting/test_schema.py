"""The published schema: every line that is written is valid against it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from agentkit_loop.events import EVENT_TYPES, AgentEvent
from agentkit_reporting.codec import decode_event, encode_event
from agentkit_reporting.schema import event_schema
from tests.strategies import events

SCHEMA = event_schema()

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
}
_ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "format", "discriminator"}
_ANNOTATIONS |= {"contentEncoding"}


def is_valid(value: Any, schema: Any) -> bool:
    """Whether a value is valid; knows the keywords that our schema uses, and no others."""
    if isinstance(schema, bool):
        return schema
    return all(_holds(key, schema, value) for key in schema if key not in _ANNOTATIONS)


def _holds(key: str, schema: dict[str, Any], value: Any) -> bool:
    rule = schema[key]
    match key:
        case "$ref":
            return is_valid(value, SCHEMA["$defs"][rule.removeprefix("#/$defs/")])
        case "const":
            return bool(value == rule)
        case "enum":
            return bool(value in rule)
        case "not":
            return not is_valid(value, rule)
        case "anyOf":
            return any(is_valid(value, each) for each in rule)
        case "oneOf":
            return sum(is_valid(value, each) for each in rule) == 1
        case "type":
            names = rule if isinstance(rule, list) else [rule]
            return any(_is_a(value, name) for name in names)
        case "minimum":
            return bool(value >= rule)
        case "required":
            return bool(set(rule) <= value.keys())
        case "properties":
            return all(is_valid(value[name], each) for name, each in rule.items() if name in value)
        case "additionalProperties":
            return all(is_valid(each, rule) for each in value.values())
        case "items":
            return all(is_valid(each, rule) for each in value[len(schema.get("prefixItems", ())) :])
        case "prefixItems":
            return all(is_valid(each, inner) for each, inner in zip(value, rule, strict=False))
        case "minItems":
            return bool(len(value) >= rule)
        case "maxItems":
            return bool(len(value) <= rule)
        case _:
            raise AssertionError(f"the schema uses {key!r}; teach it to this test")


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])


@given(events())
def test_every_written_line_is_valid(event: AgentEvent) -> None:
    assert is_valid(json.loads(encode_event(event)), SCHEMA)


LINE: dict[str, Any] = {
    "v": 1,
    "seq": 1,
    "ts": "2026-05-24T18:40:00.123456Z",
    "type": "turn_started",
    "session_id": "s",
    "run_id": "r",
    "turn_id": None,
    "payload": {"index": 3},
}


@pytest.mark.parametrize(
    "changes",
    [{"v": 2}, {"seq": 0}, {"seq": "1"}, {"turn_id": 5}, {"payload": {}}, {"payload": {"index": "3"}}],
)
def test_a_wrong_line_is_not_valid(changes: dict[str, Any]) -> None:
    assert is_valid(LINE, SCHEMA)
    assert not is_valid(LINE | changes, SCHEMA)


def test_fields_of_a_newer_writer_are_valid() -> None:
    line = LINE | {"payload": {"index": 3, "mood": "good"}}
    assert is_valid(line, SCHEMA)
    assert is_valid(json.loads(encode_event(decode_event(json.dumps(line)))), SCHEMA)


def test_there_is_an_alternative_for_each_event_type_and_one_for_the_unknown() -> None:
    titles = [line["title"] for line in SCHEMA["oneOf"]]
    assert titles == [*EVENT_TYPES, "unknown event"]


def test_every_definition_says_what_it_is() -> None:
    assert all(definition["description"] for definition in SCHEMA["$defs"].values())
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
