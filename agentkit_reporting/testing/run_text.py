"""A run as a failing test shows it: in the words of `agentkit show`, bounded, secrets masked."""

from __future__ import annotations

import io
from collections.abc import Sequence

from agentkit_loop.content import AppendBytes, AppendText
from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.stdout import StdoutReporter
from agentkit_reporting.terminal import counted

__all__ = ["run_text"]

_WIDTH = 100
_FIRST_EVENTS, _LAST_EVENTS = 200, 800
_FIRST_LINES, _LAST_LINES = 40, 120
_MAX_LINE = 400  # characters


def run_text(events: Sequence[AgentEvent], *, width: int = _WIDTH) -> str:
    """Return the events as people read them; of a long run the beginning and the end.

    width: columns that arguments and results are cut to. No more than 160 lines of 400 characters.
    """
    told = [event for event in events if not _is_preview(event)]
    stream = io.StringIO()
    reporter, redactor = StdoutReporter(stream, colour=False, width=width), Redactor()
    between = max(0, len(told) - _FIRST_EVENTS - _LAST_EVENTS)
    for event in told[:_FIRST_EVENTS] if between else told:
        reporter.handle_event(redactor.event(event))
    reporter.close()
    if between:
        stream.write(f"… {counted(between, 'event')} …\n")
        for event in told[-_LAST_EVENTS:]:
            reporter.handle_event(redactor.event(event))
        reporter.close()
    return _bounded(stream.getvalue().rstrip("\n").split("\n"))


def _bounded(lines: list[str]) -> str:
    between = len(lines) - _FIRST_LINES - _LAST_LINES
    if between > 0:
        lines = [*lines[:_FIRST_LINES], f"… {counted(between, 'line')} …", *lines[-_LAST_LINES:]]
    return "\n".join(line if len(line) <= _MAX_LINE else line[: _MAX_LINE - 1] + "…" for line in lines)


def _is_preview(event: AgentEvent) -> bool:
    return isinstance(event, ContentDelta) and isinstance(event.delta, (AppendText, AppendBytes))
