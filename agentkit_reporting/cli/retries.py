"""What `agentkit run` says of attempts where nobody is shown the run."""

from __future__ import annotations

import click

from agentkit_loop.events import AgentEvent, ModelRequestFailed, ModelRequestRetrying, ModelRequestStarted
from agentkit_loop.observers import LoopObserver
from agentkit_reporting.terminal import visible

_WORDS = {
    "connection": "no connection",
    "server": "server error",
    "stream_cut": "the answer broke off",
    "timeout": "the server is silent",
}
"""Error classes that are no sentence by themselves."""


class Retries(LoopObserver):
    """Counts the attempts of the latest request as `attempt`. tell: say each further one on stderr."""

    wants = (ModelRequestStarted, ModelRequestFailed, ModelRequestRetrying)

    def __init__(self, *, tell: bool) -> None:
        self.attempt = 1
        self._tell = tell
        self._reason = ""

    def handle_event(self, event: AgentEvent) -> None:
        """Take note of an attempt, of its failure, or tell of the next."""
        if isinstance(event, ModelRequestStarted):
            self.attempt = event.attempt
        elif isinstance(event, ModelRequestFailed):
            self._reason = _WORDS.get(event.error_class, event.error_class.replace("_", " "))
        elif isinstance(event, ModelRequestRetrying) and self._tell:
            pause = f"{round(event.delay_ms / 1_000, 1):g} s"
            told = f"{visible(self._reason)}; trying again in {pause} (attempt {event.next_attempt})"
            click.echo(f"agentkit: {told}", err=True)
