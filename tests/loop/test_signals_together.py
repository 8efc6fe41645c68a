"""A model may yield what came together as a list: it is judged as if it had come one by one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.content import AppendText, BeginPart, CommitPart, TextPart
from agentkit_loop.errors import ModelError
from agentkit_loop.events import AgentEvent, ContentDelta, ModelRequestFailed
from agentkit_loop.models.protocol import Answer, ModelRequest, UsageReport
from agentkit_loop.testing import EventRecorder
from agentkit_loop.tool_context import CustomFact
from agentkit_loop.usage import Usage
from tests.rules import faults

CHUNKS = ("one ", "two ", "th\u00e9 third")
SIGNALS: tuple[Any, ...] = (
    UsageReport(usage=Usage(input_tokens=3)),
    BeginPart("0", "text"),
    *(AppendText("0", chunk) for chunk in CHUNKS),
    CommitPart("0", TextPart(text="".join(CHUNKS))),
    Answer(finish_reason="completed", usage=Usage(input_tokens=3, output_tokens=5)),
)


class Together:
    """A model that yields what it is given."""

    name = "together"

    def __init__(self, yields: list[Any]) -> None:
        self.yields = yields

    def stream(self, request: ModelRequest) -> Iterator[Any]:
        del request
        yield from self.yields

    async def astream(self, request: ModelRequest) -> AsyncIterator[Any]:
        del request
        for each in self.yields:
            yield each


def told(yields: list[Any], *, on_loop: bool = False) -> list[tuple[str, object]]:
    recorder = EventRecorder()
    agent = Agent(Together(yields), observers=[recorder])
    result = asyncio.run(agent.arun("go")) if on_loop else agent.run("go")
    assert result.text == "".join(CHUNKS)
    assert faults(recorder.events) == []
    return [(event.type, getattr(event, "delta", None)) for event in recorder.events]


@given(st.lists(st.integers(0, len(SIGNALS)), max_size=5), st.booleans())
def test_any_way_to_put_signals_together_tells_the_same(cuts: list[int], on_loop: bool) -> None:
    places = [0, *sorted(cuts), len(SIGNALS)]
    together = [list(SIGNALS[start:end]) for start, end in itertools.pairwise(places)]
    assert told(together, on_loop=on_loop) == told(list(SIGNALS))


@pytest.mark.parametrize("on_loop", [False, True])
def test_a_stream_shows_each_event_of_a_list(on_loop: bool) -> None:
    agent = Agent(Together([list(SIGNALS)]))

    async def asynchronous() -> list[AgentEvent]:
        return [event async for event in agent.astream("go")]

    shown = asyncio.run(asynchronous()) if on_loop else list(agent.stream("go"))
    assert shown[-1].seq == len(shown)
    assert appended(shown) == list(CHUNKS)


def appended(events: Sequence[AgentEvent]) -> list[str]:
    deltas = [event.delta for event in events if isinstance(event, ContentDelta)]
    return [delta.chunk for delta in deltas if isinstance(delta, AppendText)]


def test_what_an_observer_causes_is_told_between_the_signals_of_a_list() -> None:
    recorder = EventRecorder()

    def note(event: AgentEvent) -> None:
        if isinstance(event, ContentDelta) and isinstance(event.delta, BeginPart):
            driver.emit("begun")

    with Agent(Together([list(SIGNALS)]), observers=[note, recorder]).start() as driver:
        driver.run("go")
    kinds = [event.type for event in recorder.events]
    begun = kinds.index("content_delta")
    assert kinds[begun : begun + 3] == ["content_delta", "custom_event", "content_delta"]


@pytest.mark.parametrize("wrong", [object(), CustomFact("x", None), [SIGNALS[1]], "text"])
def test_a_wrong_signal_in_a_list_fails_the_request_after_what_came_before_it(wrong: object) -> None:
    recorder = EventRecorder()
    with pytest.raises(ModelError, match="broke the protocol"):
        Agent(Together([[*SIGNALS[:3], wrong, *SIGNALS[3:]]]), observers=[recorder]).run("go")
    assert len(recorder.of(ModelRequestFailed)) == 1
    assert appended(recorder.events) == [CHUNKS[0]]
    assert faults(recorder.events) == []
