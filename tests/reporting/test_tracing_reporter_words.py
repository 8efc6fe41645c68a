"""TracingReporter: what it says of itself, and of a provider that nobody set; the schema that its spans stand under."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.testing import EventRecorder
from agentkit_reporting import TracingReporter
from agentkit_reporting.tracing.conventions import ProfileName, profile_of
from agentkit_reporting.tracing.log_spans import spans_of
from agentkit_reporting.tracing.otlp import OtlpSender
from agentkit_reporting.tracing.otlp_json import otlp_line
from agentkit_reporting.tracing.scope import SCHEMA_URL, schema_url_of
from tests.otlp_receiver import OtlpReceiver
from tests.reporting.sink_runs import agent_of
from tests.reporting.traced import Traced

ROOT = Path(__file__).parent.parent.parent

NO_PROVIDER = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
from agentkit_loop.emitter import EventEmitter
from agentkit_reporting import TracingReporter
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

def run(*reporters):
    for reporter in reporters:
        with EventEmitter([reporter]).run(agent_name="a", model="m"):
            pass

reporters = TracingReporter(), TracingReporter()
run(*reporters, *reporters)
print("set")
kept, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
run(reporters[0])
print(len(kept.get_finished_spans()))
"""


def lines_of(program: str, **environment: str) -> list[str]:
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.splitlines()


def test_that_nobody_has_set_a_provider_is_said_once_by_each_and_one_that_is_set_later_works() -> None:
    warning = (
        "WARNING no tracer provider is set, so spans go nowhere; call opentelemetry.trace.set_tracer_provider(…), give "
        "one as TracingReporter(tracer_provider), or have TracingReporter.over_otlp(…) send them"
    )
    assert lines_of(NO_PROVIDER, PYTHONUTF8="1") == [warning, warning, "set", "1"]


def test_where_opentelemetry_is_switched_off_nobody_is_told_to_set_one() -> None:
    assert lines_of(NO_PROVIDER, PYTHONUTF8="1", OTEL_SDK_DISABLED="true") == ["set", "0"]


def test_a_provider_that_drops_is_a_provider(caplog: pytest.LogCaptureFixture) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF  # noqa: PLC0415 - of this test alone
    from opentelemetry.trace import NoOpTracerProvider  # noqa: PLC0415 - the same

    traced = Traced(sampler=ALWAYS_OFF)
    with caplog.at_level(logging.WARNING):
        agent_of(traced.reporter, TracingReporter(NoOpTracerProvider(), metrics=False)).run("go")
    assert (traced.spans, caplog.records) == ([], [])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "<TracingReporter: profile genai, content off, metrics on>"),
        (
            {"profile": "all", "content": True, "metrics": False},
            "<TracingReporter: profile all, content on, metrics off>",
        ),
    ],
    ids=["default", "all"],
)
def test_its_repr_says_what_it_tells(options: dict[str, Any], told: str) -> None:
    assert repr(Traced(**options).reporter) == told


def test_its_repr_says_where_it_sends_without_credentials() -> None:
    reporter = TracingReporter.over_otlp("http://me:word@localhost:9/?token=abc", metrics=False)
    assert repr(reporter) == (
        "<TracingReporter: profile genai, content off, metrics off, to http://***@localhost:9/v1/traces>"
    )
    reporter.close(0.0)


SCHEMAS = {
    "genai": SCHEMA_URL,
    "genai-1.36": "https://opentelemetry.io/schemas/1.36.0",
    "openinference": None,
    "all": SCHEMA_URL,
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_profile_has_its_schema_live_and_exported(name: ProfileName) -> None:
    wanted, profile = SCHEMAS[name], profile_of(name)
    traced, recorder = Traced(profile=name), EventRecorder()
    agent_of(traced.reporter, recorder).run("go")
    assert {span.scope[2] or None for span in traced.spans} == {wanted}
    (scope,) = traced.reader.get_metrics_data().resource_metrics[0].scope_metrics  # type: ignore[union-attr] # there are
    assert scope.scope.schema_url == SCHEMA_URL
    spans = list(spans_of(recorder.events, profile=profile))
    line = json.loads(otlp_line(spans, {}, schema_url=schema_url_of(profile)))
    assert line["resourceSpans"][0]["scopeSpans"][0].get("schemaUrl") == wanted
    with (
        OtlpReceiver() as receiver,
        OtlpSender(
            f"{receiver.endpoint}/v1/traces", headers={}, resource={}, schema_url=schema_url_of(profile)
        ) as sender,
    ):
        sender.send(spans)
        (request,) = receiver.traces
    assert request.resource_spans[0].scope_spans[0].schema_url == (wanted or "")
