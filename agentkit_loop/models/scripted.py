"""ScriptedModel: replies given beforehand, streamed as a provider would stream them.

For tests, demonstrations and examples; it needs no key and no network. Times come from the clock that it is
given, so a test decides how long anything takes.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from agentkit_loop.clock import Clock
from agentkit_loop.content import (
    AnyPart,
    AppendText,
    BeginPart,
    CommitPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    part_kind,
)
from agentkit_loop.errors import ConfigurationError, ModelRequestError
from agentkit_loop.events import AgentEvent
from agentkit_loop.models.protocol import Answer, ModelRequest, ModelSignal, UsageReport
from agentkit_loop.usage import Usage
from agentkit_loop.values import JSON

if TYPE_CHECKING:
    from agentkit_loop.pricing import Pricing


class ScriptedCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool call of a reply. id: made up (`call-1`, …) where empty. cut: raw text that does not parse."""

    name: str
    input: dict[str, JSON] = {}
    id: str = ""
    cut: str | None = None


class ScriptedFailure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A failure of a reply, or in place of one.

    error_class: one of errors.ERROR_CLASSES; else ConfigurationError is raised. after_chunks: how many chunks of
    content come first; None for a failure before anything was reported.
    """

    error_class: str = "overloaded"
    message: str = "scripted failure"
    after_chunks: int | None = None
    retry_after_ms: float | None = None

    def __post_init__(self) -> None:
        _error(self)


class Reply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer of the model, as plain data.

    reasoning, text, calls: the content, in this order; parts: more of it, after the text. finish_reason:
    `tool_call` with calls, else `completed`, where None. usage: reported at the start with no output yet,
    and whole at the end. first_usage: reported at the start in place of that; all that a reply that fails
    reports. chunk_chars: characters a chunk. delay_s: before anything. chunk_delay_s: before each chunk. fail:
    how it fails. ends: False for a stream that stops without its final event. response_id, response_model,
    stop_details: what the answer says of itself, see Answer; response_model is the model's name where None. A
    call among `parts` with an empty id gets one, as those of `calls` do.
    """

    text: str = ""
    reasoning: str = ""
    signature: str | None = None
    calls: tuple[ScriptedCall, ...] = ()
    parts: tuple[AnyPart, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    first_usage: Usage | None = None
    chunk_chars: int = 12
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    fail: ScriptedFailure | None = None
    ends: bool = True
    response_id: str | None = None
    response_model: str | None = None
    stop_details: dict[str, JSON] | None = None


AnyReply: TypeAlias = Reply | ScriptedFailure | str | dict[str, Any]
"""A Reply, its failure or its text alone, or its fields as a dict."""

_Beat: TypeAlias = ModelSignal | float
"""What the script does next: yield a signal, or wait for so many seconds."""


class ScriptedModel:
    """A model that gives the replies of a script, one a request.

    replies: any number of them, or a function from the request to one. name: what the model is called.
    requests: what was asked so far, for a test to look at. prices: what the requests cost, where the script is a
    log's; None else. Safe to be shared by sessions. A request after the last reply fails (`invalid_request`).
    """

    def __init__(
        self,
        replies: Iterable[AnyReply] | Callable[[ModelRequest], AnyReply],
        *,
        name: str = "scripted",
        clock: Clock | None = None,
    ) -> None:
        if isinstance(replies, str):
            raise ConfigurationError(f"replies={replies!r} refused; give a list of replies")
        self._name = name
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._calls = 0
        self._cuts: weakref.WeakValueDictionary[int, threading.Event] = weakref.WeakValueDictionary()
        self.requests: list[ModelRequest] = []
        self._function = replies if callable(replies) else None
        self._replies = iter(()) if callable(replies) else iter([as_reply(reply) for reply in replies])
        self._summaries: Iterator[Reply] | None = None  # for compaction; None: as any other request
        self._source = "the script"
        self.prices: Pricing | None = None

    @classmethod
    def from_log(
        cls,
        events: Iterable[AgentEvent],
        *,
        session_id: str | None = None,
        ids: Literal["recorded", "fresh"] = "recorded",
        name: str | None = None,
        clock: Clock | None = None,
    ) -> ScriptedModel:
        """Return a model that gives the recorded answers of a session in their order, whatever it is asked.

        events: such as `read_events(…)` of a log. session_id: which session; left out, the only one that is no
        sub-agent's. ids: of the calls, as recorded or made up. name: left out, the recorded model's.

        Unlike ReplayModel it compares nothing, so that a changed agent can be tried against recorded answers. Failures
        and cut streams come back too; answers to requests for a compaction are given to such requests only; a request
        that the death of a process cut is left out, and one that was cancelled fails (`other`) after what came of it.
        When no answer is left, a request fails (`invalid_request`) and says how many there were. Costs are those
        that were recorded for the same usage (`prices`). Raises ResumeError for events that do not fit together, and
        ConfigurationError for those of a log without content; that answers hold masks of redaction is logged, once.
        """
        from agentkit_loop.models.recorded_replies import read_replies  # noqa: PLC0415 - most scripts are no log's

        recorded = read_replies(events, session_id=session_id, ids=ids)
        model = cls(recorded.answers, name=recorded.model if name is None else name, clock=clock)
        model._summaries = iter(recorded.summaries)
        model._source = f"the log of session {recorded.session_id}"
        model.prices = recorded.prices
        return model

    @property
    def name(self) -> str:
        """What the model is called."""
        return self._name

    def stream(self, request: ModelRequest) -> Iterator[ModelSignal]:
        """Return the next reply's signals; raises ModelRequestError where `interrupt` ends a wait."""
        cut = threading.Event()
        self._cuts[id(request)] = cut  # from now on; it is forgotten with the generator
        return self._stream(request, cut)

    def _stream(self, request: ModelRequest, cut: threading.Event) -> Iterator[ModelSignal]:
        for beat in self._beats(request):
            if not isinstance(beat, float):
                yield beat
            elif self._clock.pause(beat, cut):
                raise ModelRequestError("the wait for the script was interrupted", error_class="connection")

    def interrupt(self, request: ModelRequest) -> None:
        """End the wait of the open `stream` of this very request; from another thread."""
        cut = self._cuts.get(id(request))
        if cut is not None:
            cut.set()

    async def astream(self, request: ModelRequest) -> AsyncIterator[ModelSignal]:
        """Yield the next reply on an event loop."""
        for beat in self._beats(request):
            if isinstance(beat, float):
                await self._clock.asleep(beat)
            else:
                yield beat

    def _beats(self, request: ModelRequest) -> Iterator[_Beat]:
        reply = self._next(request)
        if reply.delay_s:
            yield float(reply.delay_s)
        fail = reply.fail
        if fail is not None and fail.after_chunks is None:
            raise _error(fail)
        first = reply.first_usage
        if first is None and reply.usage is not None:
            first = msgspec.structs.replace(reply.usage, output_tokens=0, reasoning_tokens=None)
        if first is not None:
            yield UsageReport(usage=first, model=reply.response_model)
        chunks = 0
        for beat in self._content(reply):
            if isinstance(beat, AppendText):
                if fail is not None and chunks == fail.after_chunks:
                    raise _error(fail)
                chunks += 1
                if reply.chunk_delay_s:
                    yield float(reply.chunk_delay_s)
            yield beat
        if fail is not None:
            raise _error(fail)
        if not reply.ends:
            return
        reason = reply.finish_reason or ("tool_call" if reply.calls else "completed")
        yield Answer(
            finish_reason=reason,
            usage=reply.usage,
            response_id=reply.response_id,
            response_model=reply.response_model or self._name,
            stop_details=reply.stop_details,
        )

    def _next(self, request: ModelRequest) -> Reply:
        with self._lock:
            self.requests.append(request)
            if self._function is not None:
                return as_reply(self._function(request))
            summary = self._summaries is not None and request.purpose == "compaction"
            reply = next(self._summaries if summary and self._summaries else self._replies, None)
        if reply is None:
            remedy = (
                "add one to its replies" if self._summaries is None else "ask less often, or record it anew"
            )
            what = "summary for" if summary else "reply for"
            raise ModelRequestError(
                f"{self._source} has no {what} request {len(self.requests)}; {remedy}",
                error_class="invalid_request",
            )
        return reply

    def _content(self, reply: Reply) -> Iterator[ModelSignal]:
        whole: list[AnyPart] = []
        if reply.reasoning:
            whole.append(ReasoningPart(text=reply.reasoning, signature=reply.signature))
        if reply.text:
            whole.append(TextPart(text=reply.text))
        whole.extend(reply.parts)
        for call in reply.calls:
            given = call.input if call.cut is None else {}
            whole.append(ToolCallPart(id=call.id, name=call.name, input=given, cut=call.cut))
        whole = [self._with_id(part) if isinstance(part, ToolCallPart) else part for part in whole]
        for index, part in enumerate(whole):
            part_id = str(index)
            yield BeginPart(part_id, part_kind(part))
            preview = preview_of(part)
            for start in range(0, len(preview), reply.chunk_chars):
                yield AppendText(part_id, preview[start : start + reply.chunk_chars])
            yield CommitPart(part_id, part)

    def _with_id(self, part: ToolCallPart) -> ToolCallPart:
        with self._lock:
            self._calls += 1
            number = self._calls
        return part if part.id else msgspec.structs.replace(part, id=f"call-{number}")


def as_reply(reply: AnyReply) -> Reply:
    """Return the reply; raises ConfigurationError for data that is none."""
    if isinstance(reply, Reply):
        return reply
    if isinstance(reply, str):
        return Reply(text=reply)
    if isinstance(reply, ScriptedFailure):
        return Reply(fail=reply)
    try:
        return msgspec.convert(reply, Reply)
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigurationError(f"{reply!r} is not a reply: {error}") from error


def _error(fail: ScriptedFailure) -> ModelRequestError:
    return ModelRequestError(fail.message, error_class=fail.error_class, retry_after_ms=fail.retry_after_ms)


def preview_of(part: AnyPart) -> str:
    """Return what is streamed of a part before it is committed; empty for what has no preview."""
    if isinstance(part, (TextPart, ReasoningPart)):
        return part.text
    if isinstance(part, ToolCallPart):
        return part.cut if part.cut is not None else msgspec.json.encode(part.input).decode()
    return ""
