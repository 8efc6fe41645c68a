"""A run of a loop that somebody else wrote, told as the events of ours: `with emitter.run(…) as run:`.

Each scope is a context manager, sync and async, that tells what begins and, on every path, what ends: a run, a
turn, a request to the model, a call of a tool. What it tells keeps the contract of DESIGN.md section 3, so that
observers, logs and `agentkit check` cannot tell whose loop it was. Which events end what is open is decided where
our own loop decides it (closing.py), from a fold of what was told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Self

import attrs

from agentkit_loop.calls import STOPPING_REASONS
from agentkit_loop.closing import (
    CANCELLED,
    Durations,
    Ending,
    close_work,
    closing_event,
    cut_request,
    finished_exchange,
    recovery_event,
)
from agentkit_loop.content import Item, Parent
from agentkit_loop.digest import MessageChain, fixed_digests
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, IllegalMoveError, ObserverError
from agentkit_loop.events import (
    AgentEvent,
    CancelRequested,
    InputAccepted,
    RunFinished,
    RunStarted,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.price_book import PriceBook
from agentkit_loop.pricing import Pricing
from agentkit_loop.run_context import RunContext
from agentkit_loop.scope_calls import (
    CONVERTED,
    NOT_RUN,
    NOT_TOLD,
    ToolCallScope,
    answer_unrun,
    request_calls,
    tell_sent_result,
)
from agentkit_loop.scope_facts import RunFacts
from agentkit_loop.scope_requests import ModelCallScope
from agentkit_loop.scope_telling import Telling, beside_the_loop
from agentkit_loop.sdk_values import input_items, last_message, system_text, tool_specs
from agentkit_loop.state import LoopState
from agentkit_loop.streaming import OpenRequest, since
from agentkit_loop.tool_context import RunningCall, TracedCall, current_call, leave_calls
from agentkit_loop.trace_context import TRACEPARENT, SpanPlace, place_of_call, traced
from agentkit_loop.usage import ErrorInfo
from agentkit_loop.values import JSON, safe_repr, to_json

_REMEMBERED = 1_000


class RunScope(RunFacts):
    """One run; made by `EventEmitter.run`. Its methods may be called from any thread; after its end they tell nothing.

    emitter: which tells. state: the fold of what the session has told. prices: what requests cost, None for nothing.
    before: how the last run began, of a session that goes on; what is not given is as it was.
    """

    def __init__(
        self,
        emitter: EventEmitter,
        state: LoopState,
        before: RunStarted | None = None,
        *,
        agent_name: str,
        model: str,
        system: str | None,
        tools: Iterable[object],
        items: Iterable[Item],
        parameters: Mapping[str, Any] | None,
        parent: Parent | None,
        metadata: Mapping[str, Any] | None,
        prices: Pricing | Literal["default"] | None,
    ) -> None:
        self.emitter = emitter
        self.state = state
        self.metadata: dict[str, JSON] = {}  # as RunStarted tells them
        self.above: SpanPlace | None = None  # the span of what started it, where that is known
        self.prices = PriceBook() if prices == "default" else prices
        self.request = OpenRequest(state)
        self.chain = MessageChain()
        self._telling = Telling(emitter)
        self._started: float | None = None
        self._has_ended = False
        self._exchange_began: float | None = None
        self.failed_at: float | None = None
        self._outer_call: RunningCall | None = None  # in whose body it was entered
        self._responses: dict[str, None] = {}  # ids of the last answers that were told
        before = before or RunStarted(agent_name="", model="")
        self._start = RunStarted(
            agent_name=agent_name or before.agent_name,
            model=model or before.model,
            system=system_text(system) or before.system,
            tools=tool_specs(tools) or before.tools,
            parameters=before.parameters if parameters is None else dict(parameters),
            items=tuple(items),
            parent=parent,
            metadata=dict(metadata or {}),
        )
        settings = to_json({"model": self._start.model, **self._start.parameters})
        self.fixed = fixed_digests(self._start.tools, self._start.system, settings)

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self.emitter.session_id

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.emitter.run_id

    @property
    def is_open(self) -> bool:
        """Whether it has begun and has not ended."""
        return self.emitter.open_run is self

    # --- the run

    def __enter__(self) -> Self:
        with self.told_together():
            if self.emitter.open_run is not None or self._started is not None:
                raise IllegalMoveError("run", "open", "close it first; another session has its own emitter")
            self._started = self.emitter.clock.monotonic()
            self._outer_call = current_call()
            emitter, start = self.emitter, self._start
            if self.state.exchange_is_open:
                emitter.turn_id = f"turn-{self.state.turns}"
            while (event := recovery_event(self.state, ())) is not None:
                self.tell(event)
            kept: str | None = emitter.run_id
            if self.state.run_id:  # the session goes on after an earlier run
                start = attrs.evolve(start, resumed_run=self.state.run_id, resumed_after=self.state.seq)
                kept = None
            elif RunContext.current() is not None and kept == emitter.made_run_id:
                kept = None
            emitter.run_id, metadata = RunContext.join(start.metadata, kept)
            self.metadata = self._traced(metadata)
            self.tell(attrs.evolve(start, metadata=self.metadata))
            request_calls(self)
            emitter.open_run = self
        return self

    def _traced(self, metadata: dict[str, JSON]) -> dict[str, JSON]:
        parent = self._start.parent
        if parent is None or self._start.metadata.get(TRACEPARENT) is not None:
            return traced(metadata)
        # What started the run wins over what a context of runs carries for all below it.
        return traced({**metadata, TRACEPARENT: None}, above=self.above or _place_of(parent, metadata))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)
        self.emitter.hand_over()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)
        await beside_the_loop(self.emitter.hand_over)

    def end(self, error: BaseException | None = None) -> None:
        """Tell the end of everything that is open, and of the run, as leaving its `with` does; but flush nothing.

        error: what broke it; None: it came to its end. Where observers under FAIL_FAST fail, the rest is told all the
        same, and the first of their errors raised then.
        """
        leave_calls(self.session_id, self.run_id, self._outer_call)
        if error is None:
            ending = Ending(kind="left")
        elif isinstance(error, Exception):
            ending = Ending(kind="failed", error=ErrorInfo.of(error))
        else:
            ending = Ending(kind="cancelled", reason=type(error).__name__)
        with self.told_together():
            faults: list[BaseException] = []
            try:
                if error is None:
                    self.finish()
            except ObserverError as raised:
                faults.append(raised)
            texts = self.request.open_texts()
            while (event := closing_event(self.state, ending, texts, self._durations())) is not None:
                if isinstance(event, RunFinished):
                    event = attrs.evolve(event, observers=self.emitter.stats())
                try:
                    self.tell(event)
                except ObserverError as raised:  # that was told to all, and folded
                    faults.append(raised)
            self.emitter.turn_id = self.emitter.open_run = None
            self._has_ended = True
            if faults:
                raise faults[0]

    def _is_answered(self) -> bool:
        """Whether the open exchange has come to its end: the last answer asks for nothing more."""
        state = self.state
        final = state.finish_reason not in (None, "pause_turn")
        if state.finish_reason == "tool_call":
            final = not state.calls  # an answer of which only the usage is known
        return (
            state.exchange_is_open
            and final
            and not state.transcript.open_calls
            and not state.input_unanswered
        )

    def _durations(self) -> Durations:
        now = self.emitter.clock.monotonic()
        return Durations(
            first_content_ms=self.request.first_content_ms,
            request_ms=since(self.request.started, now),
            exchange_ms=since(self._exchange_began, now),
            run_ms=since(self._started, now),
        )

    # --- what the host tells

    def input(self, content: object) -> None:
        """Tell what the user says: text, a message of the API, content blocks, parts or Items.

        Ends the exchange before, if that was answered.
        """
        with self.told_together():
            self._end_cancelled()
            self.finish()
            first = self.state.transcript.numbered + 1
            told = tuple(
                Item(kind=item.kind, parts=item.parts, id=f"item-{number}")
                for number, item in enumerate(input_items(content), first)
            )
            if told:
                self.tell(InputAccepted(items=told))

    def finish(self) -> None:
        """Tell the end of the exchange that the last answer ended.

        That is told by itself at the next input and at the end of the run. One that is not answered is suspended at
        the end of the run, as with our own loop, or ended by `cancel`; here it is left as it is.
        """
        with self.told_together():
            if self._is_answered():
                reason = self.state.finish_reason or "completed"
                reason = "completed" if reason == "tool_call" else reason
                self.tell(finished_exchange(self.state, reason, self._durations().exchange_ms))

    def cancel(self, reason: str) -> None:
        """Tell that the open exchange ends here, though the model asked for more: what is open in it is closed.

        Without an open exchange this does nothing.
        """
        with self.told_together():
            if self.state.exchange_is_open and not self._is_answered():
                self._note_cancel(reason)
                self.cut_request()
                self._end_cancelled()

    def interrupt_request(self, reason: str) -> None:
        """Tell that the open request was broken off: by an interrupt, or as nobody reads its stream any more."""
        self._note_cancel(reason)
        self.cut_request()

    def _note_cancel(self, reason: str) -> None:
        if not self.state.cancelling:
            self.tell(CancelRequested(reason=reason, by="host"))

    def turn(self) -> AbstractContextManager[Self]:
        """Tell the beginning of a turn, one answer of the model and its tools; else `model_call` does that."""
        with self.told_together():
            self._refuse_open_request("turn")
            if not self.state.exchange_is_open or self.state.finish_reason is not None:
                self._begin_turn()
        return contextlib.nullcontext(self)

    def model_call(
        self, model: str | None = None, *, messages: Iterable[object] | None = None
    ) -> ModelCallScope:
        """Return the scope of one request to the model; `with` it, make the request, give it the answer.

        model: the one asked for, where it is not the run's. messages: what is sent; where nobody told any input yet,
        the last message is told as it.
        """
        if isinstance(messages, (str, bytes, Mapping)):
            raise ConfigurationError(f"messages={safe_repr(messages)} refused; give the list that is sent")
        return ModelCallScope(self, model or self._start.model, None if messages is None else list(messages))

    def tool_call(self, call: object, arguments: object = None) -> ToolCallScope:
        """Return the scope of one call of a tool; `with` it, run the tool, give it the result.

        call: the `tool_use` block of the answer, or the name of a tool that no model asked for. arguments: of the
        latter, or of the former where they were edited.
        """
        return ToolCallScope(self, call, arguments)

    def child(self, **fields: Any) -> RunScope:
        """Return the scope of a run of its own, for what a tool asks a model: a session whose parent this one is.

        It tells the same observers. The parent's `call_id` is empty where no call of this run is running here. fields:
        what `EventEmitter.run` takes.
        """
        inside = current_call()
        call_id = inside.call_id if inside is not None and inside.session_id == self.session_id else ""
        parent = Parent(session_id=self.session_id, run_id=self.run_id, call_id=call_id)
        own = self.emitter
        emitter = EventEmitter(own.registrations, policy=own.policy, clock=own.clock)
        scope = emitter.run(**{"parent": parent, "prices": self.prices, **fields})
        if "parent" not in fields:
            scope.above = place_of_call(self.metadata, self.session_id, self.run_id, call_id)
        return scope

    def was_told(self, response_id: object) -> bool:
        """Whether an answer of that id was told."""
        return isinstance(response_id, str) and response_id in self._responses

    # --- for the scopes inside

    def told_together(self) -> AbstractContextManager[None]:
        """Keep other threads and Ctrl-C from coming between what is told inside; refused while an event is told."""
        return self._telling.together()

    def read(self) -> AbstractContextManager[None]:
        """Enter this while a stream is read, so that `told_together` costs little for each of its events."""
        return self._telling.reading()

    def tell(self, event: AgentEvent) -> None:
        """Tell one event; nothing after the run's end, which other threads may not have heard of."""
        if self._started is None:
            raise IllegalMoveError("telling", "closed", "enter the run first: with emitter.run(…) as run")
        if self._has_ended:
            return
        if isinstance(event, TurnStarted):
            self.emitter.turn_id = f"turn-{self.state.turns + 1}"
        self.emitter.emit(event, is_json=isinstance(event, CONVERTED))
        if isinstance(event, TurnFinished):
            self.emitter.turn_id = self._exchange_began = None

    def begin_request(self, messages: list[object] | None) -> None:
        """Tell what comes before a request: results and input that nobody told, and the turn."""
        state = self.state
        self.cut_lost_request()
        self._refuse_open_request("model_call")
        results, said = last_message(messages)
        for wire_id, output, is_error in results:
            tell_sent_result(self, wire_id, output, is_error=is_error)
        self._end_cancelled()
        if (
            said
            and not state.input_unanswered
            and (not state.exchange_is_open or results or self._is_answered())
        ):
            self.input(said)
        if state.failure is None and (not state.exchange_is_open or state.finish_reason is not None):
            self._begin_turn()

    def _end_cancelled(self) -> None:
        """End the exchange that was cancelled, since the host goes on."""
        if self.state.cancelling and self.state.exchange_is_open:
            while (event := close_work(self.state, CANCELLED, own_calls=False)) is not None:
                self.tell(event)
            self.tell(finished_exchange(self.state, "cancelled", self._durations().exchange_ms))

    def _begin_turn(self) -> None:
        state = self.state
        inside = current_call()
        call = (
            None
            if inside is None or inside.session_id != self.session_id
            else state.calls.get(inside.call_id)
        )
        if call is not None and call.is_running:
            raise IllegalMoveError(
                "turn",
                "running the tool that wants it",
                "tell what a tool asks a model by a run of its own: with run.child() as inner",
            )
        self._end_cancelled()
        answer_unrun(self, NOT_TOLD)
        if not state.exchange_is_open:
            self._exchange_began = self.emitter.clock.monotonic()
        self.tell(TurnStarted(index=state.turn_index + 1))

    def note_answer(self, response_id: str | None) -> None:
        """Tell the calls of the answer, and that they do not run where it was cut."""
        state = self.state
        if response_id:
            self._responses[response_id] = None
            if len(self._responses) > _REMEMBERED:
                del self._responses[next(iter(self._responses))]
        request_calls(self)
        if state.finish_reason in STOPPING_REASONS:
            answer_unrun(self, NOT_RUN)

    def cut_request(self) -> None:
        """Tell the end of a request that nobody will finish."""
        texts = self.request.open_texts()
        while (event := cut_request(self.state, texts, self._durations())) is not None:
            self.tell(event)

    def _refuse_open_request(self, move: str) -> None:
        if self.state.request is not None:
            raise IllegalMoveError(
                move,
                "streaming",
                "leave the `with` of the open model call first; what goes on beside it is a run.child()",
            )


def _place_of(parent: Parent, metadata: Mapping[str, JSON]) -> SpanPlace:
    """Return where the span of a parent's call is, as far as its trace is known here."""
    inside = current_call()
    if isinstance(inside, TracedCall) and inside[:3] == (parent.session_id, parent.run_id, parent.call_id):
        return inside.place
    # A parent elsewhere most likely began in the trace in which this one begins.
    return place_of_call(traced(metadata), parent.session_id, parent.run_id, parent.call_id)
