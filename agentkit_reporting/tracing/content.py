"""What was said, on spans: messages, instructions, tools, arguments and results. Off unless somebody asks for it.

Everything is redacted first and bounded then, piece by piece as it is told, once: a request's messages are put together
of pieces that are ready, the newest first, as many as there is room for. So a request costs what the bound allows,
however long its session is, and no more than that is kept of a session, until its run ends. What was left out or cut
is said on the span (`agentkit.content.truncated`, `agentkit.content.messages_left_out`).

The texts of errors are content too: a tool's exception quotes its arguments, a provider's answer the request, and
`AGENTKIT_CONTENT=metadata` counts them so. Without content a span says the kind of an error and no text of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from agentkit_loop import events as ev
from agentkit_loop.content import AnyPart, BeginPart, CommitPart, Item, ToolSpec
from agentkit_loop.events import RUN_ENDS, AgentEvent
from agentkit_loop.forks import Locked
from agentkit_loop.transcript import Transcript
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.terminal import one_line
from agentkit_reporting.tracing.attribute import Facts
from agentkit_reporting.tracing.conventions import finish_reason_told
from agentkit_reporting.tracing.fitting import (
    Fitted,
    fitted_part,
    fitted_parts,
    fitted_text,
    fitted_value,
    joined,
)
from agentkit_reporting.tracing.messages import has_bytes, role_of, shape_of, tool_definition
from agentkit_reporting.tracing.own_attributes import brief_text
from agentkit_reporting.tracing.spans import STATUS
from agentkit_reporting.tracing.withheld import LEFT_OUT, without_content

__all__ = ["CONTENT_EVENTS", "FEWEST_BYTES", "MOST_BYTES", "SpanContent"]

MOST_BYTES: Final = 32_768
"""Of each attribute, in UTF-8, where nobody says otherwise."""

FEWEST_BYTES: Final = 256
"""In less there is no room for a message."""

CONTENT_EVENTS: Final[tuple[type[AgentEvent], ...]] = (
    ev.RunStarted,
    ev.RunFinished,
    ev.RunFailed,
    ev.RunCancelled,
    ev.InputAccepted,
    ev.ContentDelta,
    ev.ModelRequestStarted,
    ev.ModelRequestFinished,
    ev.ModelRequestFailed,
    ev.ToolCallRequested,
    ev.ToolExecutionStarted,
    ev.ToolResultReceived,
    ev.ToolCatalogChanged,
    ev.ApprovalResolved,
    ev.CompactionStarted,
    ev.CompactionFinished,
)
"""What `take` has to be given; the rest says nothing of the content."""

logger = logging.getLogger(__name__)

_MOST_SESSIONS = 4_096  # beyond, the content of the one that began first is forgotten
_MOST_CALLS = 1_024  # of a session, that are asked for and not answered
_ERROR_COLUMNS = 300


class _Rendered(Item, frozen=True, kw_only=True):
    """An item in a transcript of which only its message is kept; without one where there was no room any more."""

    message: Fitted | None = None


_DROPPED: Final = _Rendered(kind="user", parts=())


@attrs.define(eq=False)
class _Session:
    """What is kept of an open run. seen: items of the transcript that are rendered. dropped: those that are no more."""

    run_id: str
    last_seq: int
    system: Fitted | None = None
    definitions: Fitted | None = None
    specs: dict[str, ToolSpec] = attrs.field(factory=dict)
    transcript: Transcript = attrs.field(factory=Transcript)
    seen: int = 0
    dropped: int = 0
    kept_bytes: int = 0
    calls: dict[str, Fitted] = attrs.field(factory=dict)  # arguments, by call
    inputs: list[Fitted] = attrs.field(factory=list)  # what the run was given, the newest last
    purpose: str = "turn"
    parts: list[AnyPart] = attrs.field(factory=list)  # of an open request of a compaction
    answer: Fitted | None = None  # of the request that ended last
    result: Fitted | None = None  # of the call that was answered last
    output: Fitted | None = None  # the last of them that joined the transcript


class SpanContent(Locked):
    """Keeps what was said in the open runs, as far as spans tell it.

    redactor: what takes secrets out of each event before anything of it is cut, one that nobody else uses; None for
    none. most_bytes: of each attribute, at least 256. What cannot be redacted is left out. May be shared by sessions
    and threads, each session on one thread at a time.
    """

    def __init__(self, redactor: Redactor | None, *, most_bytes: int = MOST_BYTES) -> None:
        super().__init__()
        self._redactor = redactor
        self._most = max(most_bytes, FEWEST_BYTES)
        self._sessions: dict[str, _Session] = {}

    def __repr__(self) -> str:
        return f"<SpanContent of at most {self._most} bytes an attribute>"

    @property
    def open_count(self) -> int:
        """How many runs are kept."""
        return len(self._sessions)

    def take(self, event: AgentEvent) -> None:
        """Take an event, before it is asked what it tells; a session's come in order."""
        if type(event) is ev.ContentDelta and type(event.delta) not in (BeginPart, CommitPart):
            return
        if not isinstance(event, CONTENT_EVENTS) or isinstance(event, RUN_ENDS):
            return
        session = self._of(event)
        if session is None:
            if isinstance(event, ev.RunStarted):
                self._keep(event, None)
        elif event.seq > session.last_seq or not event.seq:  # else it was told before
            session.last_seq = max(event.seq, session.last_seq)
            self._keep(event, session)

    def _keep(self, event: AgentEvent, session: _Session | None) -> None:
        """Keep what an event says; of a run that tells what no text can say, as a hand-made event may, nothing more."""
        scrubbed = self._scrubbed(event)
        try:
            if isinstance(scrubbed, ev.RunStarted):
                self._begin(scrubbed)
            elif session is not None:
                self._look(session, scrubbed)
                session.transcript.apply(scrubbed)
                self._render(session, scrubbed)
        except Exception as error:  # noqa: BLE001 - content is an extra: its spans are told all the same
            # Without its text, which may quote what was said.
            what = f"the content of run {brief_text(event.run_id)} is left out from here on"
            logger.warning("%s because of %s", what, type(error).__name__)
            self._sessions.pop(event.session_id, None)

    def told_by(self, event: AgentEvent) -> Facts:
        """Return what the span that an event begins or ends says of content, by the keys of the table.

        At the end of a run what was kept of it is let go.
        """
        session = self._of(event)
        if session is None:
            return {}
        match event:
            case ev.RunStarted():
                return _cut_told({"system": session.system, "tool.definitions": session.definitions})
            case ev.ModelRequestStarted():
                return self._asked(session, event)
            case ev.ModelRequestFinished():
                return _cut_told({"output.messages": session.answer})
            case ev.ToolExecutionStarted():
                return _cut_told({"tool.arguments": session.calls.get(event.call_id)})
            case ev.ToolResultReceived():
                told, session.result = session.result, None
                return self._failed_call(event) if event.is_error else _cut_told({"tool.result": told})
            case ev.ModelRequestFailed():
                return {STATUS: self.line(event.error.message) or None}
            case ev.RunFinished() | ev.RunFailed() | ev.RunCancelled():
                self._sessions.pop(event.session_id, None)
                told_last = _cut_told({"agent.input": self._given(session), "agent.output": session.output})
                if isinstance(event, ev.RunFailed):
                    told_last[STATUS] = self.line(event.error.message) or None
                return told_last
            case _:
                return {}

    def close(self) -> None:
        """Let go of every run that is open."""
        self._sessions.clear()

    def line(self, text: str) -> str:
        """Return a text of an error on one line, bounded, without secrets."""
        try:
            told = text if self._redactor is None else self._redactor.told(text)
        except Exception:  # noqa: BLE001 - nothing is told that was not looked at
            told = LEFT_OUT
        return one_line(str(told), _ERROR_COLUMNS)

    # --- sessions

    def _of(self, event: AgentEvent) -> _Session | None:
        session = self._sessions.get(event.session_id)
        return session if session is not None and session.run_id == event.run_id else None

    def _begin(self, event: ev.RunStarted) -> None:
        specs = {spec.name: spec for spec in event.tools}
        session = _Session(
            run_id=event.run_id,
            last_seq=event.seq,
            specs=specs,
            definitions=self._definitions(specs.values()),
        )
        if event.system:
            session.system = fitted_parts([{"type": "text", "content": event.system}], self._most)
        session.transcript.apply(event)
        self._render(session, event)
        with self._lock:
            self._sessions.pop(event.session_id, None)
            self._sessions[event.session_id] = session
            if len(self._sessions) > _MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]

    def _look(self, session: _Session, event: AgentEvent) -> None:
        """Keep what an event tells that is in no transcript."""
        match event:
            case ev.ContentDelta(delta=CommitPart(part=part)) if session.purpose != "turn":
                session.parts.append(part)
            case ev.ModelRequestStarted():
                session.purpose, session.parts, session.answer = event.purpose, [], None
            case ev.ModelRequestFailed():
                session.parts = []
            case ev.ModelRequestFinished() if session.purpose != "turn":
                session.answer = self._answer(self._message("assistant", session.parts), event.finish_reason)
                session.purpose, session.parts = "turn", []
            case ev.ToolCallRequested():
                call = event.call
                self._keep_arguments(session, call.id, call.input if call.cut is None else call.cut)
            case ev.ApprovalResolved() | ev.ToolExecutionStarted() if (
                event.edited and event.input is not None
            ):
                self._keep_arguments(session, event.call_id, event.input)
            case ev.ToolResultReceived():
                session.calls.pop(event.call_id, None)
                output = event.output
                is_text = isinstance(output, str)
                session.result = fitted_text(output, self._most) if is_text else self._fitted(output)
            case ev.ToolCatalogChanged():
                for name in event.removed:
                    session.specs.pop(name, None)
                session.specs.update({spec.name: spec for spec in (*event.added, *event.changed)})
                session.definitions = self._definitions(session.specs.values())
            case ev.InputAccepted():
                session.inputs += [self._message(role_of(item.kind), item.parts) for item in event.items]
                _keep_newest(session.inputs, self._most)
            case _:
                pass

    def _keep_arguments(self, session: _Session, call_id: str, arguments: Any) -> None:
        fitted = self._fitted(arguments)
        if fitted is not None:
            session.calls[call_id] = fitted
            if len(session.calls) > _MOST_CALLS:
                del session.calls[next(iter(session.calls))]

    # --- the transcript

    def _render(self, session: _Session, event: AgentEvent) -> None:
        """Put messages in the place of items that joined, and let go of the oldest where they are too many."""
        items = session.transcript.items
        if isinstance(event, ev.CompactionFinished) and event.plan is not None:
            session.seen = session.dropped = 0
            session.kept_bytes = sum(_size(item) for item in items)
        for place in range(session.seen, len(items)):
            item = items[place]
            if isinstance(item, _Rendered):
                continue
            message = self._message(role_of(item.kind), item.parts)
            items[place] = _Rendered(kind=item.kind, parts=(), message=message)
            session.kept_bytes += message.size + 1
            if isinstance(event, ev.ModelRequestFinished) and item.kind == "assistant":
                session.answer = session.output = self._answer(message, event.finish_reason)
        session.seen = len(items)
        while session.kept_bytes > self._most and session.dropped < len(items) - 1:
            session.kept_bytes -= _size(items[session.dropped])
            items[session.dropped] = _DROPPED
            session.dropped += 1

    def _asked(self, session: _Session, event: ev.ModelRequestStarted) -> Facts:
        """Return what a request sends: the newest of its messages, all that there is room for."""
        if event.purpose != "turn":
            return {}  # which messages a strategy sends, and with what instructions, no event tells
        room, newest = self._most - 2, []
        items = session.transcript.items
        for item in reversed(items):
            message = item.message if isinstance(item, _Rendered) else None
            if message is None or message.size + 1 > room:
                break
            room -= message.size + 1
            newest.append(message)
        left_out = max(event.message_count, len(items)) - len(newest)
        newest.reverse()
        cut = left_out > 0 or any(message.is_cut for message in newest)
        asked = Fitted(joined(newest), is_cut=cut) if newest else None
        told = {
            "system": session.system,
            "tool.definitions": session.definitions,
            "input.messages": asked,
        }
        return {**_cut_told(told), "content.left_out": left_out or None}

    def _failed_call(self, event: ev.ToolResultReceived) -> Facts:
        """Return why a call failed: what its body raised, else what the model was told."""
        message = event.output if event.error is None else event.error.message
        return {STATUS: (self.line(message) or None) if isinstance(message, str) else None}

    def _given(self, session: _Session) -> Fitted | None:
        given = session.inputs
        return Fitted(joined(given), any(message.is_cut for message in given)) if given else None

    # --- pieces

    def _scrubbed(self, event: AgentEvent) -> AgentEvent:
        """Return the event without its secrets; where that cannot be done without what was said in it."""
        if self._redactor is None:
            return event
        try:
            return self._redactor.event(event)
        except Exception:  # noqa: BLE001 - a pattern of the host's, a value nested too deeply
            return without_content(event)

    def _fitted(self, value: Any) -> Fitted | None:
        return fitted_value(value, self._most)

    def _message(self, role: str, parts: Iterable[AnyPart]) -> Fitted:
        told = tuple(parts)
        beginning = f'{{"role":"{role}","parts":'
        # Room for the brackets around the messages, and for why an answer ended.
        fitted = fitted_parts([shape_of(part) for part in told], self._most - len(beginning) - 128)
        return Fitted(f"{beginning}{fitted.text}}}", fitted.is_cut or any(map(has_bytes, told)))

    def _answer(self, message: Fitted, finish_reason: str) -> Fitted:
        """Return the messages of an answer: the one, with why it ended."""
        reason = fitted_value(finish_reason_told(brief_text(finish_reason)), 100)
        ending = "" if reason is None else f',"finish_reason":{reason.text}'
        return Fitted(f"[{message.text[:-1]}{ending}}}]", message.is_cut)

    def _definitions(self, specs: Iterable[ToolSpec]) -> Fitted | None:
        """Return the definitions of tools: all names first, and the rest of the first ones while there is room."""
        room = self._most - 2
        told: list[Fitted] = []
        whole: list[Fitted | None] = []
        is_cut = False
        for spec in specs:
            named = fitted_part({"type": "function", "name": spec.name}, room - 1)
            is_cut = is_cut or named is None
            if named is not None:
                room -= named.size + 1
                told.append(named)
                whole.append(fitted_part(tool_definition(spec), self._most))
        for place, definition in enumerate(whole):
            more = self._most if definition is None else definition.size - told[place].size
            if definition is None or definition.is_cut or more > room:
                is_cut = True
                continue
            room -= more
            told[place] = definition
        return Fitted(joined(told), is_cut) if told else None


def _cut_told(told: Mapping[str, Fitted | None]) -> Facts:
    """Return JSON texts by key, and whether something is missing of one of them."""
    found: Facts = {key: fitted.text for key, fitted in told.items() if fitted is not None}
    if any(fitted is not None and fitted.is_cut for fitted in told.values()):
        found["content.truncated"] = True
    return found


def _size(item: Item) -> int:
    return item.message.size + 1 if isinstance(item, _Rendered) and item.message is not None else 0


def _keep_newest(messages: list[Fitted], most_bytes: int) -> None:
    """Take messages off the front until the rest has at most so many bytes as an array."""
    size = 2 + sum(message.size + 1 for message in messages)
    first = 0
    while size > most_bytes and first < len(messages):
        size -= messages[first].size + 1
        first += 1
    del messages[:first]
