"""What `agentkit export` reads: the spans of logs, and what is said beside them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import TypeVar, get_args

import click

from agentkit_loop.events import AgentEvent
from agentkit_reporting.cli.progress import with_progress
from agentkit_reporting.cli.reading import tell_of_bad_lines, whisper
from agentkit_reporting.log.read import read_events
from agentkit_reporting.terminal import counted
from agentkit_reporting.tracing.capture import content_of
from agentkit_reporting.tracing.conventions import ProfileName, chosen_profile
from agentkit_reporting.tracing.log_spans import LogSpan, spans_of
from agentkit_reporting.tracing.scope import schema_url_of

__all__ = ["LogSpans", "attribute_options", "log_options"]

_F = TypeVar("_F", bound=Callable[..., object])


def log_options(command: _F) -> _F:
    """Add what every export takes: the logs, and which session of them."""
    session = click.option(
        "--session", "session_id", metavar="ID", help="Only this session; the end of an id is enough."
    )
    return click.argument("logs", nargs=-1, required=True, metavar="LOG…")(session(command))


def attribute_options(command: _F) -> _F:
    """Add what exports for OpenTelemetry take: the name of the service, and which names attributes have."""
    service = click.option(
        "--service-name",
        metavar="NAME",
        help="The service's name; default: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, else agentkit.",
    )
    names = click.option(
        "--attributes",
        "profile_name",
        type=click.Choice(get_args(ProfileName)),
        default="genai",
        show_default=True,
        help="Whose names attributes have.",
    )
    content = click.option(
        "--content/--no-content",
        "content",
        default=None,
        help="Send what was said as well, masked and bounded: messages, arguments, results. "
        "Default: OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, else not.",
    )
    return service(names(content(command)))


class LogSpans:
    """The spans of logs; iterate once."""

    def __init__(
        self,
        logs: tuple[str, ...],
        session_id: str | None,
        profile_name: str = "genai",
        *,
        content: bool | None = False,
    ) -> None:
        self._profile = chosen_profile(profile_name, os.environ)
        self._content = content_of(content=content)
        self._reader = read_events(list(logs))
        self._place = ", ".join(logs)
        self._session_id = session_id
        self._unplaced = 0

    @property
    def schema_url(self) -> str | None:
        """The schema of the names that their attributes have."""
        return schema_url_of(self._profile)

    def __iter__(self) -> Iterator[LogSpan]:
        return spans_of(
            self._events(),
            profile=self._profile,
            content=self._content,
            tell_unplaced=functools.partial(setattr, self, "_unplaced"),
        )

    def tell(self, found: int) -> int:
        """Say on stderr what was skipped, and where nothing was found; return the exit code."""
        tell_of_bad_lines(self._reader)
        if self._unplaced:
            whisper(
                f"no span tells of {counted(self._unplaced, 'event')} of runs that have not begun or are over; where "
                "the beginning of a log is missing, give that as well"
            )
        if found:
            return 0
        of_session = "" if self._session_id is None else f" of a session that ends with {self._session_id}"
        whisper(f"no run{of_session} in {self._place}; give a log of one")
        return 1

    def _events(self) -> Iterator[AgentEvent]:
        for event in with_progress(self._reader):
            if self._session_id is None or event.session_id.endswith(self._session_id):
                yield event
