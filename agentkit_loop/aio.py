"""The asynchronous driver: the same machine and the same events, on an event loop.

Async tools run as tasks, others on daemon threads. A cancelled task closes everything, tells the run as
cancelled, and lets the cancellation through.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from agentkit_loop.content import AnyPart, AppendText, Item
from agentkit_loop.errors import IllegalMoveError, ObserverError
from agentkit_loop.events import AgentEvent, ModelRequestStarted, ToolExecutionStarted
from agentkit_loop.execution import arun_body
from agentkit_loop.intake import checked_signal, fault_of
from agentkit_loop.models.protocol import ModelSignal
from agentkit_loop.moves import Ended, GiveUp, Stream, Wait, Yield
from agentkit_loop.observers import Slot
from agentkit_loop.shell import GRACE_S, DriverBase, DriverSettings
from agentkit_loop.steps import AwaitingInput, Finished, RunResult, Step
from agentkit_loop.values import clean_text

BODY_GRACE_S = 1.0
"""How long the end of a run waits for cancelled async bodies."""


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
    ) -> None:
        super().__init__(settings, session_id=session_id, items=items, tap=tap)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._inbox: collections.deque[tuple[Slot | None, Any]] = collections.deque()
        self._changed = asyncio.Event()
        self._stream: AsyncIterator[ModelSignal | list[ModelSignal]] | None = None
        self._came: Iterator[Any] = iter(())  # what came together and was not judged yet
        self._cancelled: set[asyncio.Task[None]] = set()  # bodies that may still be ending
        self._tasks: dict[str, asyncio.Task[None]] = {}  # async bodies that run, by call id
        self._pausing = False
        self._start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            step = await self._work(pausing=False)
            if step is not None:
                return step

    async def advance(self) -> Step | None:
        """Do one thing and return; for a host that wants the events as they come (`Agent.astream`)."""
        return await self._work(pausing=True)

    async def __aiter__(self) -> AsyncIterator[Step]:
        """Iterate over the steps up to Finished, or up to an AwaitingInput that brings no input."""
        while True:
            step = await self.next()
            yield step
            if isinstance(step, Finished):
                return
            if isinstance(step, AwaitingInput) and not self._state.input_unanswered:
                return

    async def run(self, *content: str | AnyPart | Item) -> RunResult:
        """Submit, drive one exchange to its end and return its result."""
        if content:
            self.submit(*content)
        while True:
            step = await self.next()
            if isinstance(step, Finished):
                return step.result
            if isinstance(step, AwaitingInput):
                raise IllegalMoveError("run", "no input is unanswered", "give it a prompt")

    async def _work(self, *, pausing: bool) -> Step | None:
        self._refuse_reentry()
        if self.is_closed:
            raise IllegalMoveError("next()", "the run is closed", "start a new run")
        if self._working:
            raise IllegalMoveError("next()", "another task drives this session", "await that one first")
        self._working, self._pausing = True, pausing
        try:
            return await self._advance()
        except BaseException as error:
            await self._aleave(error)
            raise
        finally:
            self._working = False

    async def _aleave(self, error: BaseException | None) -> None:
        """End the run; the observers' flushes are waited for off the event loop, unless cancelled again."""
        cancelled: asyncio.CancelledError | None = None
        if error is None:
            await self._give_grace()
        if not self.is_closed:
            self._end(error)
            with contextlib.suppress(*(() if error is None else (ObserverError,))):
                for _ in self._closing():
                    flushed = self._loop.run_in_executor(None, self._emitter.flush)
                    while not flushed.done():  # it is bounded; whoever cancels meanwhile is told afterwards
                        try:
                            await asyncio.shield(flushed)
                        except asyncio.CancelledError as caught:
                            cancelled = caught
        await self._let_go()
        if cancelled is not None and error is None:
            raise cancelled

    async def _give_grace(self) -> None:
        """Let the bodies that run go on for a moment; what they bring is told."""
        until = self._clock.monotonic() + GRACE_S
        while self._is_waiting_for_bodies(until):
            await self._wait_for_change(until)
            self._take_waiting()

    async def _wait_for_change(self, until: float | None) -> None:
        seconds = None if until is None else max(0.0, until - self._clock.monotonic())
        self._changed.clear()
        if not self._inbox:
            await self._clock.await_change(self._changed, seconds, busy=bool(self._contexts))

    def _refuse_closing(self) -> None:
        self._refuse_reentry("close()")
        if self._working and not self.is_closed:
            raise IllegalMoveError("close()", "another task drives this session", "cancel that task instead")

    def _drives(self) -> bool:
        return threading.get_ident() == self._thread

    def _abandon(self, call_id: str) -> None:
        task = self._tasks.pop(call_id, None)
        if task is not None and not task.done():
            self._end_body(task)

    def _end_body(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._cancelled.add(task)
        task.add_done_callback(self._cancelled.discard)

    async def _advance(self) -> Step | None:
        """Do one thing: read the stream, tell an event, or wait; return a step for the host, if any."""
        if not self._prepared:
            self._prepared = True
            if self._has_to_prepare:
                await asyncio.to_thread(self._prepare)
        self._take_waiting()
        move = self._machine.decide(self._clock.monotonic())
        match move:
            case AgentEvent():
                self._do(move)
            case Stream():
                await self._read()
            case Wait(until):
                await self._wait_for_change(until)
            case GiveUp(failure):
                raise self._model_error(failure)
            case Ended():
                raise IllegalMoveError("next()", "the run is closed", "start a new run")
            case Yield():
                return self._step(move)
        return None

    def _perform(self, event: AgentEvent) -> None:
        if isinstance(event, ModelRequestStarted):
            try:
                self._stream = aiter(self._settings.model.astream(self._machine.model_request()))
            except Exception as error:  # noqa: BLE001 - whatever a model raises is its failure
                self._take(fault_of(error))
        elif isinstance(event, ToolExecutionStarted):
            self._start_body(event.call_id)

    def _start_body(self, call_id: str) -> None:
        call = self._state.calls[call_id]
        tool = self._settings.loop.tools[call.part.name]
        context = self._context(call_id)
        if tool.is_async:

            async def awaited() -> None:
                self._post((None, await arun_body(tool, context, call.part.input, self._clock)))

            self._tasks[call_id] = self._loop.create_task(awaited(), name=f"tool-{tool.name}")
            return

        self._run_on_thread(tool, context, call.part.input)

    async def _read(self) -> None:
        """Take signals of the stream until it ends or something else is to be done."""
        stream, request, previews = self._stream, self._state.request, self._machine.previews
        if stream is None or request is None:
            self._take(checked_signal(None))
            return
        tell_delta, inbox, following = self._emitter.tell_delta, self._inbox, stream.__anext__
        while True:
            for signal in self._came:
                if (
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
            try:
                came = await following()
            except StopAsyncIteration:
                came = None
            except Exception as error:  # noqa: BLE001 - whatever a model raises is its failure
                came = fault_of(error)
            self._came = iter(came if came.__class__ is list else (came,))

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
        found = bool(self._inbox)
        while self._inbox:
            self._take_posted(self._inbox.popleft())
        return found

    def _release(self) -> None:
        for context in self._contexts.values():
            context.cancel()
        for task in self._tasks.values():
            if not task.done():
                self._end_body(task)

    def _post(self, entry: tuple[Slot | None, Any]) -> None:
        self._inbox.append(entry)
        with contextlib.suppress(RuntimeError):  # the loop is closed: a late answer changes nothing
            self._loop.call_soon_threadsafe(self._changed.set)
