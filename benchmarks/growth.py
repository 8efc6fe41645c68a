"""What grows, and must not: each row is what a piece costs in the large over what it costs in the small.

Turns with their history, inputs of tools, items, pending events, logs, sessions at once, and memory. Ratios near 1 are
linear. Rows that play for many seconds have fewer rounds than the table's others, so that all take four minutes or so.
"""

from __future__ import annotations

import attrs

from benchmarks.growth_inputs import input_rows
from benchmarks.growth_memory import run_row
from benchmarks.growth_pieces import item_rows, log_rows, pending_rows
from benchmarks.growth_sessions import Crowd, idle_row, session_rows
from benchmarks.growth_turns import Turns, turn_rows
from benchmarks.measure import Row

__all__ = ["Sizes", "rows"]


@attrs.frozen(kw_only=True)
class Sizes:
    """How large is large; the small one first.

    inputs, sdk_inputs: deltas of a tool's input, ours and the SDK's. log_bytes: of logs that are read. idle: sessions
    that are open. events: of one run.
    """

    turns: Turns = attrs.Factory(Turns)
    inputs: tuple[int, ...] = (15_000, 150_000)
    sdk_inputs: tuple[int, ...] = (1_500, 15_000)
    items: tuple[int, ...] = (1_000, 10_000)
    pending: tuple[int, ...] = (1_000, 10_000)
    log_bytes: tuple[int, ...] = (1_000_000, 10_000_000, 100_000_000)
    crowd: Crowd = attrs.Factory(Crowd)
    idle: tuple[int, int] = (100, 1_000)
    events: tuple[int, int] = (100_000, 1_000_000)


FULL = Sizes()


def rows(rounds: int, sizes: Sizes = FULL) -> list[Row]:
    """Return the table's rows."""
    some, few = min(rounds, 9), min(rounds, 3)
    return [
        *turn_rows(min(rounds, 5), sizes.turns),
        *input_rows(sizes.inputs, sizes.sdk_inputs, few),
        *item_rows(sizes.items, few),
        *pending_rows(sizes.pending, some),
        *log_rows(sizes.log_bytes, some),
        *session_rows(few, sizes.crowd),
        idle_row(sizes.idle),
        run_row(sizes.events),
    ]
