"""One call of a tool in a loop that somebody else wrote."""

from __future__ import annotations

import contextlib
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentkit_loop.clock import Clock
from agentkit_loop.closing import INTERRUPTED
from agentkit_loop.content import ToolCallPart, ToolResultPart
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import (
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.open_calls import Call
from agentkit_loop.scope_records import AsJson, arguments_of, duration_of, error_of
from agentkit_loop.sdk_values import call_of
from agentkit_loop.streaming import since
from agentkit_loop.tool_context import RunningCall, TracedCall, running
from agentkit_loop.usage import ErrorInfo
from agentkit_loop.values import JSON, clean_text, to_json

if TYPE_CHECKING:
    from agentkit_loop.scopes import RunScope


CONVERTED = (ToolCallRequested, ToolExecutionStarted, ToolResultReceived)
"""Events whose values are JSON when they are told: converted twice they would be others (`$`)."""

NOT_TOLD = "The call has no result: nobody told one."
"""What is told of a call of which the loop goes on without a word."""

NOT_RUN = "The call was not started: the model's answer ended early."
"""What is told of the calls of an answer that was cut, none of which may run."""


class ToolCallScope:
    """One call; made by `RunScope.tool_call`.

    Tells ToolExecutionStarted as it is entered, and one ToolResultReceived: with `result`, or as it is left, by what
    left it. An exception is the result's error, and goes on to the host. Where the run, a cancel or the next turn has
    ended the call in the meantime, what is said of it later changes nothing.
    """

    def __init__(self, run: RunScope, call: object, arguments: object) -> None:
        self._run = run
        self._given = call
        self._arguments: dict[str, JSON] | None = None if arguments is None else arguments_of(arguments)
        self._call: Call | None = None
        self._has_result = False  # by the host
        self._running: Token[RunningCall | None] | None = None
        self._started: float | None = 0.0
        self._took_ms: float | None = None  # where somebody else measured it

    def __enter__(self) -> Self:
        run = self._run
        with run.told_together():
            call = self._call = self._asked_for() or self._of_host()
            edited: Any = None if call.is_own or self._arguments == call.part.input else self._arguments
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
        self._running = running.set(
            TracedCall.within(run.metadata, run.session_id, run.run_id, call.part.id, call.part.name)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave_context()
        with self._run.told_together():
            if self._has_result or not self._is_open:
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
        token, self._running = self._running, None
        with contextlib.suppress(ValueError):  # left in another context than it was entered in
            if token is not None:
                running.reset(token)

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
        """Return the open call of the answer that is meant; None where no model asked, or it has started already."""
        if isinstance(self._given, str):
            return None
        wire_id, _, _ = call_of(self._given)
        call = self._run.state.asked_call(wire_id)
        return None if call is None or call.is_running else call

    def _of_host(self) -> Call:
        """Tell a call that no model asked for, or that it asked for and that runs once more: a result it has once."""
        given = self._given
        name, arguments = (clean_text(given), None) if isinstance(given, str) else call_of(given)[1:]
        told = arguments if self._arguments is None else self._arguments
        part = ToolCallPart(id=self._run.state.next_own_call, name=name, input=told or {})
        self._run.tell(ToolCallRequested(request_id="", call=part))
        return self._run.state.find_call(part.id) or Call(part, "")  # the run has ended, and nothing was told

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
        if call is None or self._has_result:
            raise IllegalMoveError("result", "closed", "one call has one result, inside its `with`")
        self._has_result = True
        if call.answered:
            return
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


# --- the calls of an answer that no scope tells


def request_calls(run: RunScope) -> None:
    """Tell the calls of the answer that were not told."""
    for call in list(run.state.calls.values()):
        if not call.requested:
            run.tell(ToolCallRequested(request_id=call.request_id, call=call.part))


def tell_sent_result(run: RunScope, wire_id: str, output: object, *, is_error: bool) -> None:
    """Tell the result of a call that a request sends, and that nobody told; its tool may go on by itself."""
    call = run.state.asked_call(wire_id)
    if call is not None and call.is_running:
        _answer(run, call, to_json(output), is_error=is_error)
    elif call is not None:
        with ToolCallScope(run, call.part, None) as body:
            body.note_unmeasured()
            body.result(output, is_error=is_error)
    else:
        _compare(run, wire_id, output)


def _compare(run: RunScope, wire_id: str, output: object) -> None:
    """Warn where the model is sent another text than was told as the result: the log says what it was not shown."""
    told = _told_result(run, wire_id)
    if (
        told is not None
        and isinstance(told.output, str)
        and isinstance(output, str)
        and told.output != output
    ):
        text = f"the result that is sent for call {told.call_id} is another than was told"
        advice = "give body.result() what is sent; with error= it may differ from the exception's text"
        run.tell(
            Warning(code="result_differs", message=f"{text}; {advice}", details={"call_id": told.call_id})
        )


def _told_result(run: RunScope, wire_id: str) -> ToolResultPart | None:
    """Return the result of a call of the last answer, None where that was no such call."""
    ids = {call.part.id for call in run.state.calls.values() if wire_id in (call.part.id, call.part.wire_id)}
    for item in reversed(run.state.transcript.items):
        for part in item.parts:
            if isinstance(part, ToolResultPart) and part.call_id in ids:
                return part
        if item.kind == "assistant":
            break
    return None


def answer_unrun(run: RunScope, why: str) -> None:
    """Tell of each open call of the answer that the loop goes on without its result."""
    for call in run.state.open_calls:
        if not call.is_own:
            _answer(run, call, why, is_error=True)


def _answer(run: RunScope, call: Call, output: JSON, *, is_error: bool) -> None:
    run.tell(
        ToolResultReceived(
            call_id=call.part.id,
            name=call.part.name,
            output=output,
            is_error=is_error,
            not_started=not call.is_running,
        )
    )
