"""A run as people read it: streamed text as it comes, and one line for every other fact.

Line-oriented, no cursor movement. Everything that is shown comes from the events, so that a log prints what
the run printed. With parallel sessions one owns the stream and its text is printed as it comes; of the
others, whole parts and lines, each behind the session's tag.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TextIO, TypeAlias, assert_never, cast

import attrs

from agentkit_loop import events as ev
from agentkit_loop.content import (
    AppendText,
    BeginPart,
    CommitPart,
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    Part,
    ReasoningPart,
    StructuredPart,
    TextPart,
)
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.observers import LoopObserver
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_loop.values import JSON
from agentkit_reporting.terminal import (
    Page,
    Piece,
    TerminalStream,
    brief,
    brief_arguments,
    clipped,
    duration_text,
    one_line,
    visible,
)
from agentkit_reporting.usage import UsageReporter, cost_text, token_texts

_Exchange: TypeAlias = ev.InputAccepted | ev.TurnStarted | ev.TurnFinished | ev.CancelRequested
_RunEnd: TypeAlias = ev.RunFinished | ev.RunFailed | ev.RunCancelled
_Request: TypeAlias = (
    ev.ModelRequestStarted
    | ev.ModelRequestRetrying
    | ev.ModelRequestFinished
    | ev.ModelRequestFailed
    | ev.UsageUpdated
)
_Tool: TypeAlias = (
    ev.ToolCallRequested | ev.ToolExecutionStarted | ev.ToolExecutionProgress | ev.ToolResultReceived
)
_Decision: TypeAlias = ev.ApprovalRequired | ev.ApprovalResolved | ev.AuthRequired | ev.AuthResolved
_Context: TypeAlias = ev.ToolCatalogChanged | ev.CompactionStarted | ev.CompactionFinished
_Notice: TypeAlias = (
    ev.BudgetWarning | ev.BudgetExceeded | ev.Warning | ev.ObserverFailed | ev.CustomEvent | ev.UnknownEvent
)
AnyEvent: TypeAlias = (
    ev.RunStarted | _RunEnd | _Exchange | ev.ContentDelta | _Request | _Tool | _Decision | _Context | _Notice
)
"""Every event class. Each match below exhausts its group, so that the type check finds one without a line."""

MIN_WIDTH = 20

_SHORTEST = 8  # columns that a short form gets even where there is no room
_LONG_OUTPUT = 1_000  # characters from which on the length of a tool's output is worth a word

_ENDS = {  # style and glyph of a finish reason; a warning where it is not here
    "completed": ("good", "good"),
    "stop_sequence": ("good", "good"),
    "cancelled": ("warn", "stop"),
    "error": ("bad", "bad"),
}


@attrs.define(eq=False)
class _Call:
    """A requested call that has no result yet."""

    name: str
    arguments: str
    started: bool = False


@attrs.define(eq=False)
class _Session:
    """What has to be remembered of a session to write its next line."""

    id: str
    tag: str
    running: bool = False  # from its RunStarted to the end of that run
    in_exchange: bool = False
    turns: int = 0  # of this exchange
    exchanges: int = 0  # finished in this run
    calls: dict[str, _Call] = attrs.field(factory=dict)
    exchange_usage: UsageReporter = attrs.field(factory=lambda: UsageReporter(keep_requests=False))
    run_usage: UsageReporter = attrs.field(factory=lambda: UsageReporter(keep_requests=False))
    # of the open request:
    silent: bool = False  # its answer is for compaction and joins no transcript
    printed: bool = False  # some of its content was printed
    kinds: dict[str, str] = attrs.field(factory=dict)  # of its open parts
    missed: set[str] = attrs.field(factory=set)  # open parts that are printed at their commit

    def begin_request(self, *, silent: bool = False) -> None:
        """Forget the parts of the last request."""
        self.silent = silent
        self.printed = False
        self.kinds.clear()
        self.missed.clear()


@attrs.define(eq=False)
class _Live:
    """The part that is printed as it comes."""

    session_id: str
    request_id: str
    part_id: str
    length: int = 0  # characters that came


class StdoutReporter(LoopObserver):
    """Prints runs for people.

    stream: text stream, `sys.stdout` at the first event where None; flushed after each write, never closed.
    colour: None as NO_COLOR, TERM, TTY_COMPATIBLE, FORCE_COLOR and the terminal say. width: columns that
    short forms of arguments, results and input are cut to; None as the terminal says, 80 without one; at
    least 20, or ConfigurationError. show_reasoning: print it, dimmed. verbose: also turns, requests and
    the frames of errors.

    May be shared by sessions and threads. When the pipe or stream is closed, printing stops quietly.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        colour: bool | None = None,
        width: int | None = None,
        show_reasoning: bool = True,
        verbose: bool = False,
    ) -> None:
        if width is not None and width < MIN_WIDTH:
            raise ConfigurationError(f"width={width!r} is too narrow; give at least {MIN_WIDTH} columns")
        self._out = TerminalStream(stream, colour=colour, width=width)
        self._page = Page(self._out)
        self._show_reasoning = show_reasoning
        self._verbose = verbose
        self._lock = threading.RLock()
        self._sessions: dict[str, _Session] = {}
        self._owner: _Session | None = None
        self._live: _Live | None = None
        self._started_call = ""  # the call whose start is the last line, if one is

    @property
    def stopped(self) -> bool:
        """Whether nothing is printed any more, since the pipe or the stream was closed."""
        return self._out.stopped

    def handle_event(self, event: ev.AgentEvent) -> None:
        """Print what the event tells, if anything."""
        with self._lock:
            live = self._live
            if type(event) is ev.ContentDelta and live is not None:
                delta = event.delta
                if (
                    type(delta) is AppendText
                    and delta.part_id == live.part_id
                    and event.request_id == live.request_id
                    and event.session_id == live.session_id
                ):
                    live.length += len(delta.chunk)
                    self._page.append(delta.chunk)
                    return
            if not self._out.stopped:
                self._out.open()
                self._print(self._session(event), cast("AnyEvent", event))

    def flush(self) -> None:
        """Flush the stream."""
        with self._lock:
            self._out.flush()

    def close(self) -> None:
        """Complete the open line, print what waited for it, and flush; the stream stays open."""
        with self._lock:
            self._end_live()
            self._out.flush()

    def _session(self, event: ev.AgentEvent) -> _Session:
        session = self._sessions.get(event.session_id)
        if session is None:
            session = _Session(event.session_id, one_line(event.session_id[-4:], 12))
            if isinstance(event, _Notice):  # needs no memory, and may come after the end of a run
                return session
            self._sessions[event.session_id] = session
        if self._owner is None:
            self._owner = session
        return session

    def _owns(self, session: _Session) -> bool:
        return self._owner is session or self._owner is None

    def _print(self, session: _Session, event: AnyEvent) -> None:
        if isinstance(event, ev.ContentDelta):
            self._print_delta(session, event)
        elif isinstance(event, ev.RunStarted):
            self._begin_run(session, event)
        elif isinstance(event, _Exchange):
            self._print_exchange(session, event)
        elif isinstance(event, _RunEnd):
            self._end_run(session, event)
        elif isinstance(event, _Request):
            self._print_request(session, event)
        elif isinstance(event, _Tool):
            self._print_tool(session, event)
        elif isinstance(event, _Decision):
            self._print_decision(session, event)
        elif isinstance(event, _Context):
            self._print_context(session, event)
        elif isinstance(event, _Notice):
            self._print_notice(session, event)
        else:
            assert_never(event)

    # --- runs and exchanges

    def _begin_run(self, session: _Session, event: ev.RunStarted) -> None:
        session.tag = one_line(f"{event.agent_name[:20]} {session.id[-4:]}", 26, self._out.glyphs.cut)
        if self._owner is None or not self._owner.running:
            self._end_live()
            self._owner = session
        session.running = True
        session.exchanges = 0
        session.run_usage = UsageReporter(keep_requests=False)
        told = self._tail(
            event.model,
            event.session_id,
            f"for {event.parent.call_id}" if event.parent else "",
            f"goes on from {event.resumed_run}" if event.resumed_run else "",
            f"{_count(len(event.items), 'item')} before" if event.items else "",
        )
        self._tell(session, "run", *self._sign("lead", "run"), ("strong", event.agent_name), told)

    def _print_exchange(self, session: _Session, event: _Exchange) -> None:
        match event:
            case ev.InputAccepted():
                for item in event.items:
                    self._print_input(session, item)
            case ev.TurnStarted():
                if event.index == 1:
                    session.exchange_usage = UsageReporter(keep_requests=False)
                session.in_exchange = True
                session.turns = event.index
                if self._verbose:
                    self._act(session, ("dim", event.turn_id or "turn"))
            case ev.CancelRequested():
                self._end_live_of(session)
                by = f"by {event.by}" if event.by else ""
                self._say(session, "warn", "stop", "cancel requested", by, event.reason)
            case ev.TurnFinished():
                self._end_live_of(session)
                style, glyph = _ENDS.get(event.finish_reason, ("warn", "warn"))
                told = self._tail(
                    session.turns and _count(session.turns, "turn"),
                    *_spent(event.usage, session.exchange_usage),
                    duration_text(event.duration_ms),
                )
                reason = event.finish_reason.replace("_", " ")
                self._tell(session, "end", *self._sign(style, glyph), (style, reason), told)
                session.in_exchange = False
                session.exchanges += 1
                session.turns = 0
            case _:
                assert_never(event)

    def _print_input(self, session: _Session, item: Item) -> None:
        kind = "" if item.kind == "user" else f"{item.kind}: "
        room = self._out.width - 2 - len(kind)
        shown = one_line(_beginning(item, 4 * room + 1), room, self._out.glyphs.cut)
        self._tell(session, "input", *self._sign("lead", "input"), ("dim", kind), ("", shown))

    def _end_run(self, session: _Session, event: _RunEnd) -> None:
        self._end_live_of(session)
        # The one exchange of a run has said already what was used.
        spent = _spent(event.usage, session.run_usage) if session.exchanges != 1 else ()
        measured = (*spent, duration_text(event.duration_ms))
        match event:
            case ev.RunFinished():
                waiting = ", ".join((*event.open_approvals, *event.open_auths))
                told = self._tail(waiting and f"waits for {waiting}", *measured)
                self._tell(session, "end", *self._sign("lead", "run"), ("", f"run {event.outcome}"), told)
                for stats in event.observers:
                    if stats.failed or stats.dropped:
                        said = f"observer {stats.name}: {stats.failed:,} failed, {stats.dropped:,} dropped"
                        self._tell(session, "end", *self._sign("warn", "warn"), ("", said))
            case ev.RunFailed():
                said = f": {_error(event.error)}"
                pieces = (*self._sign("bad", "bad"), ("bad", "run failed"), ("", said))
                self._tell(session, "end", *pieces, self._tail(*measured))
                self._print_frames(session, event.error)
            case ev.RunCancelled():
                pieces = (*self._sign("warn", "stop"), ("warn", "run cancelled"))
                self._tell(session, "end", *pieces, self._tail(event.reason, *measured))
            case _:
                assert_never(event)
        self._release(session)

    def _release(self, session: _Session) -> None:
        session.running = False
        session.begin_request()
        if not session.calls and not session.in_exchange:  # else a resume goes on with it
            del self._sessions[session.id]
        if session is self._owner:
            self._owner = next((other for other in self._sessions.values() if other.running), None)

    # --- content

    def _print_delta(self, session: _Session, event: ev.ContentDelta) -> None:
        delta = event.delta
        if session.silent:
            return
        if isinstance(delta, BeginPart):
            session.kinds[delta.part_id] = delta.kind
        elif isinstance(delta, AppendText):
            kind = session.kinds.get(delta.part_id, "")
            if kind != "text" and not (kind == "reasoning" and self._show_reasoning):
                return
            if session is not self._owner or self._live is not None or delta.part_id in session.missed:
                session.missed.add(delta.part_id)
                return
            session.printed = True
            self._started_call = ""
            self._page.begin(kind, _style(kind), self._lead(kind))
            self._live = _Live(session.id, event.request_id, delta.part_id, len(delta.chunk))
            self._page.append(delta.chunk)
        elif isinstance(delta, CommitPart):
            self._commit(session, event.request_id, delta)

    def _commit(self, session: _Session, request_id: str, delta: CommitPart) -> None:
        session.kinds.pop(delta.part_id, None)
        session.missed.discard(delta.part_id)
        part, live = delta.part, self._live
        place = (session.id, request_id, delta.part_id)
        if live is None or (live.session_id, live.request_id, live.part_id) != place:
            self._print_part(session, part)
            return
        self._end_live()
        if isinstance(part, (TextPart, ReasoningPart)) and len(part.text) != live.length:
            # A sink between the loop and this one dropped appends, as it may.
            self._act(session, ("dim", "not all of the text above came while it was streamed; the whole:"))
            self._print_part(session, part)

    def _print_part(self, session: _Session, part: Part) -> None:
        """Print a whole part that was not printed as it came."""
        match part:
            case TextPart():
                self._print_text(session, "text", part.text)
            case ReasoningPart():
                if self._show_reasoning:
                    self._print_text(session, "reasoning", part.text)
            case MediaPart():
                self._act(session, ("dim", "media"), self._tail(part.media_type, _size(part.data), part.url))
            case FilePart():
                told = (part.name, part.media_type, _size(part.data), part.url, part.file_id)
                self._act(session, ("dim", "file"), self._tail(*told))
            case StructuredPart():
                self._print_value(session, "structured", part.value)
            case CustomPart():
                self._print_value(session, part.provider, part.value)
            case _:
                pass  # a call has its own events, and a result does not come from the model

    def _print_text(self, session: _Session, kind: str, text: str) -> None:
        if not text:
            return
        self._started_call = ""
        session.printed = True
        shown = visible(text).removesuffix("\n")
        if self._owns(session):
            self._page.put_after(kind, self._lead(kind) + self._out.styled(_style(kind), shown) + "\n")
            return
        prefix, lead = self._prefix(session), self._lead(kind)
        lines = [self._out.styled(_style(kind), line) for line in shown.split("\n")]
        self._page.put("others", "".join(f"{prefix}{lead}{line}\n" for line in lines))

    def _lead(self, kind: str) -> str:
        return self._out.styled("dim", f"{self._out.glyphs.reasoning} ") if kind == "reasoning" else ""

    def _end_live(self) -> None:
        self._live = None
        self._page.end()

    def _end_live_of(self, session: _Session) -> None:
        if self._live is not None and self._live.session_id == session.id:
            self._end_live()

    # --- requests

    def _print_request(self, session: _Session, event: _Request) -> None:
        match event:
            case ev.ModelRequestStarted():
                session.begin_request(silent=event.purpose == "compaction")
                attempt = f"attempt {event.attempt}" if event.attempt > 1 else ""
                items = _count(event.message_count, "item")
                self._whisper(session, event.request_id, event.model, event.purpose, attempt, items)
            case ev.ModelRequestFinished():
                self._end_live_of(session)
                first = duration_text(event.first_content_ms)
                first, took = first and f"first content {first}", duration_text(event.duration_ms)
                self._whisper(
                    session, event.request_id, event.finish_reason, event.response_model, first, took
                )
                session.begin_request()
            case ev.ModelRequestRetrying():
                said = f"trying again in {duration_text(event.delay_ms)}"
                self._say(session, "warn", "retry", said, f"attempt {event.next_attempt}")
            case ev.ModelRequestFailed():
                self._end_live_of(session)
                said = f"request failed ({event.error_class.replace('_', ' ')}): {event.error.message}"
                dropped = "the text above was dropped" if session.printed else ""
                self._say(session, "bad", "bad", said, dropped, duration_text(event.duration_ms))
                self._print_frames(session, event.error)
                session.begin_request()
            case ev.UsageUpdated():
                session.exchange_usage.handle_event(event)
                session.run_usage.handle_event(event)
            case _:
                assert_never(event)

    # --- tools

    def _print_tool(self, session: _Session, event: _Tool) -> None:
        match event:
            case ev.ToolCallRequested():
                arguments = self._arguments(event.call.input)
                if event.call.cut is not None:
                    arguments = f"({one_line(event.call.cut, self._out.width, self._out.glyphs.cut)}"
                session.calls[event.call.id] = _Call(event.call.name, arguments)
            case ev.ToolExecutionStarted():
                call = session.calls.setdefault(event.call_id, _Call(event.name, ""))
                call.started = True
                if event.edited and event.input is not None:
                    call.arguments = self._arguments(event.input)
                attempt = f"attempt {event.attempt}" if event.attempt > 1 else ""
                told = self._tail(attempt, event.edited and "edited")
                room = self._width(session) - 4 - len(told[1])
                self._act(session, *self._sign("lead", "call"), *self._label(call, room), told)
                self._started_call = "" if self._page.torn else f"{session.id} {event.call_id}"
            case ev.ToolExecutionProgress():
                known = session.calls.get(event.call_id)
                share = "" if event.fraction is None else f"{event.fraction:.0%}"
                said = known.name if known else event.call_id
                self._act(session, ("dim", f"  {said}"), self._tail(share, event.message))
            case ev.ToolResultReceived():
                self._print_result(session, event)
            case _:
                assert_never(event)

    def _print_result(self, session: _Session, event: ev.ToolResultReceived) -> None:
        follows = self._started_call == f"{session.id} {event.call_id}"
        call = session.calls.pop(event.call_id, None) or _Call(event.name, "")
        style = "bad" if event.is_error else "good"
        states = (
            event.denied and "denied",
            event.interrupted and "interrupted",
            event.not_started and not event.denied and "not started",
            duration_text(event.duration_ms),
        )
        between = f" {self._out.glyphs.note} "
        facts = "".join(f"{state}{between}" for state in states if state)
        pieces: tuple[Piece, ...] = (("", "  " if call.started else ""), *self._sign(style, style))
        if follows:
            pieces = (*pieces, ("dim", facts))
        else:  # other lines came in between: say which call
            label = self._label(call, self._width(session) * 2 // 5)
            pieces = (*pieces, *label, ("dim", between + facts))
        room = self._width(session) - 2 - sum(len(text) for _, text in pieces)
        output = event.output
        if event.is_error:  # what went wrong is worth a second line, and a third
            room += 2 * self._width(session)
            output = output if event.error is None else _error(event.error)
        self._act(session, *pieces, ("" if event.is_error else "dim", self._output(output, room)))
        if event.error is not None:
            self._print_frames(session, event.error)

    def _output(self, output: JSON, room: int) -> str:
        if not isinstance(output, str):
            return self._short(output, room)
        size = f" ({len(output):,} characters)" if len(output) >= _LONG_OUTPUT else ""
        if room - len(size) < _SHORTEST:
            size = ""
        shown = one_line(output, max(room - len(size), _SHORTEST), self._out.glyphs.cut)
        return f"{shown}{size}" if output else "empty"

    def _arguments(self, arguments: dict[str, JSON]) -> str:
        return brief_arguments(arguments, self._out.width)

    def _label(self, call: _Call, columns: int) -> tuple[Piece, ...]:
        cut = self._out.glyphs.cut
        name = one_line(call.name, max(columns - 10, _SHORTEST), cut)
        room = max(columns - len(name), 5)
        return ("strong", name), ("", clipped(visible(call.arguments), room, cut))

    # --- decisions, the context, notices

    def _print_decision(self, session: _Session, event: _Decision) -> None:
        match event:
            case ev.ApprovalRequired():
                # A person decides by this: it is not cut to the line.
                said = f"approval needed: {event.summary}"
                self._say(session, "ask", "ask", said, event.approval_id)
                if event.reason:
                    self._act(session, ("dim", f"  {event.reason}"))
            case ev.ApprovalResolved():
                style = "good" if event.approved else "bad"
                said = ("approved" if event.approved else "denied") + (f" by {event.by}" if event.by else "")
                edit = "" if event.input is None else f"edited to {self._arguments(event.input)}"
                self._say(session, style, style, said, event.reason, edit, event.approval_id)
            case ev.AuthRequired():
                scopes = f"scopes {', '.join(event.scopes)}" if event.scopes else ""
                said = f"credentials needed: {event.provider}"
                self._say(session, "ask", "ask", said, event.purpose, scopes, event.auth_id)
            case ev.AuthResolved():
                given = event.outcome == "resolved"
                style, said = ("good", "credentials given") if given else ("bad", "credentials refused")
                self._say(session, style, style, said, event.auth_id)
            case _:
                assert_never(event)

    def _print_context(self, session: _Session, event: _Context) -> None:
        match event:
            case ev.ToolCatalogChanged():
                groups = (
                    ("added", [spec.name for spec in event.added]),
                    ("removed", list(event.removed)),
                    ("changed", [spec.name for spec in event.changed]),
                )
                changes = (f"{word} {', '.join(names)}" for word, names in groups if names)
                self._say(session, "lead", "change", "tools", *changes)
            case ev.CompactionStarted():
                extent = _extent(event.item_count, event.token_count)
                self._say(session, "lead", "change", "compacting", event.reason, extent)
            case ev.CompactionFinished() if event.error is not None:
                said = f"not compacted by {event.strategy}: {_error(event.error)}"
                self._say(session, "bad", "bad", said)
                self._print_frames(session, event.error)
            case ev.CompactionFinished():
                extent = _extent(event.item_count, event.token_count)
                self._say(session, "lead", "change", f"compacted by {event.strategy}", extent)
            case _:
                assert_never(event)

    def _print_notice(self, session: _Session, event: _Notice) -> None:
        match event:
            case ev.BudgetWarning():
                said = f"{event.limit}: {_plain(event.used)} of {_plain(event.allowed)} used"
                self._say(session, "warn", "warn", said)
            case ev.BudgetExceeded():
                said = f"{event.limit} used up: {_plain(event.used)} of {_plain(event.allowed)}"
                self._say(session, "bad", "bad", said)
            case ev.Warning():
                details = (
                    self._short(event.details, self._width(session))
                    if event.details and self._verbose
                    else ""
                )
                self._say(session, "warn", "warn", event.message, event.code, details)
            case ev.ObserverFailed():
                said = f"observer {event.observer} failed on event {event.event_seq}: {_error(event.error)}"
                self._say(session, "warn", "warn", said, event.disabled and "it gets no more events")
                self._print_frames(session, event.error)
            case ev.CustomEvent():
                self._print_value(session, event.name, event.data)
            case ev.UnknownEvent():
                said = f"{event.type} (an event that this version does not know)"
                self._act(session, *self._sign("dim", "note"), ("dim", said))
            case _:
                assert_never(event)

    def _print_value(self, session: _Session, name: str, value: JSON) -> None:
        shown = "" if value is None else self._short(value, self._width(session) - 7 - len(name))
        self._act(session, *self._sign("dim", "note"), ("dim", name), self._tail(shown))

    def _print_frames(self, session: _Session, error: ErrorInfo) -> None:
        if self._verbose:
            for frame in error.frames:
                self._act(session, ("dim", f"    {frame}"))

    # --- lines

    def _act(self, session: _Session, *pieces: Piece) -> None:
        """Write a line about what goes on inside an exchange."""
        self._tell(session, "activity", ("", "  "), *pieces)

    def _say(
        self, session: _Session, style: str, glyph: str, said: str, *told: str | int | bool | None
    ) -> None:
        """Write such a line: its sign, what it says, and dimmed what else there is to tell."""
        tone = "" if style in ("good", "lead") else style
        self._act(session, *self._sign(style, glyph), (tone, said), self._tail(*told))

    def _whisper(self, session: _Session, *texts: str | None) -> None:
        """Write such a line dimmed, only where verbose."""
        if self._verbose:
            self._act(session, ("dim", self._joined(texts)))

    def _tell(self, session: _Session, block: str, *pieces: Piece) -> None:
        self._started_call = ""
        line = self._out.line(pieces)
        if self._owns(session):
            self._page.put(block, line)
        else:
            self._page.put("others", self._prefix(session) + line)

    def _prefix(self, session: _Session) -> str:
        return self._out.styled("dim", f"[{session.tag}]") + " "

    def _width(self, session: _Session) -> int:
        """Return the columns of one of the session's lines."""
        taken = 0 if self._owns(session) else len(session.tag) + 3
        return max(self._out.width - taken, MIN_WIDTH)

    def _sign(self, style: str, glyph: str) -> tuple[Piece, ...]:
        return ((style, f"{getattr(self._out.glyphs, glyph)} "),)

    def _tail(self, *texts: str | int | bool | None) -> Piece:
        """Return what is told dimmed at the end of a line; what is empty is left out."""
        joined = self._joined(texts)
        return "dim", f" {self._out.glyphs.note} {joined}" if joined else ""

    def _joined(self, texts: Iterable[str | int | bool | None]) -> str:
        return f" {self._out.glyphs.note} ".join(str(text) for text in texts if text)

    def _short(self, value: JSON, room: int) -> str:
        room = max(room, _SHORTEST)
        return one_line(brief(value, room), room, self._out.glyphs.cut)


def _style(kind: str) -> str:
    return "dim" if kind == "reasoning" else ""


def _error(error: ErrorInfo) -> str:
    return f"{error.type}: {error.message}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _extent(items: int, tokens: int | None) -> str:
    return _count(items, "item") if tokens is None else f"{_count(items, 'item')}, {_count(tokens, 'token')}"


def _size(base64: str | None) -> str:
    return f"{len(base64):,} characters of base64" if base64 else ""


def _plain(value: JSON) -> str:
    return value[:40] if isinstance(value, str) else brief(value, 40)


def _beginning(item: Item, room: int) -> str:
    """Return the first characters of an item's text, what is not text in brackets."""
    texts: list[str] = []
    for part in item.parts:
        text = part.text[:room] if isinstance(part, TextPart) else f"[{part.__struct_config__.tag}]"
        texts.append(text)
        room -= len(text)
        if room <= 0:
            break
    return " ".join(texts)


def _spent(usage: Usage, spent: UsageReporter) -> tuple[str, ...]:
    """Return tokens and cost in words; nothing where no request told anything."""
    total = spent.total
    if usage.total_tokens is None and not total.requests:
        return ()
    open_ones = total.provisional_requests
    provisional = f"{_count(open_ones, 'request')} provisional" if open_ones else ""
    return (*token_texts(usage), cost_text(total), provisional)
