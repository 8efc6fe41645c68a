"""Events that are told twice: by a reporter that is registered twice, by a log with doubled lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import pytest
from hypothesis import given, settings

from agentkit_loop.events import AgentEvent
from agentkit_loop.testing import EventRecorder
from agentkit_loop.tools import tool
from agentkit_reporting import UsageReporter
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.tracing.content import SpanContent
from agentkit_reporting.tracing.fold import SPAN_EVENTS, SpanFold
from tests.loop.families import agent, calls, says
from tests.reporting.folded_spans import record, taken_by
from tests.reporting.sink_runs import agent_of
from tests.reporting.traced import Traced
from tests.strategies import event_lists

Doubled = Callable[[Sequence[AgentEvent]], list[AgentEvent]]


def each_twice(events: Sequence[AgentEvent]) -> list[AgentEvent]:
    return [event for event in events for _ in range(2)]


def beginnings_again(events: Sequence[AgentEvent]) -> list[AgentEvent]:
    """Return what a writer leaves that began again at some event before the end."""
    middle = len(events) - 1
    return [*events[:middle], *events[: middle - 1], *events[middle:]]


def folded_with_content(events: Sequence[AgentEvent]) -> tuple[list[object], int]:
    fold = SpanFold(content=SpanContent(Redactor()))
    spans = [*taken_by(fold, events), *fold.close()]
    return [record(span) for span in spans], fold.unplaced


def run_of_an_agent() -> list[AgentEvent]:
    recorder = EventRecorder()
    agent_of(recorder).run("go")
    return list(recorder.events)


@pytest.mark.parametrize("doubled", [each_twice, beginnings_again])
def test_a_log_with_doubled_lines_gives_the_spans_of_one_without(doubled: Doubled) -> None:
    events = run_of_an_agent()
    again = doubled(events)
    spans, unplaced = folded_with_content(events)
    more = [event for event in again if isinstance(event, SPAN_EVENTS)]
    once = [event for event in events if isinstance(event, SPAN_EVENTS)]
    assert folded_with_content(again) == (spans, unplaced + len(more) - len(once))


def test_a_reporter_that_is_registered_twice_tells_each_span_and_each_token_once() -> None:
    traced, usage, alone = Traced(content=True), UsageReporter(), Traced(content=True)
    recorder = EventRecorder()

    @tool
    def look() -> str:
        """Look."""
        return "found"

    replies = [calls("look", tokens=7), says("done", tokens=11)]
    observers = [traced.reporter, traced.reporter, usage, recorder]
    agent("a", replies, tools=[look], observers=observers).run("go")
    alone.told(recorder.events)
    assert traced.by_id() == alone.by_id()
    assert usage.total.usage.total_input_tokens == 18
    assert traced.total("gen_ai.client.token.usage", tokens="input")[1] == 18
    for name in ("client.operation", "execute_tool", "invoke_agent"):
        assert traced.total(f"gen_ai.{name}.duration")[0] == alone.total(f"gen_ai.{name}.duration")[0]


@given(events=event_lists())
@settings(max_examples=50, deadline=None)
def test_no_event_that_is_told_twice_changes_what_spans_tell(events: list[AgentEvent]) -> None:
    numbered = [
        attrs.evolve(event, session_id="s", run_id="r", seq=seq) for seq, event in enumerate(events, 1)
    ]
    assert folded_with_content(each_twice(numbered))[0] == folded_with_content(numbered)[0]


def test_events_without_a_number_are_told_as_they_come() -> None:
    events = [attrs.evolve(event, seq=0) for event in run_of_an_agent()]
    spans, unplaced = folded_with_content(events)
    assert (len(spans), unplaced) == (len(folded_with_content(run_of_an_agent())[0]), 0)
