"""The answers of a recorded session as replies of a script, for `ScriptedModel.from_log`.

A reply is an answer as plain data. What it cannot hold is left out: how the pieces of several parts were interleaved,
and of a failed request all open parts but the last. Neither reaches a transcript.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import re
from collections.abc import Iterable
from typing import Any, Literal

import attrs
import msgspec

from agentkit_loop.content import (
    AnyPart,
    AppendText,
    BeginPart,
    CommitPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from agentkit_loop.errors import ERROR_CLASSES, ConfigurationError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    UsageUpdated,
    is_redacted,
)
from agentkit_loop.models.scripted import Reply, ScriptedCall, ScriptedFailure, preview_of
from agentkit_loop.recordings import Recording, answer_at, is_gap, read_recording
from agentkit_loop.usage import Cost, Usage

logger = logging.getLogger(__name__)

__all__ = ["RecordedPrices", "ReplyScript", "read_replies"]

BROKEN_OFF = (
    "the recorded request was broken off here, by a cancel or a crash; cancel it as well, or record it anew"
)
"""What a request fails with whose recorded one has no whole answer."""

_WITHHELD = re.compile(r"\[redacted:(?:(?:text|list|object|media):[0-9]{1,19}|number|boolean|content)\]")
"""What stands in a log without content for a text or another value."""

_CHUNK_CHARS = 12  # where the log has no previews
_REST = "…"  # of an open part, never told: the failure comes before it


class RecordedPrices:
    """A price list that knows what was recorded: the cost of a model's usage, None of any other."""

    def __init__(self) -> None:
        self._costs: dict[tuple[str, bytes], Cost] = {}

    def note(self, event: UsageUpdated) -> None:
        """Keep what a usage cost."""
        if event.cost is not None:
            self._costs[event.model, msgspec.json.encode(event.usage)] = event.cost

    def __bool__(self) -> bool:
        return bool(self._costs)

    def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost | None:
        """Return the recorded cost."""
        del at
        return self._costs.get((model, msgspec.json.encode(usage)))


@attrs.frozen(kw_only=True)
class ReplyScript:
    """What the model of a session said.

    model: the model asked for. answers: to the requests of turns, in their order. summaries: to those of compactions.
    prices: what they cost; None where no cost was recorded.
    """

    session_id: str
    model: str
    answers: tuple[Reply, ...]
    summaries: tuple[Reply, ...]
    prices: RecordedPrices | None


def read_replies(
    events: Iterable[AgentEvent],
    *,
    session_id: str | None = None,
    ids: Literal["recorded", "fresh"] = "recorded",
) -> ReplyScript:
    """Read the answers of a session. Raises ResumeError for events that do not fit together; ConfigurationError.

    A log without content is refused; of masks in answers a warning is logged.

    events, session_id, ids: see `ScriptedModel.from_log`. What a resume superseded is left out.
    """
    if ids not in ("recorded", "fresh"):
        raise ConfigurationError(f"ids={ids!r} refused because it is no choice; use 'recorded' or 'fresh'")
    recording = read_recording(events, session_id=session_id)
    _tell_of_marks(recording)
    prices = RecordedPrices()
    told: dict[str, list[Reply]] = {"turn": [], "compaction": []}
    request: _Request | None = None
    for place, event in enumerate(recording.events):
        if isinstance(event, ModelRequestStarted):
            if request is not None:
                told[request.purpose].append(request.broken_off())
            request = _Request(event, fresh=ids == "fresh")
        elif isinstance(event, UsageUpdated):
            prices.note(event)
        if request is None or getattr(event, "request_id", None) != request.id:
            continue
        if isinstance(event, UsageUpdated):
            request.usage(event, place)
        elif isinstance(event, ContentDelta):
            request.delta(event)
        elif isinstance(event, (ModelRequestFinished, ModelRequestFailed)):
            reply = request.ended(event, recording.events)
            if reply is not None:
                told[request.purpose].append(reply)
            request = None
    if request is not None:
        told[request.purpose].append(request.broken_off())
    return ReplyScript(
        session_id=recording.session_id,
        model=recording.run(0).model,
        answers=tuple(told["turn"]),
        summaries=tuple(told["compaction"]),
        prices=prices or None,
    )


def _tell_of_marks(recording: Recording) -> None:
    """Refuse answers whose content was withheld; warn, once, of answers in which something was masked."""
    answers = [
        event.delta.part
        for event in recording.events
        if isinstance(event, ContentDelta) and isinstance(event.delta, CommitPart) and is_redacted(event)
    ]
    if any(map(_is_withheld, answers)):
        raise ConfigurationError(
            f"the log of session {recording.session_id} was written without content, and a model would answer with "
            "the marks of it; record it anew with its content"
        )
    if answers:
        logger.warning(
            "the log of session %s is redacted: the model answers with masks in place of what was taken out",
            recording.session_id,
        )


def _is_withheld(part: AnyPart) -> bool:
    """Whether a part is a mark of content as a whole, or a call of which an argument is one."""
    if isinstance(part, ToolCallPart):
        given = [*part.input, *part.input.values(), part.cut]
        return any(isinstance(each, str) and _WITHHELD.fullmatch(each) is not None for each in given)
    return isinstance(part, (TextPart, ReasoningPart)) and _WITHHELD.fullmatch(part.text) is not None


class _Request:
    """One request while it is read."""

    def __init__(self, started: ModelRequestStarted, *, fresh: bool) -> None:
        self.id = started.request_id
        self.purpose = started.purpose
        self._asked_model = started.model
        self._billed_model = started.model
        self._fresh = fresh
        self._first: Usage | None = None  # the last provisional report
        self._last: Usage | None = None
        self._last_place = -1
        self._kinds: dict[str, str] = {}  # of each part, in the order of their beginning
        self._pieces: dict[str, list[str]] = {}
        self._whole: dict[str, AnyPart] = {}
        self._longest = 0  # characters of a piece

    def usage(self, event: UsageUpdated, place: int) -> None:
        """Take a report."""
        self._billed_model = event.model
        if event.final:
            self._last, self._last_place = event.usage, place
        else:
            self._first = event.usage

    def delta(self, event: ContentDelta) -> None:
        """Take a fragment."""
        delta = event.delta
        match delta:
            case BeginPart():
                self._kinds[delta.part_id] = delta.kind
            case AppendText() if not is_gap(event):
                self._pieces.setdefault(delta.part_id, []).append(delta.chunk)
                self._longest = max(self._longest, len(delta.chunk))
            case CommitPart():
                self._whole[delta.part_id] = self._as_sent(delta.part)
            case _:
                pass

    def ended(
        self, event: ModelRequestFinished | ModelRequestFailed, events: tuple[AgentEvent, ...]
    ) -> Reply | None:
        """Return the reply; None for a request that a crash cut, which another one stands for."""
        if isinstance(event, ModelRequestFailed):
            if event.error_class == "process_ended":
                return None
            known = event.error_class if event.error_class in ERROR_CLASSES else "other"
            return self._failing(known, event.error.message, event.retry_after_ms)
        if event.finish_reason == "cancelled":
            return self.broken_off()
        said = answer_at(events, self._last_place) if self._last_place >= 0 else None
        response_model = event.response_model or self._billed_model
        # Of a provider that reported nothing, the last word knows nothing.
        last = None if self._first is None and self._last == Usage() else self._last
        return Reply(
            **self._content([part for part_id in self._kinds if (part := self._whole.get(part_id))]),
            finish_reason=event.finish_reason,
            usage=last,
            first_usage=last if self._first is None else self._first,
            chunk_chars=self._longest or _CHUNK_CHARS,
            response_id=event.response_id,
            response_model=None if response_model == self._asked_model else response_model,
            stop_details=None if said is None else said.stop_details,
        )

    def broken_off(self) -> Reply:
        """Return what came of a request that has no whole answer, and then a failure."""
        return self._failing("other", BROKEN_OFF, None)

    def _failing(self, error_class: str, message: str, retry_after_ms: float | None) -> Reply:
        chunk_chars = self._longest or _CHUNK_CHARS
        parts = [self._whole[part_id] for part_id in self._kinds if part_id in self._whole]
        last = next(reversed(self._kinds), "")
        open_part = None
        if last and last not in self._whole:
            came = "".join(self._pieces.get(last, ()))
            chunk_chars = len(came) or chunk_chars  # so that a piece ends where the text broke off
            open_part = _open_part(self._kinds[last], came + _REST)
        chunks = sum(math.ceil(len(preview_of(part)) / chunk_chars) for part in parts)
        if open_part is not None:
            chunks += len(preview_of(open_part)) > len(_REST)
            parts.append(open_part)
        nothing_came = self._first is None and not parts
        return Reply(
            parts=tuple(parts),
            first_usage=self._first,
            chunk_chars=chunk_chars,
            response_model=None if self._billed_model == self._asked_model else self._billed_model,
            fail=ScriptedFailure(
                error_class=error_class,
                message=message,
                after_chunks=None if nothing_came else chunks,
                retry_after_ms=retry_after_ms,
            ),
        )

    def _as_sent(self, part: AnyPart) -> AnyPart:
        """Return a part as the provider sent it: a call under its own id, or under none."""
        if not isinstance(part, ToolCallPart):
            return part
        call_id = "" if self._fresh else part.wire_id or part.id
        return msgspec.structs.replace(part, id=call_id, wire_id=None)

    def _content(self, parts: list[AnyPart]) -> dict[str, Any]:
        """Return the fields of a reply with these parts: in words where they say all of it in this order."""
        rest = list(parts)
        fields: dict[str, Any] = {}
        if rest and isinstance(rest[0], ReasoningPart) and rest[0].text and _is_plain(rest[0]):
            reasoning = rest.pop(0)
            assert isinstance(reasoning, ReasoningPart)  # noqa: S101 - looked at above
            fields = {"reasoning": reasoning.text, "signature": reasoning.signature}
        if rest and isinstance(rest[0], TextPart) and rest[0].text and _is_plain(rest[0]):
            text = rest.pop(0)
            assert isinstance(text, TextPart)  # noqa: S101 - looked at above
            fields["text"] = text.text
        if all(isinstance(part, ToolCallPart) and _is_plain(part) for part in rest):
            calls = [part for part in rest if isinstance(part, ToolCallPart)]
            fields["calls"] = tuple(
                ScriptedCall(id=part.id, name=part.name, input=part.input, cut=part.cut) for part in calls
            )
        else:
            fields["parts"] = tuple(rest)
        return fields


def _is_plain(part: TextPart | ReasoningPart | ToolCallPart) -> bool:
    """Whether the words of a reply say all of a part."""
    return part.extra is None and getattr(part, "redacted", None) is None


def _open_part(kind: str, text: str) -> AnyPart | None:
    """Return a part that begins with a text; None for a kind that is not streamed as text."""
    if kind == "text":
        return TextPart(text=text)
    if kind == "reasoning":
        return ReasoningPart(text=text)
    return ToolCallPart(id="", name="", input={}, cut=text) if kind == "tool_call" else None
