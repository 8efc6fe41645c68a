"""What both drivers offer and perform; the telling is below them, in telling.py.

No decision is made here. A driver tells the event that the machine decided and then performs it:
`ModelRequestStarted` opens the stream, `ToolExecutionStarted` runs the body.
"""

from __future__ import annotations

import contextvars
import functools
import operator
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from agentkit_loop.content import AnyPart, Item, ToolResultPart
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    ModelRequestStarted,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.execution import run_body
from agentkit_loop.family import Family
from agentkit_loop.intake import Appends, as_items, grouped
from agentkit_loop.models.protocol import Model
from agentkit_loop.moves import Yield
from agentkit_loop.observers import Observer, ObserverFailure, Registration
from agentkit_loop.open_calls import Call
from agentkit_loop.permissions import answer_step
from agentkit_loop.signals import Cancel, SetTools, Signal, Submit, WarningNoted
from agentkit_loop.state import LoopState, Phase
from agentkit_loop.steps import (
    AfterToolResult,
    ApprovalRequest,
    AuthRequest,
    AwaitingInput,
    Finished,
    RunResult,
    Step,
    key_of,
)
from agentkit_loop.telling import Teller
from agentkit_loop.tool_context import CustomFact, ToolContext
from agentkit_loop.tools import Tool, check_catalog
from agentkit_loop.transcript import Transcript
from agentkit_loop.usage import ObserverStats, error_text
from agentkit_loop.values import JSON, clean_text

BLOCKING = (ApprovalRequest, AuthRequest)
"""Steps that `next()` returns again until they are answered."""

PAUSE_S = 0.05
"""Seconds between two looks at a step that an iteration comes to again and again, unless something happens."""

_chunk_of = operator.attrgetter("chunk")
_OF_A_ROUND = (ToolExecutionStarted, ToolResultReceived, ApprovalRequired)
_IN_A_ROUND = (Phase.WORKING, Phase.PENDING)


class DriverBase(Teller):
    """What the synchronous and the asynchronous driver share; use one of those."""

    _pausing = False  # return after each event, for stream()

    # --- what a host may look at

    @property
    def session_id(self) -> str:
        """The session."""
        return self._emitter.session_id

    @property
    def state(self) -> LoopState:
        """The fold of the events so far; to look at, not to change."""
        return self._state

    @property
    def transcript(self) -> Transcript:
        """The transcript; `transcript.items` is what the model is shown."""
        return self._state.transcript

    @property
    def open_round(self) -> tuple[ToolResultPart, ...]:
        """Results of the open round, which are in no transcript yet."""
        return self._state.transcript.open_round

    @property
    def pending(self) -> tuple[ApprovalRequest | AuthRequest, ...]:
        """The steps that wait for an answer, in call order, those of agents behind calls last."""
        calls = self._state.calls.values()
        own = tuple(self._request_step(call) for call in calls if call.is_pending)
        return own if self._household is None else (*own, *self._household.steps)

    def observer_stats(self) -> tuple[ObserverStats, ...]:
        """Return what was counted for each observer so far."""
        return self._emitter.stats()

    def take_errors(self) -> tuple[ObserverFailure, ...]:
        """Return and forget the observers' failures kept under ACCUMULATE."""
        return self._emitter.take_errors()

    # --- what a host may do, from any thread and from inside an observer

    def submit(self, *content: str | AnyPart | Item) -> None:
        """Give input: texts and parts make one user item, Items stay as they are.

        Told at once as InputAccepted; from inside an observer, or from a thread that does not drive, when its turn
        comes.
        Raises IllegalMoveError on a closed run, and while a step waits for its answer.
        """
        self._signal(Submit(as_items(content)))

    def cancel(self, reason: str | None = None, *, by: str | None = None) -> None:
        """End the exchange: what is open is closed, the run goes on. While idle this does nothing.

        From inside an observer or another thread it is honoured as soon as the driving thread can.
        """
        self._signal(Cancel(reason, by))

    def set_tools(self, tools: Iterable[object]) -> None:
        """Give the model other tools from its next request on; told as ToolCatalogChanged if they differ."""
        self._signal(SetTools(check_catalog(tools)))

    def emit(self, name: str, data: object = None) -> None:
        """Tell a CustomEvent of the host's own."""
        self._signal(CustomFact(name, data))

    def add_observer(self, observer: Observer | Registration) -> None:
        """Register an observer from the next event on."""
        self._emitter.add_observer(observer)

    def remove_observer(self, observer: Observer) -> None:
        """Forget an observer from the next event on."""
        self._emitter.remove_observer(observer)

    def _signal(self, signal: Signal) -> None:
        if not self._steering.begin_signal():
            if self._steering.is_idle:
                self._machine.check(signal)  # told later; what is wrong already is raised here
            self._post((None, signal))
            return
        try:
            if self._emitter.telling is not None or self._working or self._taking or self._is_told_here():
                self._post((self._emitter.telling, signal))
            else:
                self._judge(signal)
        finally:
            self._steering.end_signal()

    def _judge(self, signal: Signal) -> None:
        """Tell at once what a signal causes, after what waits; raises what the host is to know."""
        with self._guard:
            self._taking = True
            try:
                self._take_all()
                seq = self._state.seq
                try:
                    self._take(signal)
                except BaseException as error:
                    if self._state.seq != seq or not isinstance(error, Exception):
                        self._break(error)  # otherwise it was refused, with nothing changed
                    raise
                self._take_all()  # what a signal handler wanted meanwhile
            finally:
                self._taking = False

    def _take_all(self) -> None:
        try:
            self._take_waiting()
        except BaseException as error:
            self._break(error)
            raise

    def _is_told_here(self) -> bool:
        """Whether the calling thread tells an event of this family at the moment."""
        exclusive = self._emitter.exclusive
        return exclusive is not None and exclusive.is_mine

    # --- performing

    def _came_of(self, came: Any) -> Iterator[Any]:
        """Return what a model yielded, one by one; pieces of one text as Appends, where they may be told together."""
        if came.__class__ is not list:
            return iter((came,))
        is_for_all = len(came) > 1 and not self._pausing and self._emitter.takes_batches
        return grouped(came) if is_for_all else iter(came)

    def _told_together(self, pieces: Appends, request_id: str) -> bool:
        """Tell pieces of one part; False, and nothing told, where each is to be looked at."""
        part_id = pieces[0].part_id
        preview = self._machine.previews.get(part_id)
        chunks = list(map(_chunk_of, pieces))
        if preview is None or set(map(type, chunks)) != {str}:
            return False
        text = "".join(chunks)
        if not (text.isascii() or clean_text(text) == text):
            return False
        preview.append(text)
        if len(chunks) == 1:
            self._emitter.tell_delta(request_id, pieces[0])
        else:
            self._emitter.tell_batch(request_id, part_id, chunks)
        return True

    def _do(self, event: AgentEvent) -> None:
        """Tell and perform what was decided.

        Of a round, all that may start starts, all that cannot is answered and all that has to be asked is
        asked before the result of a body is judged, so that a body that ends at once changes no order.
        """
        while True:
            self._tell(event)
            self._perform(event)
            if not isinstance(event, _OF_A_ROUND) or self._state.phase not in _IN_A_ROUND:
                return
            following = self._machine.decide(self._clock.monotonic())
            if not isinstance(following, _OF_A_ROUND):
                return  # decided anew when its turn comes
            event = following

    def _perform(self, event: AgentEvent) -> None:
        """Do what the event says: open the stream, run the body."""
        if isinstance(event, ModelRequestStarted):
            self._open_stream(self._machine.requests.model or self._settings.model)
        elif isinstance(event, ToolExecutionStarted):
            call = self._state.calls[event.call_id]
            self._start_body(self._machine.catalog.tools[event.name], self._context(call), call.input)

    @abstractmethod
    def _open_stream(self, model: Model) -> None:
        """Make the open request of this model."""

    @abstractmethod
    def _start_body(self, tool: Tool[..., Any], context: ToolContext, arguments: dict[str, JSON]) -> None:
        """Run a tool's body, and post what comes of it."""

    def _run_on_thread(self, tool: Tool[..., Any], context: ToolContext, arguments: dict[str, JSON]) -> None:
        """Run a body on a daemon thread, with the context variables of this one."""
        household = self._household if tool.is_agent else None

        def work() -> None:
            try:
                self._post((None, run_body(tool, context, arguments, self._clock)))
            finally:
                if household is not None:
                    household.left()

        carried = contextvars.copy_context()
        self._threads.run(f"tool-{tool.name}", functools.partial(carried.run, work))

    def _context(self, call: Call) -> ToolContext:
        context = ToolContext(
            call_id=call.part.id,
            session_id=self.session_id,
            run_id=self.run_id,
            turn_id=self._state.turn_id or "",
            attempt=call.attempts,
            send=lambda signal: self._post((None, signal)),
            credentials=self._credentials,
            family=self._family(call) if self._machine.catalog.tools[call.part.name].is_agent else None,
            run_metadata=self._settings.loop.metadata,
        )
        self._contexts[call.part.id] = context
        return context

    def _family(self, call: Call) -> Family:
        """Return what an agent behind a call gets of this one."""
        household = self._household or self._found_household()
        return household.family_of(
            call.part.id,
            observers=self._emitter.registrations,
            limits=self._machine.limits_left(self._clock.monotonic()),
            secrets=self._credentials.secrets,
            errors=self._emitter.errors,
            grace_s=self._settings.loop.grace_s,
        )

    def _child_step(self) -> ApprovalRequest | AuthRequest | None:
        steps = () if self._household is None else self._household.steps
        return steps[0] if steps else None

    # --- steps

    def _step(self, move: Yield) -> Step:
        match move:
            case Yield.AWAITING_INPUT:
                return AwaitingInput()
            case Yield.AFTER_TOOL_RESULT:
                return AfterToolResult(tuple(self._round), self.submit)
            case Yield.FINISHED:
                self._machine.show_finished()
                return Finished(self._result)

    def _request_step(self, call: Call) -> ApprovalRequest | AuthRequest:
        """Return the step of a call that waits."""
        approval, auth = call.approval, call.auth
        if approval is not None and approval.approved is None:
            return ApprovalRequest(
                approval_id=approval.id,
                call=call.part,
                summary=approval.summary,
                reason=approval.why,
                session_id=self.session_id,
                answer=self._signal,
            )
        if auth is None:
            raise IllegalMoveError("ask", self._state.phase.value, "this is a bug of the machine")
        provider = auth.provider

        def answer(signal: Signal, secret: str | None) -> None:
            if secret is not None and auth.outcome is None:  # a second answer changes nothing
                self._credentials.put(provider, secret)
            self._signal(signal)

        return AuthRequest(
            auth_id=auth.id,
            call=call.part,
            provider=provider,
            scopes=auth.scopes,
            purpose=auth.purpose,
            session_id=self.session_id,
            answer=answer,
        )

    def _is_new(self, step: ApprovalRequest) -> bool:
        """Whether `approve=` was not asked about a step yet; from now on it was."""
        known = key_of(step) in self._asked
        self._asked.add(key_of(step))
        return not known

    def _let_children_go(self) -> None:
        """Let the agents behind calls be suspended, as this session is about to be."""
        for context in list(self._contexts.values()):
            context.leave()

    def _answer_step(self, step: ApprovalRequest, answer: object) -> None:
        """Give a step the answer of `approve=`, on the driving thread, so that a wrong one is raised here."""
        self._working = False
        try:
            answer_step(step, answer)
        except IllegalMoveError as error:  # it was answered otherwise, or closed, while somebody was asked
            self._take(WarningNoted("answer_refused", error_text(error), _named(step)))
        finally:
            self._working = True

    def _goes_on_beside(self) -> bool:
        """Whether a body runs that waits for no person, beside a step that does."""
        asking = () if self._household is None else self._household.asking
        return any(call.part.id not in asking for call in self._machine.live)

    def _is_idly_repeated(self, step: Step) -> bool:
        """Whether an iteration comes to the same step for the third time, and nothing was told in between."""
        at = (key_of(step), self._state.seq) if isinstance(step, BLOCKING) else None
        self._repeats = self._repeats + 1 if at is not None and at == self._repeated else 0
        self._repeated = at
        return self._repeats > 1

    def _note_unanswered(self, step: Step) -> None:
        """Tell once that a host asks for the next step without having answered one that blocks."""
        if isinstance(step, BLOCKING) and key_of(step) not in self._unanswered:
            self._unanswered.add(key_of(step))
            name = key_of(step)[1]
            text = f"{name} was not answered; answer its step, or leave the iteration, which waits for that"
            self._take(WarningNoted("step_unanswered", text, {"name": name, "session_id": step.session_id}))

    def _note_unasked(self, step: ApprovalRequest, error: Exception) -> None:
        text = f"approve= failed on {step.approval_id}, which stays open: {type(error).__name__}: {error_text(error)}"
        self._take(WarningNoted("approve_failed", self._credentials.masked_text(text), _named(step)))

    def _suspended(self) -> RunResult:
        return RunResult.of(self._state, "", self.pending)

    def _refuse_reentry(self, move: str = "next()") -> None:
        if self._emitter.telling is not None or self._is_told_here():
            raise IllegalMoveError(move, "an event is being told", "observers watch; submit instead")


def _named(step: ApprovalRequest) -> dict[str, JSON]:
    """Return what a warning names a step with."""
    return {"approval_id": step.approval_id, "session_id": step.session_id}
