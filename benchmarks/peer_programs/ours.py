"""Ours: the agent with its log, usage and transcript attached."""

from __future__ import annotations

import tempfile
from typing import Any

import attrs

from benchmarks.loop import Ours
from benchmarks.peer_programs.worker import serve


class Way:
    """The agent of the loop's benchmark."""

    def __init__(self, base_url: str, folder: str) -> None:
        self._ours = Ours(base_url, folder)

    def play(self) -> None:
        """Play a session."""
        self._ours.run()

    def seen(self) -> dict[str, Any]:
        """Return what the log holds."""
        return attrs.asdict(self._ours.seen())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as log_folder:
        serve(lambda base_url: Way(base_url, log_folder))
