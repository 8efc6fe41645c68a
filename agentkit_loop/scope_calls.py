"""One call of a tool in a loop that somebody else wrote."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentkit_loop.clock import Clock
from agentkit_loop.closing import INTERRUPTED
from agentkit_loop.content import ToolCallPart
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.open_calls import Call
from agentkit_loop.scope_records import AsJson, arguments_of, duration_of, error_of
from agentkit_loop.sdk_values import call_of
from agentkit_loop.streaming import since
from agentkit_loop.tool_context import RunningCall, running
from agentkit_loop.usage import ErrorInfo
from agentkit_loop.values import JSON, clean_text, to_json

if TYPE_CHECKING:
    from agentkit_loop.scopes import RunScope


_current: ContextVar[Call | None] = ContextVar("agentkit_tool_call", default=None)


def current_call() -> ToolCallPart | None:
    """Return the call whose `with` the caller is in; None outside of any. Threads see it in a copied context."""
    call = _current.get()
    return None if call is None or call.answered else call.part


class ToolCallScope:
    """One call; made by `RunScope.tool_call`.

    Tells ToolExecutionStarted as it is entered, and one ToolResultReceived: with `result`, or as it is left, by what
    left it. An exception is the result's error, and goes on to the host.
    """

    def __init__(self, run: RunScope, call: object, arguments: object) -> None:
        self._run = run
        self._given = call
        self._arguments: dict[str, JSON] | None = None if arguments is None else arguments_of(arguments)
        self._call: Call | None = None
        self._token: Token[Call | None] | None = None
        self._running: Token[RunningCall | None] | None = None
        self._started: float | None = 0.0
        self._took_ms: float | None = None  # where somebody else measured it

    def __enter__(self) -> Self:
        run = self._run
        with run.told_together():
            call = self._call = self._asked_for() or self._of_host()
            edited: Any = None if self._arguments == call.part.input else self._arguments
            self._started = run.emitter.clock.monotonic()
            run.tell(
                ToolExecutionStarted(
                    call_id=call.part.id,
                    name=call.part.name,
                    attempt=call.attempts + 1,
                    edited=edited is not None,
                    input=edited,
                )
            )
        self._token = _current.set(call)
        self._running = running.set(RunningCall(run.session_id, run.run_id, call.part.id, call.part.name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave_context()
        with self._run.told_together():
            if not self._is_open:
                return
            if error is None:
                self.result(None)
            else:
                self._failed(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def leave_context(self) -> None:
        """Let the caller be outside of the call again; what is told of it may come later."""
        token, self._token = self._token, None
        running_token, self._running = self._running, None
        with contextlib.suppress(ValueError):  # left in another context than it was entered in
            if token is not None:
                _current.reset(token)
            if running_token is not None:
                running.reset(running_token)

    @property
    def place(self) -> tuple[str, str, str]:
        """The ids of its session, run and call."""
        return (self._run.session_id, self._run.run_id, self.call_id)

    @property
    def clock(self) -> Clock:
        """The clock by which it is measured."""
        return self._run.emitter.clock

    @property
    def call_id(self) -> str:
        """The call's id in the events."""
        return "" if self._call is None else self._call.part.id

    def result(
        self,
        output: object,
        *,
        is_error: bool = False,
        interrupted: bool = False,
        error: BaseException | ErrorInfo | str | None = None,
        duration_ms: float | None = None,
    ) -> JSON:
        """Tell what the model is shown of it; return that, as JSON.

        error: what went wrong; then it is an error, also where the text is empty, and without an output the model is
        shown that text. interrupted: it did not come to its end. duration_ms: how long it took, where that is not
        since the `with`.
        """
        info = error_of(error)
        given = output if output is not None or info is None else info.message
        told = given.value if isinstance(given, AsJson) else to_json(given)
        with self._run.told_together():
            self._took_ms = duration_of(duration_ms)
            self._tell(told, is_error=is_error or info is not None, error=info, interrupted=interrupted)
        return told

    def note_unmeasured(self) -> None:
        """Take note that nobody measured how long it takes."""
        self._started = None

    def progress(self, message: str, fraction: float | None = None) -> None:
        """Tell how far it is. fraction: from 0 to 1."""
        with self._run.told_together():
            if self._is_open:
                self._run.tell(
                    ToolExecutionProgress(call_id=self.call_id, message=message, fraction=fraction)
                )

    # --- telling

    def _asked_for(self) -> Call | None:
        """Return the call of the open round that is meant; None where no model asked."""
        if isinstance(self._given, str):
            return None
        wire_id, _, _ = call_of(self._given)
        call = self._run.state.asked_call(wire_id)
        if call is not None and call.is_running:
            raise IllegalMoveError("tool_call", "running", f"{wire_id} runs already; it has one result")
        if call is not None:
            return call
        raise ConfigurationError(
            f"call {wire_id!r} refused because no answer asked for it, or it has its result; give a tool_use block of "
            "the last answer, or a tool's name and arguments"
        )

    def _of_host(self) -> Call:
        """Tell a call that no model asked for."""
        name = clean_text(str(self._given))
        given = self._arguments or {}
        part = ToolCallPart(id=self._run.state.next_own_call, name=name, input=given)
        self._run.tell(ToolCallRequested(request_id="", call=part))
        return self._run.state.call(part.id)

    @property
    def _is_open(self) -> bool:
        return self._call is not None and not self._call.answered

    def _failed(self, error: BaseException) -> None:
        info = ErrorInfo.of(error)
        if isinstance(error, Exception):
            text = info.message if info.message == info.type else f"{info.type}: {info.message}"
            self._tell(text, is_error=True, error=info)
        else:
            self._tell(INTERRUPTED, is_error=True, error=info, interrupted=True)

    def _tell(
        self, output: JSON, *, is_error: bool, error: ErrorInfo | None, interrupted: bool = False
    ) -> None:
        call = self._call
        if call is None or call.answered:
            raise IllegalMoveError("result", "closed", "one call has one result, inside its `with`")
        now = self._run.emitter.clock.monotonic()
        self._run.tell(
            ToolResultReceived(
                call_id=call.part.id,
                name=call.part.name,
                output=output,
                is_error=is_error,
                interrupted=interrupted,
                duration_ms=since(self._started, now) if self._took_ms is None else self._took_ms,
                error=error,
            )
        )
