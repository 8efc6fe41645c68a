"""What the loop asks of a model: two small methods that turn a request into a stream of signals.

A model yields, in this order of meaning:

- `UsageReport` whenever the provider reports usage (the first before any content, where it does so); the
  last word goes into `Answer.usage`;
- deltas: `BeginPart`, any number of `AppendText`/`AppendBytes`, `CommitPart`; parts may interleave;
- `Answer`, last and exactly once.

Signals that came together may be yielded as one list, which costs less than one by one; they are judged in
its order.

It raises ModelRequestError for a failure whose class it knows; any other exception counts as `other`. A
stream that ends without its `Answer` is cut (`stream_cut`). Closing the iterator early (`close`, `aclose`)
must release the connection. Retries, ids, order, time and cost are the loop's.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import attrs
import msgspec

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart, Item, ToolSpec
from agentkit_loop.records import FrozenRecord
from agentkit_loop.usage import Usage
from agentkit_loop.values import JSON


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ModelRequest(FrozenRecord):
    """One request, as the loop makes it.

    request_id: the loop's id. purpose: turn or compaction. system: the system prompt, None without one.
    tools: what the model may call. items: the transcript to answer. parameters: the agent's further
    request parameters, for the adapter to pass on. session_id, run_id, turn_id, attempt: whose request it is, and which
    attempt at it, where the loop makes it; they say nothing of what is asked. kept: where an adapter may keep what it
    has made of the session's items, under a key of its own, for the next request; None where nothing is kept. It is
    written with no request.
    """

    request_id: str
    purpose: str
    system: str | None
    tools: tuple[ToolSpec, ...]
    items: tuple[Item, ...]
    parameters: dict[str, JSON]
    session_id: str | None = attrs.field(default=None, eq=False)
    run_id: str | None = attrs.field(default=None, eq=False)
    turn_id: str | None = attrs.field(default=None, eq=False)
    attempt: int | None = attrs.field(default=None, eq=False)
    # Private, so that msgspec and to_json do not write it.
    _kept: dict[Any, Any] | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def kept(self) -> dict[Any, Any] | None:
        """Where an adapter may keep what it has made of the items."""
        return self._kept


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the request has used so far, as a whole: a later report replaces an earlier one.

    model: which model is billed, None for the one asked for.
    """

    usage: Usage
    model: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the stream.

    finish_reason: `completed`, `tool_call`, `max_tokens`, `stop_sequence`, `refusal`,
    `context_window_exceeded`, `pause_turn`, or the provider's own word where none of these fits.
    response_id, response_model: the provider's. usage: its last word on usage, None where the last
    UsageReport stands. stop_details: what the provider says of its reason (a refusal's category and
    explanation); told as a Warning.
    """

    finish_reason: str
    usage: Usage | None = None
    response_id: str | None = None
    response_model: str | None = None
    stop_details: dict[str, JSON] | None = None


ModelSignal: TypeAlias = BeginPart | AppendText | AppendBytes | CommitPart | UsageReport | Answer
"""What a model yields, one by one or as a list."""


@runtime_checkable
class Model(Protocol):
    """A model adapter. `name`: the model asked for, as it is told and priced.

    What it may have besides: `parameters`, what it sends by itself, told in RunStarted; `prices`, what its
    requests cost; `prepare()`, called before the first request while `is_prepared` is false, by the
    asynchronous driver on another thread, for what takes long and belongs to no request (prices may have it
    too); `interrupt(request)`, called from another thread to let the iterator of that request's `stream` end
    soon, by whatever error.
    """

    @property
    def name(self) -> str:
        """The model asked for."""

    def stream(self, request: ModelRequest) -> Iterator[ModelSignal | list[ModelSignal]]:
        """Make the request and yield what comes."""

    def astream(self, request: ModelRequest) -> AsyncIterator[ModelSignal | list[ModelSignal]]:
        """Do the same on an event loop."""


def prepare_once(part: object) -> None:
    """Let a model or a price list that says it is not prepared do it; what fails there, a request will say."""
    if not getattr(part, "is_prepared", True):
        with contextlib.suppress(Exception):
            part.prepare()  # type: ignore[attr-defined] # of those that have `is_prepared`
