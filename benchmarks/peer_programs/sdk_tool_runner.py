"""The SDK's tool runner, streaming; it sends the whole history each turn, as every other way does."""

from __future__ import annotations

from typing import Any

import anthropic

from benchmarks.peer_programs.worker import KEY, MAX_TOKENS, Played, noting, serve
from benchmarks.session import MODEL, PROMPT, SYSTEM


class Way:
    """A loop over the streams of `beta.messages.tool_runner`."""

    def __init__(self, base_url: str) -> None:
        self._client = anthropic.Anthropic(base_url=base_url, api_key=KEY)
        self._tool = anthropic.beta_tool(noting(lambda: self._played))
        self._played = Played()

    def play(self) -> None:
        """Play a session."""
        played = self._played = Played()
        runner = self._client.beta.messages.tool_runner(
            model=MODEL,
            max_tokens=MAX_TOKENS,
            system=SYSTEM,
            tools=[self._tool],
            messages=[{"role": "user", "content": PROMPT}],
            stream=True,
            thread=False,  # by default the provider keeps the history, which the server here does not
        )
        for stream in runner:
            pieces = played.pieces = []
            for event in stream:
                if event.type == "text":
                    pieces.append(event.text)
                    played.deltas += 1
                elif event.type == "input_json":
                    played.deltas += 1
            answer: Any = runner.generate_tool_call_response()  # made once: the runner goes on with this one
            if answer is not None:
                played.results.extend(block["content"] for block in answer["content"])

    def seen(self) -> dict[str, Any]:
        """Return what the loop saw."""
        return self._played.seen()


if __name__ == "__main__":
    serve(Way)
