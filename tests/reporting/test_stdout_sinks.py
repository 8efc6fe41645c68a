"""A terminal that is gone, full or closed: the run's result is the same, and what is wrong is told once."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable
from typing import TextIO, cast

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent, ObserverFailed, RunFinished
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_reporting.stdout import StdoutReporter


@tool
def work() -> str:
    """Do some work."""
    return "done"


class Device(io.TextIOBase):
    """A text stream on a descriptor that keeps nothing back of what could not be written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        return os.write(self._descriptor, text.encode())

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def run(*reporters: StdoutReporter) -> tuple[str, list[AgentEvent]]:
    """Run a whole exchange beside the reporters; return the answer and all events."""
    events: list[AgentEvent] = []
    model = ScriptedModel(
        [Reply(text="let me", calls=(ScriptedCall(name="work"),)), Reply(text="the answer")]
    )
    with Agent(model, tools=[work], observers=[*reporters, events.append]) as agent:
        return agent.run("go").text, events


def pipe_without_reader() -> Device:
    read_end, write_end = os.pipe()
    os.close(read_end)
    return Device(write_end)


def closed_stream() -> Device:
    stream = Device(os.open("/dev/null", os.O_WRONLY))
    stream.close()
    return stream


def full_disk() -> Device:
    return Device(os.open("/dev/full", os.O_WRONLY))


def bad_descriptor() -> Device:
    return Device(os.open("/dev/null", os.O_RDONLY))  # fails as a closed one does, whose number is used again


@pytest.mark.parametrize("broken", [pipe_without_reader, closed_stream])
def test_a_stream_that_nobody_reads_any_more_ends_the_printing_quietly(
    broken: Callable[[], Device], caplog: pytest.LogCaptureFixture
) -> None:
    stream = broken()
    reporter = StdoutReporter(cast("TextIO", stream))
    answer, events = run(reporter)
    stream.close()
    assert (answer, reporter.stopped) == ("the answer", True)
    assert [event.type for event in events] == [event.type for event in run()[1]]
    assert caplog.records == []


@pytest.mark.parametrize("broken", [full_disk, bad_descriptor])
def test_a_stream_that_cannot_be_written_is_told_once_and_the_answer_is_the_same(
    broken: Callable[[], Device], caplog: pytest.LogCaptureFixture
) -> None:
    stream = broken()
    with caplog.at_level(logging.WARNING):
        answer, events = run(StdoutReporter(cast("TextIO", stream)))
    assert answer == "the answer"
    told = [event for event in events if isinstance(event, ObserverFailed)]
    assert [event.error.type for event in told] == ["OSError"]
    assert len(caplog.records) == 1
    (ended,) = [event for event in events if isinstance(event, RunFinished)]
    assert ended.observers[0].failed == 1
    stream.close()
