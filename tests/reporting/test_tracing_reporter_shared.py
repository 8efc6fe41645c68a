"""A TracingReporter that is shared: by threads, by event loops, by families; and in the processes that use it."""

from __future__ import annotations

import asyncio
import collections
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from agentkit_loop.content import Parent
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, ToolExecutionStarted
from agentkit_loop.testing import EventRecorder
from tests.otlp_receiver import OtlpReceiver
from tests.reporting.sink_runs import agent_of
from tests.reporting.traced import Traced

SESSIONS = 12


def assert_whole(traced: Traced, runs: int, caplog: pytest.LogCaptureFixture) -> None:
    """Each run is a trace of its own, with all of its four spans and nobody else's."""
    spans = traced.by_id()
    assert sorted(collections.Counter(span.ids[0] for span in spans.values()).values()) == [4] * runs
    for span in spans.values():
        if span.parent is not None:
            assert spans[span.parent[1]].ids[0] == span.ids[0]
            assert (
                spans[span.parent[1]].attributes["gen_ai.conversation.id"]
                == (span.attributes["gen_ai.conversation.id"])
            )
    assert traced.reporter.open_spans == 0
    assert traced.reporter.account().is_complete
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_many_threads_share_one_reporter(caplog: pytest.LogCaptureFixture) -> None:
    traced, together = Traced(), threading.Barrier(SESSIONS)

    def work() -> None:
        agent = agent_of(traced.reporter, runs=3)
        together.wait()
        for _ in range(3):
            agent.run("go")

    threads = [threading.Thread(target=work) for _ in range(SESSIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_whole(traced, 3 * SESSIONS, caplog)


def test_many_sessions_on_one_event_loop_share_one_reporter(caplog: pytest.LogCaptureFixture) -> None:
    traced = Traced()

    async def main() -> None:
        await asyncio.gather(*(agent_of(traced.reporter).arun("go") for _ in range(SESSIONS)))
        assert trace.get_current_span() is trace.INVALID_SPAN

    asyncio.run(main())
    assert_whole(traced, SESSIONS, caplog)


class Begun(SpanProcessor):
    """Keeps the names of the spans that were begun, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        del parent_context
        self.names.append(span.name)


def test_runs_on_many_threads_below_one_call_share_its_span() -> None:
    begun = Begun()
    traced, recorder, together = Traced(begun), EventRecorder(), threading.Barrier(SESSIONS)
    above = EventEmitter([traced.reporter, recorder]).run(agent_name="above", model="m")
    with above, above.tool_call("delegate", {}) as call:
        started = next(event for event in recorder.events if isinstance(event, ToolExecutionStarted))
        parent = Parent(session_id=started.session_id, run_id=started.run_id, call_id=started.call_id)

        def child() -> None:
            scope = EventEmitter([traced.reporter]).run(agent_name="below", model="m", parent=parent)
            with scope:
                together.wait()

        threads = [threading.Thread(target=child) for _ in range(SESSIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        call.result("done")
    spans = traced.by_id()
    assert sorted(collections.Counter(begun.names).items()) == [
        ("execute_tool delegate", 1),
        ("invoke_agent above", 1),
        ("invoke_agent below", SESSIONS),
    ]
    (delegated,) = traced.named("execute_tool")
    below = [span for span in spans.values() if span.name == "invoke_agent below"]
    assert {span.parent[1] for span in below if span.parent is not None} == {delegated.ids[1]}
    assert len(below) == SESSIONS


class Hanging(SpanProcessor):
    """Hangs at the end of the first span, as an exporter without a batch may."""

    def __init__(self) -> None:
        self.is_hanging, self.may_go = threading.Event(), threading.Event()
        self._first = iter([True])

    def on_end(self, span: ReadableSpan) -> None:
        del span
        if next(self._first, False):
            self.is_hanging.set()
            self.may_go.wait()


def test_a_processor_that_hangs_in_one_session_keeps_no_other() -> None:
    hanging = Hanging()
    traced = Traced(hanging)
    held = threading.Thread(target=lambda: agent_of(traced.reporter).run("go"))
    held.start()
    hanging.is_hanging.wait()
    agent_of(traced.reporter).run("go")
    assert traced.reporter.flush() is True
    assert len(traced.spans) == 4
    hanging.may_go.set()
    held.join()
    assert len(traced.spans) == 8


def test_a_processor_that_tells_of_itself_is_heard() -> None:
    told = EventRecorder()

    class Telling(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            if not span.name.endswith("inner"):
                with EventEmitter([traced.reporter, told]).run(agent_name="inner", model="m"):
                    pass

    traced = Traced(Telling())
    with EventEmitter([traced.reporter]).run(agent_name="outer", model="m"):
        pass
    assert sorted(span.name for span in traced.spans) == ["invoke_agent inner", "invoke_agent outer"]
    assert traced.reporter.open_spans == 0


def test_closing_while_others_tell_refuses_what_comes_later_and_leaves_nothing_open() -> None:
    traced = Traced()

    def close(event: AgentEvent) -> None:
        if event.seq == 8:
            closer = threading.Thread(target=traced.reporter.close)
            closer.start()
            closer.join()

    agent_of(traced.reporter, close).run("go")
    account = traced.reporter.account()
    assert traced.reporter.open_spans == 0
    assert (account.failed, account.pending) == (account.received - account.delivered, 0)
    assert account.failed >= 1
    assert traced.spans[-1].name.startswith("invoke_agent")


# --- processes

PROGRAM = """
import logging, multiprocessing, os, sys
from agentkit_loop.emitter import EventEmitter
from agentkit_reporting import TracingReporter
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

class Printing(SpanProcessor):
    def on_end(self, span):
        print(span.name, flush=True)

class Raising(SpanProcessor):
    def on_end(self, span):
        raise ValueError("no luck")

def provider(processor):
    made = TracerProvider()
    made.add_span_processor(processor)
    return made

def run(reporter, name):
    return EventEmitter([reporter]).run(agent_name=name, model="m")

def told(*what):
    print(*what, flush=True)

told("== global")
reporter = TracingReporter()
with run(reporter, "early"):
    pass
trace.set_tracer_provider(provider(Printing()))
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
with run(reporter, "late"):
    pass
(scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
told(*[each.name for each in scope.metrics], reporter.account())

told("== multiprocessing")
reporter = TracingReporter(provider(Printing()))
child = multiprocessing.get_context("fork").Process(target=lambda: run(reporter, "child").__enter__())
child.start()
child.join()
told(child.exitcode, reporter.account())

told("== fork")
with run(reporter, "parent"):
    if (child := os.fork()) == 0:
        told("open", reporter.open_spans, reporter.account())
        with run(reporter, "child"):
            pass
        reporter.close()
        os._exit(0)
    os.waitpid(child, 0)
told(reporter.account())

told("== own delivery")
sending = TracingReporter.over_otlp(sys.argv[1])
with run(sending, "parent"):
    pass
if (child := os.fork()) == 0:
    for _ in range(3):
        with run(sending, "child"):
            pass
    os._exit(not sending.close(30.0))
told(os.waitpid(child, 0)[1], sending.close(30.0))

told("== exit")
logging.basicConfig(stream=sys.stdout, format="%(name)s %(message)s")
raising = TracingReporter(provider(Raising()))
for each in (reporter, raising):
    run(each, "cut").__enter__()
told("leaving", reporter.open_spans)
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


@pytest.fixture(scope="module")
def printed(receiver: OtlpReceiver) -> dict[str, list[str]]:
    """Return the lines of each part of a program that ran in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, receiver.endpoint]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    (warning,) = done.stderr.splitlines()  # of the one run that ended before there was a provider
    assert warning.startswith("no tracer provider is set, so spans go nowhere; ")
    parts = (part.splitlines() for part in done.stdout.split("== ")[1:])
    return {name: lines for name, *lines in parts}


def test_global_providers_that_are_set_after_the_reporter_is_made_are_used(
    printed: dict[str, list[str]],
) -> None:
    assert printed["global"] == ["invoke_agent late", "gen_ai.invoke_agent.duration complete: 4 of 4"]


def test_what_is_open_when_the_process_ends_is_ended(printed: dict[str, list[str]]) -> None:
    assert printed["exit"][0] == "leaving 1"
    assert printed["exit"].count("invoke_agent cut") == 1


def test_a_process_that_ends_with_a_processor_that_raises_says_so_once(printed: dict[str, list[str]]) -> None:
    said = [line for line in printed["exit"] if line.startswith("agentkit")]
    assert said == ["agentkit_reporting.tracing.reporter TracingReporter failed to end its spans"]


def test_a_child_of_multiprocessing_ends_what_it_has_open(printed: dict[str, list[str]]) -> None:
    assert printed["multiprocessing"] == ["invoke_agent child", "0 complete: 0 of 0"]


def test_a_forked_child_counts_its_own_events_and_leaves_its_parents_spans_to_the_parent(
    printed: dict[str, list[str]],
) -> None:
    assert printed["fork"] == [
        "open 0 complete: 0 of 0",
        "invoke_agent child",
        "invoke_agent parent",
        "complete: 2 of 2",
    ]


def test_over_a_delivery_of_its_own_a_forked_child_sends_the_metrics_that_it_measured(
    printed: dict[str, list[str]], receiver: OtlpReceiver
) -> None:
    assert printed["own delivery"] == ["0 True"]
    counts = {}
    for request in receiver.metrics:
        for metric in request.resource_metrics[0].scope_metrics[0].metrics:
            assert metric.name == "gen_ai.invoke_agent.duration"
            for point in metric.histogram.data_points:
                named = {each.key: each.value.string_value for each in point.attributes}
                counts[named["gen_ai.agent.name"]] = point.count
    assert counts == {"parent": 1, "child": 3}
    assert sorted(span.name for span in receiver.spans) == ["invoke_agent child"] * 3 + [
        "invoke_agent parent"
    ]
