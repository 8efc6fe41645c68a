"""Sessions written event by event, for what a reporter makes of them."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from decimal import Decimal

from agentkit_loop.content import (
    AppendText,
    BeginPart,
    CommitPart,
    Item,
    Parent,
    PartKind,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolSpec,
)
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import (
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
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.usage import Cost, ErrorInfo, ObserverStats, Usage
from agentkit_reporting.stdout import StdoutReporter

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
