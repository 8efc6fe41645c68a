"""The asynchronous driver: the same machine and the same events, on an event loop.

Async tools run as tasks, others on daemon threads. A cancelled task closes everything, tells the run as
cancelled, and lets the cancellation through.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeAlias

from agentkit_loop.aside import Outcome, answer_of, elsewhere
from agentkit_loop.content import AnyPart, AppendText, Item
from agentkit_loop.driver_settings import DriverSettings, Resumed
from agentkit_loop.errors import HostError, IllegalMoveError, ObserverError
from agentkit_loop.events import AgentEvent
from agentkit_loop.execution import arun_body
from agentkit_loop.intake import Appends, checked_signal, fault_of
from agentkit_loop.models.protocol import Model, ModelSignal
from agentkit_loop.moves import Ask, Ended, GiveUp, Stream, Wait, Yield
from agentkit_loop.observers import Slot
from agentkit_loop.shell import BLOCKING, PAUSE_S, DriverBase
from agentkit_loop.signals import CUTTING
from agentkit_loop.steps import ApprovalRequest, AuthRequest, AwaitingInput, Finished, RunResult, Step, key_of
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool
from agentkit_loop.values import JSON, clean_text

BODY_GRACE_S = 1.0
"""How long the end of a run waits for cancelled async bodies."""

_Deciding: TypeAlias = tuple[ApprovalRequest, asyncio.Task[Outcome]]


class AsyncLoopDriver(DriverBase):
    """Drives a session on the running event loop; made by `agent.astart()`.

    Use it as an async context manager: leaving it closes the run.
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
        self._loop = asyncio.get_running_loop()
        self._inbox: collections.deque[tuple[Slot | None, Any]] = collections.deque()
        self._changed = asyncio.Event()
        super().__init__(settings, session_id=session_id, items=items, tap=tap, resumed=resumed)
        self._stream: AsyncIterator[ModelSignal | list[ModelSignal]] | None = None
        self._came: Iterator[Any] = iter(())  # what came together and was not judged yet
        self._deciding: dict[tuple[str, str], _Deciding] = {}  # what `approve=` was asked, by session and id
        self._cancelled: set[asyncio.Task[Any]] = set()  # bodies that may still be ending
        self._tasks: dict[str, asyncio.Task[None]] = {}  # async bodies that run, by call id
        self._until: float | None = None  # when something happens by itself while a step waits for its answer
        self._reading: asyncio.Task[Any] | None = None  # who waits for the model right now
        self._cut = False  # a cancel came meanwhile, and not from outside
        self._driving: asyncio.Task[Any] | None = None  # who is in next()
        self._broken_by: BaseException | None = None  # what the host raised while a task of its drove
        self._driven = asyncio.Event()  # nobody is
        self._leaving = asyncio.Lock()
        self._start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._driving is not None:
            await self._stop_driving(error)
        self._refuse_closing()
        await self._aleave(error)

    async def close(self) -> None:
        """End the run: completed, or suspended where an exchange is open. Twice is harmless."""
        self._refuse_closing()
        await self._aleave(None)

    suspend = close
    """The same, said by a host that leaves an exchange open on purpose."""

    async def next(self) -> Step:
        """Go on until the host is needed; see steps.py. Raises ModelError, ObserverError, IllegalMoveError."""
        while True:
            step = await self._work(self._advance)
            if step is not None:
                return step

    async def advance(self) -> Step | None:
        """Do one thing and return; for a host that wants the events as they come (`Agent.astream`)."""
        self._pausing = True
        try:
            return await self._work(self._advance)
        finally:
            self._pausing = False

    async def __aiter__(self) -> AsyncIterator[Step]:
        """Iterate over the steps up to Finished, or up to an AwaitingInput that brings no input.

        A step that blocks comes again until it is answered; with a pause where nobody answers it, and a Warning.
        """
        while True:
            step = await self.next()
            if self._is_idly_repeated(step):
                await self._wait_for_answer(step)
                step = await self.next()
            yield step
            if isinstance(step, Finished):
                return
            if isinstance(step, AwaitingInput) and not self._state.input_unanswered:
                return

    async def run(self, *content: str | AnyPart | Item) -> RunResult:
        """Submit, drive one exchange to its end and return its result.

        Where a step waits for an answer that `approve=` does not give, the result is `suspended` and names it, once
        the tools that run beside it have ended.
        """
        stale = bool(content) and self._machine.ends  # the new input is for the exchange after that one
        if content:
            self.submit(*content)
        while True:
            step = await self.next()
            if isinstance(step, Finished) and not stale:
                return step.result
            if isinstance(step, BLOCKING):
                if not self._goes_on_beside():
                    return self._suspended()
                await self._wait_for_answer()
            if isinstance(step, AwaitingInput):
                raise IllegalMoveError("run", "no input is unanswered", "give it a prompt")
            stale = stale and not isinstance(step, Finished)

    async def _wait_for_answer(self, shown: Step | None = None) -> None:
        """Wait until something comes, from the host, a tool or another thread, or a tool's time is over.

        shown: a step that the host was shown and did not answer, of which it is told; then this is only a pause.
        """

        async def wait() -> None:
            until = self._until
            if shown is not None:
                self._note_unanswered(shown)
                until = self._clock.monotonic() + PAUSE_S
            await self._wait_for_change(until)

        await self._work(wait)

    async def _work(self, act: Callable[[], Coroutine[Any, Any, Step | None]]) -> Step | None:
        self._refuse_reentry()
        if self.is_closed:
            raise IllegalMoveError("next()", "the run is closed", "start a new run")
        if self._working:
            raise IllegalMoveError("next()", "another task drives this session", "await that one first")
        if self._leaving.locked():
            raise IllegalMoveError("next()", "the run is being closed", "start a new run")
        self._working, self._driving = True, asyncio.current_task()
        self._driven.clear()
        try:
            return await act()
        except BaseException as error:
            await self._aleave(self._broken_by or error)
            raise
        finally:
            self._working, self._driving = False, None
            self._driven.set()

    async def _stop_driving(self, error: BaseException) -> None:
        """End a task of the host's that is in `next()`: the host has raised meanwhile, and that ends the run."""
        task, self._broken_by = self._driving, error
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await self._driven.wait()

    async def _aleave(self, error: BaseException | None) -> None:
        """End the run; who comes while it ends waits for that."""
        async with self._leaving:
            if error is None and not self.is_closed:
                try:
                    await self._give_grace()
                except BaseException as caught:
                    await self._end_run(caught)
                    raise
            await self._end_run(error)

    async def _end_run(self, error: BaseException | None) -> None:
        """Close what is open; what is waited for is off the event loop, and a cancellation meanwhile comes after."""
        cancelled: asyncio.CancelledError | None = None
        if not self.is_closed:
            self._end(error)
            with contextlib.suppress(*(() if error is None else (ObserverError,))):
                for work in self._closing():
                    done = self._elsewhere(work)
                    while not done.done():  # each piece of work is bounded by itself
                        try:
                            await asyncio.shield(done)
                        except asyncio.CancelledError as caught:
                            cancelled = caught
        await self._let_go()
        if cancelled is not None and error is None:
            raise cancelled

    async def _give_grace(self) -> None:
        """Let the bodies that run go on for a moment; what they bring is told."""
        taking, self._taking = self._taking, True  # wishes that come meanwhile are posted
        try:
            self._let_children_go()
            until = self._clock.monotonic() + self._settings.loop.grace_s
            while self._is_waiting_for_bodies(until):
                await self._wait_for_change(until)
                self._take_waiting()
        finally:
            self._taking = taking

    async def _wait_for_change(self, until: float | None) -> None:
        seconds = None if until is None else max(0.0, until - self._clock.monotonic())
        self._changed.clear()
        if not self._inbox:
            busy = bool(self._contexts or self._deciding)
            await self._clock.await_change(self._changed, seconds, busy=busy)

    def _refuse_closing(self) -> None:
        self._refuse_reentry("close()")
        if self._working and not self.is_closed:
            raise IllegalMoveError("close()", "another task drives this session", "cancel that task instead")

    def _abandon(self, call_id: str) -> None:
        task = self._tasks.pop(call_id, None)
        if task is not None and not task.done():
            self._end_body(task)

    def _end_body(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
        self._cancelled.add(task)
        task.add_done_callback(self._cancelled.discard)

    async def _advance(self) -> Step | None:
        """Do one thing: read the stream, tell an event, or wait; return a step for the host, if any."""
        if not self._prepared:
            self._prepared = True
            if self._has_to_prepare:
                await self._elsewhere(self._prepare)
        self._take_waiting()  # a cancel that came while somebody was asked comes before the answer
        await self._take_answers()
        move = self._machine.decide(self._clock.monotonic())
        match move:
            case AgentEvent():
                self._do(move)
                if self._stream is not None and self._state.request is None:
                    await self._let_go()
            case Stream():
                await self._read()
            case Wait(until):
                self._until = until
                child = self._child_step()
                if child is not None:
                    return await self._asked_approver(child)
                await self._wait_for_change(until)
            case Ask(call_id, until):
                self._until = until
                return await self._asked_approver(self._request_step(self._state.calls[call_id]))
            case GiveUp(failure):
                raise self._model_error(failure)
            case Ended():
                raise IllegalMoveError("next()", "the run is closed", "start a new run")
            case Yield():
                return self._step(move)
        return None

    async def _asked_approver(self, step: ApprovalRequest | AuthRequest) -> Step | None:
        """Ask `approve=` once about a call; return its step for the host where that leaves it open.

        One that is not async may wait for a person: it runs on a thread, and the event loop goes on.
        """
        approve = self._settings.approve
        if isinstance(step, ApprovalRequest) and key_of(step) in self._deciding:
            await self._wait_for_change(self._until)
            return None
        if approve is None or not isinstance(step, ApprovalRequest) or not self._is_new(step):
            return step
        deciding = self._loop.create_task(answer_of(approve, step, self._elsewhere), name="approve")
        deciding.add_done_callback(lambda _: self._changed.set())
        self._deciding[key_of(step)] = step, deciding
        return None

    def _elsewhere(self, work: Callable[[], object]) -> asyncio.Future[Outcome]:
        return elsewhere(self._loop, self._threads, work)

    async def _take_answers(self) -> None:
        """Give the steps that `approve=` was asked about its answers; raises what it raised."""
        for key, (step, deciding) in list(self._deciding.items()):
            if not deciding.done():
                continue
            del self._deciding[key]
            answer, error = deciding.result()
            if error is None and self._machine.takes_answers:
                try:
                    self._answer_step(step, answer)
                except HostError as wrong:
                    error = wrong
            if isinstance(error, Exception):
                self._note_unasked(step, error)
                await self._aleave(None)
            if error is not None:
                raise error

    def _open_stream(self, model: Model) -> None:
        try:
            self._stream = aiter(model.astream(self._machine.requests.model_request()))
        except Exception as error:  # noqa: BLE001 - whatever a model raises is its failure
            self._take(fault_of(error))

    def _start_body(self, tool: Tool[..., Any], context: ToolContext, arguments: dict[str, JSON]) -> None:
        if not tool.is_async:
            self._run_on_thread(tool, context, arguments)
            return

        async def body() -> None:
            self._post((None, await arun_body(tool, context, arguments, self._clock)))

        self._tasks[context.call_id] = self._loop.create_task(body(), name=f"tool-{tool.name}")

    def _stop_bodies(self) -> None:
        super()._stop_bodies()
        for task in self._tasks.values():
            self._loop.call_soon(task.cancel)  # not before its first step, or it would never report its end
        self._stop_asking()

    def _stop_asking(self) -> None:
        """Let go of the questions to `approve=`: what it answers from now on changes nothing."""
        for _, deciding in self._deciding.values():
            self._end_body(deciding)
        self._deciding = {}

    async def _read(self) -> None:
        """Take signals of the stream until it ends or something else is to be done."""
        stream, request, previews = self._stream, self._state.request, self._machine.previews
        if stream is None or request is None:
            self._take(checked_signal(None))
            return
        tell_delta, inbox, following = self._emitter.tell_delta, self._inbox, stream.__anext__
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
                        await self._let_go()
                        return
                if self._pausing or inbox:
                    return
            came: Any
            self._reading = asyncio.current_task()
            try:
                came = await following()
            except StopAsyncIteration:
                came = None
            except Exception as error:  # noqa: BLE001 - whatever a model raises is its failure
                came = fault_of(error)
            except asyncio.CancelledError:
                if not self._was_cut():
                    raise
                return
            finally:
                self._reading = None
            self._came = self._came_of(came)
            if inbox:
                return  # a cancel comes before what it cut, and so does the end of the run's time

    def _was_cut(self) -> bool:
        """Whether the wait for the model was ended by our own cancel alone, and not from outside as well."""
        cut, self._cut = self._cut, False
        task = asyncio.current_task()
        return cut and task is not None and task.uncancel() == 0

    async def _let_go(self) -> None:
        """Close the stream, and give cancelled bodies the chance to end."""
        stream, self._stream, self._came = self._stream, None, iter(())
        close = getattr(stream, "aclose", None)
        if close is not None:
            with contextlib.suppress(Exception):  # what a connection says while it is let go changes nothing
                await close()
        if self._cancelled:
            await asyncio.wait(self._cancelled, timeout=BODY_GRACE_S)

    def _take_waiting(self) -> bool:
        count = len(self._inbox)  # no more than is there: others may post as fast as this is told
        for _ in range(count):
            self._take_posted(self._inbox.popleft())
        return count > 0

    def _release(self) -> None:
        super()._stop_bodies()
        for task in self._tasks.values():
            if not task.done():
                self._end_body(task)
        self._stop_asking()

    def _post(self, entry: tuple[Slot | None, Any]) -> None:
        self._inbox.append(entry)
        if isinstance(entry[1], CUTTING):
            with contextlib.suppress(RuntimeError):  # as below
                self._loop.call_soon_threadsafe(self._cut_reading)
        with contextlib.suppress(RuntimeError):  # the loop is closed: a late answer changes nothing
            self._loop.call_soon_threadsafe(self._changed.set)

    def _cut_reading(self) -> None:
        """Let the task that waits for the model look around, where a cancel that is posted closes that."""
        task = self._reading
        if (
            task is not None
            and not self._cut
            and any(isinstance(signal, CUTTING) for _, signal in self._inbox)
        ):
            self._cut = True
            task.cancel()
