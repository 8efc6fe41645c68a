"""Lines of OTLP's JSON: the very message that goes over HTTP, in the form that collectors read from files."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agentkit_loop.trace_context import SpanPlace
from agentkit_reporting.tracing.export_resource import export_resource
from agentkit_reporting.tracing.log_spans import LogSpan, spans_of
from agentkit_reporting.tracing.otlp import OtlpSender, Sent
from agentkit_reporting.tracing.otlp_json import otlp_line
from agentkit_reporting.tracing.scope import SCHEMA_URL, SCOPE_NAME
from tests.otlp_receiver import OtlpReceiver
from tests.reporting.span_samples import T0, exported, family, runs, span

RESOURCE = {"service.name": "tests", "service.version": "1 ä"}


def message_of(line: str) -> ExportTraceServiceRequest:
    """Return the message of a line; protobuf's own JSON has ids in base64, OTLP's in hexadecimal."""
    told = json.loads(line)
    for resource in told["resourceSpans"]:
        for each in itertools.chain.from_iterable(scope["spans"] for scope in resource["scopeSpans"]):
            for name in each.keys() & {"traceId", "spanId", "parentSpanId"}:
                each[name] = base64.b64encode(bytes.fromhex(each[name])).decode()
    return ParseDict(told, ExportTraceServiceRequest())


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as started:
        yield started


def check_equal_to_what_is_sent(spans: list[LogSpan], receiver: OtlpReceiver) -> None:
    with OtlpSender(f"{receiver.endpoint}/v1/traces", headers={}, resource=RESOURCE) as sender:
        assert sender.send(spans) == Sent(taken=len(spans))
    # In bytes, since a number that is none is not equal to itself.
    line, sent = (
        message.SerializeToString(deterministic=True)
        for message in (message_of(otlp_line(spans, RESOURCE)), receiver.traces.pop())
    )
    assert line == sent


@given(spans=runs())
@settings(max_examples=50, deadline=None)
def test_a_line_is_the_message_that_is_sent(receiver: OtlpReceiver, spans: list[LogSpan]) -> None:
    check_equal_to_what_is_sent(spans, receiver)


def test_a_line_of_a_family_of_agents_is_the_message_that_is_sent(receiver: OtlpReceiver) -> None:
    check_equal_to_what_is_sent(list(spans_of(family())), receiver)


def test_ids_are_hexadecimal_long_numbers_texts_and_enumerations_numbers() -> None:
    place = SpanPlace(trace_id=0xABC, span_id=0xDEF)
    told = span(
        "chat",
        number=0x12,
        trace_id=0xABC,
        parent=place,
        attributes={"n": 3, "f": 0.5, "b": True, "t": ("x", "y")},
        error="cut",
    )
    line = json.loads(otlp_line(exported(told, is_parent_remote=True, trace_state="a=1"), RESOURCE))
    (resource,) = line["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    assert (scope["scope"]["name"], scope["schemaUrl"]) == (SCOPE_NAME, SCHEMA_URL)
    assert scope["spans"] == [
        {
            "traceId": f"{0xABC:032x}",
            "spanId": f"{0x12:016x}",
            "traceState": "a=1",
            "parentSpanId": f"{0xDEF:016x}",
            "flags": 0x300,
            "name": "chat",
            "kind": 3,
            "startTimeUnixNano": str(T0),
            "endTimeUnixNano": str(T0 + 1_000_000),
            "attributes": [
                {"key": "n", "value": {"intValue": "3"}},
                {"key": "f", "value": {"doubleValue": 0.5}},
                {"key": "b", "value": {"boolValue": True}},
                {
                    "key": "t",
                    "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"stringValue": "y"}]}},
                },
            ],
            "status": {"code": 2, "message": "cut"},
        }
    ]


def test_a_line_is_one_line_of_printable_ascii() -> None:
    line = otlp_line(exported(span(name="a\nb\u2028\x1b[31m€", attributes={"\x85": "\x7f"})), RESOURCE)
    assert all(" " <= each <= "~" for each in line)


@pytest.mark.parametrize(
    ("given_name", "environment", "expected"),
    [
        (None, {}, {"service.name": "agentkit"}),
        (
            None,
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a%20b,team= x ,broken"},
            {"service.name": "a b", "team": "x"},
        ),
        (
            None,
            {"OTEL_SERVICE_NAME": "svc", "OTEL_RESOURCE_ATTRIBUTES": "service.name=a,service.version=2"},
            {"service.name": "svc", "service.version": "2"},
        ),
        ("mine", {"OTEL_SERVICE_NAME": "svc"}, {"service.name": "mine"}),
    ],
    ids=["default", "attributes", "name-wins", "argument-wins"],
)
def test_the_service_is_named_by_argument_or_environment(
    monkeypatch: pytest.MonkeyPatch,
    given_name: str | None,
    environment: dict[str, str],
    expected: dict[str, Any],
) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = export_resource(given_name)
    assert {**told, **expected} == told
    assert told["telemetry.sdk.language"] == "python"
    assert ("service.version" in told) == (
        expected["service.name"] == "agentkit" or "service.version" in expected
    )
