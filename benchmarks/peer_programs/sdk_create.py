"""The bare SDK: `messages.create(stream=True)`, nothing attached."""

from __future__ import annotations

from typing import Any

import anthropic
import attrs

from benchmarks.peer_programs.worker import KEY, serve
from benchmarks.references import BareSDK, Seen
from benchmarks.session import read_lines


class Way:
    """The loop that the loop's benchmark has as its reference."""

    def __init__(self, base_url: str) -> None:
        self._client = anthropic.Anthropic(base_url=base_url, api_key=KEY)
        self._loop = BareSDK(read_lines, dict(anthropic.beta_tool(read_lines).to_dict()))
        self._seen = Seen()

    def play(self) -> None:
        """Play a session."""
        self._seen = self._loop.run(self._client)

    def seen(self) -> dict[str, Any]:
        """Return what the loop saw."""
        return attrs.asdict(self._seen)


if __name__ == "__main__":
    serve(Way)
