"""Whatever the order of events and however many runs: nothing stays open, and no memory is kept of what is over."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping

import attrs
import pytest

from agentkit_loop import events as ev
from agentkit_loop.events import AgentEvent
from agentkit_loop.stamping import stamp
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_reporting.tracing.fold import SpanFold
from agentkit_reporting.tracing.spans import STATUS, AttributeValue
from agentkit_reporting.usage import UsageReporter
from tests.loop.crash_runs import recorded, until
from tests.reporting.folded_spans import (
    assert_counts,
    assert_tree,
    folded,
    outline,
    records,
    taken_by,
    told,
)

CRASHED = ErrorInfo(type="ProcessEnded", message="the process ended before this did", retryable=True)


def held_blocks() -> int:
    """Return how many pieces of memory are held: what keeps anything of each run keeps one of each at the least."""
    gc.collect()
    return sys.getallocatedblocks()


def test_ten_thousand_runs_leave_no_open_span_and_no_memory_behind() -> None:
    fold = SpanFold()
    run = [event for event in recorded("tools") if not isinstance(event, ev.ContentDelta)]
    template = [*run[:4], next(event for event in run if isinstance(event, ev.ToolExecutionStarted)), run[-1]]
    spans_of_one = len(folded(template))

    def runs(first: int, last: int) -> int:
        """Return how many spans are over."""
        return sum(
            len(fold.take(attrs.evolve(event, run_id=f"run-{number}", session_id=f"session-{number % 7}")))
            for number in range(first, last)
            for event in template
        )

    over = runs(0, 1_000)
    before = held_blocks()
    over += runs(1_000, 10_000)
    assert held_blocks() - before < 500
    assert fold.open_count == 0
    assert over == 10_000 * spans_of_one


def test_a_run_that_never_ends_keeps_what_is_open_and_a_bounded_number_of_moments() -> None:
    fold = SpanFold()
    fold.take(told(ev.RunStarted(agent_name="fixer", model="m"))[0])

    def turns(first: int, last: int) -> Iterator[AgentEvent]:
        for number in range(first, last):
            request, call = f"request-{number}", f"call-{number}"
            yield from told(
                ev.ModelRequestStarted(
                    request_id=request, attempt=1, purpose="turn", model="m", message_count=1, digests={}
                ),
                ev.UsageUpdated(request_id=request, model="m", usage=Usage(input_tokens=1), final=True),
                ev.ModelRequestFinished(request_id=request, finish_reason="tool_call"),
                ev.ToolExecutionStarted(call_id=call, name="work"),
                ev.ToolResultReceived(call_id=call, name="work", output="done"),
                ev.CustomEvent(name="app.tick"),
                seq=10 * number + 2,
            )

    for event in turns(0, 300):
        fold.take(event)
    before = held_blocks()
    for event in turns(300, 2_000):
        fold.take(event)
    assert held_blocks() - before < 500
    assert fold.open_count == 1


# --- what has no place


def test_what_is_told_of_a_run_whose_beginning_is_not_there_gives_no_span_and_is_counted() -> None:
    fold = SpanFold()
    events = recorded("tools")
    spans = taken_by(fold, events[1:])
    deltas_and_content = (ev.ContentDelta, ev.InputAccepted, ev.TurnStarted, ev.ToolCallRequested)
    assert fold.unplaced == sum(not isinstance(event, deltas_and_content) for event in events[1:])
    assert (spans, fold.open_count) == ([], 0)


def test_what_a_process_tells_that_was_taken_for_dead_is_superseded() -> None:
    whole = recorded("tools")
    before = until(whole, ev.ToolExecutionStarted, 2)
    zombie = whole[len(before) :]
    start = before[0]
    seq = before[-1].seq + 1
    running = before[-1]
    assert isinstance(running, ev.ToolExecutionStarted)
    closing = told(
        ev.ToolResultReceived(
            call_id=running.call_id, name=running.name, output="?", is_error=True, interrupted=True
        ),
        ev.RunFailed(error=CRASHED, usage=Usage()),
        session_id=start.session_id,
        run_id=start.run_id,
        seq=seq,
    )
    resumed = told(
        ev.RunStarted(agent_name="crashing", model="m", resumed_run=start.run_id, resumed_after=seq + 1),
        ev.RunFinished(outcome="completed", usage=Usage()),
        session_id=start.session_id,
        run_id="resumed",
        seq=seq + 2,
    )
    alone = folded([*before, *closing, *resumed])
    assert records(folded([*before, *closing, *resumed, *zombie])) == records(alone)
    assert records(folded([*before, *closing, *zombie, *resumed])) == records(alone)
    assert_counts(alone, [*before, *closing, *resumed])
    lost = UsageReporter()  # what was billed after the spans were over, and no more than that
    for event in zombie:
        lost.handle_event(event)
    both = UsageReporter()
    for event in [*before, *closing, *resumed, *zombie]:
        both.handle_event(event)
    told_tokens = [int(str(span.attributes.get("gen_ai.usage.input_tokens", 0))) for span in alone]
    assert lost.total.usage.total_input_tokens
    assert both.total.usage.total_input_tokens == sum(told_tokens) + lost.total.usage.total_input_tokens
    assert outline(alone) == [
        "invoke_agent crashing ! ProcessEnded",
        "  chat scripted",
        "  execute_tool work",
        "  execute_tool look ! interrupted",
        "invoke_agent crashing",
    ]


def test_a_run_whose_end_is_missing_ends_where_another_goes_on_from_it() -> None:
    first = told(
        ev.RunStarted(agent_name="a", model="m"), ev.ToolExecutionStarted(call_id="call-1", name="work")
    )
    second = told(
        ev.RunStarted(agent_name="a", model="m", resumed_run="r", resumed_after=2), run_id="r2", seq=3
    )
    fold = SpanFold()
    spans = taken_by(fold, [*first, *second])
    assert [span.name for span in spans] == ["execute_tool work", "invoke_agent a"]
    assert all(span.attributes["agentkit.unfinished"] is True for span in spans)
    assert fold.open_count == 1


def test_a_beginning_that_is_told_twice_begins_one_span() -> None:
    (begin,) = told(ev.RunStarted(agent_name="a", model="m"))
    assert len(folded([begin, begin])) == 1


def test_a_request_id_that_begins_again_ends_what_it_began_before() -> None:
    asked = [
        ev.ModelRequestStarted(
            request_id="request-1", attempt=1, purpose="turn", model="m", message_count=1, digests={}
        )
        for _ in range(2)
    ]
    used = ev.UsageUpdated(request_id="request-1", model="m", usage=Usage(input_tokens=3))
    spans = folded(told(ev.RunStarted(agent_name="a", model="m"), asked[0], used, asked[1]))
    assert_tree(spans)
    first, second, _ = spans
    assert first.attributes["gen_ai.usage.input_tokens"] == 3
    assert (first.name, second.name) == ("chat m", "chat m")


def test_ends_of_what_never_began_are_counted_and_give_no_span() -> None:
    fold = SpanFold()
    events = told(
        ev.RunStarted(agent_name="a", model="m"),
        ev.UsageUpdated(request_id="request-1", model="m", usage=Usage(input_tokens=3)),
        ev.ModelRequestFinished(request_id="request-1", finish_reason="completed"),
        ev.RunFinished(outcome="completed", usage=Usage()),
    )
    assert (len(taken_by(fold, events)), fold.unplaced) == (1, 2)


def test_events_of_a_newer_version_change_nothing() -> None:
    newer = ev.UnknownEvent(type="ponder_started", payload={"a": 1})
    (with_it,) = folded(told(ev.RunStarted(agent_name="a", model="m"), newer))
    (without,) = folded(told(ev.RunStarted(agent_name="a", model="m")))
    assert records([with_it]) == records([without])


# --- content


class Words:
    """A source of content that tells what it was given, and the text of errors."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.is_closed = False

    def take(self, event: AgentEvent) -> None:
        self.taken.append(event.type)

    def told_by(self, event: AgentEvent) -> Mapping[str, AttributeValue | None]:
        assert self.taken[-1] == event.type  # it was taken first
        match event:
            case ev.ModelRequestFailed() | ev.RunFailed():
                return {STATUS: event.error.message}
            case ev.ToolResultReceived():
                return {STATUS: "what the tool said"}
            case ev.ToolExecutionStarted():
                return {"custom.name": "arguments"}
            case _:
                return {}

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("name", ["tools", "refused", "compacted", "pending"])
def test_a_source_of_content_hears_every_event_and_adds_to_the_spans(name: str) -> None:
    events, words = recorded(name), Words()
    spans = folded(events, content=words)
    assert words.taken == [event.type for event in events]
    assert words.is_closed
    assert_tree(spans)
    assert_counts(spans, events)
    for span in spans:
        if span.operation == "execute_tool":
            assert span.attributes["agentkit.custom.name"] == "arguments"
            assert span.error in (None, "what the tool said")
        assert STATUS not in span.attributes
    assert {span.span_id for span in spans} == {span.span_id for span in folded(events)}


def test_a_result_without_a_time_zone_is_refused_and_keeps_no_other_run_open() -> None:
    fold = SpanFold()
    run, other = ev.RunStarted(agent_name="a", model="m"), ev.RunStarted(agent_name="b", model="m")
    started = ev.ToolExecutionStarted(call_id="c", name="t")
    result = ev.ToolResultReceived(call_id="c", name="t", output="", interrupted=True, is_error=True)
    told(run, started, result)
    stamp(result, "s", "r", None, 3, result.timestamp.replace(tzinfo=None))
    assert taken_by(fold, [run, started, *told(other, session_id="other")]) == []
    with pytest.raises(TypeError, match="naive"):
        fold.take(result)
    assert [span.name for span in fold.close()] == ["invoke_agent b", "invoke_agent a"]
    assert fold.open_count == 0
