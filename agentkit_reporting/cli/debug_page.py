"""What `agentkit debug` shows of steps and states: lines of pieces, each text of a log made visible and bounded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from agentkit_loop.usage import Usage
from agentkit_loop.values import JSON
from agentkit_reporting.analysis.debug_replay import DebugReplay
from agentkit_reporting.analysis.debug_state import DebugState, OpenCall
from agentkit_reporting.analysis.debug_step import DebugStep
from agentkit_reporting.analysis.debug_summary import DebugSummary
from agentkit_reporting.cli.drawing import brief_duration
from agentkit_reporting.cli.open_runs import breaks_off
from agentkit_reporting.page import Glyphs, Piece
from agentkit_reporting.terminal import clipped, columns_of, counted, one_line, visible
from agentkit_reporting.usage import UsageTotals, cost_text, token_texts

__all__ = ["FACT_LINES", "DebugPage", "Line"]

Line: TypeAlias = tuple[Piece, ...]

FACT_LINES = 12
"""Lines of a fact that are shown unasked."""

_KIND_COLUMNS = 15
_DURATION_COLUMNS = 7
_LEAST_TITLE = 12
_MOST_VALUE = 200_000  # characters of a value that are looked at, however much is asked for

_STYLES = {
    "ok": ("good", "good"),
    "failed": ("bad", "bad"),
    "denied": ("bad", "bad"),
    "not_started": ("warn", "warn"),
    "interrupted": ("warn", "stop"),
    "cancelled": ("warn", "stop"),
    "waiting": ("ask", "ask"),
    "open": ("warn", "warn"),
}
"""Style and glyph by status."""

_SHOWN_LAST = (
    "response_model",
    "first_content_ms",
    "metadata",
    "tools",
    "parameters",
    "observers",
)
"""Facts that are long and seldom looked for."""

_WHOLE_ONLY = frozenset(_SHOWN_LAST) - {"tools"}
"""Facts that are shown only where all is asked for."""

_LEFT_OUT = frozenset({"request_id", "usage_is_final", "billed_model", "response_id", "digests", "is_error"})
"""Facts that say nothing to a person; `--json` has them."""

_USUAL = {"attempt": 1, "purpose": "turn"}
"""Facts that are worth a line only where they are otherwise."""

_TITLES = {
    "system": "System",
    "developer": "Developer",
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "context": "Context",
    "notification": "Notification",
}


class DebugPage:
    """Words lines for so many columns."""

    def __init__(self, replay: DebugReplay, columns: int, glyphs: Glyphs) -> None:
        self._columns = columns
        self._glyphs = glyphs
        self._asked_before = _overtaken(replay)
        self._number_columns = len(f"{max((step.number for step in _ends(replay)), default=0):,}")

    def _marks(self, step: DebugStep) -> str:
        above = self._asked_before.get(step.number)
        told = _state_marks(step)
        if above is None:
            return told
        return f"asked before {above:,}{f', {told}' if told else ''}"

    # --- the whole

    def summary(self, summary: DebugSummary) -> Line:
        """Return how the session went: outcome, failures, cost, time."""
        least = ">= " if summary.is_open else ""
        failed = (
            (summary.failed_calls, "failed call"),
            (summary.denied_calls, "denied call"),
            (summary.failed_requests, "failed request"),
        )
        outcome = "open, no end was told" if summary.is_open else summary.outcome
        if summary.open_runs and not summary.is_open:
            outcome = f"{outcome}, {counted(summary.open_runs, 'run')} before without an end"
        cost = cost_text(summary.totals)
        facts = (
            outcome,
            *(counted(count, noun) for count, noun in failed if count),
            "cost ?" if cost == "cost unknown" else f"{least}{cost}" if cost else "",
            "" if summary.duration_ms is None else f"{least}{brief_duration(summary.duration_ms)}",
        )
        style = "bad" if summary.outcome == "failed" else "warn" if summary.outcome != "completed" else "good"
        told = f" {self._glyphs.note} ".join(fact for fact in facts if fact) or "nothing was used"
        return ((style if summary.outcome else "", clipped(told, self._columns, self._glyphs.cut)),)

    def end(self, summary: DebugSummary) -> Iterator[Line]:
        """Yield that the log breaks off, where it does, and what was under way."""
        if summary.is_open:
            for line in self._folded(breaks_off(summary.at_the_end)):
                yield (("warn", line),)

    # --- the list

    def row(self, step: DebugStep, *, is_current: bool = False) -> Line:
        """Return a step as one line of a list."""
        style, glyph = _STYLES[step.status]
        dim = step.is_superseded or step.is_stale
        number = f"{step.number:>{self._number_columns},}"
        kind = step.kind.replace("_", " ")
        took = "" if step.duration_ms is None else brief_duration(step.duration_ms)
        marks = self._marks(step)
        fixed = 2 + self._number_columns + 3 + _KIND_COLUMNS + 2 + _DURATION_COLUMNS
        room = max(self._columns - fixed - (len(marks) + 1 if marks else 0), _LEAST_TITLE)
        title = clipped(one_line(step.title, room, self._glyphs.cut), room, self._glyphs.cut)
        padding = " " * (room - columns_of(title))
        return (
            ("lead", ">" if is_current else " "),
            ("dim", f"{number} "),
            (style if style != "good" else "good", getattr(self._glyphs, glyph)),
            ("dim" if dim else "", f" {kind:<{_KIND_COLUMNS}} {title}"),
            ("ask", f" {marks}" if marks else ""),
            ("dim", f"{padding} {took:>{_DURATION_COLUMNS}}" if took else ""),
        )

    # --- one step

    def head(self, step: DebugStep, count: int) -> Iterator[Line]:
        """Yield what a step is: its number, kind, title, and where it comes from."""
        style, glyph = _STYLES[step.status]
        kind = step.kind.replace("_", " ")
        place = f"step {step.number:,} of {count:,}"
        ended = "" if step.status == "ok" else f" {self._glyphs.note} {step.status.replace('_', ' ')}"
        marks = f" {self._marks(step)}" if self._marks(step) else ""
        room = self._columns - columns_of(f"{place}  ! {kind}{ended}{marks}") - 2
        yield (
            ("strong", place),
            ("", "  "),
            (style, f"{getattr(self._glyphs, glyph)} "),
            ("strong", kind),
            ("dim", ended),
            ("ask", marks),
            ("", f"  {one_line(_label(step), room, self._glyphs.cut)}" if room > _LEAST_TITLE else ""),
        )
        seqs = f"{step.first_seq}" if step.first_seq == step.last_seq else f"{step.first_seq}-{step.last_seq}"
        facts = (
            step.turn_id or "",
            f"seq {seqs}",
            f"{step.time:%Y-%m-%d %H:%M:%S}",
            "" if step.duration_ms is None else brief_duration(step.duration_ms),
            one_line(step.run_id, 24, self._glyphs.cut),
        )
        joined = f" {self._glyphs.note} ".join(visible(fact) for fact in facts if fact)
        yield (("dim", clipped(f"  {joined}", self._columns, self._glyphs.cut)),)

    def facts(self, facts: Mapping[str, JSON], *, most_lines: int = FACT_LINES) -> Iterator[Line]:
        """Yield the facts of a step, each bounded to so many lines with a mark."""
        names = sorted(facts, key=lambda name: name in _SHOWN_LAST)
        for name in names:
            value = facts[name]
            if value is None or value is False or value in ({}, [], "") or name in _LEFT_OUT:
                continue
            if _USUAL.get(name) == value or (name in _WHOLE_ONLY and most_lines == FACT_LINES):
                continue
            if name == "parts" and isinstance(value, list):
                for part in value:
                    yield from self._part(part, most_lines)
            elif name == "items" and isinstance(value, list):
                for item in value:
                    yield from self._item(item, most_lines)
            else:
                few = 3 if name in _SHOWN_LAST and most_lines == FACT_LINES else most_lines
                yield from self._labelled(name, _shown(name, value), few)

    def _item(self, item: Any, most_lines: int) -> Iterator[Line]:
        """Yield an item that was given: who says it, and its parts."""
        parts = item.get("parts") if isinstance(item, dict) else None
        if not isinstance(parts, list):
            yield from self._labelled("item", _shown("item", item), most_lines)
            return
        yield (("strong", f"  {one_line(str(item.get('kind')), 30, self._glyphs.cut)}"),)
        for part in parts:
            yield from self._part(part, most_lines)

    def _part(self, part: Any, most_lines: int) -> Iterator[Line]:
        """Yield a part of an item, or of an answer."""
        if not isinstance(part, dict):
            yield from self._labelled("part", _shown("part", part), most_lines)
            return
        kind = str(part.get("kind"))
        match kind:
            case "text" | "reasoning":
                text = part.get("text")
                yield from self._labelled(kind, text if isinstance(text, str) else "", most_lines)
            case "tool_call":
                given = part.get("cut") or _shown("input", part.get("input"))
                yield from self._labelled(f"calls {part.get('name')}", str(given), most_lines)
            case "tool_result":
                word = "failed" if part.get("is_error") else "gave"
                label = f"{part.get('name')} {word}"
                yield from self._labelled(label, _shown("output", part.get("output")), most_lines)
            case _:
                rest = {name: value for name, value in part.items() if name != "kind"}
                yield from self._labelled(kind, _shown(kind, rest), most_lines)

    def _labelled(self, label: str, text: str, most_lines: int) -> Iterator[Line]:
        """Yield a label and its text; on one line where it fits, else the text below, folded and bounded."""
        name = one_line(label, 30, self._glyphs.cut)
        is_whole = len(text) <= _MOST_VALUE
        shown = visible(text[:_MOST_VALUE]).replace("\t", "    ")
        if "\n" not in shown and columns_of(shown) + columns_of(name) + 4 <= self._columns:
            yield ("dim", f"  {name}  "), ("", shown)
            return
        yield (("dim", f"  {name}"),)
        lines = [piece for line in shown.rstrip("\n").split("\n") for piece in self._folded(line)]
        for line in lines[:most_lines]:
            yield (("", f"    {line}"),)
        left = len(lines) - most_lines
        if left > 0 or not is_whole:
            more = f"{counted(left, 'more line')}" if left > 0 else "more"
            size = f"{len(text):,} characters in all"
            yield (("dim", f"    {self._glyphs.cut} {more}, {size}"),)

    def _folded(self, line: str) -> Iterator[str]:
        room = max(self._columns - 4, _LEAST_TITLE)
        while columns_of(line) > room:
            end = max(room if line.isascii() else len(clipped(line, room, "")), 1)
            blank = line.rfind(" ", end // 2, end) + 1  # between words, where there are some
            yield line[: blank or end].rstrip(" ")
            line = line[blank or end :]
        yield line

    # --- the state

    def state(self, state: DebugState, *, is_event_log: bool) -> Iterator[Line]:
        """Yield where the session stands."""
        if state.is_stale:
            yield (("ask", "  as it was recorded: a step before was edited"),)
        if is_event_log:
            yield from self._fact("phase", state.phase or "")
            yield from self._fact("turn", state.turn_id or "")
            request = state.request_id
            yield from self._fact("request", f"{request} to {state.request_model}, open" if request else "")
            items = counted(len(state.transcript), "item")
            waiting = f", {counted(len(state.waiting_input), 'input')} waiting" if state.waiting_input else ""
            in_round = (
                f", {counted(len(state.open_round), 'result')} of an open round" if state.open_round else ""
            )
            yield from self._fact("transcript", f"{items}{waiting}{in_round}")
            for call in state.open_calls:
                yield self._call(call)
        if state.totals.requests:
            yield from self._fact("tokens", _tokens(state.totals.usage))
        yield from self._fact("cost", _cost(state.totals))
        yield from self._fact("requests", _requests(state.totals))
        if state.misfits:
            told = f"{counted(state.misfits, 'event')} before did not follow from those before; part of it is unknown"
            yield (("warn", clipped(f"  {self._glyphs.warn} {told}", self._columns, self._glyphs.cut)),)

    def _fact(self, name: str, text: str) -> Iterator[Line]:
        if text:
            room = self._columns - 14
            yield ("dim", f"  {name:<10}  "), ("", one_line(text, room, self._glyphs.cut))

    def _call(self, call: OpenCall) -> Line:
        style = "ask" if call.waits_for else ""
        waits = f" ({call.waits_for})" if call.waits_for else ""
        said = f"{call.tool} {call.call_id}: {call.status.replace('_', ' ')}{waits}"
        return ("dim", f"  {'open call':<10}  "), (
            style,
            one_line(said, self._columns - 14, self._glyphs.cut),
        )

    # --- the transcript

    def transcript(self, state: DebugState, *, most_lines: int = FACT_LINES) -> Iterator[Line]:
        """Yield the conversation so far, and what is on its way into it."""
        for item in state.transcript:
            yield (("strong", _TITLES[item.kind]),)
            for part in item.parts:
                yield from self._part(msgspec.to_builtins(part), most_lines)
        for result in state.open_round:
            yield ("strong", "Tool"), ("dim", " (the round is not over)")
            yield from self._part(msgspec.to_builtins(result), most_lines)
        for item in state.waiting_input:
            yield ("strong", _TITLES[item.kind]), ("dim", " (joins when nothing is open)")
            for part in item.parts:
                yield from self._part(msgspec.to_builtins(part), most_lines)
        if not (state.transcript or state.open_round or state.waiting_input):
            yield (("dim", "  nothing was said yet"),)


def _ends(replay: DebugReplay) -> Iterable[DebugStep]:
    return (replay[-1],) if len(replay) else ()


def _label(step: DebugStep) -> str:
    """Return what a step is about; of a call, without what became of it, since that stands below."""
    if step.kind != "tool_call":
        return step.title
    word = "" if step.status == "ok" else f" {step.status.replace('_', ' ')}"
    return step.title.partition(f"{word} -> ")[0]


def _overtaken(replay: DebugReplay) -> dict[int, int]:
    """Return the calls that began before one that ended sooner, and so stands above them: by number, of both."""
    latest: dict[str, DebugStep] = {}
    found: dict[int, int] = {}
    for step in replay if replay.is_event_log else ():
        if step.kind != "tool_call":
            continue
        above = latest.get(step.run_id)
        if above is None or above.first_seq < step.first_seq:
            latest[step.run_id] = step
        else:
            found[step.number] = above.number
    return found


def _state_marks(step: DebugStep) -> str:
    words = (
        "edited" if step.is_edited else "",
        "stale" if step.is_stale else "",
        "superseded" if step.is_superseded else "",
    )
    return ", ".join(word for word in words if word)


def _tokens(usage: Usage) -> str:
    return "unknown" if usage.total_tokens is None else ", ".join(token_texts(usage))


def _cost(totals: UsageTotals) -> str:
    return (cost_text(totals) or "nothing used yet").removeprefix("cost ")


def _requests(totals: UsageTotals) -> str:
    if not totals.requests:
        return ""
    provisional = f", {totals.provisional_requests:,} provisional" if totals.provisional_requests else ""
    return f"{totals.requests:,}{provisional}"


def _shown(name: str, value: Any) -> str:
    """Return a value as text; JSON on several lines where it has members, a list of tools by name."""
    if isinstance(value, str):
        return value
    if name in ("tools", "added", "changed") and isinstance(value, list):
        return ", ".join(str(each.get("name")) if isinstance(each, dict) else str(each) for each in value)
    if name == "usage" and isinstance(value, dict):
        with contextlib.suppress(msgspec.ValidationError):  # it may be edited
            return _tokens(msgspec.convert(value, Usage))
    if name == "error" and isinstance(value, dict) and isinstance(value.get("message"), str):
        frames = value.get("frames")
        told = frames if isinstance(frames, list) else []
        return "\n".join((f"{value.get('type')}: {value['message']}", *(f"  at {each}" for each in told)))
    if name == "cost" and isinstance(value, dict):
        return f"{value.get('amount')} {value.get('currency')}"
    encoded = msgspec.json.encode(value)
    if len(encoded) <= 60:  # noqa: PLR2004 - what stands on a line
        return encoded.decode()
    return msgspec.json.format(encoded, indent=2).decode()
