"""Spans: a run as an OpenTelemetry backend gets it, live, and the same spans again from its log."""

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentkit_loop import Agent, Reply, ScriptedCall, ScriptedModel, Usage
from agentkit_reporting import JsonlReporter, TracingReporter, read_events


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def provider_of(exporter: InMemorySpanExporter) -> TracerProvider:
    """Return a provider that keeps its spans in memory; yours sends them to a backend."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


live, again = InMemorySpanExporter(), InMemorySpanExporter()
usage = Usage(input_tokens=20, output_tokens=7)
model = ScriptedModel([Reply(calls=(ScriptedCall(name="add", input={"a": 2, "b": 3}),), usage=usage), "5"])
reporters = [TracingReporter(provider_of(live)), JsonlReporter("logs/run.jsonl")]
with Agent(model, tools=[add], name="adder", observers=reporters) as agent:
    agent.run("What is 2 + 3?")

with TracingReporter(provider_of(again)) as reporter:  # next week, from the log
    for event in read_events("logs/run.jsonl"):
        reporter.handle_event(event)


def line(span: ReadableSpan) -> str:
    """Say what a span is."""
    attributes = span.attributes or {}
    tokens = attributes.get("gen_ai.usage.input_tokens")
    return f"{'  ' if span.parent else ''}{span.name}" + (f"  {tokens} tokens in" if tokens else "")


spans = sorted(live.get_finished_spans(), key=lambda span: span.start_time or 0)
print("\n".join(line(span) for span in spans))
ids = [[span.context.span_id for span in exporter.get_finished_spans()] for exporter in (live, again)]
print("the same ids live and from the log:", ids[0] == ids[1])
