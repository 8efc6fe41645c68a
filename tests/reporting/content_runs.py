"""Events for tests of what spans tell of content: short ways to tell a run, and to hear what each event says."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any

import attrs

from agentkit_loop import events as ev
from agentkit_loop.content import AnyPart, BeginPart, CommitPart, Item, TextPart, part_kind
from agentkit_loop.events import AgentEvent
from agentkit_loop.usage import Usage
from agentkit_reporting.tracing.content import SpanContent

START = dt.datetime(2026, 5, 24, 18, 40, tzinfo=dt.UTC)


def told(events: Iterable[AgentEvent], *, session_id: str = "s", run_id: str = "r") -> list[AgentEvent]:
    """Return events with headers, as one run of a session tells them."""
    return [
        attrs.evolve(each, session_id=session_id, run_id=run_id, seq=seq, timestamp=START)
        for seq, each in enumerate(events, 1)
    ]


def started(**fields: Any) -> ev.RunStarted:
    return ev.RunStarted(**{"agent_name": "fixer", "model": "claude-sonnet-5", **fields})


def accepted(text: str) -> ev.InputAccepted:
    return ev.InputAccepted(items=(Item.user(text),))


def requested(
    request_id: str = "q1", *, count: int = 1, purpose: Any = "turn", attempt: int = 1
) -> ev.ModelRequestStarted:
    return ev.ModelRequestStarted(
        request_id=request_id,
        attempt=attempt,
        purpose=purpose,
        model="claude-sonnet-5",
        message_count=count,
        digests={},
    )


def answered(
    *parts: AnyPart | str, request_id: str = "q1", finish_reason: str = "completed"
) -> list[AgentEvent]:
    """Return what is told of an answer: each part whole, then the end of the request."""
    events: list[AgentEvent] = []
    for place, piece in enumerate(parts):
        part = TextPart(text=piece) if isinstance(piece, str) else piece
        name = f"{request_id}-{place}"
        events.append(ev.ContentDelta(request_id=request_id, delta=BeginPart(name, part_kind(part))))
        events.append(ev.ContentDelta(request_id=request_id, delta=CommitPart(name, part)))
    return [*events, ev.ModelRequestFinished(request_id=request_id, finish_reason=finish_reason)]


def ended() -> ev.RunFinished:
    return ev.RunFinished(outcome="completed", usage=Usage())


def said(events: Iterable[AgentEvent], content: SpanContent) -> list[dict[str, Any]]:
    """Return what each event says, in order, without those that say nothing; JSON decoded."""
    heard = []
    for event in events:
        content.take(event)
        found = {key: value for key, value in content.told_by(event).items() if value is not None}
        if found:
            heard.append({key: decoded(key, value) for key, value in found.items()})
    return heard


def decoded(key: str, value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and key not in ("status", "tool.result") else value


def text_message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}
