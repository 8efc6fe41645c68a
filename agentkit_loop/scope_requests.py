"""One request to the model in a loop that somebody else wrote: its answer as the SDK gives it, told as events."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Container, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart
from agentkit_loop.errors import IllegalMoveError, ModelRequestError
from agentkit_loop.events import ModelRequestRetrying, ModelRequestStarted
from agentkit_loop.intake import fault_of
from agentkit_loop.models.anthropic_failures import request_error
from agentkit_loop.models.anthropic_stream import AnswerReader
from agentkit_loop.models.current_request import CurrentRequest, Within
from agentkit_loop.models.protocol import Answer, ModelSignal, UsageReport, prepare_once
from agentkit_loop.pricing import cost_or_why
from agentkit_loop.scope_records import cost_of, duration_of, error_of, finish_reason_of, usage_of
from agentkit_loop.sdk_values import answer_events, piece_of, stream_event
from agentkit_loop.signals import Answered, RequestFault, UsageReported
from agentkit_loop.streaming import since
from agentkit_loop.usage import Cost, ErrorInfo, Usage

if TYPE_CHECKING:
    from agentkit_loop.scopes import RunScope

E = TypeVar("E")

NO_ANSWER = "no answer was recorded; give it to call.record(response), or read it through call.stream(…)"


class ModelCallScope:
    """One request; made by `RunScope.model_call`.

    Tells ModelRequestStarted as it is entered, and one end: with the answer, or as it is left, by what left it. Where
    the run or a cancel has ended it in the meantime, what comes of it later changes nothing. A stream read once more
    inside is another attempt.
    Retries that the SDK makes by itself are not seen here: `max_retries=0` and a call for each attempt tell them.
    """

    def __init__(self, run: RunScope, model: str, messages: list[object] | None) -> None:
        self._run = run
        self._model = model
        self._messages = messages
        self._reader = AnswerReader()
        self._has_begun = False
        self._is_told = False  # how it ended, by the host
        self._parts: set[str] = set()  # that have begun
        self._id = ""
        self._attempt = 1
        self._within: Within | None = None  # what is sent by this thread or task is this request's

    def __enter__(self) -> Self:
        run = self._run
        if not run.is_recording:
            prepare_once(run.prices)
        with run.told_together():
            run.begin_request(self._messages)
            state, failed = run.state, run.state.failure
            attempt, now = 1 if failed is None else failed.attempt + 1, run.emitter.clock.monotonic()
            self._attempt = attempt
            if failed is not None:
                waited = since(run.failed_at, now) or 0.0
                run.tell(
                    ModelRequestRetrying(request_id=failed.request_id, delay_ms=waited, next_attempt=attempt)
                )
            self._id = f"request-{state.requests + 1}"
            run.request.begin(now)
            run.tell(
                ModelRequestStarted(
                    request_id=self._id,
                    attempt=attempt,
                    purpose="turn",
                    model=self._model,
                    message_count=len(state.transcript.items),
                    digests={**run.fixed, "messages": run.chain.of(state.transcript.items)},
                )
            )
        self._be_current()
        return self

    def _be_current(self) -> None:
        self._cease()
        emitter = self._run.emitter
        self._within = Within(
            CurrentRequest(
                request_id=self._id,
                session_id=emitter.session_id,
                run_id=emitter.run_id,
                turn_id=emitter.turn_id,
                attempt=self._attempt,
            ),
            self,
        ).__enter__()

    def _cease(self) -> None:
        within, self._within = self._within, None
        if within is not None:
            within.__exit__(None, None, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cease()
        with self._run.told_together():
            if not self.is_open:
                return
            if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
                self._run.interrupt_request(type(error).__name__)
            elif error is None and self._has_begun:
                self._run.interrupt_request("the stream was left")
            else:
                self._fail(error or ModelRequestError(NO_ANSWER))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @property
    def request_id(self) -> str:
        """The request's id in the events."""
        return self._id

    @property
    def is_open(self) -> bool:
        """Whether it has begun and not ended, by the host, its run or a cancel."""
        request = self._run.state.request
        return request is not None and request.id == self._id

    # --- the answer

    def record(self, response: object) -> None:
        """Take an answer that came whole: the SDK's Message, a raw response of one, or a dict of its shape.

        After its stream, read in part or to its end, it adds what was not told; another answer is another request.
        """
        events = list(answer_events(response))
        with self._run.told_together():
            told = self._reader.answer
            if told is not None:
                found = events[0]["message"].get("id")
                if None not in (found, told.response_id) and found != told.response_id:
                    self._run.record_model_call(response)
                return
            parts = {None, *self._parts}
            if not self._has_begun:
                self._run.request.is_streamed, parts = False, set()
            elif self.is_open:
                self._reader = AnswerReader()  # it reads the answer from its beginning
            for event in events:
                self._take(event, parts)

    def usage(self, usage: object, *, stop_reason: str | None = None, cost: object = None) -> None:
        """Take an answer of which only this is known.

        usage: a Usage, the SDK's, or a mapping with the API's names. stop_reason: as the API says it. cost: an amount
        in USD or a Cost, where the host knows it; else the run's prices say it.
        """
        with self._run.told_together():
            counts = usage_of(usage)
            told = cost_of(cost, self._run.emitter.clock.now())
            if not self._end_by_host():
                return
            self._answer(Answer(finish_reason=finish_reason_of(stop_reason), usage=counts), told)

    def fail(self, error: BaseException | ErrorInfo | str) -> None:
        """Take note that there is no answer."""
        with self._run.told_together():
            if not self._end_by_host():
                return
            if isinstance(error, BaseException):
                self._fail(error)
            else:
                info = error_of(error) or ErrorInfo(type="Error", message="")
                self._tell_fault(RequestFault(error=info, error_class="other"))

    def end(
        self,
        response: object,
        error: BaseException | ErrorInfo | str | None,
        *,
        usage: object,
        stop_reason: str | None,
        cost: object,
    ) -> None:
        """Take what is known of a request that is over: its error, else its answer, else what it used."""
        if error is not None:
            self.fail(error)
        elif response is not None:
            self.record(response)
        else:
            self.usage(usage, stop_reason=stop_reason, cost=cost)

    def note_duration(self, duration_ms: float | None) -> None:
        """Take note how long the request takes, where that is not until its end is told; None: nobody knows."""
        request = self._run.request
        request.started, request.took_ms, request.is_streamed = None, duration_of(duration_ms), False

    def stream(self, events: Iterable[E]) -> Iterator[E]:
        """Yield the events of a stream as they come, each once it was told.

        events: of `messages.create(stream=True)`, or of the object that `with messages.stream(…)` gives.
        """
        with self._run.read():
            for event in events:
                self._hear(event)
                yield event
        self._end()

    async def astream(self, events: AsyncIterable[E]) -> AsyncIterator[E]:
        """Do the same with the asynchronous client."""
        async for event in events:
            self._hear(event)
            yield event
        self._end()

    # --- telling

    def _is_heard(self) -> bool:
        """Return whether the request is open; raise IllegalMoveError where the host has not begun it, or ended it."""
        if not self._id or self._is_told:
            raise IllegalMoveError("answer", "closed", "one request has one answer, inside its `with`")
        return self.is_open

    def _end_by_host(self) -> bool:
        """Take note that the host says how it ended; the rest as of `_is_heard`."""
        self._is_told = self._is_told or self._reader.answer is not None
        is_open = self._is_heard()
        self._is_told = True
        return is_open

    def _hear(self, event: object) -> None:
        piece = piece_of(event)
        if piece is not None and self._append(*piece):
            return
        said = stream_event(event)
        if said is not None:
            self._take(said)

    def _append(self, index: int, field: str, text: str) -> bool:
        """Tell a piece of an open block the short way: most of a stream; return whether it could be told so."""
        run = self._run
        with run.told_together():
            signal = self._reader.piece(index, field, text) if self.is_open else None
            if signal is None:
                return False
            run.emitter.emit_delta(self._id, run.request.append(signal))
            return True

    def _take(self, event: dict[str, Any], told: Container[str | None] = ()) -> None:
        """Take an event of the answer. told: the parts whose beginning and pieces were told already."""
        with self._run.told_together():
            if event.get("type") == "message_start" and self._has_begun and not told:
                self._begin_again()
            if not self._is_heard():
                return
            self._has_begun = True
            for signal in self._reader.take(event):
                self._tell(signal, told)
            if self._reader.failure is not None:
                self._fail(self._reader.failure)
            elif self._reader.answer is not None:
                self._answer(self._reader.answer)

    def _begin_again(self) -> None:
        """Tell another attempt: the stream before was left for another one, inside of one `with`."""
        if self.is_open:
            self._fail(ModelRequestError("the stream was left for another one", error_class="stream_cut"))
        self._reader, self._parts, self._is_told = AnswerReader(), set(), False
        self._messages = None  # they were told
        self.__enter__()

    def _tell(self, signal: ModelSignal, told: Container[str | None]) -> None:
        run = self._run
        if isinstance(signal, UsageReport):
            cost, unpriced = self._cost(signal.model, signal.usage)
            report = UsageReported(usage=signal.usage, model=signal.model, cost=cost, unpriced=unpriced)
            for event in run.request.report(report):
                run.tell(event)
        elif isinstance(signal, (BeginPart, AppendText, AppendBytes, CommitPart)):
            is_open = isinstance(signal, CommitPart) and signal.part_id in run.request.previews
            if signal.part_id in told and not is_open:
                return
            self._parts.add(signal.part_id)
            for event in run.request.delta(signal, run.emitter.clock.monotonic()):
                run.tell(event)

    def _answer(self, answer: Answer, known: Cost | None = None) -> None:
        run = self._run
        cost, unpriced = (known, None) if known else self._cost(answer.response_model, answer.usage)
        for event in run.request.answer(Answered(answer, cost, unpriced), run.emitter.clock.monotonic()):
            run.tell(event)
        run.note_answer(answer.response_id)

    def _end(self) -> None:
        """Take note that the stream is over; one that has not said so was cut."""
        with self._run.told_together():
            if self.is_open:
                for signal in self._reader.unreported():
                    self._tell(signal, ())
                self._fail(
                    ModelRequestError("the stream ended before its message_stop", error_class="stream_cut")
                )

    def _fail(self, error: BaseException) -> None:
        known = error if isinstance(error, ModelRequestError) else _of_sdk(error)
        self._tell_fault(fault_of(known or error))

    def _tell_fault(self, fault: RequestFault) -> None:
        self._run.failed_at = now = self._run.emitter.clock.monotonic()
        self._run.tell(self._run.request.fault(fault, now))

    def _cost(self, model: str | None, usage: Usage | None) -> tuple[Cost | None, str | None]:
        run, request = self._run, self._run.state.request
        if run.prices is None or usage is None or usage.total_tokens is None or request is None:
            return None, None
        told = request.usage.model if request.usage is not None else None
        return cost_or_why(run.prices, told or model or request.model, usage, run.emitter.clock.now())


def _of_sdk(error: BaseException) -> ModelRequestError | None:
    """Return what an exception of the SDK means; without loading the SDK where nobody has."""
    import sys  # noqa: PLC0415

    return request_error(error) if "anthropic" in sys.modules and isinstance(error, Exception) else None
