"""A reporter that is closed refuses events and counts them; flush and close answer whether all arrived."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agentkit_loop.errors import ConfigurationError, IllegalMoveError, LogError
from agentkit_loop.events import AgentEvent
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import (
    BufferedReporter,
    ChannelReporter,
    JsonlReporter,
    LoggingReporter,
)
from agentkit_reporting.inner import ReportingAdapter
from tests.reporting.adapters import notes
from tests.reporting.sink_runs import agent_of

CLOSING: dict[str, Callable[[], ReportingAdapter]] = {
    "threaded": lambda: ChannelReporter.threaded(EventRecorder()),
    "buffered": lambda: BufferedReporter(EventRecorder(), 4),
}


@pytest.mark.parametrize("made", CLOSING.values(), ids=CLOSING.keys())
def test_events_after_close_count_as_failed(made: Callable[[], ReportingAdapter]) -> None:
    reporter = made()
    for event in notes(3):
        reporter.handle_event(event)
    assert reporter.close() is True
    for event in notes(2):
        with pytest.raises(IllegalMoveError, match="make a new one"):
            reporter.handle_event(event)
    assert str(reporter.account()) == "incomplete: 3 of 5 (2 failed)"
    assert reporter.close() is reporter.flush() is False


def test_events_after_close_of_a_pair_count_as_failed() -> None:
    reporter, receiver = ChannelReporter.pair()
    reporter.close()
    with pytest.raises(IllegalMoveError):
        reporter.handle_event(notes(1)[0])
    assert list(receiver) == []
    assert str(reporter.account()) == "incomplete: 0 of 1 (1 failed)"
    assert reporter.close() is False


def test_events_after_a_close_by_the_sink_itself_count_as_failed() -> None:
    closed = threading.Event()

    def closes(_: AgentEvent) -> None:
        channel.close()
        closed.set()

    channel = ChannelReporter.threaded(closes)
    one, two = notes(2)
    channel.handle_event(one)
    closed.wait()
    with pytest.raises(IllegalMoveError):
        channel.handle_event(two)
    assert channel.close() is False
    assert str(channel.account()) == "incomplete: 1 of 2 (1 failed)"


@pytest.mark.parametrize("per", [None, "session"])
def test_a_log_answers_within_the_time_whether_every_event_is_in_it(per: str | None, tmp_path: Path) -> None:
    log = JsonlReporter(tmp_path / "log", per=per)  # type: ignore[arg-type] # one of its choices
    for event in notes(3):
        log.handle_event(event)
    assert log.flush() is log.flush(30.0) is log.flush(timeout_s=30.0) is True
    assert log.close(timeout_s=30.0) is log.close() is True
    with pytest.raises(LogError):
        log.handle_event(notes(1)[0])
    assert log.close(30.0) is log.close() is log.flush() is False


def test_a_log_on_a_full_disk_says_that_it_is_not_whole() -> None:
    log = JsonlReporter("/dev/full")
    with pytest.raises(LogError):
        log.handle_event(notes(1)[0])
    assert log.flush() is log.close(5.0) is False


def test_what_a_flush_of_a_log_raises_is_raised_also_within_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.jsonl"
    log = JsonlReporter(path, fsync="always")
    log.handle_event(notes(1)[0])
    path.unlink()
    with pytest.raises(LogError, match="removed"):
        log.flush(30.0)
    assert caplog.records == []
    log.close()


def test_a_logging_reporter_answers_when_it_is_closed() -> None:
    reporter = LoggingReporter("agentkit.tests.quiet")
    reporter.handle_event(notes(1)[0])
    assert reporter.close() is reporter.close(1.0) is True


def test_a_log_that_lost_something_and_went_well_for_a_run_is_told_when_it_breaks_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = tmp_path / "logs"
    log = JsonlReporter(logs, per="session")
    agent = agent_of(log, runs=3)
    for is_broken in (True, False, True):
        if is_broken:
            for each in logs.glob("*"):
                each.unlink()
            logs.rmdir() if logs.exists() else None
            logs.touch()
        agent.run("go")
        if is_broken:
            logs.unlink()
    assert len(caplog.records) == 2, caplog.text


def test_what_is_no_event_is_refused_with_a_sentence_and_counted(tmp_path: Path) -> None:
    log = JsonlReporter(tmp_path / "run.jsonl")
    with pytest.raises(ConfigurationError, match="dict refused because it is no event; give an AgentEvent"):
        log.handle_event({"type": "note"})  # type: ignore[arg-type] # the mistake that is meant
    assert log.close() is False


def test_a_choice_of_redaction_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="redact=None refused"):
        JsonlReporter(tmp_path / "run.jsonl", redact=None)  # type: ignore[arg-type] # the mistake that is meant
