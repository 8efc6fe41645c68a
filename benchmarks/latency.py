"""How long the first delta takes from the socket to an observer, beside a loop that only decodes.

The server holds each answer after its first delta until that was seen, so a loop that waited for more bytes
before it told anything would not get to the end. What is measured is the time that passes, not CPU: from
just before the server's write, so the write, the loopback and the wake-up are in both.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import Any

import attrs

from agentkit_loop import Agent, AnthropicModel, AppendText, LoopObserver, Retry
from agentkit_loop.events import AgentEvent, ContentDelta
from benchmarks.measure import Row
from benchmarks.references import MAX_TOKENS, own_events, own_events_async, text_of
from benchmarks.server import StreamServer
from benchmarks.session import MODEL, PROMPT

KEY = "benchmark"


@attrs.frozen
class FirstDeltas:
    """Microseconds from the server's write to where the first delta was seen, one for each request."""

    ours: list[float]
    reference: list[float]

    @property
    def ratio(self) -> float:
        """Our median over the reference's."""
        return statistics.median(self.ours) / statistics.median(self.reference)

    def row(self, name: str) -> Row:
        """Return the row of the table."""
        return Row(
            name=name,
            reference="own decode; time that passes, at most 1,000 µs",
            ours=statistics.median(self.ours),
            theirs=statistics.median(self.reference),
        )


class FirstDeltaObserver(LoopObserver):
    """Takes the time of each piece of text and lets the server go on; nothing else does."""

    wants = (ContentDelta,)

    def __init__(self, server: StreamServer) -> None:
        self.waited_us: list[float] = []
        self._server = server

    def handle_event(self, event: AgentEvent) -> None:
        """Note how old the text is: the server wrote its moment there."""
        now = time.monotonic_ns()
        if isinstance(event, ContentDelta) and isinstance(event.delta, AppendText):
            self.waited_us.append((now - int(event.delta.chunk)) / 1e3)
            self._server.go_on()


def held_agent(server: StreamServer, *observers: LoopObserver) -> tuple[Agent, AnthropicModel]:
    """Make an agent whose answers the server holds, and its model, which is to be closed; it never retries."""
    model = AnthropicModel(MODEL, base_url=server.base_url("held"), api_key=KEY)
    return Agent(model, observers=observers, retry=Retry(max_attempts=1)), model


def first_deltas(server: StreamServer, requests: int) -> FirstDeltas:
    """Make so many requests each way, in turns, on this thread; the first of each does not count."""
    import anthropic  # noqa: PLC0415 - takes seconds

    observer, reference = FirstDeltaObserver(server), _Reference(server)
    agent, model = held_agent(server, observer)
    with anthropic.Anthropic(**reference.options) as client, contextlib.closing(model):
        for _ in range(requests + 1):
            agent.run(PROMPT)
            for event in own_events(client, reference.arguments):
                reference.take(event)
    return FirstDeltas(observer.waited_us[1:], reference.waited_us[1:])


async def first_deltas_async(server: StreamServer, requests: int) -> FirstDeltas:
    """Do the same on the running event loop."""
    import anthropic  # noqa: PLC0415 - as above

    observer, reference = FirstDeltaObserver(server), _Reference(server)
    agent, model = held_agent(server, observer)
    async with anthropic.AsyncAnthropic(**reference.options) as client:
        for _ in range(requests + 1):
            await agent.arun(PROMPT)
            async for event in own_events_async(client, reference.arguments):
                reference.take(event)
    await model.aclose()
    return FirstDeltas(observer.waited_us[1:], reference.waited_us[1:])


class _Reference:
    """Takes the time as FirstDeltaObserver does, of events that are decoded and told to nobody."""

    def __init__(self, server: StreamServer) -> None:
        self.waited_us: list[float] = []
        self.options: dict[str, Any] = {
            "base_url": server.base_url("held"),
            "api_key": KEY,
            "max_retries": 0,
            "open_telemetry": False,
        }
        self.arguments: dict[str, Any] = {
            "model": MODEL,
            "max_tokens": MAX_TOKENS,
            "messages": [{"role": "user", "content": PROMPT}],
            "stream": True,
        }
        self._server = server

    def take(self, event: Any) -> None:
        text = text_of(event)
        if text is not None:
            self.waited_us.append((time.monotonic_ns() - int(text)) / 1e3)
            self._server.go_on()
