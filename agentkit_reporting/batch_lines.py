"""A batch of deltas as lines of the log: what they share is encoded once."""

from __future__ import annotations

import msgspec

from agentkit_loop.batches import DeltaBatch
from agentkit_reporting.codec import LINE_START, encode_event

_LINE = LINE_START + b'"seq":%d%b%b}}}\n'
_END = b'""}}}'  # of a line whose piece is empty
_text = msgspec.json.Encoder().encode


def encode_batch(batch: DeltaBatch) -> bytes:
    """Return the lines of a batch's events, each with its newline; see `encode_event`, also for what it raises.

    A line of its own costs 1 us, one of a batch a third of that.
    """
    line = encode_event(batch.event(0, ""))
    shared = line[line.index(b',"ts":') : -len(_END)]
    return b"".join(
        [_LINE % (seq, shared, _text(chunk)) for seq, chunk in enumerate(batch.chunks, batch.seq)]
    )
