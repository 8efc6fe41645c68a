"""The JSON Schema of a log line, derived from the event classes."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from agentkit_reporting.codec import LOG_CLASSES, LOG_VERSION, payload_struct

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KEYS = ("v", "seq", "ts", "type", "session_id", "run_id", "turn_id", "payload")
_REF = "#/$defs/{name}"


def event_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one line of a log: one alternative for each event type.

    Every line that `encode_event` writes is valid against it. Further keys are allowed in every record:
    a newer writer may add some. The last alternative is an event of a type that this version does not know.
    """
    references, definitions = msgspec.json.schema_components(
        map(payload_struct, LOG_CLASSES), ref_template=_REF
    )
    for definition in definitions.values():
        definition["description"] = inspect.cleandoc(definition.get("description", ""))
        definition.pop("additionalProperties", None)
    known = [
        _line({"const": name}, reference, title=name)
        for name, reference in zip(LOG_CLASSES, references, strict=True)
    ]
    unknown = _line(
        {"type": "string", "not": {"enum": list(LOG_CLASSES)}}, {"type": "object"}, title="unknown event"
    )
    schema = {
        "$schema": _DIALECT,
        "title": "A line of an agentkit log",
        "oneOf": [*known, unknown],
        "$defs": definitions,
    }
    # The trip makes lists of the tuples that stand as defaults.
    return msgspec.json.decode(msgspec.json.encode(schema), type=dict[str, Any])


def _line(wire_name: dict[str, Any], payload: dict[str, Any], *, title: str) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "properties": {
            "v": {"const": LOG_VERSION},
            "seq": {"type": "integer", "minimum": 1},
            "ts": {"type": "string", "format": "date-time"},
            "type": wire_name,
            "session_id": {"type": "string"},
            "run_id": {"type": "string"},
            "turn_id": {"type": ["string", "null"]},
            "payload": payload,
        },
        "required": list(_KEYS),
    }
