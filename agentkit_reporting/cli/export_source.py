"""What `agentkit export` reads: the spans of logs, and what is said beside them."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar, get_args

import click

from agentkit_loop.events import AgentEvent
from agentkit_reporting.cli.progress import with_progress
from agentkit_reporting.cli.reading import tell_of_bad_lines, whisper
from agentkit_reporting.cli.session_option import session_option
from agentkit_reporting.cli.told_runs import ToldRuns
from agentkit_reporting.log.read import read_events
from agentkit_reporting.terminal import counted
from agentkit_reporting.tracing.capture import content_of
from agentkit_reporting.tracing.conventions import ProfileName, chosen_profile
from agentkit_reporting.tracing.log_spans import LogSpan, spans_of
from agentkit_reporting.tracing.scope import schema_url_of

__all__ = ["LogSpans", "attribute_options", "log_options", "named"]

_MOST_NAMED = 5  # sessions that are named

_F = TypeVar("_F", bound=Callable[..., object])


def log_options(command: _F) -> _F:
    """Add what every export takes: the logs, and which session of them."""
    return click.argument("logs", nargs=-1, required=True, metavar="LOG…")(session_option()(command))


def attribute_options(command: _F) -> _F:
    """Add what exports for OpenTelemetry take: the name of the service, and which names attributes have."""
    service = click.option(
        "--service-name",
        metavar="NAME",
        help="The service's name; default: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, else agentkit.",
    )
    names = click.option(
        "--profile",
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
        self._place = ", ".join("standard input" if log == "-" else log for log in logs)
        self._session_id = session_id
        self._unplaced = 0
        self._told = ToldRuns()

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

    @property
    def open_sessions(self) -> dict[str, int]:
        """How many runs without an end each session has, as far as they were read."""
        return self._told.open_sessions

    @property
    def repeated_events(self) -> int:
        """How many events were left out because their run was told already."""
        return self._told.repeated

    def tell(self, found: int) -> int:
        """Say on stderr what was skipped, what has no end, and where nothing was found; return the exit code."""
        tell_of_bad_lines(self._reader)
        if self._unplaced:
            whisper(
                f"no span tells of {counted(self._unplaced, 'event')} of runs that have not begun or are over; where "
                "the beginning of a log is missing, give that as well"
            )
        if self.repeated_events:
            whisper(
                f"left out {counted(self.repeated_events, 'event')} of runs that were told already; the same log is "
                "there twice"
            )
        if open_runs := sum(self.open_sessions.values()):
            have = "has" if open_runs == 1 else "have"
            whisper(
                f"{counted(open_runs, 'run')} {have} no end, crashed or still going on: {named(self.open_sessions)}; "
                "spans end there with the log, and have the same ids and other ends when it is exported again later"
            )
        if found:
            return 0
        of_session = "" if self._session_id is None else f" of a session that ends with {self._session_id}"
        whisper(f"no run{of_session} in {self._place}; give a log of one")
        return 1

    def _events(self) -> Iterator[AgentEvent]:
        for event in with_progress(self._reader):
            if self._session_id is not None and not event.session_id.endswith(self._session_id):
                continue
            if self._told.take(event):
                yield event


def named(sessions: Collection[str]) -> str:
    """Return the ids of the first sessions, and how many there are beside."""
    more = len(sessions) - _MOST_NAMED
    rest = f" and {counted(more, 'more session')}" if more > 0 else ""
    return ", ".join(itertools.islice(sessions, _MOST_NAMED)) + rest
