"""What a streamed delta costs in a whole session of an agent: 20 turns of 200 deltas, 19 calls of a tool.

Ours has the log, usage and transcript attached. The references attach nothing (references.py). All use the
provider's SDK and talk to a server in a process of its own, whose bytes were made before (server.py); what
counts is the CPU time of this process over a whole session: requests, answers, tools, history, log. Each
session is compared with what was served before its time counts for anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from agentkit_loop import Agent, AnthropicModel, tool
from agentkit_loop.content import AppendText
from agentkit_loop.events import ContentDelta, ToolCallRequested, ToolResultReceived
from agentkit_loop.models.anthropic_wire import wire_tool
from agentkit_reporting import JsonlReporter, TranscriptReporter, UsageReporter, read_events
from benchmarks.latency import KEY, first_deltas, first_deltas_async
from benchmarks.measure import Row, interleave
from benchmarks.references import BareSDK, OwnDecode, Seen
from benchmarks.server import FRAMINGS, PAUSE_S, StreamServer
from benchmarks.session import MODEL, PROMPT, SYSTEM, Session, make_session, read_lines

TURNS = 20
DELTAS = 200
BOUNDS = {"event": 0.6, "whole": 0.45, "paced": 0.85}
"""What is allowed against the bare SDK (DESIGN section 9)."""

OWN_BOUND = 1.4
"""What is allowed against the loop with its own decoding."""

FRAMINGS_ON_LOOP = ("event", "whole")
"""Asynchronous sessions leave out the paced ones, whose pauses take two thirds of the benchmark's minutes."""

LATENCY_REQUESTS = 40
"""Requests a round of the table's rounds is worth, where the latency of the first delta is measured."""


@attrs.frozen
class Way:
    """One of the loops. play: a session, timed. seen: what the last one saw, not timed."""

    name: str
    play: Callable[[], object]
    seen: Callable[[], Seen]


def rows(
    rounds: int,
    *,
    turns: int = TURNS,
    deltas: int = DELTAS,
    pause_s: float = PAUSE_S,
    requests: int = LATENCY_REQUESTS,
) -> list[Row]:
    """Return the table's rows: a session of so many turns and deltas, and so many requests for the latency."""
    session = make_session(turns, deltas)
    found: list[Row] = []
    with StreamServer(turns, deltas, pause_s=pause_s) as server:
        for on_loop, word in ((False, "sync"), (True, "async")):
            for framing in FRAMINGS_ON_LOOP if on_loop else FRAMINGS:
                opened = _ways_on_loop if on_loop else _ways_on_thread
                with opened(server.base_url(framing)) as ways:
                    found.extend(_compared(framing, word, ways, session, rounds))
        found.append(first_deltas(server, requests).row("first delta to observer, sync"))
        found.append(asyncio.run(first_deltas_async(server, requests)).row("first delta to observer, async"))
    return found


def _compared(framing: str, word: str, ways: list[Way], session: Session, rounds: int) -> list[Row]:
    name = f"a delta, {framing}, {word}"

    def check(number: int) -> None:
        ways[number].seen().check(session, f"{name}, {ways[number].name}")

    ours, bare, own = interleave([way.play for way in ways], rounds, check=check)
    return [
        Row.of(name, ours, bare, against=ways[1].name, pieces=session.deltas, bound=BOUNDS[framing]),
        Row.of(name, ours, own, against=ways[2].name, pieces=session.deltas, bound=OWN_BOUND),
    ]


class Ours:
    """The agent, with a log of its own for each session. body: of its tool, `read_lines` or what does the same."""

    def __init__(self, base_url: str, folder: str, body: Callable[..., str] = read_lines) -> None:
        self.model = AnthropicModel(MODEL, base_url=base_url, api_key=KEY)
        self._tool = tool(body)
        self._folder = Path(folder)
        self._text = ""

    def run(self) -> None:
        """Play a session."""
        with self._agent() as agent:
            self._text = agent.run(PROMPT).text

    async def arun(self) -> None:
        """Play a session on an event loop."""
        with self._agent() as agent:
            self._text = (await agent.arun(PROMPT)).text

    def _agent(self) -> Agent:
        self._log = self._folder / "session.jsonl"
        self._log.unlink(missing_ok=True)
        observers = [JsonlReporter(self._log), UsageReporter(), TranscriptReporter()]
        return Agent(self.model, tools=[self._tool], system=SYSTEM, observers=observers)

    def seen(self) -> Seen:
        """Read from the log what was told: the calls that were answered rightly, and the deltas."""
        seen, asked = Seen(text=self._text), dict[str, Any]()
        for event in read_events(self._log):
            if isinstance(event, ContentDelta):
                seen.deltas += isinstance(event.delta, AppendText)
            elif isinstance(event, ToolCallRequested):
                asked[event.call.id] = event.call.input
            elif isinstance(event, ToolResultReceived) and event.output == read_lines(**asked[event.call_id]):
                seen.inputs.append(asked[event.call_id])
        return seen


class _Reference:
    """One of the references with its client; keeps what it saw."""

    def __init__(self, play: Callable[..., Any], client: Any) -> None:
        self._play, self._client = play, client
        self._seen = Seen()

    def run(self) -> None:
        """Play a session."""
        self._seen = self._play(self._client)

    async def arun(self) -> None:
        """Play a session on an event loop."""
        self._seen = await self._play(self._client)

    def seen(self) -> Seen:
        """Return what the last session was."""
        return self._seen


BARE = "bare SDK, create(stream=True)"
OWN = "the SDK's transport, own SSE split + msgspec"


@contextlib.contextmanager
def _ways_on_thread(base_url: str) -> Iterator[list[Way]]:
    import anthropic  # noqa: PLC0415 - takes seconds, and the other benchmarks need it not

    given = (read_lines, wire_tool(tool(read_lines).spec))
    with contextlib.ExitStack() as stack:
        ours = Ours(base_url, stack.enter_context(tempfile.TemporaryDirectory()))
        stack.callback(ours.model.close)
        # As people make one; and as our model does, so that only the loops differ.
        bare_client = stack.enter_context(anthropic.Anthropic(base_url=base_url, api_key=KEY))
        own_client = stack.enter_context(
            anthropic.Anthropic(base_url=base_url, api_key=KEY, max_retries=0, open_telemetry=False)
        )
        bare = _Reference(BareSDK(*given).run, bare_client)
        own = _Reference(OwnDecode(*given).run, own_client)
        yield [
            Way("ours", ours.run, ours.seen),
            Way(BARE, bare.run, bare.seen),
            Way(OWN, own.run, own.seen),
        ]


@contextlib.contextmanager
def _ways_on_loop(base_url: str) -> Iterator[list[Way]]:
    import anthropic  # noqa: PLC0415 - as above

    given = (read_lines, wire_tool(tool(read_lines).spec))
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        ours = Ours(base_url, folder)
        bare_client = anthropic.AsyncAnthropic(base_url=base_url, api_key=KEY)
        own_client = anthropic.AsyncAnthropic(
            base_url=base_url, api_key=KEY, max_retries=0, open_telemetry=False
        )
        bare = _Reference(BareSDK(*given).arun, bare_client)
        own = _Reference(OwnDecode(*given).arun, own_client)
        try:
            yield [
                Way("ours", lambda: runner.run(ours.arun()), ours.seen),
                Way(BARE, lambda: runner.run(bare.arun()), bare.seen),
                Way(OWN, lambda: runner.run(own.arun()), own.seen),
            ]
        finally:
            for close in (ours.model.aclose, bare_client.close, own_client.close):
                runner.run(close())
