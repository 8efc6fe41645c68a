"""Spans for tests of what exports them: random runs, and those of an agent with three sub-agents at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.trace_context import SpanPlace
from agentkit_reporting.tracing.log_spans import LogSpan
from agentkit_reporting.tracing.spans import LARGEST_INTEGER, SMALLEST_INTEGER, Span, SpanEvent
from tests.strategies import texts

NAMES = ("first", "second", "third")
T0 = 1_779_648_000_000_000_000
"""A moment in nanoseconds since 1970."""


def family() -> list[AgentEvent]:
    """Return the events of a run with three sub-agents behind calls of one message, as they came."""
    children = [
        Agent(ScriptedModel([f"I am {name}"]), name=name).as_tool(description="Look.") for name in NAMES
    ]
    calls = tuple(ScriptedCall(name=name, input={"prompt": "look"}) for name in NAMES)
    recorder = EventRecorder()
    with Agent(
        ScriptedModel([Reply(calls=calls), "It is there."]),
        tools=children,
        observers=[recorder],
        name="boss",
    ) as agent:
        agent.run("go")
    return recorder.events


def orders(events: Sequence[AgentEvent]) -> list[list[AgentEvent]]:
    """Return the events as they came, and session by session: as files in an order, and the other way round."""
    sessions = list(dict.fromkeys(event.session_id for event in events))
    files = [[event for event in events if event.session_id == each] for each in sessions]
    return [list(events), [*itertools.chain(*files)], [*itertools.chain(*reversed(files))]]


def span(
    operation: Literal["invoke_agent", "chat", "execute_tool"] = "invoke_agent",
    *,
    number: int = 1,
    parent: Span | SpanPlace | None = None,
    start_ns: int = T0,
    end_ns: int = T0 + 1_000_000,
    **fields: Any,
) -> Span:
    """Return a span of `ses-1` and `run-1`."""
    return Span(
        **{
            "operation": operation,
            "name": operation,
            "trace_id": 7,
            "span_id": number,
            "parent": parent,
            "start_ns": start_ns,
            "end_ns": end_ns,
            "session_id": "ses-1",
            "run_id": "run-1",
            "attributes": {},
            "labels": {},
            **fields,
        }
    )


def exported(*spans: Span, is_parent_remote: bool = False, trace_state: str = "") -> list[LogSpan]:
    """Return the spans as they are exported."""
    return [LogSpan(each, is_parent_remote, trace_state) for each in spans]


# What a profile lets through: no number that a receiver could not take.
_VALUES = (
    texts()
    | st.booleans()
    | st.integers(SMALLEST_INTEGER, LARGEST_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(texts(), max_size=3).map(tuple)
)
_ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=8), _VALUES, max_size=4)
_NS = st.integers(T0, T0 + 3_000_000)


@st.composite
def runs(draw: st.DrawFn) -> list[LogSpan]:
    """Return the spans of a run: requests and calls at any times in it, the run last."""
    times = sorted(draw(st.lists(_NS, min_size=2, max_size=2)))
    place = draw(st.none() | st.builds(SpanPlace, trace_id=st.just(7), span_id=st.integers(1, 2**64 - 1)))
    run = span(
        number=1,
        parent=place,
        start_ns=times[0],
        end_ns=times[1],
        attributes=draw(_ATTRIBUTES),
        name=draw(texts()),
        error=draw(st.none() | texts()),
        dropped_events=draw(st.integers(0, 3)),
        events=draw(st.lists(st.builds(SpanEvent, name=texts(), ns=_NS, attributes=_ATTRIBUTES), max_size=3)),
    )
    children = []
    inside = st.integers(times[0], times[1])
    for number in range(draw(st.integers(0, 6))):
        start, end = sorted((draw(inside), draw(inside)))
        operation: Any = draw(st.sampled_from(("chat", "execute_tool")))
        children.append(span(operation, number=number + 2, parent=run, start_ns=start, end_ns=end))
    children.sort(key=lambda each: each.end_ns)
    remote = place is not None and draw(st.booleans())
    state = draw(st.sampled_from(("", "vendor=1", "a=1,tenant@vendor=x y")))
    return [
        *exported(*children, trace_state=state),
        *exported(run, is_parent_remote=remote, trace_state=state),
    ]
