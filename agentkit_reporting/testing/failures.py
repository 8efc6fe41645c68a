"""What a failed expectation says: what was expected where, what came, the nearest one, and the events around it.

All of it is bounded, what models and tools said is made visible, and secrets are masked: what a test says is kept by
whoever runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any

import msgspec

from agentkit_loop.content import ToolCallPart
from agentkit_loop.events import PAYLOAD_FIELDS, AgentEvent, ContentDelta, UnknownEvent
from agentkit_loop.usage import ErrorInfo
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.terminal import brief_arguments, counted, one_line
from agentkit_reporting.testing.expected import Matching, argument_differences, arguments_text
from agentkit_reporting.testing.recorded_runs import RecordedCall
from agentkit_reporting.testing.sequences import Mismatch, Step

__all__ = [
    "call_failure",
    "count_failure",
    "event_line",
    "never_failure",
    "sequence_failure",
]

_WIDTH = 110
_BEFORE, _AFTER = 5, 4  # events around the place
_STEPS_AROUND = 8
_MAX_LOOKED_AT = 50_000  # events among which the nearest one is looked for
_MAX_DIFFERENCES = 5
_MAX_CALLS = 8
_DULL = frozenset({"digests", "duration_ms", "first_content_ms", "observers", "request_id", "index"})
"""Fields that are not shown in short: times, statistics, counters."""


def sequence_failure(
    steps: Sequence[Step], events: Sequence[AgentEvent], found: Mismatch, *, left_out: str
) -> str:
    """Say where events stop following the expected steps. left_out: what was not looked at, in words."""
    lines = ["the events do not follow the expected sequence", _what_came(steps, events, found)]
    step = steps[found.step] if found.step < len(steps) else None
    around = found.event
    if isinstance(step, Matching):
        nearest = _nearest(step, events, start=found.start, near=found.event)
        lines += _nearest_lines(step, events, nearest)
        around = nearest if nearest is not None and around == len(events) else around
    lines += [f"expected, {left_out}:" if left_out else "expected:", *_steps_around(steps, found.step)]
    lines += ["events:", *listing(events, around)]
    return _text(lines)


def _what_came(steps: Sequence[Step], events: Sequence[AgentEvent], found: Mismatch) -> str:
    if found.step == len(steps):
        more = counted(len(events) - found.event, "event")
        return f"all {len(steps)} places fit, and {more} more came; end with ... to let anything follow"
    step, place = steps[found.step], found.step + 1
    came = event_line(events[found.event]) if found.event < len(events) else "no event any more"
    if found.from_end:
        which = "the last event" if found.from_end == 1 else f"the event {found.from_end} from the end"
        return f"place {place}: expected {step} as {which}, came {came}; end with ... to let anything follow"
    after_gap = found.step > 0 and isinstance(steps[found.step - 1], EllipsisType)
    if after_gap:
        where = f"from {_number(events[found.start])} on " if 0 < found.start < len(events) else ""
        return f"place {place}: no event {where}is {step}"
    hint = "; begin with ... to let anything come before" if found.step == 0 and found.event == 0 else ""
    return f"place {place}: expected {step}, came {came}{hint}"


def _steps_around(steps: Sequence[Step], at: int) -> list[str]:
    first, last = max(0, at - _STEPS_AROUND), min(len(steps), at + _STEPS_AROUND + 1)
    lines = [f"  {'' if first == 0 else '…'}"] if first else []
    for place in range(first, last):
        step = "..." if isinstance(steps[place], EllipsisType) else str(steps[place])
        lines.append(f"{'>' if place == at else ' '} {place + 1:3} {step}")
    return [*lines, "  …"] if last < len(steps) else lines


def never_failure(expected: Matching, events: Sequence[AgentEvent], at: int, count: int) -> str:
    """Say that an event came that never should."""
    more = f", and {count - 1:,} more" if count > 1 else ""
    return _text(
        [
            f"expected no {expected}, came {event_line(events[at])}{more}",
            "events:",
            *listing(events, at),
        ]
    )


def count_failure(expected: Matching, events: Sequence[AgentEvent], count: int, places: Sequence[int]) -> str:
    """Say that there are more or fewer events than expected. places: where they are."""
    lines = [f"expected {counted(count, 'event')} {expected}, came {len(places):,}"]
    if not places:
        lines += _nearest_lines(expected, events, _nearest(expected, events))
    shown = places[: _BEFORE + _AFTER]
    lines += [f"  {event_line(events[place])}" for place in shown]
    return _text([*lines, "  …"] if len(shown) < len(places) else lines)


def call_failure(name: str, arguments: Mapping[str, Any], calls: Sequence[RecordedCall]) -> str:
    """Say that no call of a tool has these arguments."""
    expected = f"{one_line(name, _WIDTH)}({arguments_text(arguments)})"
    lines = [f"expected a call {expected}; it was not made"]
    same = [call for call in calls if call.name == name]
    if same:
        nearest = min(same, key=lambda call: len(argument_differences(arguments, call.input)))
        lines.append(f"nearest: {_call_line(nearest)}")
        lines += _bounded([str(each) for each in argument_differences(arguments, nearest.input)])
    lines.append("calls:" if calls else "no tool was called")
    lines += [f"  {_call_line(call)}" for call in calls[:_MAX_CALLS]]
    more = len(calls) - _MAX_CALLS
    return _text([*lines, f"  and {more:,} more"] if more > 0 else lines)


def _call_line(call: RecordedCall) -> str:
    given = brief_arguments(Redactor().value(call.input), _WIDTH)
    return one_line(f"#{call.asked.seq} {call.name}{given}", _WIDTH)


def _text(lines: list[str]) -> str:
    return Redactor().text("\n".join(lines))


def _bounded(differences: list[str]) -> list[str]:
    lines = [f"    {difference}" for difference in differences[:_MAX_DIFFERENCES]]
    more = len(differences) - _MAX_DIFFERENCES
    return [*lines, f"    and {more} more"] if more > 0 else lines


def _nearest(
    expected: Matching, events: Sequence[AgentEvent], *, start: int = 0, near: int = 0
) -> int | None:
    """Return the place of the event of the class of which the fewest fields differ, of these the closest."""
    best: tuple[int, int, int] | None = None  # differences, distance, place
    if not expected.fields:
        return None
    for place in range(start, min(len(events), start + _MAX_LOOKED_AT)):
        if expected.is_of_class(events[place]):
            rank = (len(expected.differences(events[place])), abs(place - near), place)
            best = rank if best is None else min(best, rank)
    return None if best is None else best[2]


def _nearest_lines(expected: Matching, events: Sequence[AgentEvent], place: int | None) -> list[str]:
    if place is None:
        return []
    differences = [str(each) for each in expected.differences(events[place])]
    return [f"nearest: {event_line(events[place])}", *_bounded(differences)]


def listing(events: Sequence[AgentEvent], marked: int) -> list[str]:
    """Return a line for each event around a place, which is marked; their number is after the last event."""
    first, last = max(0, marked - _BEFORE), min(len(events), marked + _AFTER + 1)
    lines = [f"  … {counted(first, 'event')} before"] if first else []
    lines += [
        f"{'>' if place == marked else ' '} {event_line(events[place])}" for place in range(first, last)
    ]
    if marked >= len(events):
        lines.append("> no event any more")
    if last < len(events):
        lines.append(f"  … {counted(len(events) - last, 'event')} after")
    return lines


def event_line(event: AgentEvent, columns: int = _WIDTH) -> str:
    """Return an event on one line: its number, its class, and the beginning of what it says, secrets masked."""
    name, event = type(event).__name__, Redactor().event(event)
    if isinstance(event, ContentDelta):
        name = type(event.delta).__name__
    elif isinstance(event, UnknownEvent):
        name = f"UnknownEvent {event.type}"
    return one_line(f"{_number(event)} {name}{brief_arguments(_fields(event), columns)}", columns)


def _number(event: AgentEvent) -> str:
    return f"#{event.seq}"


def _fields(event: AgentEvent) -> dict[str, Any]:
    """Return what an event says, by name, without what says nothing."""
    fields: dict[str, Any] = {}
    for name in PAYLOAD_FIELDS.get(type(event), ()):
        value = getattr(event, name)
        if isinstance(value, ToolCallPart):
            fields |= {"name": value.name, "input": value.input, "id": value.id}
        elif isinstance(value, ErrorInfo):
            fields |= {"error": f"{value.type}: {value.message}"}
        elif name == "delta":
            fields |= {key: told for key, told in msgspec.to_builtins(value).items() if key != "type"}
        elif name not in _DULL and value not in (None, (), {}, False):
            fields[name] = msgspec.to_builtins(value)
    return fields
