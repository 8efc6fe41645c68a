"""The SDK's helper: `messages.stream()`, whose events are iterated and whose final message is kept."""

from __future__ import annotations

from typing import Any

import anthropic

from benchmarks.peer_programs.worker import KEY, MAX_TOKENS, Played, noting, serve
from benchmarks.session import MODEL, PROMPT, SYSTEM, read_lines


class Way:
    """A loop over `messages.stream()`."""

    def __init__(self, base_url: str) -> None:
        self._client = anthropic.Anthropic(base_url=base_url, api_key=KEY)
        self._tool = noting(lambda: self._played)
        self._schema: Any = anthropic.beta_tool(read_lines).to_dict()
        self._played = Played()

    def play(self) -> None:
        """Play a session."""
        self._played = Played()
        messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": PROMPT}]
        while True:
            message = self._answer(messages)
            if message.stop_reason != "tool_use":
                return
            messages.append({"role": "assistant", "content": message.content})
            results: list[anthropic.types.ToolResultBlockParam] = []
            for block in message.content:
                if block.type == "tool_use":
                    output = self._tool(**block.input)
                    results.append({"type": "tool_result", "tool_use_id": block.id, "content": output})
                    self._played.results.append(output)
            messages.append({"role": "user", "content": results})

    def seen(self) -> dict[str, Any]:
        """Return what the loop saw."""
        return self._played.seen()

    def _answer(self, messages: list[anthropic.types.MessageParam]) -> anthropic.types.Message:
        played = self._played
        pieces = played.pieces = []
        with self._client.messages.stream(
            model=MODEL, max_tokens=MAX_TOKENS, system=SYSTEM, tools=[self._schema], messages=messages
        ) as stream:
            for event in stream:
                if event.type == "text":
                    pieces.append(event.text)
                    played.deltas += 1
                elif event.type == "input_json":
                    played.deltas += 1
            return stream.get_final_message()


if __name__ == "__main__":
    serve(Way)
