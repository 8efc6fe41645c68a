"""What people see of a run. `python tests/reporting/test_stdout.py` writes the golden files anew."""

from __future__ import annotations

import datetime as dt
import difflib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest

from agentkit_loop.content import (
    AppendText,
    BeginPart,
    CommitPart,
    CustomPart,
    Item,
    MediaPart,
    Parent,
    PartKind,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolSpec,
)
from agentkit_loop.errors import ConfigurationError
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
from agentkit_loop.observers import EventEmitter
from agentkit_loop.usage import Cost, ErrorInfo, ObserverStats, Usage
from agentkit_reporting.codec import decode_event, encode_event
from agentkit_reporting.stdout import AnyEvent, StdoutReporter

GOLDEN = Path(__file__).parent.parent / "golden"
NOON = dt.datetime(2026, 5, 24, 12, tzinfo=dt.UTC)
MODEL = "claude-sonnet-5"
OVERLOADED = ErrorInfo(type="ModelRequestError", message="Overloaded", frames=("m/api.py:9 in post",))


class Script:
    """Tells the events of one session, with the little that all scripts repeat."""

    def __init__(self, session_id: str, *observers: Callable[[AgentEvent], object]) -> None:
        self.emitter = EventEmitter(observers, session_id=session_id, run_id=f"run-of-{session_id}")
        self.requests = 0

    def tell(self, *events: AgentEvent) -> None:
        for event in events:
            self.emitter.emit(event)

    @property
    def request_id(self) -> str:
        return f"request-{self.requests}"

    def start(
        self, name: str = "fixer", *, prompt: str = "Fix the bug", parent: Parent | None = None
    ) -> None:
        self.tell(RunStarted(agent_name=name, model=MODEL, parent=parent))
        self.tell(InputAccepted(items=(Item.user(prompt),)))

    def turn(self, index: int) -> None:
        self.emitter.turn_id = f"turn-{index}"
        self.tell(TurnStarted(index=index))

    def request(self, attempt: int = 1) -> None:
        self.requests += 1
        self.tell(
            ModelRequestStarted(
                request_id=self.request_id,
                attempt=attempt,
                purpose="turn",
                model=MODEL,
                message_count=3,
                digests={},
            )
        )
        self.spend(Usage(input_tokens=1_200, cached_input_tokens=800), "0.004", final=False)

    def spend(self, usage: Usage, amount: str | None, *, final: bool) -> None:
        cost = amount and Cost(
            amount=Decimal(amount), currency="USD", components={}, source="test", priced_at=NOON
        )
        self.tell(
            UsageUpdated(request_id=self.request_id, model=MODEL, usage=usage, cost=cost or None, final=final)
        )

    def begin(self, part_id: str, kind: PartKind = "text") -> None:
        self.tell(ContentDelta(request_id=self.request_id, delta=BeginPart(part_id, kind)))

    def append(self, part_id: str, *chunks: str) -> None:
        for chunk in chunks:
            self.tell(ContentDelta(request_id=self.request_id, delta=AppendText(part_id, chunk)))

    def commit(self, part_id: str, text: str, kind: PartKind = "text") -> None:
        part = ReasoningPart(text=text) if kind == "reasoning" else TextPart(text=text)
        self.tell(ContentDelta(request_id=self.request_id, delta=CommitPart(part_id, part)))

    def say(self, part_id: str, *chunks: str, kind: PartKind = "text") -> None:
        self.begin(part_id, kind)
        self.append(part_id, *chunks)
        self.commit(part_id, "".join(chunks), kind)

    def answer(self, finish_reason: str = "completed") -> None:
        usage = Usage(input_tokens=1_200, cached_input_tokens=800, output_tokens=56)
        self.spend(usage, "0.0049", final=True)
        self.tell(
            ModelRequestFinished(
                request_id=self.request_id,
                finish_reason=finish_reason,
                response_model=MODEL,
                first_content_ms=310.0,
                duration_ms=1_250.0,
            )
        )

    def call(self, call_id: str, name: str, /, **arguments: object) -> None:
        call = ToolCallPart(id=call_id, name=name, input=dict(arguments))
        self.tell(ToolCallRequested(request_id=self.request_id, call=call))

    def finish(self, reason: str = "completed") -> None:
        usage = Usage(input_tokens=2_400, cached_input_tokens=1_600, output_tokens=112)
        self.tell(TurnFinished(finish_reason=reason, usage=usage, item_count=4, duration_ms=4_200.0))

    def end(self) -> None:
        self.emitter.turn_id = None
        self.tell(RunFinished(outcome="completed", usage=Usage(), duration_ms=5_000.0))


def two_turns(*observers: Callable[[AgentEvent], object]) -> None:
    script = Script("ses_0001", *observers)
    script.start(prompt="Fix the bug in parser.py,\nplease, and say what it was")
    script.turn(1)
    script.request()
    script.say("part-1", "The parser", " drops the last line.\n", "Look at it first.", kind="reasoning")
    script.say("part-2", "I'll ", "read the file.")
    script.answer("tool_call")
    script.call("call-1", "read_file", path="parser.py", limit=40)
    script.tell(
        ToolExecutionStarted(call_id="call-1", name="read_file"),
        ToolResultReceived(
            call_id="call-1", name="read_file", output="def parse(text):\n    return 1\n", duration_ms=12.3
        ),
    )
    script.turn(2)
    script.request()
    script.say(
        "part-1", "The loop stopped one line early:\n\n", "    for line in lines[:-1]:\n\nIt is fixed."
    )
    script.answer()
    script.finish()
    script.end()


def parallel_tools(*observers: Callable[[AgentEvent], object]) -> None:
    script = Script("ses_0002", *observers)
    script.start(prompt="Compare a.csv with b.csv")
    script.turn(1)
    script.request()
    script.answer("tool_call")
    for call_id, path in (("call-1", "a.csv"), ("call-2", "b.csv")):
        script.call(call_id, "read_table", path=path, columns=["day", "amount"], options={"strict": True})
    script.call("call-3", "no_such_tool", x=1)
    script.call("call-4", "compare")
    missing = ErrorInfo(type="FileNotFoundError", message="no such file: 'b.csv'", frames=("t/io.py:3 in f",))
    script.tell(
        ToolResultReceived(
            call_id="call-3", name="no_such_tool", output="unknown tool", is_error=True, not_started=True
        ),
        ToolExecutionStarted(call_id="call-1", name="read_table"),
        ToolExecutionStarted(call_id="call-2", name="read_table"),
        ToolExecutionProgress(call_id="call-1", message="half of the rows", fraction=0.5),
        ToolResultReceived(
            call_id="call-2", name="read_table", output="error", is_error=True, duration_ms=3.0, error=missing
        ),
        ToolResultReceived(
            call_id="call-1", name="read_table", output=[{"day": 1, "amount": 2.5}] * 50, duration_ms=72_000.0
        ),
        ToolExecutionStarted(call_id="call-4", name="compare"),
        ToolResultReceived(call_id="call-4", name="compare", output="x" * 5_000_000, duration_ms=0.2),
    )
    script.finish()
    script.end()


def retries(*observers: Callable[[AgentEvent], object]) -> None:
    script = Script("ses_0003", *observers)
    script.start()
    script.turn(1)
    script.request()
    script.begin("part-1")
    script.append("part-1", "The bug is in")
    cut = ErrorInfo(type="ModelRequestError", message="the stream ended early", retryable=True)
    script.tell(
        ModelRequestFailed(
            request_id=script.request_id, error=cut, error_class="stream_cut", duration_ms=900.0
        ),
        ModelRequestRetrying(request_id=script.request_id, delay_ms=1_000.0, next_attempt=2),
    )
    script.request(2)
    script.say("part-1", "The bug is in the parser.")
    script.answer()
    script.finish()
    script.tell(InputAccepted(items=(Item.user("And the other one?"),)))
    script.turn(1)
    script.request()
    script.tell(
        ModelRequestFailed(request_id=script.request_id, error=OVERLOADED, error_class="overloaded"),
    )
    script.finish("error")
    usage = Usage(input_tokens=3_600, cached_input_tokens=2_400, output_tokens=112)
    script.tell(RunFailed(error=OVERLOADED, usage=usage, duration_ms=9_000.0))


def cut_by_max_tokens(*observers: Callable[[AgentEvent], object]) -> None:
    script = Script("ses_0004", *observers)
    script.start()
    script.turn(1)
    script.request()
    script.say("part-1", "I will write")
    script.answer("max_tokens")
    call = ToolCallPart(id="call-1", name="write_file", input={}, cut='{"path": "a.py", "text": "impo')
    script.tell(
        ToolCallRequested(request_id=script.request_id, call=call),
        ToolResultReceived(
            call_id="call-1", name="write_file", output="cut", is_error=True, not_started=True
        ),
    )
    script.finish("max_tokens")
    script.tell(CancelRequested(reason="enough", by="ann"), RunCancelled(reason="Ctrl-C", usage=Usage()))


def decisions(*observers: Callable[[AgentEvent], object]) -> None:
    script = Script("ses_0005", *observers)
    script.start(prompt="Clean up")
    script.turn(1)
    script.request()
    script.answer("tool_call")
    script.call("call-1", "delete", path="build")
    script.call("call-2", "delete", path="src")
    script.call("call-3", "open_issue", title="Clean")
    script.tell(
        ApprovalRequired(
            approval_id="approval-1", call_id="call-1", summary="delete 'build'", reason="it deletes files"
        ),
        ApprovalRequired(approval_id="approval-2", call_id="call-2", summary="delete 'src'"),
        ApprovalResolved(
            approval_id="approval-1",
            call_id="call-1",
            approved=True,
            by="ann",
            edited=True,
            input={"path": "build/tmp"},
        ),
        ToolExecutionStarted(call_id="call-1", name="delete", edited=True, input={"path": "build/tmp"}),
        ToolResultReceived(call_id="call-1", name="delete", output=None, duration_ms=5.0),
        ApprovalResolved(approval_id="approval-2", call_id="call-2", approved=False, reason="not on Fridays"),
        ToolResultReceived(
            call_id="call-2",
            name="delete",
            output="not on Fridays",
            is_error=True,
            denied=True,
            not_started=True,
        ),
        ToolExecutionStarted(call_id="call-3", name="open_issue"),
        AuthRequired(
            auth_id="auth-1", call_id="call-3", provider="github", scopes=("repo",), purpose="to file"
        ),
        AuthResolved(auth_id="auth-1", call_id="call-3", outcome="resolved"),
        ToolExecutionStarted(call_id="call-3", name="open_issue", attempt=2),
        ToolResultReceived(call_id="call-3", name="open_issue", output="", interrupted=True, is_error=True),
        RunFinished(
            outcome="suspended",
            usage=Usage(input_tokens=1_200, cached_input_tokens=800, output_tokens=56),
            open_approvals=("approval-3",),
            observers=(ObserverStats(name="Log", handled=9, failed=2, dropped=1, time_ms=1.0),),
        ),
    )


def notices(*observers: Callable[[AgentEvent], object]) -> None:
    script = Script("ses_0006", *observers)
    script.start()
    script.turn(1)
    spec = ToolSpec(name="search", description="", input_schema={})
    failure = ErrorInfo(type="ValueError", message="bad value")
    script.tell(
        ToolCatalogChanged(added=(spec,), removed=("grep", "find")),
        CompactionStarted(reason="items", item_count=120, token_count=90_000),
        CompactionFinished(strategy="keep_recent", plan=((0, 1),), item_count=20),
        CompactionFinished(strategy="summarise", plan=None, item_count=20, error=failure),
        BudgetWarning(limit="max_cost_usd", used="1.60", allowed="2"),
        BudgetExceeded(limit="max_turns", used=50, allowed=50),
        Warning(code="unpriced_model", message="the model 'x' has no price", details={"model": "x"}),
        ObserverFailed(observer="Log", event_seq=4, error=failure, disabled=True),
        CustomEvent(name="deploy.started", data={"host": "web-1", "steps": [1, 2, 3]}),
    )
    script.finish("limit")
    script.end()


def parallel_sessions(*observers: Callable[[AgentEvent], object]) -> None:
    parent, child = Script("ses_000a", *observers), Script("ses_000b", *observers)
    parent.start("lead", prompt="Ask the helper")
    parent.turn(1)
    parent.request()
    parent.begin("part-1")
    parent.append("part-1", "I ask ")
    child.start("helper", parent=Parent(session_id="ses_000a", run_id="run-of-ses_000a", call_id="call-1"))
    child.turn(1)
    parent.append("part-1", "the helper.\nIt ")
    child.request()
    child.begin("part-1")
    child.append("part-1", "never shown as it comes")
    parent.append("part-1", "knows.")
    parent.commit("part-1", "I ask the helper.\nIt knows.")
    child.commit("part-1", "First line\nsecond line\n")
    parent.answer()
    child.answer()
    parent.finish()
    parent.end()
    child.turn(2)
    child.request()
    child.say("part-1", "Now I own ", "the stream.")
    child.answer()
    child.finish()
    child.end()


def hostile(*observers: Callable[[AgentEvent], object]) -> None:
    attack = "\x1b]0;title\x07\x1b[2J\x1bc\x9b31m\u202egnp.exe\u200b\r\nnext\roverwritten\x00"
    script = Script("ses\x1b[2J_0007", *observers)
    script.start(f"fixer{attack}", prompt=attack)
    script.turn(1)
    script.request()
    script.say("part-1", *attack)
    script.answer("tool_call")
    script.call("call-1", f"read{attack}", **{f"path{attack}": attack, "deep": [{"x": [attack]}]})
    script.tell(
        ToolExecutionStarted(call_id="call-1", name=f"read{attack}"),
        ToolResultReceived(call_id="call-1", name=f"read{attack}", output=attack, duration_ms=1.0),
        ApprovalRequired(approval_id=attack, call_id="call-1", summary=attack, reason=attack),
        CustomEvent(name=attack, data={attack: attack}),
    )
    script.finish(attack)
    script.end()


SCRIPTS = (
    two_turns,
    parallel_tools,
    retries,
    cut_by_max_tokens,
    decisions,
    notices,
    parallel_sessions,
    hostile,
)


def printed(
    script: Callable[..., None], *, colour: bool = False, width: int = 80, verbose: bool = False
) -> str:
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=colour, width=width, verbose=verbose)
    script(reporter.handle_event)
    reporter.close()
    return stream.getvalue()


def goldens() -> Iterator[tuple[str, str]]:
    for script in SCRIPTS:
        yield f"stdout_{script.__name__}.txt", printed(script)
    yield "stdout_two_turns_colour.txt", printed(two_turns, colour=True)
    yield "stdout_retries_colour.txt", printed(retries, colour=True)
    yield "stdout_two_turns_verbose.txt", printed(two_turns, verbose=True)


@pytest.mark.parametrize(("name", "text"), [pytest.param(*golden, id=golden[0]) for golden in goldens()])
def test_a_run_looks_as_it_was_designed(name: str, text: str) -> None:
    wanted = (GOLDEN / name).read_bytes().decode()
    assert text == wanted, "\n".join(difflib.unified_diff(wanted.split("\n"), text.split("\n"), lineterm=""))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_log_prints_what_the_run_printed(script: Callable[..., None]) -> None:
    events: list[AgentEvent] = []
    script(events.append)
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False, width=80)
    for event in events:
        reporter.handle_event(decode_event(encode_event(event)))
    reporter.close()
    assert stream.getvalue() == printed(script)


def test_every_event_class_is_one_that_the_reporter_has_to_deal_with() -> None:
    assert set(get_args(AnyEvent)) == {*EVENT_TYPES.values(), UnknownEvent}


def test_what_is_told_by_other_lines_is_silent_and_everything_else_has_a_line() -> None:
    events: list[AgentEvent] = []
    for script in SCRIPTS:
        script(events.append)
    events.append(UnknownEvent(type="weather_changed", payload={"to": "rain"}, session_id="s", seq=1))
    silent: set[type[AgentEvent]] = set()
    told: set[type[AgentEvent]] = set()
    for event in events:
        stream = io.StringIO()
        StdoutReporter(stream, colour=False).handle_event(event)
        (told if stream.getvalue() else silent).add(type(event))
    assert told | silent == {*EVENT_TYPES.values(), UnknownEvent}
    assert silent - told == {
        TurnStarted,
        ModelRequestStarted,
        ModelRequestFinished,
        UsageUpdated,
        ToolCallRequested,
    }


@pytest.mark.parametrize("script", [two_turns, parallel_tools])
@pytest.mark.parametrize("width", [50, 60, 133])
def test_arguments_results_and_input_are_cut_to_the_width(script: Callable[..., None], width: int) -> None:
    events: list[AgentEvent] = []
    script(events.append)
    shortened = (InputAccepted, ToolCallRequested, ToolExecutionStarted, ToolResultReceived)
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False, width=width)
    for event in events:
        if isinstance(event, shortened) and not getattr(event, "is_error", False):
            reporter.handle_event(event)
    assert stream.getvalue()
    assert all(len(line) <= width for line in stream.getvalue().split("\n"))


def test_nothing_that_events_say_controls_the_terminal() -> None:
    for shown in (printed(hostile), printed(hostile, verbose=True), printed(hostile, width=20)):
        assert all(character.isprintable() or character == "\n" for character in shown)


def test_a_run_takes_the_stream_from_a_session_whose_run_has_ended() -> None:
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False)
    first, second = Script("ses_0001", reporter.handle_event), Script("ses_0002", reporter.handle_event)
    first.start()
    first.end()
    failure = ErrorInfo(type="OSError", message="disk full")
    first.tell(ObserverFailed(observer="Log", event_seq=3, error=failure))
    first.turn(2)
    second.start()
    second.request()
    second.begin("part-1")
    second.append("part-1", "live")
    assert stream.getvalue().endswith("\n\nlive")
    assert "[" not in stream.getvalue()


def test_threads_do_not_tear_each_others_lines() -> None:
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False)

    def run(number: int) -> None:
        script = Script(f"ses_{number:04}", reporter.handle_event)
        script.start(prompt=f"prompt {number}")
        for turn in range(1, 20):
            script.turn(turn)
            script.request()
            script.say("part-1", "one ", "whole ", "line\n", "and ", "another")
            script.answer()
        script.end()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [line.partition("] ")[2] or line for line in stream.getvalue().split("\n")]
    assert lines.count("one whole line") == lines.count("and another") == 4 * 19
    assert sum(line.startswith("● run completed") for line in lines) == 4


def test_chunks_are_written_and_flushed_as_they_come() -> None:
    flushed: list[str] = []

    class Recorder(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    script = Script("s", StdoutReporter(Recorder(), colour=False).handle_event)
    script.request()
    script.begin("part-1")
    for chunk in ("one ", "two\r", "\nthree"):
        script.append("part-1", chunk)
    assert flushed == ["one ", "one two", "one two\nthree"]


def test_a_part_that_was_never_previewed_is_printed_at_its_commit() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.request()
    script.commit("part-1", "thinking", "reasoning")
    script.commit("part-2", "whole text")
    image = CommitPart("part-3", MediaPart(media_type="image/png", data="QUJD"))
    block = CommitPart("part-4", CustomPart(provider="anthropic", value={"type": "web_search"}))
    script.tell(*(ContentDelta(request_id=script.request_id, delta=delta) for delta in (image, block)))
    assert stream.getvalue() == (
        "∴ thinking\n\nwhole text\n\n"
        "  media · image/png · 4 characters of base64\n"
        '  · anthropic · {"type": "web_search"}\n'
    )


def test_a_preview_that_a_sink_thinned_out_is_followed_by_the_whole() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.request()
    script.begin("part-1")
    script.append("part-1", "one ", "three")
    script.commit("part-1", "one two three")
    assert stream.getvalue() == (
        "one three\n\n  not all of the text above came while it was streamed; the whole:\n\none two three\n"
    )


def test_of_interleaved_parts_one_is_printed_as_it_comes_and_the_others_after_it() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.request()
    script.begin("part-1", "reasoning")
    script.begin("part-2")
    script.append("part-1", "think ")
    script.append("part-2", "te")
    script.append("part-1", "hard")
    script.append("part-2", "xt")
    script.commit("part-2", "text")
    script.append("part-1", "er")
    script.commit("part-1", "think harder", "reasoning")
    assert stream.getvalue() == "∴ think harder\n\ntext\n"


def test_a_line_of_the_same_session_does_not_tear_its_text() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.request()
    script.begin("part-1")
    script.append("part-1", "half a ")
    script.tell(Warning(code="w", message="careful"))
    script.append("part-1", "line\nand more")
    script.commit("part-1", "half a line\nand more")
    assert stream.getvalue() == "half a line\n  ! careful · w\nand more\n"


def test_close_completes_a_line_that_a_crash_left_open_and_leaves_the_stream_open() -> None:
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False)
    script = Script("s", reporter.handle_event)
    script.request()
    script.begin("part-1")
    script.append("part-1", "half\r")
    reporter.close()
    reporter.close()
    assert stream.getvalue() == "half\\x0d\n"
    assert not stream.closed


def test_reasoning_is_left_out_where_it_is_not_wanted() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False, show_reasoning=False).handle_event)
    script.request()
    script.say("part-1", "secret", kind="reasoning")
    script.commit("part-2", "secret", "reasoning")
    script.say("part-3", "public")
    assert stream.getvalue() == "public\n"


def test_the_answer_to_a_compaction_request_is_not_printed() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    started = ModelRequestStarted(
        request_id="request-0", attempt=1, purpose="compaction", model=MODEL, message_count=9, digests={}
    )
    script.tell(started)
    script.say("part-1", "a summary")
    assert stream.getvalue() == ""


def test_a_suspended_call_is_recognised_after_the_resume() -> None:
    stream = io.StringIO()
    script = Script("ses_0001", StdoutReporter(stream, colour=False).handle_event)
    script.start()
    script.turn(1)
    script.request()
    script.answer("tool_call")
    script.call("call-1", "delete", path="build")
    script.tell(
        RunFinished(outcome="suspended", usage=Usage(), open_approvals=("approval-1",)),
        RunStarted(agent_name="fixer", model=MODEL, resumed_run="run-1", resumed_after=9),
        ToolExecutionStarted(call_id="call-1", name="delete"),
    )
    script.finish()
    assert "goes on from run-1" in stream.getvalue()
    assert '▸ delete(path="build")' in stream.getvalue()
    assert "$0.0049" in stream.getvalue()


def test_cost_comes_from_the_reports_and_unknown_is_not_zero() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.turn(1)
    script.requests = 1
    script.spend(Usage(), None, final=True)
    script.tell(TurnFinished(finish_reason="completed", usage=Usage(), item_count=2))
    assert stream.getvalue() == "✓ completed · 1 turn · tokens unknown · cost unknown\n"


def test_an_encoding_without_the_glyphs_gets_plain_ones_and_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    script = Script("ses_0001", StdoutReporter(stream, colour=False).handle_event)
    script.start(prompt="naïve")
    script.turn(1)
    script.request()
    script.say("part-1", "snow ☃")
    lines = raw.getvalue().decode("ascii").split("\n")
    assert lines[0] == "* fixer - claude-sonnet-5 - ses_0001"
    assert lines[2:5:2] == ["> na\\xefve", "snow \\u2603"]


def test_a_closed_stream_stops_the_printing_quietly() -> None:
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False)
    script = Script("s", reporter.handle_event)
    script.start()
    stream.close()
    script.turn(1)
    script.finish()
    reporter.close()
    assert reporter.stopped


def test_a_closed_pipe_stops_the_printing_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    raw = os.fdopen(writing, "wb", buffering=0)
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    reporter = StdoutReporter(stream)
    two_turns(reporter.handle_event)
    reporter.close()
    assert reporter.stopped
    stream.detach()
    raw.close()


def test_other_errors_of_the_stream_are_raised() -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

    reporter = StdoutReporter(Full(), colour=False)
    with pytest.raises(OSError, match="No space"):
        reporter.handle_event(Warning(code="w", message="m"))


def test_standard_output_is_looked_up_when_it_is_first_needed(capsys: pytest.CaptureFixture[str]) -> None:
    made_early = StdoutReporter(colour=False)
    made_early.handle_event(Warning(code="w", message="careful"))
    assert capsys.readouterr().out == "  ! careful · w\n"


def test_too_narrow_a_width_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="width=5 is too narrow"):
        StdoutReporter(width=5)


def test_summaries_look_at_the_beginning_of_huge_values_only() -> None:
    class Watched(list[int]):
        seen = 0

        def __iter__(self) -> Iterator[int]:
            for value in super().__iter__():
                Watched.seen += 1
                yield value

    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False)
    huge = Watched(range(1_000_000))
    reporter.handle_event(ToolResultReceived(call_id="c", name="t", output=huge, duration_ms=1.0))
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    reporter.handle_event(ToolResultReceived(call_id="d", name="t", output=deep, duration_ms=1.0))
    reporter.handle_event(InputAccepted(items=(Item.user("word " * 2_000_000),)))
    assert Watched.seen < 100
    assert max(len(line) for line in stream.getvalue().split("\n")) <= 80


def test_importing_and_making_a_reporter_imports_no_rich() -> None:
    program = (
        "import io, sys; from agentkit_reporting.stdout import StdoutReporter; "
        "StdoutReporter(io.StringIO()); print('rich' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


if __name__ == "__main__":
    for file_name, content in goldens():
        (GOLDEN / file_name).write_bytes(content.encode())
