"""What every program of a way does: wait to be told to play, play, and answer what was seen."""

from __future__ import annotations

import functools
import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from benchmarks.session import read_lines

__all__ = ["KEY", "MAX_TOKENS", "Played", "Way", "noting", "serve"]

KEY = "benchmark"
MAX_TOKENS = 32_000


class Way(Protocol):
    """One of the ways to play the session; made once for all sessions, as its clients are."""

    def play(self) -> None:
        """Play a session; what is timed."""

    def seen(self) -> dict[str, Any]:
        """Return what the last session was: `inputs`, `text` and `deltas` of `references.Seen`; not timed."""


@attrs.define
class Played:
    """What a handler saw of a session. inputs: as the tool was called. results: of the calls, as the model gets them.

    pieces: of the text of the answer that came last. deltas: pieces of text and of input, over all turns.
    """

    inputs: list[dict[str, Any]] = attrs.field(factory=list)
    results: list[object] = attrs.field(factory=list)
    pieces: list[str] = attrs.field(factory=list)
    deltas: int = 0

    def seen(self) -> dict[str, Any]:
        """Return it for the benchmark; raise ValueError where a result is not that of its call."""
        if self.results != [read_lines(**given) for given in self.inputs]:
            raise ValueError(
                f"{len(self.results)} results, which are not those of the {len(self.inputs)} calls"
            )
        return {"inputs": self.inputs, "text": "".join(self.pieces), "deltas": self.deltas}


def noting(played: Callable[[], Played]) -> Callable[..., str]:
    """Return `read_lines` that notes its inputs in what is played then."""

    @functools.wraps(read_lines)
    def noted(path: str, first: int, last: int) -> str:
        played().inputs.append({"path": path, "first": first, "last": last})
        return read_lines(path, first, last)

    return noted


def serve(make: Callable[[str], Way]) -> None:
    """Play a session for each line of standard input, and answer each with a line of JSON.

    make: returns the way for the server's address, the program's argument. cpu_s: of this process, all its
    threads, over the session; without the garbage collector's, as in `measure.interleave`.
    """
    way = make(sys.argv[1])
    for _ in sys.stdin:
        gc.collect()
        gc.disable()
        try:
            before = time.process_time()
            way.play()
            spent = time.process_time() - before
        finally:
            gc.enable()
        print(json.dumps({"cpu_s": spent, "seen": way.seen()}), flush=True)
