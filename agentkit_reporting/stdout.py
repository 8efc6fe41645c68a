"""A run as people read it: streamed text as it comes, and one line for every other fact.

Line-oriented, no cursor movement. Everything that is shown comes from the events, so that a log prints what
the run printed. With parallel sessions one owns the stream and its text is printed as it comes; of the
others, whole parts and lines, each behind the session's tag.
"""

from __future__ import annotations

import zlib
from typing import TextIO, TypeAlias, assert_never, cast

import attrs

from agentkit_loop import events as ev
from agentkit_loop.content import AppendText, BeginPart, CommitPart, Part, ReasoningPart, TextPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.forks import Locked
from agentkit_loop.observers import LoopObserver
from agentkit_reporting.page import Page, TerminalStream
from agentkit_reporting.terminal import one_line, visible
from agentkit_reporting.usage import UsageReporter
from agentkit_reporting.wording import (
    Call,
    Context,
    Decision,
    Line,
    Notice,
    Request,
    RunEnd,
    Wording,
    spent_texts,
)

_Exchange: TypeAlias = ev.InputAccepted | ev.TurnStarted | ev.TurnFinished | ev.CancelRequested
_Tool: TypeAlias = (
    ev.ToolCallRequested | ev.ToolExecutionStarted | ev.ToolExecutionProgress | ev.ToolResultReceived
)
AnyEvent: TypeAlias = (
    ev.RunStarted | RunEnd | _Exchange | ev.ContentDelta | Request | _Tool | Decision | Context | Notice
)
"""Every event class. Each match over a group exhausts it, so that the type check finds one without a line."""

MIN_WIDTH = 20


@attrs.define(eq=False)
class _Session:
    """What has to be remembered of a session to write its next line."""

    id: str
    tag: str
    running: bool = False  # from its RunStarted to the end of that run
    in_exchange: bool = False
    is_whole: bool = False  # the exchange was seen from its first turn on
    turns: int = 0  # of this exchange
    exchanges: int = 0  # finished in this run
    calls: dict[str, Call] = attrs.field(factory=dict)
    exchange_usage: UsageReporter = attrs.field(factory=lambda: UsageReporter(keep_requests=False))
    run_usage: UsageReporter = attrs.field(factory=lambda: UsageReporter(keep_requests=False))
    # of the open request:
    silent: bool = False  # its answer is for compaction and joins no transcript
    printed: bool = False  # some of its content was printed
    kinds: dict[str, str] = attrs.field(factory=dict)  # of its open parts
    missed: set[str] = attrs.field(factory=set)  # open parts that are printed at their commit
    shown: dict[str, _Shown] = attrs.field(factory=dict)  # open parts whose text broke off

    def begin_request(self, *, silent: bool = False) -> None:
        """Forget the parts of the last request."""
        self.silent = silent
        self.printed = False
        self.kinds.clear()
        self.missed.clear()
        self.shown.clear()


@attrs.define(eq=False)
class _Shown:
    """How much of a text was printed as it came; it is not kept, since it may be long."""

    length: int = 0  # characters
    checksum: int = 0  # CRC-32

    def add(self, chunk: str) -> None:
        """Take the next piece."""
        self.length += len(chunk)
        self.checksum = _crc32(chunk, self.checksum)

    def begins(self, text: str) -> bool:
        """Whether a text begins with what was printed."""
        return self.length <= len(text) and _crc32(text[: self.length]) == self.checksum


def _crc32(text: str, before: int = 0) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), before)


@attrs.define(eq=False)
class _Live:
    """The part that is printed as it comes."""

    session_id: str
    request_id: str
    part_id: str
    shown: _Shown


class StdoutReporter(Locked, LoopObserver):
    """Prints runs for people.

    stream: text stream, `sys.stdout` at the first event where None; flushed after each write, never closed.
    colour: None as NO_COLOR, TERM, TTY_COMPATIBLE, FORCE_COLOR and the terminal say. width: columns that
    short forms of arguments, results and input are cut to; None as the terminal says, 80 without one; at
    least 20, or ConfigurationError. show_reasoning: print it, dimmed. verbose: also turns, requests and
    the frames of errors.

    May be shared by sessions and threads. When the pipe or stream is closed, printing stops quietly; when it
    cannot be written for another reason, that is raised once, and printing stops.
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
        super().__init__()
        self._out = TerminalStream(stream, colour=colour, width=width)
        self._page = Page(self._out)
        self._show_reasoning = show_reasoning
        self._verbose = verbose
        self._sessions: dict[str, _Session] = {}
        self._owner: _Session | None = None
        self._live: _Live | None = None
        self._started_call = ""  # the call whose start is the last line, if one is

    @property
    def stopped(self) -> bool:
        """Whether nothing is printed any more, since the pipe or the stream was closed or failed."""
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
                    live.shown.add(delta.chunk)
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
            if isinstance(event, Notice):  # needs no memory, and may come after the end of a run
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
        elif isinstance(event, RunEnd):
            self._end_run(session, event)
        elif isinstance(event, Request):
            self._print_request(session, event)
        elif isinstance(event, _Tool):
            self._print_tool(session, event)
        elif isinstance(event, Decision):
            self._act(session, *self._words(session).decision(event))
        elif isinstance(event, Context):
            self._act(session, *self._words(session).context(event))
        elif isinstance(event, Notice):
            self._act(session, *self._words(session).notice(event))
        else:
            assert_never(event)

    # --- runs and exchanges

    def _begin_run(self, session: _Session, event: ev.RunStarted) -> None:
        session.tag = self._words(session).tag(event)
        if self._owner is None or not self._owner.running:
            self._end_live()
            self._owner = session
        session.running = True
        session.exchanges = 0
        session.run_usage = UsageReporter(keep_requests=False)
        self._tell(session, "run", self._words(session).run_started(event))

    def _print_exchange(self, session: _Session, event: _Exchange) -> None:
        words = self._words(session)
        match event:
            case ev.InputAccepted():
                self._tell(session, "input", *map(words.input, event.items))
            case ev.TurnStarted():
                if event.index == 1 or not session.in_exchange:
                    session.exchange_usage = UsageReporter(keep_requests=False)
                    session.is_whole = event.index == 1
                session.in_exchange = True
                session.turns = event.index
                if self._verbose:
                    self._act(session, (("dim", event.turn_id or "turn"),))
            case ev.CancelRequested():
                self._end_live_of(session)
                self._act(session, words.cancel_requested(event))
            case ev.TurnFinished():
                self._end_live_of(session)
                spent = spent_texts(
                    event.usage, session.exchange_usage.total, since_resume=not session.is_whole
                )
                self._tell(session, "end", words.turn_finished(event, session.turns, spent))
                session.in_exchange = session.is_whole = False
                session.exchanges += 1
                session.turns = 0
            case _:
                assert_never(event)

    def _end_run(self, session: _Session, event: RunEnd) -> None:
        self._end_live_of(session)
        # The one exchange of a run has said already what was used.
        spent = spent_texts(event.usage, session.run_usage.total) if session.exchanges != 1 else ()
        words = self._words(session)
        self._tell(session, "end", *words.run_end(event, spent))
        if isinstance(event, ev.RunFailed):
            self._act(session, *words.frames(event.error))
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
            shown = session.shown.pop(delta.part_id, None) or _Shown()
            shown.add(delta.chunk)
            self._live = _Live(session.id, event.request_id, delta.part_id, shown)
            self._page.append(delta.chunk)
        elif isinstance(delta, CommitPart):
            self._commit(session, event.request_id, delta)

    def _commit(self, session: _Session, request_id: str, delta: CommitPart) -> None:
        session.kinds.pop(delta.part_id, None)
        session.missed.discard(delta.part_id)
        part, live = delta.part, self._live
        place = (session.id, request_id, delta.part_id)
        if live is not None and (live.session_id, live.request_id, live.part_id) == place:
            # A redacting sink before this one holds back the end of a text that might have been a secret's beginning.
            if isinstance(part, (TextPart, ReasoningPart)) and live.shown.begins(part.text):
                rest = part.text[live.shown.length :]
                live.shown.add(rest)
                self._page.append(rest)
            self._end_live()
        shown = session.shown.pop(delta.part_id, None)
        if shown is None:
            self._print_part(session, part)
        elif isinstance(part, (TextPart, ReasoningPart)) and len(part.text) != shown.length:
            # A sink between the loop and this one dropped appends, as it may.
            said = "not all of the text above came while it was streamed; the whole:"
            self._act(session, (("dim", said),))
            self._print_part(session, part)

    def _print_part(self, session: _Session, part: Part) -> None:
        """Print a whole part that was not printed as it came."""
        match part:
            case TextPart():
                self._print_text(session, "text", part.text)
            case ReasoningPart():
                if self._show_reasoning:
                    self._print_text(session, "reasoning", part.text)
            case _:
                self._act(session, *self._words(session).part(part))

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
        live, self._live = self._live, None
        if live is not None and live.session_id in self._sessions:
            self._sessions[live.session_id].shown[live.part_id] = live.shown
        self._page.end()

    def _end_live_of(self, session: _Session) -> None:
        if self._live is not None and self._live.session_id == session.id:
            self._end_live()

    # --- requests and tools

    def _print_request(self, session: _Session, event: Request) -> None:
        ended = isinstance(event, ev.ModelRequestFinished | ev.ModelRequestFailed)
        if ended:
            self._end_live_of(session)
        elif isinstance(event, ev.ModelRequestStarted):
            session.begin_request(silent=event.purpose == "compaction")
        elif isinstance(event, ev.UsageUpdated):
            session.exchange_usage.handle_event(event)
            session.run_usage.handle_event(event)
        self._act(session, *self._words(session).request(event, printed=session.printed))
        if ended:
            session.begin_request()

    def _print_tool(self, session: _Session, event: _Tool) -> None:
        words = self._words(session)
        match event:
            case ev.ToolCallRequested():
                session.calls[event.call.id] = words.call(event.call)
            case ev.ToolExecutionStarted():
                call = session.calls.setdefault(event.call_id, Call(event.name, ""))
                call.started = True
                if event.edited and event.input is not None:
                    call.arguments = words.arguments(event.input)
                self._act(session, words.tool_started(event, call))
                self._started_call = "" if self._page.torn else f"{session.id} {event.call_id}"
            case ev.ToolExecutionProgress():
                self._act(session, words.tool_progress(event, session.calls.get(event.call_id)))
            case ev.ToolResultReceived():
                follows = self._started_call == f"{session.id} {event.call_id}"
                call = session.calls.pop(event.call_id, Call(event.name, ""))
                self._act(session, *words.tool_result(event, call, follows=follows))
            case _:
                assert_never(event)

    # --- lines

    def _words(self, session: _Session) -> Wording:
        taken = 0 if self._owns(session) else len(session.tag) + 3
        room = max(self._out.width - taken, MIN_WIDTH)
        return Wording(self._out.glyphs, self._out.width, room, self._verbose)

    def _act(self, session: _Session, *lines: Line) -> None:
        """Write lines about what goes on inside an exchange."""
        self._tell(session, "activity", *((("", "  "), *pieces) for pieces in lines))

    def _tell(self, session: _Session, block: str, *lines: Line) -> None:
        for pieces in lines:
            self._started_call = ""
            line = self._out.line(pieces)
            if self._owns(session):
                self._page.put(block, line)
            else:
                self._page.put("others", self._prefix(session) + line)

    def _prefix(self, session: _Session) -> str:
        return self._out.styled("dim", f"[{session.tag}]") + " "


def _style(kind: str) -> str:
    return "dim" if kind == "reasoning" else ""
