"""What a line says of an event: words and styles, without a stream and without memory.

`Wording` knows how much room there is; what else a line needs to know (the call that a result is for, what
was spent) is an argument. Text from models, tools and logs passes as it came where a line keeps it whole:
`TerminalStream.line` makes every piece visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias, assert_never

import attrs
import msgspec

from agentkit_loop import events as ev
from agentkit_loop.content import (
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    Part,
    StructuredPart,
    TextPart,
    ToolCallPart,
)
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_loop.values import JSON
from agentkit_reporting.page import Glyphs, Piece
from agentkit_reporting.terminal import (
    brief,
    brief_arguments,
    clipped,
    columns_of,
    counted,
    duration_text,
    one_line,
    visible,
)
from agentkit_reporting.usage import UsageTotals, cost_text, token_texts

Line: TypeAlias = tuple[Piece, ...]

RunEnd: TypeAlias = ev.RunFinished | ev.RunFailed | ev.RunCancelled
Request: TypeAlias = (
    ev.ModelRequestStarted
    | ev.ModelRequestRetrying
    | ev.ModelRequestFinished
    | ev.ModelRequestFailed
    | ev.UsageUpdated
)
Decision: TypeAlias = ev.ApprovalRequired | ev.ApprovalResolved | ev.AuthRequired | ev.AuthResolved
Context: TypeAlias = ev.ToolCatalogChanged | ev.CompactionStarted | ev.CompactionFinished
Notice: TypeAlias = (
    ev.BudgetWarning | ev.BudgetExceeded | ev.Warning | ev.ObserverFailed | ev.CustomEvent | ev.UnknownEvent
)

_Told: TypeAlias = str | int | bool | None  # what is empty is not told

_SHORTEST = 8  # columns that a short form gets even where there is no room
_LONG_OUTPUT = 1_000  # characters from which on the length of a tool's output is worth a word

_ENDS = {  # style and glyph of a finish reason; a warning where it is not here
    "completed": ("good", "good"),
    "stop_sequence": ("good", "good"),
    "cancelled": ("warn", "stop"),
    "error": ("bad", "bad"),
}


@attrs.define(eq=False)
class Call:
    """A requested call that has no result yet. arguments: in short, as `(path="a.py")`."""

    name: str
    arguments: str
    started: bool = False


class Wording(msgspec.Struct, frozen=True):
    """Words the lines of one session.

    columns: of the terminal. room: columns of this session's lines, fewer where they begin with its tag.
    verbose: also requests and the frames of errors.
    """

    glyphs: Glyphs
    columns: int
    room: int
    verbose: bool

    # --- runs and exchanges

    def tag(self, event: ev.RunStarted) -> str:
        """Return what the lines of a session that does not own the stream begin with."""
        return one_line(f"{event.agent_name[:20]} {event.session_id[-4:]}", 26, self.glyphs.cut)

    def run_started(self, event: ev.RunStarted) -> Line:
        """Word the beginning of a run."""
        told = self._tail(
            event.model,
            event.session_id,
            f"for {event.parent.call_id}" if event.parent else "",
            f"goes on from {event.resumed_run}" if event.resumed_run else "",
            f"{counted(len(event.items), 'item')} before" if event.items else "",
        )
        return self._sign("lead", "run"), ("strong", event.agent_name), told

    def run_end(self, event: RunEnd, spent: tuple[str, ...]) -> Iterator[Line]:
        """Word the end of a run that spent this."""
        measured = (*spent, duration_text(event.duration_ms))
        match event:
            case ev.RunFinished():
                waiting = ", ".join((*event.open_approvals, *event.open_auths))
                told = self._tail(waiting and f"waits for {waiting}", *measured)
                yield self._sign("lead", "run"), ("", f"run {event.outcome}"), told
                for stats in event.observers:
                    if stats.failed or stats.dropped:
                        said = f"observer {stats.name}: {stats.failed:,} failed, {stats.dropped:,} dropped"
                        yield self._sign("warn", "warn"), ("", said)
            case ev.RunFailed():
                said = f": {_error(event.error)}"
                yield self._sign("bad", "bad"), ("bad", "run failed"), ("", said), self._tail(*measured)
            case ev.RunCancelled():
                told = self._tail(event.reason, *measured)
                yield self._sign("warn", "stop"), ("warn", "run cancelled"), told
            case _:
                assert_never(event)

    def input(self, item: Item) -> Line:
        """Word the beginning of an item of input."""
        kind = "" if item.kind == "user" else f"{item.kind}: "
        room = self.columns - 2 - len(kind)
        shown = one_line(_beginning(item, 4 * room + 1), room, self.glyphs.cut)
        return self._sign("lead", "input"), ("dim", kind), ("", shown)

    def turn_finished(self, event: ev.TurnFinished, turns: int, spent: tuple[str, ...]) -> Line:
        """Word the end of an exchange of so many turns that spent this."""
        style, glyph = _ENDS.get(event.finish_reason, ("warn", "warn"))
        told = self._tail(turns and counted(turns, "turn"), *spent, duration_text(event.duration_ms))
        return self._sign(style, glyph), (style, event.finish_reason.replace("_", " ")), told

    def cancel_requested(self, event: ev.CancelRequested) -> Line:
        """Word who wants the run cancelled, and why."""
        by = f"by {event.by}" if event.by else ""
        return self._said("warn", "stop", "cancel requested", by, event.reason)

    # --- requests and content

    def request(self, event: Request, *, printed: bool) -> Iterator[Line]:
        """Word what became of a request; printed: some of its content was."""
        match event:
            case ev.ModelRequestStarted():
                attempt = f"attempt {event.attempt}" if event.attempt > 1 else ""
                items = counted(event.message_count, "item")
                yield from self._whispered(event.request_id, event.model, event.purpose, attempt, items)
            case ev.ModelRequestFinished():
                first = duration_text(event.first_content_ms)
                first, took = first and f"first content {first}", duration_text(event.duration_ms)
                yield from self._whispered(
                    event.request_id, event.finish_reason, event.response_model, first, took
                )
            case ev.ModelRequestRetrying():
                said = f"trying again in {duration_text(event.delay_ms)}"
                yield self._said("warn", "retry", said, f"attempt {event.next_attempt}")
            case ev.ModelRequestFailed():
                said = f"request failed ({event.error_class.replace('_', ' ')}): {event.error.message}"
                dropped = "the text above was dropped" if printed else ""
                wait = duration_text(event.retry_after_ms)
                asked = wait and f"asked to wait {wait}"
                yield self._said("bad", "bad", said, dropped, asked, duration_text(event.duration_ms))
                yield from self.frames(event.error)
            case ev.UsageUpdated():
                pass  # the end of the exchange tells the sum
            case _:
                assert_never(event)

    def part(self, part: Part) -> Iterator[Line]:
        """Word a part that is not text."""
        match part:
            case MediaPart():
                yield ("dim", "media"), self._tail(part.media_type, _size(part.data), part.url)
            case FilePart():
                told = (part.name, part.media_type, _size(part.data), part.url, part.file_id)
                yield ("dim", "file"), self._tail(*told)
            case StructuredPart():
                yield self._value("structured", part.value)
            case CustomPart():
                yield self._value(part.provider, part.value)
            case _:
                pass  # a call has its own events, and a result does not come from the model

    # --- tools

    def call(self, part: ToolCallPart) -> Call:
        """Word a requested call."""
        if part.cut is None:
            return Call(part.name, self.arguments(part.input))
        return Call(part.name, f"({one_line(part.cut, self.columns, self.glyphs.cut)}")

    def arguments(self, arguments: dict[str, JSON]) -> str:
        """Word arguments in short."""
        return brief_arguments(arguments, self.columns)

    def tool_started(self, event: ev.ToolExecutionStarted, call: Call) -> Line:
        """Word the beginning of a call's attempt."""
        attempt = f"attempt {event.attempt}" if event.attempt > 1 else ""
        told = self._tail(attempt, event.edited and "edited")
        return self._sign("lead", "call"), *self._label(call, self.room - 4 - columns_of(told[1])), told

    def tool_progress(self, event: ev.ToolExecutionProgress, call: Call | None) -> Line:
        """Word how far a call is, by its id where the call is not known."""
        share = "" if event.fraction is None else f"{event.fraction:.0%}"
        said = event.call_id if call is None else call.name
        return ("dim", f"  {said}"), self._tail(share, event.message)

    def tool_result(self, event: ev.ToolResultReceived, call: Call, *, follows: bool) -> Iterator[Line]:
        """Word the result of a call; follows: the line above is the start of the same call."""
        style = "bad" if event.is_error else "good"
        states = (
            event.denied and "denied",
            event.interrupted and "interrupted",
            event.not_started and not event.denied and "not started",
            duration_text(event.duration_ms),
        )
        between = f" {self.glyphs.note} "
        facts = "".join(f"{state}{between}" for state in states if state)
        pieces: Line = (("", "  " if call.started else ""), self._sign(style, style))
        if follows:
            pieces = (*pieces, ("dim", facts))
        else:  # other lines came in between: say which call
            pieces = (*pieces, *self._label(call, self.room * 2 // 5), ("dim", between + facts))
        room = self.room - 2 - sum(columns_of(text) for _, text in pieces)
        output = event.output
        if event.is_error:  # what went wrong is worth a second line, and a third
            room += 2 * self.room
            output = output if event.error is None else _error(event.error)
        yield *pieces, ("" if event.is_error else "dim", self._output(output, room))
        if event.error is not None:
            yield from self.frames(event.error)

    def _output(self, output: JSON, room: int) -> str:
        if not isinstance(output, str):
            return self._short(output, room)
        size = f" ({len(output):,} characters)" if len(output) >= _LONG_OUTPUT else ""
        if room - len(size) < _SHORTEST:
            size = ""
        shown = one_line(output, max(room - len(size), _SHORTEST), self.glyphs.cut)
        return f"{shown}{size}" if output else "empty"

    def _label(self, call: Call, columns: int) -> Line:
        name = one_line(call.name, max(columns - 10, _SHORTEST), self.glyphs.cut)
        room = max(columns - columns_of(name), 5)
        return ("strong", name), ("", clipped(visible(call.arguments), room, self.glyphs.cut))

    # --- decisions, the context, notices

    def decision(self, event: Decision) -> Iterator[Line]:
        """Word what a person has to decide, or decided."""
        match event:
            case ev.ApprovalRequired():
                # A person decides by this: it is not cut to the line.
                yield self._said("ask", "ask", f"approval needed: {event.summary}", event.approval_id)
                if event.reason:
                    yield (("dim", f"  {event.reason}"),)
            case ev.ApprovalResolved():
                style = "good" if event.approved else "bad"
                said = ("approved" if event.approved else "denied") + (f" by {event.by}" if event.by else "")
                edit = "" if event.input is None else f"edited to {self.arguments(event.input)}"
                yield self._said(style, style, said, event.reason, edit, event.approval_id)
            case ev.AuthRequired():
                scopes = f"scopes {', '.join(event.scopes)}" if event.scopes else ""
                said = f"credentials needed: {event.provider}"
                yield self._said("ask", "ask", said, event.purpose, scopes, event.auth_id)
            case ev.AuthResolved():
                given = event.outcome == "resolved"
                style, said = ("good", "credentials given") if given else ("bad", "credentials refused")
                yield self._said(style, style, said, event.auth_id)
            case _:
                assert_never(event)

    def context(self, event: Context) -> Iterator[Line]:
        """Word what changed in what the model sees."""
        match event:
            case ev.ToolCatalogChanged():
                groups = (
                    ("added", [spec.name for spec in event.added]),
                    ("removed", list(event.removed)),
                    ("changed", [spec.name for spec in event.changed]),
                )
                changes = (f"{word} {', '.join(names)}" for word, names in groups if names)
                yield self._said("lead", "change", "tools", *changes)
            case ev.CompactionStarted():
                extent = _extent(event.item_count, event.token_count)
                yield self._said("lead", "change", "compacting", event.reason, extent)
            case ev.CompactionFinished() if event.error is not None:
                said = f"not compacted by {event.strategy}: {_error(event.error)}"
                yield self._said("bad", "bad", said)
                yield from self.frames(event.error)
            case ev.CompactionFinished():
                extent = _extent(event.item_count, event.token_count)
                yield self._said("lead", "change", f"compacted by {event.strategy}", extent)
            case _:
                assert_never(event)

    def notice(self, event: Notice) -> Iterator[Line]:
        """Word what happened beside the exchange."""
        match event:
            case ev.BudgetWarning():
                said = f"{event.limit}: {_used(event.used)} of {_plain(event.allowed)} used"
                yield self._said("warn", "warn", said)
            case ev.BudgetExceeded():
                said = f"{event.limit} used up: {_used(event.used)} of {_plain(event.allowed)}"
                yield self._said("bad", "bad", said)
            case ev.Warning():
                details = self._short(event.details, self.room) if event.details and self.verbose else ""
                yield self._said("warn", "warn", event.message, event.code, details)
            case ev.ObserverFailed():
                said = f"observer {event.observer} failed on event {event.event_seq}: {_error(event.error)}"
                yield self._said("warn", "warn", said, event.disabled and "it gets no more events")
                yield from self.frames(event.error)
            case ev.CustomEvent():
                yield self._value(event.name, event.data)
            case ev.UnknownEvent():
                said = f"{event.type} (an event that this version does not know)"
                yield self._sign("dim", "note"), ("dim", said)
            case _:
                assert_never(event)

    def frames(self, error: ErrorInfo) -> Iterator[Line]:
        """Word where an error came from, only where verbose."""
        if self.verbose:
            for frame in error.frames:
                yield (("dim", f"    {frame}"),)

    # --- the pieces of a line

    def _said(self, style: str, glyph: str, said: str, *told: _Told) -> Line:
        """Return a sign, what the line says, and dimmed what else there is to tell."""
        tone = "" if style in ("good", "lead") else style
        return self._sign(style, glyph), (tone, said), self._tail(*told)

    def _whispered(self, *texts: _Told) -> Iterator[Line]:
        """Yield a dimmed line, only where verbose."""
        if self.verbose:
            yield (("dim", self._joined(texts)),)

    def _value(self, name: str, value: JSON) -> Line:
        shown = "" if value is None else self._short(value, self.room - 7 - len(name))
        return self._sign("dim", "note"), ("dim", name), self._tail(shown)

    def _sign(self, style: str, glyph: str) -> Piece:
        return style, f"{getattr(self.glyphs, glyph)} "

    def _tail(self, *texts: _Told) -> Piece:
        """Return what is told dimmed at the end of a line."""
        joined = self._joined(texts)
        return "dim", f" {self.glyphs.note} {joined}" if joined else ""

    def _joined(self, texts: Iterable[_Told]) -> str:
        return f" {self.glyphs.note} ".join(str(text) for text in texts if text)

    def _short(self, value: JSON, room: int) -> str:
        room = max(room, _SHORTEST)
        return one_line(brief(value, room), room, self.glyphs.cut)


def spent_texts(usage: Usage, spent: UsageTotals, *, since_resume: bool = False) -> tuple[str, ...]:
    """Return tokens and cost in words; nothing where no request told anything.

    since_resume: the cost is not that of all the tokens, but of what was seen, from a resume on.
    """
    if usage.total_tokens is None and not spent.requests:
        return ()
    open_ones = spent.provisional_requests
    provisional = f"{counted(open_ones, 'request')} provisional" if open_ones else ""
    cost = cost_text(spent)
    return (*token_texts(usage), f"{cost} since the resume" if cost and since_resume else cost, provisional)


def _error(error: ErrorInfo) -> str:
    return f"{error.type}: {error.message}"


def _extent(items: int, tokens: int | None) -> str:
    return (
        counted(items, "item") if tokens is None else f"{counted(items, 'item')}, {counted(tokens, 'token')}"
    )


def _size(base64: str | None) -> str:
    return f"{len(base64):,} characters of base64" if base64 else ""


def _used(amount: JSON) -> str:
    """Return what was used of a limit; of measured seconds no more than three digits, or all whole ones."""
    if isinstance(amount, float):
        return f"{amount:.3g}" if abs(amount) < 1_000 else f"{amount:.0f}"  # noqa: PLR2004 - three digits
    return _plain(amount)


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
