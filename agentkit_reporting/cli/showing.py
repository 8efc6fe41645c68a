"""What `agentkit show` does: it reads events, of logs that may still grow, and prints them."""

from __future__ import annotations

import contextlib
import select
import sys
from pathlib import Path

from agentkit_loop.clock import Clock
from agentkit_loop.events import AgentEvent
from agentkit_reporting.cli.open_runs import OpenRuns
from agentkit_reporting.cli.reading import tell_of_bad_lines, whisper
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.segments import is_trimmed, log_of
from agentkit_reporting.stdout import StdoutReporter


def show(
    logs: tuple[str, ...],
    *,
    session_id: str | None,
    width: int | None,
    colour: bool | None,
    reasoning: bool,
    verbose: bool,
    strict: bool,
    follow: bool,
    until_run_end: bool,
) -> int:
    """Print the events of logs; return the exit code. The options are those of the command."""
    reader = read_events(
        list(logs),
        strict=strict,
        follow=follow,
        until_run_end=until_run_end,
        clock=_WhileRead(),
    )
    if not reader.paths:  # only who follows gets here
        whisper(f"no log in {', '.join(logs)} yet; waiting for one")
    reporter = StdoutReporter(width=width, colour=colour, show_reasoning=reasoning, verbose=verbose)
    shown = 0
    begun: set[str] = set()
    open_runs = OpenRuns()
    try:
        for event in reader:
            if session_id is None or event.session_id.endswith(session_id):
                if event.session_id not in begun:
                    begun.add(event.session_id)
                    if event.seq > 1:
                        whisper(_without_beginning(event, reader.path))
                reporter.handle_event(event)
                open_runs.take(event)
                shown += 1
                if reporter.stopped:
                    return 0  # the pipe is closed: nobody reads on
    except KeyboardInterrupt:
        if not reader.follows:
            raise
        return 130  # the way to end it is nothing to speak of
    finally:
        reader.close()
        reporter.close()  # what stops the reading must not leave a line open
    tell_of_bad_lines(reader)
    for told in open_runs.told():
        whisper(told)
    if shown:
        return 0
    place = ", ".join(logs)
    if session_id is None:
        whisper(f"no event in {place}; give a log written by JsonlReporter or `agentkit demo`")
    else:
        whisper(f"no event of session {session_id} in {place}; give the end of an id that is in it")
    return 1


def _without_beginning(event: AgentEvent, path: str) -> str:
    """Return what is to be said of a session whose first events are not there."""
    gone = "event 1 is" if event.seq == 2 else f"events 1 to {event.seq - 1:,} are"  # noqa: PLR2004 - the second
    reason = ""
    with contextlib.suppress(OSError, ValueError):
        reason = "; retention removed them" if is_trimmed(log_of(Path(path)) or Path(path)) else ""
    return f"session {event.session_id} is shown without its beginning: {gone} not there{reason}"


class _WhileRead(Clock):
    """A clock that waits only as long as somebody is there who reads what is printed."""

    def __init__(self) -> None:
        self._output: select.poll | None = None
        if hasattr(select, "poll") and sys.stdout is not None:
            with contextlib.suppress(OSError, ValueError):
                output = select.poll()
                output.register(
                    sys.stdout.fileno(), 0
                )  # nothing is asked for but that the other end went away
                self._output = output

    def sleep(self, seconds: float) -> None:
        """Wait; raises BrokenPipeError once the other end of the pipe is closed."""
        if self._output is None:
            super().sleep(seconds)
        elif self._output.poll(seconds * 1_000):
            raise BrokenPipeError
