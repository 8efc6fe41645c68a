"""How far a long reading is: after a second a bar on stderr, where that is a terminal; gone when it is done."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from agentkit_loop.events import AgentEvent
from agentkit_reporting.log.blocks import Line
from agentkit_reporting.log.read import LogReader
from agentkit_reporting.terminal import one_line

_PATIENCE_S = 1.0  # after which a bar shows how far it is
_LOOK_EVERY = 1_024  # events between two looks at the clock


class Reading(Protocol):
    """What is read: a LogReader, or several as one. paths: what there is. path: that of the last event."""

    @property
    def paths(self) -> tuple[str, ...]:
        """See there."""

    @property
    def path(self) -> str:
        """See there."""

    def __iter__(self) -> Iterator[AgentEvent]: ...


def with_progress(reader: Reading) -> Iterator[AgentEvent]:
    """Yield the events of a log; after a second, on a terminal, with a bar that shows how far it is."""
    if not sys.stderr.isatty():
        yield from reader
        return
    with contextlib.ExitStack() as stack:
        watch = _Watch(reader, stack)
        for number, event in enumerate(reader, 1):
            yield event
            if reader.path != watch.path or number % _LOOK_EVERY == 0:
                watch.look(number)


def blocks_with_progress(reader: LogReader) -> Iterator[list[Line]]:
    """Do the same by whole blocks of lines."""
    if not sys.stderr.isatty():
        yield from reader.blocks()
        return
    with contextlib.ExitStack() as stack:
        watch, number = _Watch(reader, stack), 0
        for lines in reader.blocks():
            yield lines
            number += len(lines)
            watch.look(number)


class _Watch:
    """Shows a bar where the reading takes long. path: of the file that is read."""

    def __init__(self, reader: Reading, stack: contextlib.ExitStack) -> None:
        self.path = ""
        self._reader = reader
        self._stack = stack
        self._begun = time.monotonic()
        self._files = 0
        self._bar: _Bar | None = None

    def look(self, events: int) -> None:
        """Look at the clock and at the file; show how many events were read."""
        if self._reader.path != self.path:
            self.path = self._reader.path
            self._files += 1
        if self._bar is None and time.monotonic() - self._begun > _PATIENCE_S:
            self._bar = self._stack.enter_context(_Bar(len(self._reader.paths)))
        if self._bar is not None:
            self._bar.move(self._files - 1, events, self.path)


class _Bar(contextlib.AbstractContextManager["_Bar"]):
    """A bar on stderr: by files where there are several, else that something moves; gone when it is done."""

    def __init__(self, files: int) -> None:
        from rich.console import Console  # noqa: PLC0415 - only where a bar is shown
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - the same

        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24))
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("reading", total=files if files > 1 else None)
        self._progress.start()

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def move(self, done: int, events: int, path: str) -> None:
        """Show how many files are done and how many events were read."""
        told = f"{events:,} events  {one_line(path, 40)}"
        self._progress.update(self._task, completed=done, description=told)


__all__ = ["blocks_with_progress", "with_progress"]
