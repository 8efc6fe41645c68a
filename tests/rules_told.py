"""Hand-made sessions for the tests of the rules: right by default, wrong where a keyword says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import attrs

from agentkit_loop.content import BeginPart, CommitPart, Item, TextPart, ToolCallPart, ToolSpec, part_kind
from agentkit_loop.digest import MessageChain, digest, fixed_digests
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    AuthRequired,
    AuthResolved,
    CancelRequested,
    CompactionFinished,
    CompactionStarted,
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    PlanStep,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolCatalogChanged,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
)
from agentkit_loop.testing import VirtualClock
from agentkit_loop.transcript import Transcript
from agentkit_loop.usage import ErrorInfo, Usage

WORK = ToolSpec(name="work", description="Work.", input_schema={"type": "object"})
BROKEN = ErrorInfo(type="ValueError", message="broken on purpose")
ENDED = ErrorInfo(type="ProcessEnded", message="the process ended")
CALL = ToolCallPart(id="call-1", name="work", input={})
ONE = Usage(input_tokens=1, output_tokens=1)


class Told:
    """Tells the events of a session and keeps them in `events`; each move takes fields to change."""

    def __init__(self) -> None:
        self.events: list[AgentEvent] = []
        self._fold = Transcript()
        self._chain = MessageChain()
        self._fixed: dict[str, str] = {}
        self._tools: dict[str, ToolSpec] = {}
        self._emitter = EventEmitter([self._keep], session_id="session", run_id="run-0", clock=VirtualClock())
        self._calls: dict[str, ToolCallPart] = {}
        self._used: dict[str, tuple[int, int]] = {}  # request: its run and its exchange
        self._runs = self._exchanges = self._turns = self._index = 0
        self._requests = self._approvals = self._auths = self._items = 0
        self._open: dict[str, str] = {}  # approvals and auth requests, by call

    def _keep(self, event: AgentEvent) -> None:
        self.events.append(event)
        self._fold.apply(event)
        match event:
            case RunStarted():
                self._tools = {spec.name: spec for spec in event.tools}
                self._fixed = fixed_digests(
                    event.tools, event.system, {"model": event.model, **event.parameters}
                )
            case ToolCatalogChanged():
                kept = {name: spec for name, spec in self._tools.items() if name not in event.removed}
                self._tools = kept | {spec.name: spec for spec in (*event.changed, *event.added)}
                self._fixed["tools"] = digest(tuple(self._tools.values()))
            case _:
                pass

    def tell(self, event: AgentEvent, **fields: Any) -> Self:
        """Tell any event, with the fields changed."""
        self._emitter.emit(attrs.evolve(event, **fields) if fields else event)
        return self

    @property
    def request_id(self) -> str:
        """The last request."""
        return f"request-{self._requests}"

    # --- runs and exchanges

    def run(self, **fields: Any) -> Self:
        """Start the first run, or resume."""
        self._runs += 1
        self._emitter.run_id = f"run-{self._runs}"
        resumed: dict[str, Any] = {}
        if self._runs > 1:
            resumed = {"resumed_run": f"run-{self._runs - 1}", "resumed_after": len(self.events)}
        return self.tell(RunStarted(agent_name="a", model="m", tools=(WORK,)), **(resumed | fields))

    def say(self, text: str = "go", **fields: Any) -> Self:
        """Give input."""
        self._items += 1
        item = Item(kind="user", parts=(TextPart(text=text),), id=f"own-{self._items}")
        return self.tell(InputAccepted(items=(item,)), **fields)

    def turn(self, **fields: Any) -> Self:
        """Start a turn, and an exchange where none is open."""
        if self._emitter.turn_id is None:
            self._exchanges += 1
            self._index = 0
        self._turns += 1
        self._index += 1
        self._emitter.turn_id = f"turn-{self._turns}"
        return self.tell(TurnStarted(index=self._index), **fields)

    def finish(self, reason: str = "completed", **fields: Any) -> Self:
        """End the exchange."""
        used = self._sum(1, self._exchanges)
        count = len(self._fold.items)
        self.tell(TurnFinished(finish_reason=reason, usage=used, item_count=count), **fields)
        self._emitter.turn_id = None
        return self

    def cancel(self) -> Self:
        """Ask to end the exchange."""
        return self.tell(CancelRequested())

    def leave(self, outcome: str = "completed", **fields: Any) -> Self:
        """End the run as intended."""
        approvals = tuple(name for name in self._open.values() if name.startswith("approval"))
        auths = tuple(name for name in self._open.values() if name.startswith("auth"))
        end = RunFinished(
            outcome=outcome,  # type: ignore[arg-type] # one of two words
            usage=self._sum(0, self._runs),
            open_approvals=approvals,
            open_auths=auths,
        )
        return self.tell(end, **fields)

    def break_run(self, error: ErrorInfo = BROKEN, **fields: Any) -> Self:
        """End the run by an error; by ENDED: as a recovery does."""
        return self.tell(RunFailed(error=error, usage=self._sum(0, self._runs)), **fields)

    def _sum(self, which: int, number: int) -> Usage:
        return Usage.total(ONE for where in self._used.values() if where[which] == number)

    # --- requests

    def ask(self, *, sent: Mapping[str, str] | None = None, **fields: Any) -> Self:
        """Start a request, and report what it used so far; sent: digests that are others."""
        self._requests += 1
        self._used[self.request_id] = (self._runs, self._exchanges)
        started = ModelRequestStarted(
            request_id=self.request_id,
            attempt=1,
            purpose="turn",
            model="m",
            message_count=len(self._fold.items),
            digests={**self._fixed, "messages": self._chain.of(self._fold.items), **(sent or {})},
        )
        return self.tell(started, **fields).use()

    def use(self, **fields: Any) -> Self:
        """Report what the request used."""
        return self.tell(UsageUpdated(request_id=self.request_id, model="m", usage=ONE), **fields)

    def write(self, part: Any = None) -> Self:
        """Stream one part, begun and committed; text where none is given."""
        part = TextPart(text="hello") if part is None else part
        part_id = f"part-{len(self.events)}"
        begin = BeginPart(part_id, part_kind(part))
        self.tell(ContentDelta(request_id=self.request_id, delta=begin))
        return self.tell(ContentDelta(request_id=self.request_id, delta=CommitPart(part_id, part)))

    def answer(self, reason: str = "completed", **fields: Any) -> Self:
        """Finish the request."""
        finished = ModelRequestFinished(request_id=self.request_id, finish_reason=reason)
        return self.use(final=True).tell(finished, **fields)

    def cut(self) -> Self:
        """Finish the request as cancelled."""
        return self.tell(ModelRequestFinished(request_id=self.request_id, finish_reason="cancelled"))

    def fail(self, error_class: str = "overloaded", **fields: Any) -> Self:
        """Fail the request."""
        failed = ModelRequestFailed(request_id=self.request_id, error=BROKEN, error_class=error_class)
        return self.tell(failed, **fields)

    def retry(self, **fields: Any) -> Self:
        """Announce the second attempt."""
        retrying = ModelRequestRetrying(request_id=self.request_id, delay_ms=1.0, next_attempt=2)
        return self.tell(retrying, **fields)

    # --- calls

    def call(self, *names: str, reason: str = "tool_call", **fields: Any) -> Self:
        """Answer with calls, told as requested; fields: of each call."""
        for name in names:
            self._calls[name] = ToolCallPart(**({"id": name, "name": "work", "input": {}} | fields))
            self.write(self._calls[name])
        self.answer(reason)
        for name in names:
            self.request(name)
        return self

    def request(self, name: str, /, **fields: Any) -> Self:
        """Tell one call as requested."""
        return self.tell(ToolCallRequested(request_id=self.request_id, call=self._calls[name]), **fields)

    def own(self, name: str, /, **fields: Any) -> Self:
        """Tell a call that no model asked for."""
        call = ToolCallPart(**({"id": name, "name": "work", "input": {}} | fields))
        return self.tell(ToolCallRequested(request_id="", call=call))

    def start(self, name: str, /, **fields: Any) -> Self:
        """Start the body of a call."""
        return self.tell(ToolExecutionStarted(call_id=name, name="work"), **fields)

    def result(self, name: str, /, **fields: Any) -> Self:
        """Answer a call."""
        return self.tell(ToolResultReceived(call_id=name, name="work", output="done"), **fields)

    def interrupt(self, name: str, /, **fields: Any) -> Self:
        """Answer a call as interrupted."""
        return self.result(name, **({"is_error": True, "interrupted": True} | fields))

    def gate(self, name: str, /, **fields: Any) -> Self:
        """Ask for an approval of a call."""
        self._approvals += 1
        self._open[name] = f"approval-{self._approvals}"
        required = ApprovalRequired(approval_id=self._open[name], call_id=name, summary="work")
        return self.tell(required, **fields)

    def decide(self, name: str, /, *, approved: bool = True, **fields: Any) -> Self:
        """Answer the open approval of a call."""
        resolved = ApprovalResolved(approval_id=self._open.pop(name), call_id=name, approved=approved)
        return self.tell(resolved, **fields)

    def need_auth(self, name: str, /, **fields: Any) -> Self:
        """Ask for the credentials that a body wants."""
        self._auths += 1
        self._open[name] = f"auth-{self._auths}"
        return self.tell(AuthRequired(auth_id=self._open[name], call_id=name, provider="p"), **fields)

    def give_auth(self, name: str, outcome: str = "resolved", /, **fields: Any) -> Self:
        """Answer the open auth request of a call."""
        resolved = AuthResolved(auth_id=self._open.pop(name), call_id=name, outcome=outcome)  # type: ignore[arg-type] # one of two words, or a wrong one on purpose
        return self.tell(resolved, **fields)

    # --- compaction

    def compact(self, **fields: Any) -> Self:
        """Start a compaction."""
        return self.tell(CompactionStarted(reason="items", item_count=len(self._fold.items)), **fields)

    def compacted(self, *plan: PlanStep, count: int, **fields: Any) -> Self:
        """End it with a plan."""
        return self.tell(CompactionFinished(strategy="s", plan=plan, item_count=count), **fields)

    def not_compacted(self, **fields: Any) -> Self:
        """End it with an error."""
        count = len(self._fold.items)
        failed = CompactionFinished(strategy="s", plan=None, item_count=count, error=BROKEN)
        return self.tell(failed, **fields)

    # --- longer pieces

    def asked(self) -> Self:
        """Run, input, turn, an open request."""
        return self.run().say().turn().ask()

    def called(self, *names: str, **fields: Any) -> Self:
        """The same, and an answer with these calls, all requested."""
        return self.asked().call(*(names or ("call-1",)), **fields)

    def answered(self, *, more: int = 0) -> Self:
        """A whole first exchange; more: how many further exchanges."""
        self.asked().write().answer().finish()
        for _ in range(more):
            self.say().turn().ask().write().answer().finish()
        return self
