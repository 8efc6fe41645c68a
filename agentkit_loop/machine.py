"""The loop's state machine: everything that decides what happens next lives here.

`decide` looks at the state and its configuration and returns one event to tell, or what to wait for, or a
step for the host. `take` turns a signal into events, one at a time. The state changes only by the events
that the driver tells in between. No I/O, no clock: the time comes with each call, in seconds, monotonic.

What a signal may do depends on the phase (state.py). `MOVES` is the whole table: a signal is taken, comes
too late and changes nothing, or is illegal and raises IllegalMoveError; then nothing has changed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import attrs
import msgspec

from agentkit_loop.closing import Durations, Ending, closing_event
from agentkit_loop.content import (
    AppendBytes,
    AppendText,
    BeginPart,
    CommitPart,
    Item,
    ToolCallPart,
    clean_item,
    clean_part,
)
from agentkit_loop.digest import MessageChain, fixed_digests
from agentkit_loop.errors import ConfigurationError, IllegalMoveError, RETRYABLE_CLASSES
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    CustomEvent,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunStarted,
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.retry import Retry
from agentkit_loop.signals import (
    Answered,
    RequestFault,
    Signal,
    Submit,
    ToolReturned,
    UsageReported,
    WarningNoted,
)
from agentkit_loop.state import Call, Failure, LoopState, Phase
from agentkit_loop.tools import CustomFact, Tool, ToolInputError, ToolProgressed
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_loop.values import JSON, clean_text


class Verdict(enum.Enum):
    """What the table says of a signal in a phase."""

    TAKEN = "taken"
    LATE = "late"
    ILLEGAL = "illegal"


_ANYWHERE_OPEN = frozenset(Phase) - {Phase.CLOSED}

MOVES: dict[type[Any], tuple[frozenset[Phase], frozenset[Phase], str]] = {
    Submit: (_ANYWHERE_OPEN, frozenset(), "start a new run"),
    BeginPart: (frozenset({Phase.STREAMING}), frozenset(), "a model may stream only into its open request"),
    AppendText: (frozenset({Phase.STREAMING}), frozenset(), "a model may stream only into its open request"),
    AppendBytes: (frozenset({Phase.STREAMING}), frozenset(), "a model may stream only into its open request"),
    CommitPart: (frozenset({Phase.STREAMING}), frozenset(), "a model may stream only into its open request"),
    UsageReported: (frozenset({Phase.STREAMING}), frozenset(), "a model may report only on its open request"),
    Answered: (frozenset({Phase.STREAMING}), frozenset(), "a model may answer only its open request"),
    RequestFault: (frozenset({Phase.STREAMING}), frozenset(), "only an open request can fail"),
    ToolProgressed: (frozenset({Phase.WORKING}), frozenset(Phase) - {Phase.WORKING}, ""),
    ToolReturned: (frozenset({Phase.WORKING}), frozenset(Phase) - {Phase.WORKING}, ""),
    CustomFact: (_ANYWHERE_OPEN, frozenset({Phase.CLOSED}), ""),
    WarningNoted: (_ANYWHERE_OPEN, frozenset({Phase.CLOSED}), ""),
}
"""For each signal: the phases in which it is taken, those in which it is late, and what would work."""

STOPPING_REASONS = frozenset({"max_tokens", "refusal", "context_window_exceeded"})
"""Finish reasons after which none of the answer's calls runs and the exchange ends."""


def verdict(signal: type[Any], phase: Phase) -> Verdict:
    """Look a signal up in the table."""
    taken, late, _ = MOVES[signal]
    if phase in taken:
        return Verdict.TAKEN
    return Verdict.LATE if phase in late else Verdict.ILLEGAL


@attrs.frozen(kw_only=True)
class LoopSettings:
    """The machine's configuration.

    tools: by name. parameters: further request parameters, JSON. max_parallel_tools: bodies at once.
    """

    agent_name: str
    model: str
    system: str | None
    tools: dict[str, Tool[..., Any]]
    parameters: dict[str, JSON]
    retry: Retry
    max_parallel_tools: int
    metadata: dict[str, JSON]


@attrs.frozen
class Stream:
    """The open request's signals are to be read."""


@attrs.frozen
class Wait:
    """Nothing can be told before a signal comes or the moment `until` (seconds, None: no bound)."""

    until: float | None


@attrs.frozen
class GiveUp:
    """The request failed for good; the driver ends the run and raises ModelError."""

    failure: Failure


@attrs.frozen
class Ended:
    """The run is closed."""


class Yield(enum.Enum):
    """The host is to be asked or told something; see steps.py."""

    AWAITING_INPUT = "awaiting input"
    AFTER_TOOL_RESULT = "after a round of tool results"
    FINISHED = "finished"


Move: TypeAlias = AgentEvent | Stream | Wait | GiveUp | Ended | Yield


@attrs.define
class _Marks:
    """Moments that the machine saw, in seconds; not part of the state, since a log has its own times."""

    run: float | None = None
    exchange: float | None = None
    request: float | None = None
    first_content: float | None = None
    retry_at: float | None = None
    tools: dict[str, float] = attrs.Factory(dict)  # call id: start of its running attempt


class Machine:
    """Decides; see the module's text. state: the fold that the driver's emitter applies events to."""

    def __init__(self, settings: LoopSettings, state: LoopState) -> None:
        self.settings = settings
        self.state = state
        self.previews: dict[str, list[str]] = {}  # what came of the parts that have begun, for a cut
        self._text_parts: set[str] = set()  # those of them that are text
        self._open_texts: dict[str, str] = {}  # of the request that an ending cuts
        self.finished: TurnFinished | None = None  # told, and not yet shown to the host
        self._marks = _Marks()
        self._ending: Ending | None = None
        self._yielded_turn: str | None = state.turn_id
        self._chain = MessageChain()
        self._specs = tuple(tool.spec for tool in settings.tools.values())
        self._digests = fixed_digests(
            self._specs, settings.system, {"model": settings.model, **settings.parameters}
        )

    # --- what happens by itself

    def run_started(self, items: Sequence[Item], now: float) -> RunStarted:
        """Return the event that opens the run."""
        self._marks.run = now
        return RunStarted(
            agent_name=self.settings.agent_name,
            model=self.settings.model,
            system=self.settings.system,
            tools=self._specs,
            parameters=self.settings.parameters,
            items=self._numbered(items),
            metadata=self.settings.metadata,
        )

    def decide(self, now: float) -> Move:  # noqa: PLR0911 - one return a phase
        """Return the next event to tell, or what to wait for, or a step for the host."""
        if self._ending is not None:
            return closing_event(self.state, self._ending, self._open_texts, self._durations(now)) or Ended()
        if self.finished is not None:
            return Yield.FINISHED
        match self.state.phase:
            case Phase.CLOSED:
                return Ended()
            case Phase.IDLE:
                return Yield.AWAITING_INPUT
            case Phase.ASKING:
                return self._ask(now)
            case Phase.STREAMING:
                return Stream()
            case Phase.FAILED:
                return self._after_failure(now)
            case Phase.BACKING_OFF:
                return self._back_off(now)
            case Phase.WORKING:
                return self._work(now)
            case Phase.ANSWERED:
                return self._after_answer(now)

    def end(self, ending: Ending) -> None:
        """From now on, `decide` closes what is open; the first ending counts."""
        if self._ending is None:
            self._ending = ending
            self._open_texts = {
                part_id: "".join(chunks)
                for part_id, chunks in self.previews.items()
                if part_id in self._text_parts
            }

    def show_finished(self) -> TurnFinished:
        """Return the end of the exchange, once, as the host is shown it."""
        finished, self.finished = self.finished, None
        if finished is None:
            raise IllegalMoveError("finish", self.state.phase.value, "an exchange must have ended")
        return finished

    def model_request(self) -> ModelRequest:
        """Return the open request as the model is to get it."""
        request = self.state.request
        if request is None:
            raise IllegalMoveError("request", self.state.phase.value, "a request must have been told")
        return ModelRequest(
            request_id=request.id,
            purpose=request.purpose,
            system=self.settings.system,
            tools=self._specs,
            items=tuple(self.state.transcript.items),
            parameters=self.settings.parameters,
        )

    def _ask(self, now: float) -> AgentEvent:
        if not self.state.exchange_is_open:
            self._marks.exchange = now
            return TurnStarted(index=1)
        return self._request(1, now)

    def _request(self, attempt: int, now: float) -> ModelRequestStarted:
        self._marks.request, self._marks.first_content, self._marks.retry_at = now, None, None
        self.previews, self._text_parts = {}, set()
        items = self.state.transcript.items
        return ModelRequestStarted(
            request_id=f"request-{self.state.requests + 1}",
            attempt=attempt,
            purpose="turn",
            model=self.settings.model,
            message_count=len(items),
            digests={**self._digests, "messages": self._chain.of(items)},
        )

    def _after_failure(self, now: float) -> AgentEvent | GiveUp:
        failure = self.state.failure
        assert failure is not None  # noqa: S101 - the phase says so
        retry = self.settings.retry
        if failure.error_class not in RETRYABLE_CLASSES or failure.attempt >= retry.max_attempts:
            return GiveUp(failure)
        seed = f"{self.state.session_id}/{failure.request_id}"
        delay = retry.delay_ms(failure.attempt, failure.retry_after_ms, seed)
        self._marks.retry_at = now + delay / 1e3
        return ModelRequestRetrying(
            request_id=failure.request_id, delay_ms=delay, next_attempt=failure.attempt + 1
        )

    def _back_off(self, now: float) -> AgentEvent | Wait:
        failure = self.state.failure
        assert failure is not None  # noqa: S101 - the phase says so
        retry_at = self._marks.retry_at
        if retry_at is not None and now < retry_at:
            return Wait(retry_at)
        return self._request(failure.attempt + 1, now)

    def _after_answer(self, now: float) -> AgentEvent | Yield:
        state = self.state
        reason = state.finish_reason or "completed"
        goes_on = state.round_unanswered and reason not in STOPPING_REASONS
        if not (goes_on or state.input_unanswered or reason == "pause_turn"):
            return self._finish("completed" if reason == "tool_call" else reason, now)
        if state.round_unanswered and self._yielded_turn != state.turn_id:
            self._yielded_turn = state.turn_id
            return Yield.AFTER_TOOL_RESULT
        return TurnStarted(index=state.turn_index + 1)

    def _finish(self, reason: str, now: float) -> TurnFinished:
        self.finished = TurnFinished(
            finish_reason=reason,
            usage=self.state.exchange_spent.usage,
            item_count=len(self.state.transcript.items),
            duration_ms=_since(self._marks.exchange, now),
        )
        return self.finished

    def _durations(self, now: float) -> Durations:
        marks = self._marks
        first = marks.first_content
        return Durations(
            first_content_ms=None if first is None else _since(marks.request, first),
            request_ms=_since(marks.request, now),
            exchange_ms=_since(marks.exchange, now),
            run_ms=_since(marks.run, now),
        )

    # --- the tools of an answer

    def _work(self, now: float) -> AgentEvent | Wait:
        calls = [call for call in self.state.calls.values() if not call.answered]
        for call in calls:
            if not call.requested:
                return ToolCallRequested(request_id=call.request_id, call=call.part)
        running = [call for call in calls if call.is_running]
        for call in running:
            if now >= self._deadline(call):
                return self._timed_out(call, now)
        for call in calls:
            if call.attempts == 0:
                refusal = self._refusal(call.part)
                if refusal is not None:
                    return _not_started(call, refusal)
                if len(running) < self.settings.max_parallel_tools:
                    self._marks.tools[call.part.id] = now
                    return ToolExecutionStarted(call_id=call.part.id, name=call.part.name)
        until = min((self._deadline(call) for call in running), default=float("inf"))
        return Wait(None if until == float("inf") else until)

    def _refusal(self, part: ToolCallPart) -> str | None:
        """Return why the call cannot run, in the words that the model is told; None if it can."""
        if self.state.finish_reason in STOPPING_REASONS:
            return f"The call was not started: the answer ended with {self.state.finish_reason}."
        if part.cut is not None:
            return "The call was not started: its input is not a whole JSON object."
        tool = self.settings.tools.get(part.name)
        if tool is None:
            known = ", ".join(sorted(self.settings.tools)) or "none"
            return f"The call was not started: there is no tool named {part.name!r}; the tools are: {known}."
        try:
            tool.bind(part.input)
        except ToolInputError as error:
            return f"The call was not started: {error}."
        return None

    def _deadline(self, call: Call) -> float:
        timeout = self.settings.tools[call.part.name].timeout_s
        started = self._marks.tools.get(call.part.id)
        return float("inf") if timeout is None or started is None else started + timeout

    def _timed_out(self, call: Call, now: float) -> ToolResultReceived:
        timeout = self.settings.tools[call.part.name].timeout_s
        return ToolResultReceived(
            call_id=call.part.id,
            name=call.part.name,
            output=f"The tool did not finish within {timeout:g} seconds; what it did is not known.",
            is_error=True,
            duration_ms=_since(self._marks.tools.get(call.part.id), now),
        )

    # --- signals

    def take(self, signal: Signal, now: float) -> Iterator[AgentEvent]:
        """Return the events that a signal causes; raises IllegalMoveError, with nothing changed.

        The driver tells each before it asks for the next.
        """
        kind = type(signal)
        phase = self.state.phase
        match verdict(kind, phase):
            case Verdict.ILLEGAL:
                raise IllegalMoveError(kind.__name__, phase.value, MOVES[kind][2])
            case Verdict.LATE:
                return iter(())
            case Verdict.TAKEN:
                return self._events_of(signal, now)

    def _events_of(self, signal: Signal, now: float) -> Iterator[AgentEvent]:  # noqa: PLR0911 - one a signal
        match signal:
            case Submit(items):
                return iter((InputAccepted(items=self._numbered(items)),) if items else ())
            case BeginPart() | AppendText() | AppendBytes() | CommitPart():
                return self._delta(signal, now)
            case UsageReported():
                return self._usage(signal)
            case Answered():
                return self._answer(signal, now)
            case RequestFault():
                return iter((self._fault(signal, now),))
            case ToolProgressed():
                return self._progress(signal)
            case ToolReturned():
                return self._result(signal)
            case CustomFact(name, data):
                return iter((CustomEvent(name=clean_text(name), data=data),))
            case WarningNoted(code, message, details):
                return iter((Warning(code=code, message=message, details=details),))
            case _:
                raise IllegalMoveError(type(signal).__name__, self.state.phase.value, "see MOVES")

    def _numbered(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Clean the items and give those without one an id of this session."""
        taken = {item.id for item in self.state.transcript.items} if any(i.id for i in items) else set()
        result: list[Item] = []
        fresh = 0
        for item in items:
            if not isinstance(item, Item):
                raise ConfigurationError(f"{item!r} is not an item; give text, parts or Items")
            if item.id in taken:
                raise ConfigurationError(f"item id {item.id!r} is taken in this session; leave it empty")
            if not item.id:
                item = msgspec.structs.replace(item, id=self.state.transcript.next_id(fresh))  # noqa: PLW2901
                fresh += 1
            taken.add(item.id)
            result.append(clean_item(item))
        return tuple(result)

    def _delta(
        self, delta: BeginPart | AppendText | AppendBytes | CommitPart, now: float
    ) -> Iterator[AgentEvent]:
        request = self.state.request
        assert request is not None  # noqa: S101 - the phase says so
        begun = delta.part_id in self.previews
        if begun is isinstance(delta, BeginPart):
            word = "began twice" if begun else "was told before it began"
            message = f"the model adapter broke the protocol: part {delta.part_id!r} {word}"
            error = ErrorInfo(type="ModelRequestError", message=message)
            yield self._fault(RequestFault(error=error, error_class="other"), now)
            return
        if self._marks.first_content is None:
            self._marks.first_content = now
        if isinstance(delta, BeginPart):
            self.previews[delta.part_id] = []
            if delta.kind == "text":
                self._text_parts.add(delta.part_id)
        elif isinstance(delta, AppendText):
            delta = AppendText(delta.part_id, clean_text(delta.chunk))
            self.previews[delta.part_id].append(delta.chunk)
        elif isinstance(delta, CommitPart):
            del self.previews[delta.part_id]
            delta = CommitPart(delta.part_id, self._own(clean_part(delta.part)))
        yield ContentDelta(request_id=request.id, delta=delta)

    def _own(self, part: Any) -> Any:
        """Rename a call whose id the session has seen."""
        if not isinstance(part, ToolCallPart) or part.id not in self.state.seen_calls:
            return part
        number = 2
        while f"{part.id}~{number}" in self.state.seen_calls:
            number += 1
        return msgspec.structs.replace(part, id=f"{part.id}~{number}", wire_id=part.wire_id or part.id)

    def _usage(self, report: UsageReported) -> Iterator[AgentEvent]:
        request = self.state.request
        assert request is not None  # noqa: S101 - the phase says so
        if request.usage is None or request.usage.usage != report.usage:
            model = report.model or request.model
            yield UsageUpdated(
                request_id=request.id, model=model, usage=report.usage, cost=report.cost, final=False
            )

    def _answer(self, answered: Answered, now: float) -> Iterator[AgentEvent]:
        request = self.state.request
        assert request is not None  # noqa: S101 - the phase says so
        answer, last = answered.answer, request.usage
        said = answer.usage is not None
        yield UsageUpdated(
            request_id=request.id,
            model=last.model if last else answer.response_model or request.model,
            usage=answer.usage or (last.usage if last else Usage()),
            cost=answered.cost if said or last is None else last.cost,
            final=True,
        )
        durations = self._durations(now)
        yield ModelRequestFinished(
            request_id=request.id,
            finish_reason=clean_text(answer.finish_reason),
            response_id=answer.response_id,
            response_model=answer.response_model,
            first_content_ms=durations.first_content_ms,
            duration_ms=durations.request_ms,
        )

    def _fault(self, fault: RequestFault, now: float) -> ModelRequestFailed:
        request = self.state.request
        assert request is not None  # noqa: S101 - the phase says so
        return ModelRequestFailed(
            request_id=request.id,
            error=fault.error,
            error_class=fault.error_class,
            retry_after_ms=fault.retry_after_ms,
            duration_ms=_since(self._marks.request, now),
        )

    def _progress(self, progress: ToolProgressed) -> Iterator[AgentEvent]:
        call = self.state.calls.get(progress.call_id)
        if call is not None and call.is_running:
            yield ToolExecutionProgress(
                call_id=progress.call_id, message=progress.message, fraction=progress.fraction
            )

    def _result(self, returned: ToolReturned) -> Iterator[AgentEvent]:
        call = self.state.calls.get(returned.call_id)
        if call is None or not call.is_running or call.attempts != returned.attempt:
            return  # closed by its timeout or an ending: a late answer changes nothing
        self._marks.tools.pop(returned.call_id, None)
        yield ToolResultReceived(
            call_id=returned.call_id,
            name=call.part.name,
            output=returned.output,
            is_error=returned.is_error,
            duration_ms=returned.duration_ms,
            error=returned.error,
        )


def _not_started(call: Call, text: str) -> ToolResultReceived:
    return ToolResultReceived(
        call_id=call.part.id, name=call.part.name, output=text, is_error=True, not_started=True
    )


def _since(start: float | None, now: float) -> float | None:
    return None if start is None else max(0.0, round((now - start) * 1e3, 3))

