"""Spans as lines of OTLP's JSON: files that collectors read.

The form of a line is that of the OTLP file exporter (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/)
and of OTLP/HTTP with JSON: ids in hexadecimal, 64-bit numbers as texts, enumerations as numbers, names in camelCase.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit_reporting.terminal import json_text
from agentkit_reporting.tracing.log_spans import LogSpan
from agentkit_reporting.tracing.scope import SCHEMA_URL, SCOPE_NAME, scope_version
from agentkit_reporting.tracing.spans import AttributeValue

__all__ = ["otlp_line"]

_KINDS = {"internal": 1, "client": 3}
_STATUS_ERROR = 2
_KNOWS_REMOTE = 0x100  # the flags tell whether the parent is remote
_IS_REMOTE = 0x200


def otlp_line(
    spans: Sequence[LogSpan], resource: Mapping[str, str], *, schema_url: str | None = SCHEMA_URL
) -> str:
    """Return a line, without its end, in printable ASCII; what is exported over HTTP is the same.

    schema_url: of the spans (scope.py).
    """
    scope: dict[str, Any] = {"name": SCOPE_NAME}
    if scope_version():
        scope["version"] = scope_version()
    scope_spans: dict[str, Any] = {"scope": scope, "spans": [_span(each) for each in spans]}
    if schema_url is not None:
        scope_spans["schemaUrl"] = schema_url
    told = {"resource": {"attributes": _pairs(resource)}, "scopeSpans": [scope_spans]}
    return json_text({"resourceSpans": [told]})


def _span(exported: LogSpan) -> dict[str, Any]:
    span = exported.span
    told: dict[str, Any] = {"traceId": f"{span.trace_id:032x}", "spanId": f"{span.span_id:016x}"}
    if exported.trace_state:
        told["traceState"] = exported.trace_state
    if span.parent is not None:
        told["parentSpanId"] = f"{span.parent.span_id:016x}"
    told["flags"] = _KNOWS_REMOTE | (_IS_REMOTE if exported.is_parent_remote else 0)
    told["name"] = span.name
    told["kind"] = _KINDS[span.kind]
    told["startTimeUnixNano"] = str(span.start_ns)
    told["endTimeUnixNano"] = str(span.end_ns)
    told["attributes"] = _pairs(span.attributes)
    if span.events:
        told["events"] = [
            {"timeUnixNano": str(event.ns), "name": event.name, "attributes": _pairs(event.attributes)}
            for event in span.events
        ]
    if span.dropped_events:
        told["droppedEventsCount"] = span.dropped_events
    told["status"] = {} if span.error is None else {"code": _STATUS_ERROR, "message": span.error}
    return told


def _pairs(attributes: Mapping[str, AttributeValue]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in attributes.items()]


def _value(value: AttributeValue) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _not_finite(value)}
    return {"arrayValue": {"values": [{"stringValue": each} for each in value]}}


def _not_finite(value: float) -> str:
    """Return what protobuf's JSON has for a number that JSON does not have."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
