"""strands: an agent with one callback handler."""

from __future__ import annotations

import asyncio
from typing import Any

from strands import Agent, tool
from strands.models.anthropic import AnthropicModel

from benchmarks.peer_programs.worker import KEY, MAX_TOKENS, Played, noting, serve
from benchmarks.session import MODEL, PROMPT, SYSTEM


class Way:
    """An agent for each session, since it keeps the conversation; the model is made once."""

    def __init__(self, base_url: str) -> None:
        arguments = {"base_url": base_url, "api_key": KEY}
        self._model = AnthropicModel(client_args=arguments, model_id=MODEL, max_tokens=MAX_TOKENS)
        self._tool = tool(noting(lambda: self._played))
        self._played = Played()
        self._runner = asyncio.Runner()  # one event loop, so that connections are used again

    def play(self) -> None:
        """Play a session."""
        self._played = Played()
        agent = Agent(self._model, tools=[self._tool], system_prompt=SYSTEM, callback_handler=self._handle)
        self._runner.run(agent.invoke_async(PROMPT))

    def seen(self) -> dict[str, Any]:
        """Return what the handler saw."""
        return self._played.seen()

    def _handle(self, **told: Any) -> None:
        """Take what is told; "message" is told when one is whole."""
        if "data" in told:
            self._played.pieces.append(told["data"])
            self._played.deltas += 1
        elif "delta" in told:
            self._played.deltas += 1
        elif "message" in told and told["message"]["role"] == "user":
            for block in told["message"]["content"]:
                self._played.results.append(block["toolResult"]["content"][0]["text"])
            self._played.pieces = []


if __name__ == "__main__":
    serve(Way)
