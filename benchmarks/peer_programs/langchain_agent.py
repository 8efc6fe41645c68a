"""langchain: an agent of `create_agent`, whose messages are streamed."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessageChunk, ToolMessage

from benchmarks.peer_programs.worker import KEY, MAX_TOKENS, Played, noting, serve
from benchmarks.session import MODEL, PROMPT, SYSTEM


class Way:
    """An agent that is made once; nothing traces it."""

    def __init__(self, base_url: str) -> None:
        model = ChatAnthropic(model=MODEL, base_url=base_url, api_key=KEY, max_tokens=MAX_TOKENS)
        self._agent = create_agent(model, tools=[noting(lambda: self._played)], system_prompt=SYSTEM)
        self._played = Played()

    def play(self) -> None:
        """Play a session."""
        played = self._played = Played()
        given = {"messages": [{"role": "user", "content": PROMPT}]}
        for message, _ in self._agent.stream(given, {"recursion_limit": 1_000}, stream_mode="messages"):
            if isinstance(message, AIMessageChunk):
                for block in message.content:
                    kind = block["type"]
                    if kind == "text":
                        played.pieces.append(block["text"])
                        played.deltas += 1
                    elif kind == "input_json_delta":
                        played.deltas += 1
            elif isinstance(message, ToolMessage):
                played.results.append(message.content)
                played.pieces = []

    def seen(self) -> dict[str, Any]:
        """Return what was streamed."""
        return self._played.seen()


if __name__ == "__main__":
    serve(Way)
