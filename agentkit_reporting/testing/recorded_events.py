"""RecordedEvents: the events of a run for a test to look at, to ask and to assert of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self, overload

from agentkit_loop.content import Delta
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, ContentDelta, RunStarted, UsageUpdated
from agentkit_loop.observers import LoopObserver
from agentkit_loop.steps import last_text
from agentkit_loop.transcript import Transcript
from agentkit_loop.usage import Usage
from agentkit_reporting.terminal import counted
from agentkit_reporting.testing.expected import Expected, Matching, argument_differences, as_matching
from agentkit_reporting.testing.failures import (
    call_failure,
    count_failure,
    never_failure,
    sequence_failure,
)
from agentkit_reporting.testing.recorded_runs import RecordedCall, RecordedRun, calls_in, runs_in
from agentkit_reporting.testing.sequences import Step, first_mismatch
from agentkit_reporting.usage import UsageReporter, UsageTotals

if TYPE_CHECKING:
    from agentkit_reporting.testing.golden_logs import Change, GoldenLogs

__all__ = ["IGNORED", "RecordedEvents"]

IGNORED: tuple[type[AgentEvent], ...] = (ContentDelta, UsageUpdated)
"""What `assert_sequence` passes over: how many come of them says how an answer was streamed, not what happened."""


class RecordedEvents(LoopObserver):
    """Keeps every event that it is told; a test asks it and asserts of it.

    An observer: of an Agent (`observers=[events]`), of a hand-written loop, or filled from a log:
    `RecordedEvents.of(read_events(path))`. It is a sequence of the events, and equal to one that holds the same.
    golden: where `assert_golden` looks; the pytest fixture `agent_events` has one. May be shared by sessions and
    threads.
    """

    def __init__(self, events: Iterable[AgentEvent] = (), *, golden: GoldenLogs | None = None) -> None:
        self._events = list(events)
        self._golden = golden

    @classmethod
    def of(cls, events: Iterable[AgentEvent]) -> Self:
        """Return the events of a log, or any others, recorded."""
        return cls(events)

    def handle_event(self, event: AgentEvent) -> None:
        """Keep the event."""
        self._events.append(event)

    # --- what is there

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[AgentEvent]:
        return iter(self._events)

    @overload
    def __getitem__(self, place: int) -> AgentEvent: ...
    @overload
    def __getitem__(self, place: slice) -> RecordedEvents: ...
    def __getitem__(self, place: int | slice) -> AgentEvent | RecordedEvents:
        return self._part(self._events[place]) if isinstance(place, slice) else self._events[place]

    def __eq__(self, other: object) -> bool:
        return self._events == other._events if isinstance(other, RecordedEvents) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # it changes, as a list does

    def __repr__(self) -> str:
        runs = self.runs
        told = f"1 run {runs[0].outcome}" if len(runs) == 1 else counted(len(runs), "run")
        calls = counted(len(self.tool_calls), "tool call")
        return f"<RecordedEvents: {counted(len(self), 'event')}, {told}, {calls}>"

    @property
    def types(self) -> list[str]:
        """The wire names, in order."""
        return [event.type for event in self._events]

    def of_type(self, *kinds: Expected) -> list[Any]:
        """Return the events of classes, wire names, `matching(…)` or predicates, in order."""
        __tracebackhide__ = True
        wanted = list(map(as_matching, kinds))
        return [event for event in self._events if any(kind.fits(event) for kind in wanted)]

    def of_session(self, session_id: str) -> RecordedEvents:
        """Return what one session told; that of a sub-agent is its own."""
        return self._part(event for event in self._events if event.session_id == session_id)

    def of_run(self, run_id: str) -> RecordedEvents:
        """Return what one run told."""
        return self._part(event for event in self._events if event.run_id == run_id)

    @property
    def runs(self) -> list[RecordedRun]:
        """The runs, in the order of their beginning."""
        return runs_in(self._events)

    @property
    def tool_calls(self) -> list[RecordedCall]:
        """The tool calls with input and result, in the order in which they were asked for."""
        return calls_in(self._events)

    @property
    def text(self) -> str:
        """What the model said in the end: `result.text` of the last exchange; not of sub-agents."""
        started = (event for event in self._events if isinstance(event, RunStarted) and event.parent is None)
        root = next(started, self._events[0] if self._events else None)
        transcript = Transcript()
        for event in self._events:
            if root is not None and event.session_id == root.session_id:
                transcript.apply(event)
        return last_text(transcript.items)

    @property
    def totals(self) -> UsageTotals:
        """What all requests used and cost, those of sub-agents too."""
        reporter = UsageReporter(keep_requests=False)
        for event in self.of_type(*UsageReporter.wants):
            reporter.handle_event(event)
        return reporter.total

    @property
    def usage(self) -> Usage:
        """The tokens of all requests; what nobody told is None."""
        return self.totals.usage

    @property
    def cost(self) -> Decimal | None:
        """The cost where it is known and in one currency; None otherwise (see `totals`)."""
        costs = self.totals.costs
        return next(iter(costs.values())) if len(costs) == 1 else None

    def show(self, *, width: int = 100) -> str:
        """Return the run as `agentkit show` prints it; of a long one the beginning and the end."""
        from agentkit_reporting.testing.run_text import run_text  # noqa: PLC0415 - only who fails shows

        return run_text(self._events, width=width)

    # --- what must be there

    def assert_sequence(
        self, *expected: Expected | EllipsisType, ignore: Sequence[type[AgentEvent]] = IGNORED
    ) -> None:
        """Assert that the events, from the first to the last, are these, in this order.

        expected: for each event its class, its wire name, `matching(…)` or a predicate; `...` stands for any events,
        also none: without it between two, one follows right after the other, and without it at an end, nothing comes
        before or after. ignore: classes that are passed over unless one of `expected` names them.
        """
        __tracebackhide__ = True
        steps = list(map(_as_step, expected))
        passed_over = tuple(cls for cls in ignore if not any(_names(step, cls) for step in steps))
        told = [event for event in self._events if not isinstance(event, passed_over)]
        found = first_mismatch(steps, told)
        if found is not None:
            left_out = f"without {' and '.join(cls.__name__ for cls in passed_over)}" if passed_over else ""
            raise AssertionError(sequence_failure(steps, told, found, left_out=left_out))

    def assert_never(self, *expected: Expected) -> None:
        """Assert that no event is one of these."""
        __tracebackhide__ = True
        for kind in map(as_matching, expected):
            places = self._places(kind)
            if places:
                culprit = self._events[places[0]]
                shown = [
                    event for event in self._events if event is culprit or not isinstance(event, IGNORED)
                ]
                at = next(place for place, event in enumerate(shown) if event is culprit)
                raise AssertionError(never_failure(kind, shown, at, len(places)))

    def assert_count(self, expected: Expected, count: int) -> None:
        """Assert that so many events are this."""
        __tracebackhide__ = True
        kind = as_matching(expected)
        places = self._places(kind)
        if len(places) != count:
            raise AssertionError(count_failure(kind, self._events, count, places))

    def assert_tool_called(self, name: str, /, **arguments: Any) -> RecordedCall:
        """Assert that a tool was called, and return its first call that fits.

        arguments: of what the tool was given, those that matter; values as in `matching`. Whether the body ran, and
        what it returned, the call says.
        """
        __tracebackhide__ = True
        calls = self.tool_calls
        for call in calls:
            if call.name == name and not argument_differences(arguments, call.input):
                return call
        raise AssertionError(call_failure(name, arguments, calls))

    def assert_golden(self, name: str | None = None, *, change: Change | None = None) -> None:
        """Assert that the events are those of the golden log, apart from times and ids.

        name: of the golden log; left out, it is called as the test. change: see `GoldenLogs`. Raises
        ConfigurationError where nobody said in which directory it is.
        """
        __tracebackhide__ = True
        if self._golden is None:
            raise ConfigurationError(
                "no directory of golden logs is known here; use the fixture agent_events, or GoldenLogs(directory)"
            )
        self._golden.check(self._events, name, change=change)

    def _places(self, kind: Matching) -> list[int]:
        return [place for place, event in enumerate(self._events) if kind.fits(event)]

    def _part(self, events: Iterable[AgentEvent]) -> RecordedEvents:
        return RecordedEvents(events, golden=self._golden)


def _as_step(expected: Expected | EllipsisType) -> Step:
    __tracebackhide__ = True
    return expected if isinstance(expected, EllipsisType) else as_matching(expected)


def _names(step: Step, cls: type[AgentEvent]) -> bool:
    """Whether what is expected says that events of a class count."""
    if isinstance(step, EllipsisType):
        return False
    return cls is ContentDelta if issubclass(step.cls, Delta) else issubclass(step.cls, cls)
