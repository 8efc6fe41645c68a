"""The loops that ours is measured against: nothing is told, and nothing is done that a loop need not do.

`BareSDK` iterates over the SDK's own events. `OwnDecode` takes the bytes from the SDK's transport, splits
them at empty lines and decodes them with msgspec; it knows nothing of failures, other line ends or blocks
that it has not met. Each is a loop on a thread and one on an event loop.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import msgspec

from benchmarks.session import MODEL, PROMPT, SYSTEM, Session

if TYPE_CHECKING:
    import anthropic

MAX_TOKENS = 32_000
Tool: TypeAlias = Callable[..., str]


@attrs.define
class Seen:
    """What a loop saw of a session; to be compared with the session."""

    inputs: list[dict[str, Any]] = attrs.field(factory=list)
    text: str = ""
    deltas: int = 0

    def check(self, session: Session, way: str) -> None:
        """Raise AssertionError unless that is what was served."""
        wanted = Seen(list(session.inputs), session.text, session.deltas)
        if self != wanted:
            raise AssertionError(
                f"{way}: saw {len(self.inputs)} calls and {self.deltas} deltas, ending in {self.text[-40:]!r}; "
                f"served were {len(wanted.inputs)} and {wanted.deltas}, ending in {wanted.text[-40:]!r}"
            )


class _Conversation:
    """What every loop keeps: the messages so far, and the answer that comes in."""

    def __init__(self, tool: Tool, schema: dict[str, Any]) -> None:
        self.seen = Seen()
        self._tool = tool
        self._messages: list[dict[str, Any]] = [{"role": "user", "content": PROMPT}]
        self.arguments: dict[str, Any] = {
            "model": MODEL,
            "max_tokens": MAX_TOKENS,
            "system": SYSTEM,
            "tools": [schema],
            "messages": self._messages,
            "stream": True,
        }
        self.begin()

    def begin(self) -> None:
        """Forget the last answer."""
        self.texts: list[str] = []
        self.pieces: list[str] = []
        self.call_id = self.call_name = ""

    def goes_on(self) -> bool:
        """Take the whole answer: run its call, append both; return whether the model is to be asked again."""
        self.seen.deltas += len(self.texts) + len(self.pieces)
        self.seen.text = "".join(self.texts)
        content: list[dict[str, Any]] = [{"type": "text", "text": self.seen.text}]
        self._messages.append({"role": "assistant", "content": content})
        if not self.call_id:
            return False
        given = json.loads("".join(self.pieces))
        self.seen.inputs.append(given)
        output = self._tool(**given)
        content.append({"type": "tool_use", "id": self.call_id, "name": self.call_name, "input": given})
        result = {"type": "tool_result", "tool_use_id": self.call_id, "content": output}
        self._messages.append({"role": "user", "content": [result]})
        self.begin()
        return True


class BareSDK:
    """A loop over `messages.create(stream=True)`."""

    def __init__(self, tool: Tool, schema: dict[str, Any]) -> None:
        self._given = (tool, schema)

    def run(self, client: anthropic.Anthropic) -> Seen:
        """Play a session."""
        talk = _Conversation(*self._given)
        while True:
            for event in client.messages.create(**talk.arguments):
                _take_object(talk, event)
            if not talk.goes_on():
                return talk.seen

    async def arun(self, client: anthropic.AsyncAnthropic) -> Seen:
        """Play a session on an event loop."""
        talk = _Conversation(*self._given)
        while True:
            async for event in await client.messages.create(**talk.arguments):
                _take_object(talk, event)
            if not talk.goes_on():
                return talk.seen


def _take_object(talk: _Conversation, event: Any) -> None:
    if event.type == "content_block_delta":
        delta = event.delta
        if delta.type == "text_delta":
            talk.texts.append(delta.text)
        elif delta.type == "input_json_delta":
            talk.pieces.append(delta.partial_json)
    elif event.type == "content_block_start" and event.content_block.type == "tool_use":
        talk.call_id, talk.call_name = event.content_block.id, event.content_block.name


class _Text(msgspec.Struct, tag="text_delta"):
    text: str


class _InputJson(msgspec.Struct, tag="input_json_delta"):
    partial_json: str


class _TextBlock(msgspec.Struct, tag="text"):
    text: str


class _ToolUse(msgspec.Struct, tag="tool_use"):
    id: str
    name: str


class _Delta(msgspec.Struct, tag="content_block_delta"):
    delta: _Text | _InputJson


class _Start(msgspec.Struct, tag="content_block_start"):
    content_block: _TextBlock | _ToolUse


class _MessageStart(msgspec.Struct, tag="message_start"):
    message: dict[str, Any]


class _MessageDelta(msgspec.Struct, tag="message_delta"):
    usage: dict[str, Any]


class _BlockStop(msgspec.Struct, tag="content_block_stop"):
    pass


class _MessageStop(msgspec.Struct, tag="message_stop"):
    pass


class _Ping(msgspec.Struct, tag="ping"):
    pass


_decode = msgspec.json.Decoder(
    _Delta | _Start | _BlockStop | _MessageStart | _MessageDelta | _MessageStop | _Ping
).decode


class OwnDecode:
    """A loop over `with_streaming_response`, its bytes split and decoded here."""

    def __init__(self, tool: Tool, schema: dict[str, Any]) -> None:
        self._given = (tool, schema)

    def run(self, client: anthropic.Anthropic) -> Seen:
        """Play a session."""
        talk = _Conversation(*self._given)
        while True:
            for event in own_events(client, talk.arguments):
                _take_struct(talk, event)
            if not talk.goes_on():
                return talk.seen

    async def arun(self, client: anthropic.AsyncAnthropic) -> Seen:
        """Play a session on an event loop."""
        talk = _Conversation(*self._given)
        while True:
            async for event in own_events_async(client, talk.arguments):
                _take_struct(talk, event)
            if not talk.goes_on():
                return talk.seen


def own_events(client: anthropic.Anthropic, arguments: dict[str, Any]) -> Iterator[Any]:
    """Make a request and yield its events, decoded."""
    rest = b""
    with client.messages.with_streaming_response.create(**arguments) as response:
        for chunk in response.http_response.iter_bytes():
            *events, rest = (rest + chunk).split(b"\n\n")
            for event in events:
                yield _decode(event[event.index(b"data: ") + 6 :])


async def own_events_async(client: anthropic.AsyncAnthropic, arguments: dict[str, Any]) -> AsyncIterator[Any]:
    """Do the same on an event loop."""
    rest = b""
    async with client.messages.with_streaming_response.create(**arguments) as response:
        async for chunk in response.http_response.aiter_bytes():
            *events, rest = (rest + chunk).split(b"\n\n")
            for event in events:
                yield _decode(event[event.index(b"data: ") + 6 :])


def text_of(event: Any) -> str | None:
    """Return the text of a delta that holds some."""
    return event.delta.text if event.__class__ is _Delta and event.delta.__class__ is _Text else None


def _take_struct(talk: _Conversation, event: Any) -> None:
    if event.__class__ is _Delta:
        delta: Any = event.delta
        if delta.__class__ is _Text:
            talk.texts.append(delta.text)
        else:
            talk.pieces.append(delta.partial_json)
    elif event.__class__ is _Start and event.content_block.__class__ is _ToolUse:
        talk.call_id, talk.call_name = event.content_block.id, event.content_block.name
