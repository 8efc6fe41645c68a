"""The open request: its fragments, its usage, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from agentkit_loop.content import (
    AppendBytes,
    AppendText,
    BeginPart,
    CommitPart,
    TextPart,
    ToolCallPart,
    clean_part,
)
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.signals import Answered, RequestFault, UsageReported
from agentkit_loop.state import UNPRICED, LoopState
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_loop.values import JSON, clean_text, scrub_json


class OpenRequest:
    """Makes events of what the model says. Holds what came of the parts that are not committed.

    previews: the chunks of each part that has begun, by part id; the drivers append to it on the fast way.
    committed: the texts that were told whole; finish_reason: of the answer; both are for a request whose answer
    joins no transcript. started, first_content: seconds, monotonic; None where they did not happen here.
    """

    def __init__(self, state: LoopState) -> None:
        self._state = state
        self._text_parts: set[str] = set()
        self.previews: dict[str, list[str]] = {}
        self.committed: list[str] = []
        self.finish_reason = ""
        self.started: float | None = None
        self.first_content: float | None = None
        self.took_ms: float | None = None  # where somebody else measured it
        self.is_streamed = True  # otherwise the answer came whole, and no content came first

    def begin(self, now: float) -> None:
        """Forget the last request; a new one is about to be told."""
        self.previews, self._text_parts, self.committed = {}, set(), []
        self.started, self.first_content = now, None
        self.took_ms, self.is_streamed = None, True

    @property
    def first_content_ms(self) -> float | None:
        """From the start to the first content; None where there was none."""
        return None if self.first_content is None else since(self.started, self.first_content)

    def open_texts(self) -> dict[str, str]:
        """Return what came of the text parts that are not committed."""
        return {
            part_id: "".join(chunks)
            for part_id, chunks in self.previews.items()
            if part_id in self._text_parts
        }

    def delta(
        self, delta: BeginPart | AppendText | AppendBytes | CommitPart, now: float
    ) -> Iterator[AgentEvent]:
        """Return the event of a fragment; a fragment out of order fails the request."""
        request = self._state.request
        assert request is not None  # noqa: S101 - the phase says so
        begun = delta.part_id in self.previews
        if begun is isinstance(delta, BeginPart):
            yield self._breach(
                f"part {delta.part_id!r} {'began twice' if begun else 'was told before it began'}", now
            )
            return
        if self.first_content is None and self.is_streamed:
            self.first_content = now
        if isinstance(delta, BeginPart):
            self.previews[delta.part_id] = []
            if delta.kind == "text":
                self._text_parts.add(delta.part_id)
        elif isinstance(delta, AppendText):
            delta = self.append(delta)
        elif isinstance(delta, CommitPart):
            del self.previews[delta.part_id]
            delta = CommitPart(delta.part_id, self._own(clean_part(delta.part)))
            if isinstance(delta.part, TextPart):
                self.committed.append(delta.part.text)
        yield ContentDelta(request_id=request.id, delta=delta)

    def append(self, piece: AppendText) -> AppendText:
        """Take a piece of a part that has begun; return it as it is told."""
        clean = clean_text(piece.chunk)
        self.previews[piece.part_id].append(clean)
        return piece if clean is piece.chunk else AppendText(piece.part_id, clean)

    def _own(self, part: Any) -> Any:
        """Rename a call whose id the session has seen."""
        if not isinstance(part, ToolCallPart) or not self._state.has_seen(part.id):
            return part
        number = 2
        while self._state.has_seen(f"{part.id}~{number}"):
            number += 1
        return msgspec.structs.replace(part, id=f"{part.id}~{number}", wire_id=part.wire_id or part.id)

    def report(self, report: UsageReported) -> Iterator[AgentEvent]:
        """Return the event of what was used so far; none where it says nothing new."""
        request = self._state.request
        assert request is not None  # noqa: S101 - the phase says so
        if request.usage is None or request.usage.usage != report.usage:
            model = clean_text(report.model or request.model)
            yield UsageUpdated(
                request_id=request.id,
                model=model,
                usage=_clean_usage(report.usage),
                cost=report.cost,
                final=False,
            )
            yield from self._unpriced(model, report.unpriced)

    def answer(self, answered: Answered, now: float) -> Iterator[AgentEvent]:
        """Return the last word on usage, and the end of the request."""
        request = self._state.request
        assert request is not None  # noqa: S101 - the phase says so
        answer, last = answered.answer, request.usage
        if self.previews:
            yield self._breach(f"part {next(iter(self.previews))!r} was never committed", now)
            return
        said = answer.usage is not None
        model = last.model if last else clean_text(answer.response_model or request.model)
        yield UsageUpdated(
            request_id=request.id,
            model=model,
            usage=_clean_usage(answer.usage) if answer.usage else (last.usage if last else Usage()),
            cost=answered.cost if said or last is None else last.cost,
            final=True,
        )
        yield from self._unpriced(model, answered.unpriced)
        self.finish_reason = clean_text(answer.finish_reason)
        yield ModelRequestFinished(
            request_id=request.id,
            finish_reason=self.finish_reason,
            response_id=_clean(answer.response_id),
            response_model=_clean(answer.response_model),
            first_content_ms=self.first_content_ms,
            duration_ms=since(self.started, now) if self.took_ms is None else self.took_ms,
        )
        if answer.stop_details:
            yield _stop_details(answer.finish_reason, answer.stop_details)

    def _unpriced(self, model: str, why: str | None) -> Iterator[AgentEvent]:
        """Return the warning that a model's requests have no cost; once for each model and session."""
        if why is not None and model not in self._state.unpriced:
            yield Warning(code=UNPRICED, message=clean_text(why), details={"model": model})

    def fault(self, fault: RequestFault, now: float) -> ModelRequestFailed:
        """Return the event of the request's failure."""
        request = self._state.request
        assert request is not None  # noqa: S101 - the phase says so
        return ModelRequestFailed(
            request_id=request.id,
            error=fault.error,
            error_class=fault.error_class,
            retry_after_ms=fault.retry_after_ms,
            duration_ms=since(self.started, now) if self.took_ms is None else self.took_ms,
        )

    def _breach(self, what: str, now: float) -> ModelRequestFailed:
        message = f"the model adapter broke the protocol: {what}"
        error = ErrorInfo(type="ModelRequestError", message=message)
        return self.fault(RequestFault(error=error, error_class="other"), now)


def _stop_details(finish_reason: str, details: dict[str, JSON]) -> Warning:
    told = scrub_json(details)
    said = told.get("explanation") or told.get("category")
    reason = clean_text(finish_reason)
    message = f"the model stopped with {reason}: {said}" if said else f"the model stopped with {reason}"
    return Warning(code=reason, message=message, details=told)


def _clean_usage(usage: Usage) -> Usage:
    return usage if usage.raw is None else msgspec.structs.replace(usage, raw=scrub_json(usage.raw))


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


def since(start: float | None, now: float) -> float | None:
    """Return the milliseconds from `start` to `now`, both in seconds; None without a start."""
    return None if start is None else max(0.0, round((now - start) * 1e3, 3))
