"""Many lines of a log decoded at once: the hot path of whoever reads one.

A block of whole lines is given to msgspec in one call, the payload of each line by its type. What it takes, of the
same types, `decode_event` takes as well; what it does not take (a torn line, an unknown key, another version, an
empty line) is left to that, line by line, so that both ways give the same events.
"""

from __future__ import annotations

import datetime as dt
import functools
import operator
from collections.abc import Collection
from typing import Any, Literal

import attrs
import msgspec

from agentkit_loop.events import EVENT_TYPES, AgentEvent
from agentkit_reporting.codec import LINE_START, PAYLOAD_STRUCTS, Build, Moment, Seq, builder_of

__all__ = ["Line", "Passed", "builders_of", "decode_block"]


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


_BETWEEN_LINES = b"}}\n" + LINE_START + b'"seq":'

_LINES: dict[type[AgentEvent], type[Any]] = {
    cls: msgspec.defstruct(
        f"{cls.__name__}Line",
        [("payload", PAYLOAD_STRUCTS[name])],
        bases=(Line,),
        module=__name__,
        tag_field="type",
        tag=name,
        gc=False,
    )
    for name, cls in EVENT_TYPES.items()
}

# One union, told apart by `type`, so that header and payload are one call, and `decode_lines`, so that there is no
# call for each line: together half of what header and payload of each line cost.
_decode_lines = msgspec.json.Decoder(functools.reduce(operator.or_, _LINES.values())).decode_lines


def decode_block(block: bytes, ends: int) -> list[Any] | None:
    r"""Return the lines of a block, each a `Line` with its payload; None where one of them is not as we write it.

    block: whole lines, without the `\n` of the last. ends: how many `\n` it has.
    """
    # An object ends before each line's end and another begins behind it. `}` and `{` never follow each other within
    # JSON, so no object goes over such an end; and as many objects as lines are one on each. Two counts at the speed
    # of memchr save a look at each line; the longer what is counted, the faster.
    if not block.startswith(LINE_START) or block.count(_BETWEEN_LINES) != ends:
        return None
    try:
        lines: list[Any] = _decode_lines(block)
    except (ValueError, RecursionError):
        return None  # read again line by line, by what can say what was wrong
    return lines if len(lines) == ends + 1 else None


def builders_of(wants: Collection[type[AgentEvent]] | None) -> dict[type[Line], Build]:
    """Return what makes an event of a line of each kind that is wanted; None: of all."""
    return {line: builder_of(cls.type) for cls, line in _LINES.items() if wants is None or cls in wants}


@attrs.define
class Passed:
    """Events of one run, one behind the other, that were read and not wanted. first, latest: times among theirs."""

    session_id: str
    run_id: str
    count: int
    first: dt.datetime
    latest: dt.datetime
