"""The conversation as it stands: rebuilt from the events, per session.

The fold is the loop's own (`agentkit_loop.transcript`), so this view equals the driver's transcript whenever
the driver yields. The loop owns the transcript; this is a view of it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from agentkit_loop.content import (
    AnyPart,
    AppendBytes,
    AppendText,
    BeginPart,
    CommitPart,
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    ReasoningPart,
    StructuredPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    CompactionStarted,
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunStarted,
    ToolResultReceived,
)
from agentkit_loop.observers import LoopObserver
from agentkit_loop.transcript import Transcript
from agentkit_loop.values import JSON

_TITLES = {
    "system": "System",
    "developer": "Developer",
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "context": "Context",
    "notification": "Notification",
}


class TranscriptReporter(LoopObserver):
    """Rebuilds the transcript of every session that it is told of.

    The methods take a session id; without one they speak of the first session seen, and raise
    ConfigurationError where none was. `sessions` maps ids to Transcripts.
    """

    wants = (
        CompactionFinished,
        CompactionStarted,
        BeginPart,  # and not the appends: previews that no fold reads
        CommitPart,
        InputAccepted,
        ModelRequestFailed,
        ModelRequestFinished,
        ModelRequestStarted,
        RunStarted,
        ToolResultReceived,
    )

    def __init__(self) -> None:
        self.sessions: dict[str, Transcript] = {}

    def handle_event(self, event: AgentEvent) -> None:
        """Fold one event."""
        if type(event) is ContentDelta and isinstance(event.delta, (AppendText, AppendBytes)):
            return
        transcript = self.sessions.get(event.session_id)
        if transcript is None:
            transcript = self.sessions.setdefault(event.session_id, Transcript())
        transcript.apply(event)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TranscriptReporter):
            return NotImplemented
        return self.sessions == other.sessions

    __hash__ = None  # type: ignore[assignment] # it changes, as a dict does

    def of(self, session_id: str | None = None) -> Transcript:
        """Return the transcript of a session."""
        if session_id is None:
            session_id = next(iter(self.sessions), None)
        if session_id is None or session_id not in self.sessions:
            raise ConfigurationError(f"no session {session_id!r} was told of; known: {list(self.sessions)}")
        return self.sessions[session_id]

    def items(self, session_id: str | None = None) -> tuple[Item, ...]:
        """Return the items, in order."""
        return tuple(self.of(session_id).items)

    def text(self, session_id: str | None = None) -> str:
        """Return the conversation as plain text: a line `Kind: …` for each part, blank lines between items."""
        return "\n\n".join(
            "\n".join(f"{_TITLES[item.kind]}: {_plain(part)}" for part in item.parts)
            for item in self.of(session_id).items
        )

    def markdown(self, session_id: str | None = None) -> str:
        """Return the conversation as Markdown: a heading for each item, calls and results fenced.

        Text stands as the model wrote it, which may be Markdown; what came from tools is always fenced.
        """
        return "\n\n".join(
            f"## {_TITLES[item.kind]}\n\n" + "\n\n".join(_markdown(part) for part in item.parts)
            for item in self.of(session_id).items
        )

    def messages(self, session_id: str | None = None) -> list[dict[str, Any]]:
        """Return the messages of the Messages API that continue this conversation."""
        from agentkit_loop.models.anthropic_wire import wire_messages  # noqa: PLC0415 - only who asks needs it

        return wire_messages(self.of(session_id).items)


def _plain(part: AnyPart) -> str:
    match part:
        case TextPart():
            return part.text
        case ReasoningPart():
            return f"[reasoning] {part.text}" if part.redacted is None else "[reasoning, redacted]"
        case ToolCallPart():
            return (
                f"[call {part.id}] {part.name}({part.cut if part.cut is not None else _compact(part.input)})"
            )
        case ToolResultPart():
            return f"[{'error' if part.is_error else 'result'} {part.call_id}] {_shown(part.output)}"
        case MediaPart():
            return f"[{part.media_type}{' ' + part.url if part.url else ''}]"
        case FilePart():
            return f"[file {part.name}, {part.media_type}]"
        case StructuredPart():
            return _compact(part.value)
        case CustomPart():
            return f"[{part.provider}] {_compact(part.value)}"


def _markdown(part: AnyPart) -> str:
    match part:
        case TextPart():
            return part.text
        case ReasoningPart():
            lines = _plain(part).split("\n")
            return "\n".join(f"> {line}" for line in lines)
        case ToolCallPart():
            shown = part.cut if part.cut is not None else _indented(part.input)
            return f"Calls `{part.name}` ({part.id}):\n\n{_fenced(shown, 'json')}"
        case ToolResultPart():
            word = "failed" if part.is_error else "answered"
            return f"`{part.name}` ({part.call_id}) {word}:\n\n{_fenced(_shown(part.output))}"
        case MediaPart() | FilePart() | StructuredPart() | CustomPart():
            return _fenced(_plain(part))


def _fenced(text: str, language: str = "") -> str:
    """Fence a text so that nothing in it ends the fence."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _shown(output: JSON) -> str:
    return output if isinstance(output, str) else _indented(output)


def _compact(value: JSON) -> str:
    return msgspec.json.encode(value).decode()


def _indented(value: JSON) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
