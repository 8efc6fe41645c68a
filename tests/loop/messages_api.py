"""One way to ask AnthropicModel, on a thread or an event loop; events to answer with; transcripts to send."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import strategies as st

from agentkit_loop.content import (
    AnyPart,
    AppendText,
    CommitPart,
    CustomPart,
    Item,
    MediaPart,
    ReasoningPart,
    StructuredPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
)
from agentkit_loop.errors import ModelRequestError
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.protocol import Answer, ModelRequest, ModelSignal, UsageReport
from agentkit_loop.testing_server import AnyServed, MessagesServer, ServerReply
from agentkit_loop.usage import Usage
from agentkit_loop.values import to_json

Event = dict[str, Any]
KEY = "sk-test-secret"


@attrs.frozen
class Heard:
    """What one request yielded, and how it failed."""

    signals: list[ModelSignal]
    error: ModelRequestError | None

    @property
    def parts(self) -> list[AnyPart]:
        return [signal.part for signal in self.signals if isinstance(signal, CommitPart)]

    @property
    def chunks(self) -> list[str]:
        return [signal.chunk for signal in self.signals if isinstance(signal, AppendText)]

    @property
    def answer(self) -> Answer:
        assert self.error is None
        answer = self.signals[-1]
        assert isinstance(answer, Answer)
        return answer

    @property
    def failure(self) -> ModelRequestError:
        assert self.error is not None
        return self.error

    @property
    def usages(self) -> list[Usage]:
        return [signal.usage for signal in self.signals if isinstance(signal, UsageReport)]


def request(*content: str | Item, tools: tuple[ToolSpec, ...] = (), **parameters: Any) -> ModelRequest:
    items = [piece if isinstance(piece, Item) else Item.user(piece) for piece in content or ("hello",)]
    return ModelRequest(
        request_id="request-1",
        purpose="turn",
        system="be kind",
        tools=tools,
        items=tuple(items),
        parameters=parameters,
    )


Ask = Callable[..., list[Heard]]
"""Makes so many requests of one model, one after the other."""


def ask_on_thread(model: AnthropicModel, *requests: ModelRequest) -> list[Heard]:
    heard = []
    for asked in requests or (request(),):
        signals: list[ModelSignal] = []
        error = None
        try:
            for came in model.stream(asked):
                signals.extend(came)
        except ModelRequestError as raised:
            error = raised
        heard.append(Heard(signals, error))
    model.close()
    return heard


def ask_on_loop(model: AnthropicModel, *requests: ModelRequest) -> list[Heard]:
    async def ask() -> list[Heard]:
        heard = []
        for asked in requests or (request(),):
            signals: list[ModelSignal] = []
            error = None
            try:
                async for came in model.astream(asked):
                    signals.extend(came)
            except ModelRequestError as raised:
                error = raised
            heard.append(Heard(signals, error))
        await model.aclose()
        return heard

    return asyncio.run(ask())


on_thread_and_loop = pytest.mark.parametrize("ask", [ask_on_thread, ask_on_loop], ids=["sync", "async"])
"""Runs a test that takes `ask` on a thread and on an event loop."""


def model_at(server: MessagesServer, **options: Any) -> AnthropicModel:
    return AnthropicModel("claude-sonnet-5", base_url=server.base_url, api_key=KEY, **options)


def hear(ask: Ask, *replies: AnyServed, **options: Any) -> Heard:
    """Return what one request gets from a server of these replies."""
    with MessagesServer(replies, strict=True) as server:
        return ask(model_at(server, **options))[0]


def started(usage: Any = None) -> Event:
    return {
        "type": "message_start",
        "message": {"id": "msg_1", "model": "claude-sonnet-5-20260901", "usage": usage},
    }


def block(index: int, begun: Event, *deltas: Event, stop: bool = True) -> list[Event]:
    events: list[Event] = [{"type": "content_block_start", "index": index, "content_block": begun}]
    events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [*events, {"type": "content_block_stop", "index": index}] if stop else events


def ended(reason: str | None = "end_turn", **usage: Any) -> list[Event]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage or None},
        {"type": "message_stop"},
    ]


def text_block(*words: str, index: int = 0) -> list[Event]:
    return block(
        index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": word} for word in words)
    )


def tool_block(*pieces: str, index: int = 0, stop: bool = True) -> list[Event]:
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block(
        index, {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}}, *deltas, stop=stop
    )


def stream_of(*events: Event | list[Event] | bytes, **options: Any) -> ServerReply:
    flat: list[Event | bytes] = []
    for event in events:
        flat.extend(event) if isinstance(event, list) else flat.append(event)
    return ServerReply(events=tuple(flat), **options)


def call(call_id: str, **fields: Any) -> ToolCallPart:
    return ToolCallPart(**({"id": call_id, "name": "read", "input": {}} | fields))


def result(call_id: str, output: Any = "done", *, is_error: bool = False) -> Item:
    part = ToolResultPart(call_id=call_id, name="read", output=output, is_error=is_error)
    return Item(kind="tool", parts=(part,))


_TEXTS = st.sampled_from(["", " ", "word", "two words ", "\n", "<\u2028>"])
_PARTS: st.SearchStrategy[AnyPart] = _TEXTS.map(lambda words: TextPart(text=words)) | st.sampled_from(
    [
        ReasoningPart(text="so", signature="sig"),
        ReasoningPart(text="so"),
        ReasoningPart(text="", redacted="x"),
        StructuredPart(value={"a": 1}),
        MediaPart(media_type="image/png", data="AAAA"),
        CustomPart(provider="anthropic", value={"type": "later_block", "a": 1}),
        CustomPart(provider="another", value={}),
    ]
)
_FLAGS: st.SearchStrategy[bool] = st.booleans()
_OUTPUTS = _TEXTS | st.sampled_from([None, {"a": 1}, to_json([TextPart(text=""), TextPart(text="x")])])


@st.composite
def transcripts(draw: st.DrawFn, *, with_system: bool = True) -> list[Item]:
    """Transcripts as the loop makes them: a round of calls is answered before anything else is asked."""
    kinds = ["user", "context", "notification", "assistant", *(["system"] if with_system else [])]
    items: list[Item] = []
    ours = itertools.count(1)
    for _ in range(draw(st.integers(0, 5))):
        kind: Any = draw(st.sampled_from(kinds))
        parts = tuple(draw(st.lists(_PARTS, max_size=3)))
        if kind != "assistant":
            items.append(Item(kind=kind, parts=parts))
            continue
        wires = draw(st.lists(st.sampled_from(["toolu_1", "toolu_2", "functions.f:0"]), max_size=3))
        calls = [call(f"{wire}~{next(ours)}", wire_id=wire) for wire in wires]
        items.append(Item(kind="assistant", parts=(*parts, *calls)))
        interrupted = draw(_FLAGS)
        if calls and interrupted:
            items.append(Item(kind="notification", parts=(TextPart(text="meanwhile"),)))
        items.extend(result(part.id, draw(_OUTPUTS), is_error=draw(_FLAGS)) for part in calls)
    return items
