"""The synchronous driver: streams on the calling thread, tools on daemon threads."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import queue
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from agentkit_loop.content import AnyPart, AppendText, Item
from agentkit_loop.driver_settings import DriverSettings, Resumed
from agentkit_loop.errors import HostError, IllegalMoveError
from agentkit_loop.events import AgentEvent
from agentkit_loop.intake import Appends, checked_signal, fault_of
from agentkit_loop.models.protocol import Model, ModelSignal
from agentkit_loop.moves import Ask, Ended, GiveUp, Stream, Wait, Yield
from agentkit_loop.observers import Slot
from agentkit_loop.permissions import settled
from agentkit_loop.shell import BLOCKING, PAUSE_S, DriverBase
from agentkit_loop.signals import CUTTING, Cancel
from agentkit_loop.steps import ApprovalRequest, AuthRequest, AwaitingInput, Finished, RunResult, Step
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool
from agentkit_loop.values import JSON, clean_text


class LoopDriver(DriverBase):
    """Drives a session on the calling thread; made by `agent.start()`.

    Tools run on daemon threads. Use it as a context manager: leaving it closes the run.
    """

    def __init__(
        self,
        settings: DriverSettings,
        *,
        session_id: str | None = None,
        items: Iterable[Item] = (),
        tap: Callable[[AgentEvent], None] | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        self._inbox: queue.SimpleQueue[tuple[Slot | None, Any]] = queue.SimpleQueue()
        super().__init__(settings, session_id=session_id, items=items, tap=tap, resumed=resumed)
        self._stream: Iterator[ModelSignal | list[ModelSignal]] | None = None
        self._came: Iterator[Any] = iter(())  # what came together and was not judged yet
        self._cut: Callable[[], object] | None = None  # lets the open stream end, from any thread
        self._until: float | None = None  # when something happens by itself while a step waits for its answer
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        patience_s = 0.0
        if self._working and not self.is_closed:
            # A thread of the host's is in next(): it shall come to an end, and not hide what the host raised.
            self._post((None, Cancel(f"the host raised {type(error).__name__}")))
            patience_s = 2 * self._settings.loop.grace_s
        with contextlib.suppress(IllegalMoveError), self._steering.driving("close()", patience_s=patience_s):
            self._leave(error)

    def close(self) -> None:
        """End the run: completed, or suspended where an exchange is open. Twice is harmless."""
        with self._alone("close()"):
            self._give_grace()
            self._leave(None)

    suspend = close
    """The same, said by a host that leaves an exchange open on purpose."""

    def next(self) -> Step:
        """Go on until the host is needed; see steps.py. Raises ModelError, ObserverError, IllegalMoveError."""
        with self._alone("next()"), self._working_on():
            while True:
                step = self._advance()
                if step is not None:
                    return step

    def __iter__(self) -> Iterator[Step]:
        """Iterate over the steps up to Finished, or up to an AwaitingInput that brings no input.

        A step that blocks comes again until it is answered; with a pause where nobody answers it, and a Warning.
        """
        while True:
            step = self.next()
            if self._is_idly_repeated(step):
                self._wait_for_answer(step)
                step = self.next()
            yield step
            if isinstance(step, Finished):
                return
            if isinstance(step, AwaitingInput) and not self._state.input_unanswered:
                return

    def run(self, *content: str | AnyPart | Item) -> RunResult:
        """Submit, drive one exchange to its end and return its result.

        Where a step waits for an answer that `approve=` does not give, the result is `suspended` and names it, once
        the tools that run beside it have ended.
        """
        stale = bool(content) and self._machine.ends  # the new input is for the exchange after that one
        # First of all another thread that tells an event is waited for: it holds the guard, and Ctrl-C ends the wait.
        with self._alone("run()" if content else "next()"):
            if content:
                self.submit(*content)
        with self._guard:  # once, and not for each step: a fiftieth of what a turn costs
            while True:
                step = self.next()
                if isinstance(step, Finished) and not stale:
                    return step.result
                if isinstance(step, BLOCKING):
                    if not self._goes_on_beside():
                        return self._suspended()
                    self._wait_for_answer()
                if isinstance(step, AwaitingInput):
                    break
                stale = stale and not isinstance(step, Finished)
        # Behind the guard, so that a Ctrl-C that it held back comes before.
        raise IllegalMoveError("run", "no input is unanswered", "give it a prompt")

    def advance(self) -> Step | None:
        """Do one thing and return; for a host that wants the events as they come (`Agent.stream`)."""
        self._pausing = True
        try:
            with self._alone("next()"), self._working_on():
                return self._advance()
        finally:
            self._pausing = False

    def _wait_for_answer(self, shown: Step | None = None) -> None:
        """Wait until something comes, from the host, a tool or another thread, or a tool's time is over.

        shown: a step that the host was shown and did not answer, of which it is told; then this is only a pause.
        """
        with self._alone("next()"), self._working_on():
            if shown is None:
                self._wait_for_signal(self._until)
                return
            self._note_unanswered(shown)
            self._wait_for_signal(self._clock.monotonic() + PAUSE_S)

    def _give_grace(self) -> None:
        """Let the bodies that run go on for a moment; what they bring is told. Ctrl-C meanwhile ends the run."""
        taking, self._taking = self._taking, True  # a signal handler's wishes are posted
        try:
            self._let_children_go()
            until = self._clock.monotonic() + self._settings.loop.grace_s
            while self._is_waiting_for_bodies(until):
                self._wait_for_signal(until)
        except BaseException as error:
            if not self.is_closed:
                self._break(error)
            raise
        finally:
            self._taking = taking

    @contextlib.contextmanager
    def _alone(self, move: str) -> Iterator[None]:
        """Be the one that drives; refused from inside an observer or `approve=`, and while another thread drives."""
        with self._steering.driving(move):
            self._refuse_reentry(move)
            if self._working:
                raise IllegalMoveError(move, "this thread drives already", "answer, or return, first")
            yield

    @contextlib.contextmanager
    def _working_on(self) -> Iterator[None]:
        if self.is_closed:
            raise IllegalMoveError("next()", "the run is closed", "start a new run")
        with self._guard:
            self._working = True
            try:
                yield
            except BaseException as error:
                if not self.is_closed:
                    self._break(error)
                raise
            finally:
                self._working = False

    def _advance(self) -> Step | None:
        """Do one thing: read the stream, tell an event, or wait; return a step for the host, if any."""
        if not self._prepared:
            self._prepared = True
            if self._has_to_prepare:
                self._prepare()
        self._take_waiting()
        self._guard.check()
        move = self._machine.decide(self._clock.monotonic())
        match move:
            case AgentEvent():
                self._do(move)
                if self._state.request is None:
                    self._close_stream()
            case Stream():
                self._read()
            case Wait(until):
                self._until = until
                child = self._child_step()
                if child is not None:
                    return self._asked_approver(child)
                self._wait_for_signal(until)
            case Ask(call_id, until):
                self._until = until
                return self._asked_approver(self._request_step(self._state.calls[call_id]))
            case GiveUp(failure):
                raise self._model_error(failure)
            case Ended():
                raise IllegalMoveError("next()", "the run is closed", "start a new run")
            case Yield():
                return self._step(move)
        return None

    def _asked_approver(self, step: ApprovalRequest | AuthRequest) -> Step | None:
        """Ask `approve=` once about a call; return its step for the host where that leaves it open."""
        approve = self._settings.approve
        if approve is None or not isinstance(step, ApprovalRequest) or not self._is_new(step):
            return step
        guard = self._guard
        guard.waiting = True  # who is asked may wait for a person, and nothing is told meanwhile
        try:
            guard.check()
            answer: Any = approve(step)
            if inspect.isawaitable(answer):
                answer = settled(answer)
        except Exception as error:
            guard.waiting = False
            self._leave_open(step, error)
            raise
        finally:
            guard.waiting = False
        self._take_waiting()  # a cancel that came while somebody was asked comes before the answer
        if self._machine.takes_answers:
            try:
                self._answer_step(step, answer)
            except HostError as error:
                self._leave_open(step, error)
                raise
        return None

    def _leave_open(self, step: ApprovalRequest, error: Exception) -> None:
        """Suspend the run, because nobody could be asked: the error goes to the host, and the question stays."""
        self._note_unasked(step, error)
        self._give_grace()
        self._leave(None)

    def _take_waiting(self) -> bool:
        count = self._inbox.qsize()  # no more than is there: others may post as fast as this is told
        for _ in range(count):
            self._take_posted(self._inbox.get_nowait())
        return count > 0

    def _wait_for_signal(self, until: float | None) -> None:
        seconds = None if until is None else max(0.0, until - self._clock.monotonic())
        guard = self._guard
        guard.waiting = True
        try:
            guard.check()
            entry = self._clock.wait(self._inbox, seconds, busy=bool(self._contexts))
        finally:
            guard.waiting = False
        if entry is not None:
            self._take_posted(entry)

    def _open_stream(self, model: Model) -> None:
        request = self._machine.requests.model_request()
        interrupt = getattr(model, "interrupt", None)
        self._cut = None if interrupt is None else functools.partial(interrupt, request)
        try:
            self._stream = iter(model.stream(request))
        except Exception as error:  # noqa: BLE001 - whatever a model raises is its failure
            self._take(fault_of(error))

    def _start_body(self, tool: Tool[..., Any], context: ToolContext, arguments: dict[str, JSON]) -> None:
        self._run_on_thread(tool, context, arguments)

    def _read(self) -> None:
        """Take signals of the stream until it ends or something else is to be done."""
        stream, guard = self._stream, self._guard
        request, previews = self._state.request, self._machine.previews
        if stream is None or request is None:
            self._take(checked_signal(None))
            return
        tell_delta, inbox_is_empty = self._emitter.tell_delta, self._inbox.empty
        while True:
            for signal in self._came:
                if signal.__class__ is Appends:
                    if not self._told_together(signal, request.id):
                        self._came = itertools.chain(signal, self._came)
                        return
                elif (
                    signal.__class__ is AppendText
                    and signal.chunk.__class__ is str
                    and (signal.chunk.isascii() or clean_text(signal.chunk) == signal.chunk)
                    and signal.part_id in previews
                ):
                    previews[signal.part_id].append(signal.chunk)
                    tell_delta(request.id, signal)
                else:
                    self._take(checked_signal(signal))
                    if self._state.request is None:
                        self._close_stream()
                        return
                if self._pausing or guard.pending or not inbox_is_empty():
                    return
            guard.waiting = True
            try:
                guard.check()
                came: Any = next(stream, None)
            except Exception as error:  # noqa: BLE001 - whatever a model raises is its failure
                came = fault_of(error)
            guard.waiting = False
            self._came = self._came_of(came)
            if not inbox_is_empty():
                return  # a cancel comes before what it cut, and so does the end of the run's time

    def _close_stream(self) -> None:
        stream, self._stream, self._came, self._cut = self._stream, None, iter(()), None
        close: Callable[[], None] | None = getattr(stream, "close", None)
        if close is not None:
            with contextlib.suppress(Exception):  # what a connection says while it is let go changes nothing
                close()

    def _release(self) -> None:
        self._close_stream()
        self._stop_bodies()

    def _post(self, entry: tuple[Slot | None, Any]) -> None:
        self._inbox.put(entry)
        cut = self._cut
        if isinstance(entry[1], CUTTING) and cut is not None:
            cut()  # who waits for the model would not look here
