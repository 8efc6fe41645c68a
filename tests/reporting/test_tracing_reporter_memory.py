"""Ten thousand runs through a TracingReporter over the SDK: no span stays open, and nothing is kept of what is over.

The events are those of two small runs, told again under other ids: what is looked at is what the reporter and the SDK
keep of runs, not what an agent does to have one. Blocks of the allocator are counted, which slows nothing down.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Sequence

import attrs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from agentkit_loop import Agent
from agentkit_loop.events import AgentEvent, ToolResultReceived
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.usage import Usage
from agentkit_reporting import TracingReporter
from agentkit_reporting.tracing.fold import SPAN_EVENTS

WARM, ALONE, BESIDE, THREADS = 2_000, 4_000, 1_000, 4
CALLING = 8  # every eighth run calls a tool, and the call of every sixteenth never ends
MOST_BLOCKS = 800  # one for ten of the runs that follow the warm ones


class Counting(SpanExporter):
    """Counts spans, and keeps none."""

    def __init__(self) -> None:
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.count += len(spans)
        return SpanExportResult.SUCCESS


class Telling:
    """Tells a reporter the same runs again and again."""

    def __init__(self) -> None:
        self.exporter = Counting()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(BatchSpanProcessor(self.exporter))
        meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
        self.reporter = TracingReporter(self.provider, meters)
        self._plain, self._calling = run_events(()), run_events((ScriptedCall(name="look"),))

    def tell(self, session: str, runs: int) -> None:
        for number in range(runs):
            for event in self._plain if number % CALLING else self._calling:
                if number % (2 * CALLING) or not isinstance(event, ToolResultReceived):
                    self.reporter.handle_event(
                        attrs.evolve(event, session_id=session, run_id=f"{session}-{number}")
                    )
            if number % 200 == 199:  # before the processor's queue is full
                self.provider.force_flush()

    def blocks(self) -> int:
        self.provider.force_flush()
        gc.collect()
        return sys.getallocatedblocks()


def run_events(calls: tuple[ScriptedCall, ...]) -> list[AgentEvent]:
    told: list[AgentEvent] = []
    usage = Usage(input_tokens=3, output_tokens=4)
    replies = [Reply(calls=calls, usage=usage)] if calls else []
    model = ScriptedModel([*replies, Reply(text="done", usage=usage)])
    with Agent(model, tools=[look], observers=[told.append]) as agent:
        agent.run("go")
    return [event for event in told if isinstance(event, SPAN_EVENTS)]


def look() -> str:
    """Look something up."""
    return "found"


def test_ten_thousand_runs_of_one_thread_and_of_several_leave_nothing() -> None:
    telling = Telling()
    telling.tell("warm", WARM)
    before = telling.blocks()
    telling.tell("alone", ALONE)
    threads = [
        threading.Thread(target=telling.tell, args=(f"beside-{number}", BESIDE)) for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = telling.blocks()
    assert telling.reporter.open_spans == 0
    assert telling.reporter.account().is_complete
    runs = WARM + ALONE + THREADS * BESIDE
    assert telling.exporter.count == 2 * runs + 2 * runs // CALLING
    assert after - before < MOST_BLOCKS
    telling.reporter.close()
    telling.provider.shutdown()
