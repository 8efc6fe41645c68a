"""What `logging` is told of failures is text: it controls no terminal and forges no record."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.observers import LoopObserver
from agentkit_loop.testing import ScriptedModel
from agentkit_reporting import BufferedReporter, ChannelReporter, LoggingReporter
from tests.reporting.terminal_parser import ATTACKS, controls_in

FORGED = "2026-01-01 INFO all is well"
PRINTABLE = {"combining flood", "variation selectors", "fillers"}  # they hide, and control nothing
CONTROLS = "".join(text for name, text in ATTACKS.items() if name not in PRINTABLE)
HOSTILE = f"{CONTROLS}\n{FORGED}\r{FORGED}"


class Quoting(LoopObserver):
    """Fails with what the model said, on events and at its end."""

    wants = (ContentDelta,)

    def handle_event(self, event: AgentEvent) -> None:
        raise ValueError(f"{HOSTILE} on {event.type}")

    def flush(self) -> None:
        raise OSError(HOSTILE)

    def close(self) -> None:
        raise OSError(HOSTILE)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Return what a plain handler writes, as the default one does."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def looks_forged(text: str) -> bool:
    return any(line.startswith(FORGED) for line in text.split("\n")) or "\r" in text


def test_an_observers_failure_that_quotes_a_model_controls_nothing(written: io.StringIO) -> None:
    direct, buffered = Quoting(), BufferedReporter(Quoting(), capacity=3)
    channel = ChannelReporter.threaded(Quoting())
    with Agent(ScriptedModel(["hi"]), observers=[direct, buffered, channel]) as agent:
        agent.run("go")
    text = written.getvalue()
    assert text.count("ValueError") > 2
    assert text.count("OSError") > 2
    assert "  Traceback (most recent call last):" in text
    assert controls_in(text) == []
    assert not looks_forged(text)


def test_a_records_error_is_still_there_for_handlers_that_do_not_print(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Agent(ScriptedModel(["hi"]), observers=[Quoting()]) as agent:
        agent.run("go")
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [type(error) for error in errors][:1] == [ValueError]


def test_records_of_events_are_one_line_each_whatever_is_in_them(written: io.StringIO) -> None:
    logger = logging.getLogger("hostile")
    logger.setLevel(logging.DEBUG)
    with (
        Agent(ScriptedModel([HOSTILE]), name=HOSTILE, observers=[LoggingReporter(logger)]) as agent,
        agent.start(metadata={HOSTILE.replace("\0", ""): HOSTILE}) as driver,
    ):
        driver.run(HOSTILE)
    text = written.getvalue()
    assert "agent_name=" in text
    assert controls_in(text) == []
    assert not looks_forged(text)
