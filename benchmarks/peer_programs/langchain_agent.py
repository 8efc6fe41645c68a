"""langchain: an agent of `create_agent` whose model streams, with one callback handler.

`agent.stream(stream_mode="messages")` gives the same chunks and costs about a tenth more.
"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.callbacks import BaseCallbackHandler

from benchmarks.peer_programs.worker import KEY, MAX_TOKENS, Played, noting, serve
from benchmarks.session import MODEL, PROMPT, SYSTEM


class _Handler(BaseCallbackHandler):  # type: ignore[misc] # not installed where mypy runs
    def __init__(self, played: Played) -> None:
        self._played = played

    def on_llm_new_token(self, token: str, *, chunk: Any = None, **_: Any) -> None:  # noqa: ARG002 - langchain's names
        """Take a chunk; the token is empty where it holds a piece of input."""
        for block in chunk.message.content:
            kind = block["type"]
            if kind == "text":
                self._played.pieces.append(block["text"])
                self._played.deltas += 1
            elif kind == "input_json_delta":
                self._played.deltas += 1

    def on_tool_end(self, output: Any, **_: Any) -> None:
        """Take the message of a result; what comes next is another answer."""
        self._played.results.append(output.content)
        self._played.pieces = []


class Way:
    """An agent that is made once; nothing traces it."""

    def __init__(self, base_url: str) -> None:
        model = ChatAnthropic(
            model=MODEL, base_url=base_url, api_key=KEY, max_tokens=MAX_TOKENS, streaming=True
        )
        self._agent = create_agent(model, tools=[noting(lambda: self._played)], system_prompt=SYSTEM)
        self._played = Played()

    def play(self) -> None:
        """Play a session."""
        self._played = Played()
        given = {"messages": [{"role": "user", "content": PROMPT}]}
        handlers = [_Handler(self._played)]
        self._agent.invoke(given, {"recursion_limit": 1_000, "callbacks": handlers})

    def seen(self) -> dict[str, Any]:
        """Return what was streamed."""
        return self._played.seen()


if __name__ == "__main__":
    serve(Way)
