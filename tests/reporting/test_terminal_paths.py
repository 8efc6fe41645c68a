"""Whatever a model, a tool or a log says: on each path to a terminal nothing but text and our own colours arrives."""

from __future__ import annotations

import io
import itertools
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.content import (
    AnyDelta,
    AnyPart,
    AppendText,
    BeginPart,
    CommitPart,
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    Parent,
    StructuredPart,
    TextPart,
    ToolCallPart,
    ToolSpec,
)
from agentkit_loop.events import (
    EVENT_TYPES,
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    AuthRequired,
    AuthResolved,
    BudgetExceeded,
    BudgetWarning,
    CancelRequested,
    CompactionFinished,
    CompactionStarted,
    ContentDelta,
    CustomEvent,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolCatalogChanged,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UnknownEvent,
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.usage import ErrorInfo, ObserverStats, Usage
from agentkit_reporting.page import TerminalStream
from agentkit_reporting.stdout import StdoutReporter
from agentkit_reporting.terminal import VisibleChunks, visible
from agentkit_reporting.usage import UsageReporter
from tests.reporting.terminal_parser import ATTACKS, all_characters, controls_in


def events_of(text: str) -> Iterator[AgentEvent]:
    """Yield events of every class with the text wherever one may stand."""
    error = ErrorInfo(type=text, message=text, frames=(text, text))
    spec = ToolSpec(name=text, description=text, input_schema={})
    item = Item(kind="user", parts=(TextPart(text=text),), id=text)
    spent: dict[str, Any] = {"usage": Usage(input_tokens=1)}
    call = ToolCallPart(id=text, name=text, input={text: [text]})
    yield RunStarted(
        agent_name=text,
        model=text,
        system=text,
        tools=(spec,),
        items=(item,),
        parent=Parent(session_id=text, run_id=text, call_id=text),
        resumed_run=text,
        metadata={text: text},
    )
    yield InputAccepted(items=(item, Item(kind="context", parts=(TextPart(text=text),))))
    yield TurnStarted(index=1)
    yield CompactionStarted(reason=text, item_count=1, token_count=2)
    yield CompactionFinished(strategy=text, plan=(), item_count=1)
    yield CompactionFinished(strategy=text, plan=None, item_count=1, error=error)
    for request in ("r", text):
        yield ModelRequestStarted(
            request_id=request, attempt=2, purpose="turn", model=text, message_count=1, digests={}
        )
        yield UsageUpdated(request_id=request, model=text, usage=Usage(input_tokens=1))
        for part_id, kind in (("a", "text"), (text, "reasoning")):
            yield ContentDelta(request_id=request, delta=BeginPart(part_id, kind))  # type: ignore[arg-type] # one of the kinds
            for chunk in (text[:1], text[1:]):
                yield ContentDelta(request_id=request, delta=AppendText(part_id, chunk))
            yield ContentDelta(request_id=request, delta=CommitPart(part_id, TextPart(text=text)))
        parts: tuple[AnyPart, ...] = (
            CustomPart(provider=text, value={text: text}),
            FilePart(name=text, media_type=text, url=text, file_id=text),
            MediaPart(media_type=text, url=text),
            StructuredPart(value={text: text}),
        )
        for place, part in enumerate(parts):
            yield ContentDelta(request_id=request, delta=CommitPart(f"p{place}", part))
    yield ModelRequestFinished(request_id=text, finish_reason=text, response_model=text)
    yield ModelRequestFailed(request_id=text, error=error, error_class=text)
    yield ModelRequestRetrying(request_id=text, delay_ms=1.0, next_attempt=2)
    yield ToolCallRequested(request_id=text, call=call)
    yield ToolCallRequested(request_id=text, call=ToolCallPart(id="cut", name=text, input={}, cut=text))
    yield ApprovalRequired(approval_id=text, call_id=text, summary=text, reason=text)
    yield ApprovalResolved(
        approval_id=text, call_id=text, approved=True, reason=text, by=text, edited=True, input={text: text}
    )
    yield ToolExecutionStarted(call_id=text, name=text, edited=True, input={text: text})
    yield ToolExecutionProgress(call_id=text, message=text, fraction=0.5)
    yield ToolExecutionProgress(call_id=f"{text}?", message=text)
    yield AuthRequired(auth_id=text, call_id=text, provider=text, scopes=(text,), purpose=text)
    yield AuthResolved(auth_id=text, call_id=text, outcome="resolved")
    yield ToolResultReceived(call_id=text, name=text, output=text, duration_ms=1.0)
    yield ToolResultReceived(call_id="cut", name=text, output={text: text}, is_error=True, error=error)
    yield ToolCatalogChanged(added=(spec,), removed=(text,), changed=(spec,))
    yield CancelRequested(reason=text, by=text)
    yield BudgetWarning(limit=text, used=text, allowed=text)
    yield BudgetExceeded(limit=text, used=text, allowed=text)
    yield Warning(code=text, message=text, details={text: text})
    yield ObserverFailed(observer=text, event_seq=1, error=error, disabled=True)
    yield CustomEvent(name=text, data={text: text})
    yield UnknownEvent(type=text, payload={text: text})
    yield TurnFinished(finish_reason=text, item_count=1, **spent)
    yield RunFailed(error=error, **spent)
    yield RunCancelled(reason=text, **spent)
    stats = ObserverStats(name=text, handled=1, failed=1, dropped=1, time_ms=1.0)
    yield RunFinished(
        outcome="suspended", open_approvals=(text,), open_auths=(text,), observers=(stats,), **spent
    )


def told(text: str) -> Iterator[AgentEvent]:
    for seq, event in enumerate(events_of(text), start=1):
        yield attrs.evolve(event, session_id=text, run_id=text, turn_id=text, seq=seq)


def printed(text: str, *, colour: bool) -> str:
    out = io.StringIO()
    reporter = StdoutReporter(out, colour=colour, width=100, verbose=True)
    for event in told(text):
        reporter.handle_event(event)
    other = attrs.evolve(RunStarted(agent_name=text, model=text), session_id=f"{text}2", seq=1)
    for event in (next(told("first")), other, *told(text)):  # now with a session that owns the stream
        reporter.handle_event(event)
    reporter.close()
    return out.getvalue()


def test_the_events_are_of_every_class() -> None:
    assert {type(event) for event in events_of("x")} == {*EVENT_TYPES.values(), UnknownEvent}


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_no_attack_in_any_field_of_any_event_reaches_the_terminal(attack: str, colour: bool) -> None:
    for text in (attack, f"before {attack} after", attack * 40):
        assert controls_in(printed(text, colour=colour), colour=colour) == []


def of_every_category() -> Iterator[str]:
    """Yield characters of every category, few at once, so that short forms show them all."""
    for text in all_characters(sys.maxunicode // 8):
        by_category: dict[str, list[str]] = {}
        for character in text:
            by_category.setdefault(unicodedata.category(character), []).append(character)
        for characters in by_category.values():
            spread = characters[:: max(1, len(characters) // 12)]
            yield "".join(spread[:12])


def test_no_category_of_characters_in_any_field_of_any_event_reaches_the_terminal_unless_it_is_text() -> None:
    for text in of_every_category():
        assert controls_in(printed(text, colour=False)) == []


def test_every_code_point_there_is_makes_a_line_that_is_text() -> None:
    out = TerminalStream(io.StringIO(), colour=True, width=None)
    out.open()
    for text in all_characters(4_000):
        assert controls_in(out.line((("bad", text), ("", text))), colour=True) == []


def streamed(*chunks: str) -> str:
    out = io.StringIO()
    reporter = StdoutReporter(out, colour=False, width=100)
    request = ModelRequestStarted(
        request_id="r", attempt=1, purpose="turn", model="m", message_count=1, digests={}
    )
    deltas: list[AnyDelta] = [BeginPart("p", "text"), *(AppendText("p", chunk) for chunk in chunks)]
    deltas.append(CommitPart("p", TextPart(text="".join(chunks))))
    events = [ContentDelta(request_id="r", delta=delta) for delta in deltas]
    for seq, event in enumerate((request, *events), start=1):
        reporter.handle_event(attrs.evolve(event, session_id="s", run_id="r", seq=seq))
    reporter.close()
    return out.getvalue()


attacks = st.lists(
    st.sampled_from([*ATTACKS.values(), "text", "\n", "é", "👩\u200d💻", "می\u200cخ"]), max_size=6
)


@given(attacks.map("".join), st.lists(st.integers(0, 300)))
@settings(deadline=None, max_examples=400)
def test_text_that_is_streamed_in_any_chunks_is_shown_as_the_whole(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    chunks = [text[start:end] for start, end in itertools.pairwise(edges)]
    shown = streamed(*chunks)
    assert shown == streamed(text)
    assert controls_in(shown) == []


def test_every_code_point_is_streamed_safely_in_small_chunks() -> None:
    for text in all_characters(20_000):
        chunks = VisibleChunks()
        shown = (
            "".join(chunks.add(text[place : place + 3]) for place in range(0, len(text), 3)) + chunks.end()
        )
        assert shown == visible(text)
        assert controls_in(shown) == []


def totals(text: str) -> str:
    usage = UsageReporter()
    usage.handle_event(
        attrs.evolve(
            UsageUpdated(request_id="r", model=text, usage=Usage(input_tokens=1)), session_id=text, seq=1
        )
    )
    return usage.render()


def test_a_table_of_totals_controls_nothing() -> None:
    for text in (*ATTACKS.values(), *of_every_category()):
        assert controls_in(totals(text)) == []
