"""pydantic-ai: an agent with one handler of the event stream."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from anthropic import AsyncAnthropic
from pydantic_ai import (
    Agent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPartDelta,
)
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from benchmarks.peer_programs.worker import KEY, MAX_TOKENS, Played, noting, serve
from benchmarks.session import MODEL, PROMPT, SYSTEM


class Way:
    """An agent that is made once; nothing instruments it."""

    def __init__(self, base_url: str) -> None:
        client = AsyncAnthropic(base_url=base_url, api_key=KEY)
        self._agent = Agent(
            AnthropicModel(MODEL, provider=AnthropicProvider(anthropic_client=client)),
            instructions=SYSTEM,
            tools=[noting(lambda: self._played)],
            model_settings={"max_tokens": MAX_TOKENS},
        )
        self._played = Played()

    def play(self) -> None:
        """Play a session."""
        self._played = Played()
        self._agent.run_sync(PROMPT, event_stream_handler=self._handle)

    def seen(self) -> dict[str, Any]:
        """Return what the handler saw."""
        return self._played.seen()

    async def _handle(self, _: Any, events: AsyncIterable[Any]) -> None:
        """Take the events of a request, or those of the calls after it."""
        played = self._played
        async for event in events:
            if isinstance(event, PartDeltaEvent):
                delta = event.delta
                if isinstance(delta, TextPartDelta):
                    played.pieces.append(delta.content_delta)
                    played.deltas += 1
                elif isinstance(delta, ToolCallPartDelta):
                    played.deltas += 1
            elif isinstance(event, PartStartEvent):
                if isinstance(event.part, TextPart):  # which holds the first piece
                    played.pieces = [event.part.content]
                    played.deltas += 1
            elif isinstance(event, FunctionToolResultEvent):
                played.results.append(event.part.content)


if __name__ == "__main__":
    serve(Way)
