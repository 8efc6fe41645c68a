"""Many lines of a log decoded at once: the hot path of whoever reads one.

A block of whole lines is given to msgspec in one call, the payload of each line by its type. What it takes, of the
same types, `decode_event` takes as well; what it does not take (a torn line, an unknown key, another version, an
empty line) is left to that, line by line, so that both ways give the same events.
"""

from __future__ import annotations

import datetime as dt
import functools
import operator
import os
from collections.abc import Collection
from typing import Any, Literal, get_type_hints

import msgspec

from agentkit_loop.events import AgentEvent
from agentkit_reporting.codec import LOG_CLASSES, LOG_VERSION, Build, Moment, Seq, builder_of, payload_struct

__all__ = ["BETWEEN", "LINES", "Line", "builders_of", "decode_block", "event_of", "line_of"]


class Line(msgspec.Struct, gc=False):
    """A line of this version, without its payload.

    `gc=False`: what can be in no cycle is not tracked, so that a block of lines wakes no garbage collector.
    """

    v: Literal[1]
    seq: Seq
    ts: Moment
    session_id: str
    run_id: str
    turn_id: str | None

    @property
    def timestamp(self) -> dt.datetime:
        """When it was told, under the name that an event has for it."""
        return self.ts


# Evaluated here once, and not by each of the lines that inherit them: saves 2 ms of the start of who reads a log.
Line.__annotations__ = get_type_hints(Line, include_extras=True)

LINES: dict[type[AgentEvent], type[Any]] = {
    cls: msgspec.defstruct(
        f"{cls.__name__}Line",
        [("payload", payload_struct(name))],
        bases=(Line,),
        module=__name__,
        tag_field="type",
        tag=name,
        gc=False,
    )
    for name, cls in LOG_CLASSES.items()
}
"""The line of each kind of event: a Line with its payload."""

_MARK = int.from_bytes(os.urandom(7)) + 1
BETWEEN = b"\n%d\n" % _MARK
"""Stands between the lines of a block: a number that is in no log, since nobody knows it before the process begins."""

# One union, told apart by `type`, so that header and payload are one call, and `decode_lines`, so that there is no
# call for each line: together half of what header and payload of each line cost.
_decode_lines = msgspec.json.Decoder(
    functools.reduce(operator.or_, LINES.values(), Literal[_MARK])
).decode_lines


def decode_block(block: bytes, ends: int) -> list[Any] | None:
    """Return the lines of a block, each a `Line` with its payload; None where one of them is not as we write it.

    block: whole lines, with BETWEEN in place of each end of a line but the last. ends: how many of these it has.
    """
    # JSON may go over the end of a line, and a line may hold two objects. So a number stands between each two lines:
    # if all of them are found again, each behind one object, there was one object on each line. It costs half of what
    # a search for what stands between two objects takes.
    try:
        found: list[Any] = _decode_lines(block)
    except (ValueError, RecursionError):
        return None  # read again line by line, by what can say what was wrong
    if len(found) != 2 * ends + 1 or found[1::2].count(_MARK) != ends:
        return None
    return found[::2]


_KINDS: dict[type[Line], str] = {line: cls.type for cls, line in LINES.items()}


def builders_of(wants: Collection[type[AgentEvent]] | None) -> dict[type[Line], Build]:
    """Return what makes an event of a line of each kind that is wanted; None: of all."""
    return {line: builder_of(cls.type) for cls, line in LINES.items() if wants is None or cls in wants}


def line_of(event: AgentEvent) -> Line:
    """Return an event as a line that was read, the event itself in place of its payload; without one if unknown."""
    head: tuple[Any, ...] = (
        LOG_VERSION,
        event.seq,
        event.timestamp,
        event.session_id,
        event.run_id,
        event.turn_id,
    )
    line = LINES.get(event.__class__)
    return Line(*head) if line is None else line(*head, event)


def event_of(line: Any) -> AgentEvent:
    """Return the event of a line, which is of a known kind."""
    if isinstance(line.payload, AgentEvent):
        return line.payload
    if line.ts.tzinfo is not dt.UTC:
        line.ts = line.ts.astimezone(dt.UTC)
    return builder_of(_KINDS[line.__class__])(line, line.payload)
