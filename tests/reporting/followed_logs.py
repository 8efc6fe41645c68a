"""Following without waiting: the reader's clock does the next step of a script whenever the reader would wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentkit_loop.clock import Clock
from agentkit_reporting.log.read import LogReader, read_events

Step = Callable[[], object]


class Script(Clock):
    """Does a step whenever the reader would wait, and ends the reading after the last."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.slept: list[float] = []
        self.reader: LogReader | None = None

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.steps:
            self.steps.pop(0)()
        elif self.reader is not None:
            self.reader.close()


def following(source: Any, *steps: Step, **options: Any) -> LogReader:
    clock = Script(*steps)
    clock.reader = read_events(source, follow=True, clock=clock, **{"strict": True, **options})
    return clock.reader


def followed(source: Any, *steps: Step, **options: Any) -> list[int]:
    return [event.seq for event in following(source, *steps, **options)]


def appending(path: Path, content: bytes) -> Step:
    def append() -> None:
        with path.open("ab") as file:
            file.write(content)

    return append
