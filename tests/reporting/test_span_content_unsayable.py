"""Content that no text can say, as a hand-made event may have it: its spans are told all the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from agentkit_loop import events as ev
from agentkit_loop.events import AgentEvent
from agentkit_loop.usage import Usage
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.tracing.content import SpanContent
from agentkit_reporting.tracing.fold import SpanFold
from agentkit_reporting.tracing.spans import Span
from tests.reporting.content_runs import accepted, answered, requested, started, told
from tests.reporting.folded_spans import taken_by


def folded_with(events: Iterable[AgentEvent]) -> list[Span]:
    """Return the spans of events, with what was said."""
    return taken_by(SpanFold(content=SpanContent(Redactor())), events)


def test_an_event_that_no_text_can_say_ends_its_span_all_the_same() -> None:
    events = told([started(), accepted("go"), requested(), *answered("so", finish_reason="od\ud800d")])
    (chat,) = [span for span in folded_with(events) if span.operation == "chat"]
    (message,) = json.loads(str(chat.attributes["gen_ai.output.messages"]))
    assert message["parts"] == [{"type": "text", "content": "so"}]
    assert "od" in message["finish_reason"]
    assert "agentkit.unfinished" not in chat.attributes


def test_a_run_whose_content_cannot_be_told_tells_its_spans_without_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd: Any = [ev.ToolCallRequested(request_id="", call=5)]  # type: ignore[arg-type] # made by hand
    ended = ev.RunFinished(outcome="completed", usage=Usage())
    (chat, run) = folded_with(told([started(), accepted("go"), *odd, requested(), *answered("so"), ended]))
    assert (chat.operation, run.operation) == ("chat", "invoke_agent")
    assert "gen_ai.output.messages" not in chat.attributes
    (record,) = caplog.records
    assert record.getMessage() == ("the content of run r is left out from here on because of AttributeError")
