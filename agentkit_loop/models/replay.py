"""ReplayModel: gives each request what the same request of a recorded session got, and compares the two.

The recorded request is rebuilt from the events before it. Its digests are compared first; where they differ,
the request itself, and at the first difference ReplayMismatchError says where it is. A request belongs to the
recorded one of its id, since ids of requests are counters of the session.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from agentkit_loop.content import Item, ToolSpec
from agentkit_loop.differences import Difference, first_difference, shown
from agentkit_loop.digest import MessageChain, fixed_digests
from agentkit_loop.errors import ModelRequestError, ReplayMismatchError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunStarted,
    ToolCatalogChanged,
    UsageUpdated,
)
from agentkit_loop.models.anthropic_wire import wire_messages
from agentkit_loop.models.protocol import ModelRequest, ModelSignal, UsageReport
from agentkit_loop.recordings import Recording, answer_at, is_gap, read_recording
from agentkit_loop.transcript import Transcript, without_ids
from agentkit_loop.usage import Cost, Usage
from agentkit_loop.values import JSON

CUT_SHORT = "the recorded request was cut short here; cancel it as the recorded session did, or leave"
"""What a request fails with whose recorded one was cancelled, where nobody cancels it."""


class ReplayModel:
    """A model that answers as the model of a recorded session did; needs no network.

    events: such as `read_events(…)` of a log. session_id: which session, where they hold several. One model
    replays one session, once. `name`, `parameters` and `prices` are the recorded ones, so that an agent with
    the recorded tools and system prompt that is given the recorded input tells the recorded events.
    Raises ResumeError for events that do not fit together; a request, ReplayMismatchError.
    """

    def __init__(self, events: Iterable[AgentEvent] | Recording, *, session_id: str | None = None) -> None:
        self.recording = read_recording(events, session_id=session_id)
        first = self.recording.run(0)
        self.parameters: dict[str, JSON] = first.parameters
        """What was sent besides; told in RunStarted."""
        self.mismatch: ReplayMismatchError | None = None
        """Where the replay differs from what was recorded; None while it does not."""
        self._name = first.model
        self._recorded = _Requests(self.recording)
        costs = [event.cost for event in self.recording.events if isinstance(event, UsageUpdated)]
        self.prices = RecordedCosts() if any(cost is not None for cost in costs) else None
        """What the requests cost, as it was recorded; None where nothing was."""

    @property
    def name(self) -> str:
        """The recorded model."""
        return self._name

    def stream(self, request: ModelRequest) -> Iterator[ModelSignal]:
        """Yield what the recorded request got. Raises ReplayMismatchError, or the recorded failure."""
        self.check(request, model=self._name, parameters={**self.parameters, **request.parameters})
        return self._signals(request.request_id)

    async def astream(self, request: ModelRequest) -> AsyncIterator[ModelSignal]:
        """Do the same on an event loop."""
        for signal in self.stream(request):
            yield signal

    def check(self, request: ModelRequest, *, model: str, parameters: Mapping[str, JSON]) -> None:
        """Compare a request with the recorded one; raises ReplayMismatchError at the first difference.

        model, parameters: what the request goes to, and all that is sent besides.
        """
        found = self._recorded.difference(request, model, dict(parameters))
        if found is not None:
            self.mismatch = ReplayMismatchError(found.path, recorded=found.recorded, now=found.now)
            raise self.mismatch

    def _signals(self, request_id: str) -> Iterator[ModelSignal]:
        events = self.recording.events
        last: UsageUpdated | None = None
        for place in range(self._recorded.places[request_id] + 1, len(events)):
            event = events[place]
            match event:
                case ContentDelta() if event.request_id == request_id and not is_gap(event):
                    yield event.delta
                case UsageUpdated() if event.request_id == request_id:
                    self._note_cost(event)
                    if event.final:
                        last = event
                        yield answer_at(events, place)
                    else:
                        yield UsageReport(usage=event.usage, model=event.model)
                case ModelRequestFinished() if event.request_id == request_id:
                    break
                case ModelRequestFailed() if event.request_id == request_id:
                    raise ModelRequestError(
                        event.error.message,
                        error_class=event.error_class,
                        retry_after_ms=event.retry_after_ms,
                    )
                case ModelRequestStarted() | RunStarted():
                    break
                case _:
                    pass
        if last is None:
            raise ModelRequestError(CUT_SHORT)

    def _note_cost(self, event: UsageUpdated) -> None:
        if self.prices is not None:
            self.prices.last = event.cost


class RecordedCosts:
    """A price list that knows one cost: what was recorded of the usage that is told now."""

    def __init__(self) -> None:
        self.last: Cost | None = None

    def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost | None:
        """Return the recorded cost."""
        del model, usage, at
        return self.last


class _Requests:
    """The recorded requests, rebuilt one after the other. places: of their ModelRequestStarted, by id."""

    def __init__(self, recording: Recording) -> None:
        self.places = {
            event.request_id: place
            for place, event in enumerate(recording.events)
            if isinstance(event, ModelRequestStarted)
        }
        self._recording = recording
        self._at = 0
        self._transcript = Transcript()
        self._run = recording.run(0)
        self._tools: dict[str, ToolSpec] = {}
        self._chain = MessageChain()
        self._same: tuple[list[Item], list[Item]] = ([], [])  # of both sides, items that were compared

    def difference(self, request: ModelRequest, model: str, parameters: dict[str, JSON]) -> Difference | None:
        """Return where a request differs from the recorded one of its id."""
        place = self.places.get(request.request_id)
        if place is None or place < self._at:
            count = len(request.items)
            again = "made once" if place is not None else "nothing"
            return Difference(request.request_id, again, f"a request of {count} items")
        self._fold_to(place)
        recorded = self._recording.events[place]
        assert isinstance(recorded, ModelRequestStarted)  # noqa: S101 - so `places` was made
        digests = {
            **fixed_digests(request.tools, request.system, {"model": model, **parameters}),
            "messages": self._chain.of(request.items),
        }
        differing = [name for name, told in recorded.digests.items() if digests.get(name) != told]
        if recorded.purpose == request.purpose and recorded.digests and not differing:
            return None
        found = first_difference(recorded.purpose, request.purpose, "purpose")
        if found is None and recorded.purpose == "turn":
            found = first_difference(recorded.model, model, "model") or self._seen(request, parameters)
        if found is None and differing and not self._recording.is_redacted:
            name = differing[0]
            found = Difference(f"digests.{name}", shown(recorded.digests[name]), shown(digests.get(name)))
        return found

    def _fold_to(self, place: int) -> None:
        for event in self._recording.events[self._at : place]:
            self._transcript.apply(event)
            if isinstance(event, RunStarted):
                self._run = event
                self._tools = {spec.name: spec for spec in event.tools}
            elif isinstance(event, ToolCatalogChanged):
                changed = {spec.name: spec for spec in (*event.changed, *event.added)}
                kept = {name: spec for name, spec in self._tools.items() if name not in event.removed}
                self._tools = {**kept, **changed}
        self._at = place

    def _seen(self, request: ModelRequest, parameters: dict[str, JSON]) -> Difference | None:
        """Return what can be seen to differ: the system prompt, the parameters, the tools, the messages."""
        tools = {spec.name: spec for spec in request.tools}
        sides: tuple[tuple[Any, Any, str], ...] = (
            (self._run.system, request.system, "system"),
            (self._run.parameters, parameters, "parameters"),
            (msgspec.to_builtins(self._tools), msgspec.to_builtins(tools), "tools"),
            (list(self._tools), list(tools), "tools"),  # their order
        )
        found = (first_difference(recorded, now, path) for recorded, now, path in sides)
        return next((each for each in found if each is not None), None) or self._in_messages(request.items)

    def _in_messages(self, items: tuple[Item, ...]) -> Difference | None:
        recorded = self._transcript.items
        same, known = self._same, len(self._same[0])
        if recorded[:known] != same[0] or list(items[:known]) != same[1]:  # quick: mostly the same objects
            same = self._same = ([], [])
        for old, new in zip(recorded[len(same[0]) :], items[len(same[0]) :], strict=False):
            if _item_difference(old, new, "") is not None:
                break
            same[0].append(old)
            same[1].append(new)
        known = len(same[0])
        if known == len(recorded) == len(items):
            return None
        found = first_difference(_messages(recorded), _messages(items), "messages")
        if found is not None or len(recorded) != len(items):
            return found or Difference("items", f"{len(recorded)} items", f"{len(items)} items")
        # What no message shows: a system item, reasoning without proof.
        return _item_difference(recorded[known], items[known], f"items[{known}]")


def _item_difference(recorded: Item, now: Item, path: str) -> Difference | None:
    if recorded is now or recorded == now:
        return None
    return first_difference(_plain(without_ids(recorded)), _plain(without_ids(now)), path)


def _plain(item: Item) -> Any:
    return msgspec.to_builtins(item)


def _messages(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Return the messages as the API has them, without the ids of calls, which are no difference."""
    messages = wire_messages(items)
    for message in messages:
        message["content"] = [
            {
                name: value
                for name, value in block.items()
                if name not in ("id", "tool_use_id") or block.get("type") not in ("tool_use", "tool_result")
            }
            for block in message["content"]
        ]
    return messages
