"""TracingReporter: what a provider that fails does to it, what is open when it ends, and what it refuses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import (
    Sampler,
    SamplingResult,
)

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import ModelRequestStarted, ObserverFailed, ToolResultReceived
from agentkit_loop.models.sdk_spans import keepers
from agentkit_loop.testing import EventRecorder, Reply, ScriptedModel
from agentkit_reporting import TracingReporter
from agentkit_reporting.tracing.api_spans import ApiSpans
from tests.otlp_receiver import OtlpReceiver
from tests.reporting.adapters import notes
from tests.reporting.sink_runs import Play, agent_of, on_thread_and_loop
from tests.reporting.traced import Raising, Traced

# --- a provider that fails


@pytest.mark.parametrize("moment", ["start", "end"])
@on_thread_and_loop
def test_a_processor_that_raises_harms_neither_the_agent_nor_the_other_spans(
    play: Play, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Raising(on=moment)
    traced, recorder = Traced(broken), EventRecorder()
    with agent_of(traced.reporter, recorder) as agent:
        result = play(agent)
        assert result.text == "and this is the answer to it"
    assert broken.raised >= 4
    (failed,) = [event for event in recorder.events if isinstance(event, ObserverFailed)]
    assert failed.observer == "TracingReporter"
    assert traced.reporter.account().failed >= 4
    assert traced.reporter.open_spans == 0
    assert traced.reporter.close() is False
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


class Interrupted(SpanProcessor):
    """Ctrl-C while the first span is handed on."""

    def __init__(self) -> None:
        self._first = iter([True])

    def on_end(self, span: ReadableSpan) -> None:
        del span
        if next(self._first, False):
            raise KeyboardInterrupt


def test_an_interrupt_within_a_processor_is_passed_on_when_all_spans_are_ended() -> None:
    ended = Traced()
    recorder = EventRecorder()
    scope = EventEmitter([recorder]).run(agent_name="a", model="m")
    with scope:
        scope.tool_call("look", {}).__enter__()
    interrupted = Traced(Interrupted())
    told = [event for event in recorder.events if not isinstance(event, ToolResultReceived)]
    for event in told[:-1]:
        interrupted.reporter.handle_event(event)
    with pytest.raises(KeyboardInterrupt):
        interrupted.reporter.handle_event(told[-1])  # ends the call that has no end, and the run
    names = [span.name for span in interrupted.spans]
    assert names[-1] == "invoke_agent a"
    assert len(ended.told(told).spans) == 2


class Undecided(Sampler):
    """A sampler that raises."""

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        raise ValueError("no luck")

    def get_description(self) -> str:
        return "undecided"


def test_a_sampler_that_raises_costs_the_spans_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    traced = Traced(sampler=Undecided())
    with agent_of(traced.reporter) as agent:
        assert agent.run("go").text == "and this is the answer to it"
    assert traced.spans == []
    assert traced.reporter.open_spans == 0
    assert len(caplog.records) == 1


# --- its end


def test_closing_ends_what_is_open_and_is_harmless_twice() -> None:
    traced = Traced()
    driver = agent_of(traced.reporter).start()
    driver.submit("go")
    next(iter(driver))
    open_before = traced.reporter.open_spans
    assert open_before >= 1
    assert traced.reporter.close() is True
    assert traced.reporter.open_spans == 0
    told = traced.spans
    assert told[-1].name.startswith("invoke_agent")
    assert traced.reporter.close() is traced.reporter.flush() is True
    assert traced.spans == told
    for event in notes(2):
        with pytest.raises(IllegalMoveError, match="make a new one"):
            traced.reporter.handle_event(event)
    assert traced.reporter.account().failed == 2
    assert traced.reporter.close() is traced.reporter.flush() is False


def test_flushing_in_the_middle_of_a_run_ends_nothing() -> None:
    traced = Traced()
    with EventEmitter([traced.reporter]).run(model="m"):
        assert traced.reporter.flush(5.0) is traced.reporter.hand_over() is True
        assert traced.reporter.open_spans == 1
        assert traced.spans == []
    assert len(traced.spans) == 1


def test_it_stands_in_for_the_spans_of_an_sdk_until_it_is_closed() -> None:
    traced = Traced()
    places: list[Any] = []

    def asked(request: Any) -> Reply:
        del request
        first = next(event for event in recorder.events if isinstance(event, ModelRequestStarted))
        places.extend(
            traced.reporter.place_of_request(first.session_id, first.run_id, request_id)
            for request_id in (first.request_id, "unknown")
        )
        return Reply(text="done")

    recorder = EventRecorder()
    agent = agent_of(traced.reporter, recorder)
    agent.model = ScriptedModel(asked)
    assert traced.reporter in keepers()
    agent.run("go")
    context, nothing = places
    assert nothing is None
    (chat,) = traced.named("chat")
    assert trace.get_current_span(context).get_span_context().span_id == chat.ids[1]
    assert traced.reporter.tracer_provider is traced.provider
    traced.reporter.close()
    assert traced.reporter not in keepers()


@pytest.mark.parametrize("status", [200, 404], ids=["arrived", "lost"])
def test_a_delivery_of_its_own_is_flushed_and_closed_with_it_and_never_by_a_run(status: int) -> None:
    with OtlpReceiver(statuses=(status,) * 3) as receiver:
        reporter = TracingReporter.over_otlp(receiver.endpoint, metrics=False)
        agent = agent_of(reporter, runs=2)
        agent.run("go")
        assert receiver.requests == 0
        assert reporter.flush(30.0) is (status == 200)
        assert receiver.requests == 1
        agent.run("go")
        assert reporter.close(30.0) is reporter.account().is_complete is (status == 200)
        assert receiver.requests == 2
        (sent,) = reporter.account().inner
        assert (sent.received, sent.delivered) == (8, 8 if status == 200 else 0)


@pytest.mark.parametrize(
    ("made", "refused"),
    [
        (lambda: TracingReporter(3), "tracer_provider=3"),  # type: ignore[arg-type] # what is refused
        (lambda: TracingReporter(TracerProvider(), "m"), "meter_provider='m'"),  # type: ignore[arg-type] # the same
        (lambda: ApiSpans(object()), "tracer_provider=<object"),  # type: ignore[arg-type] # the same
    ],
    ids=["tracers", "meters", "anything"],
)
def test_what_is_no_provider_is_refused(made: Callable[[], object], refused: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{refused}.*; give"):
        made()


@pytest.mark.parametrize("wrong", [{"profile": "none"}, {"content": "loud"}, {"redact": "x"}], ids=str)
def test_a_wrong_option_leaves_no_thread_of_a_delivery_behind(wrong: dict[str, Any]) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ConfigurationError):
        TracingReporter.over_otlp("http://127.0.0.1:9", **wrong)
    assert set(threading.enumerate()) <= before


def test_a_run_that_was_begun_before_it_was_watched_makes_no_span_and_its_events_arrive() -> None:
    recorder = EventRecorder()
    with agent_of(recorder) as agent:
        agent.run("go")
    later = Traced().told(recorder.events[3:])
    assert later.spans == []
    assert later.reporter.account().is_complete
